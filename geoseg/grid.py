"""The grid: tiles and chunks of a scene, and all the index arithmetic that belongs to them.

A scene is covered by *tile cores*, squares of ``step = tile - 2 * halo`` pixels that start at the scene's origin and
partition it. A *tile* is a core with its halo, which is what one forward pass sees. A *chunk* is a block of whole tile
cores. Because tiles have one global phase, a chunk's size changes which tiles are computed together, never a tile.

The reference for every tile is one forward pass over the whole scene, whose right and bottom edges are repeated up to
the network's stride (``Grid.extent``). A tile at the border of the scene ends where that extended scene ends, so that
the network's own padding meets the same pixels as in the reference. With ``one_shape`` it is as large as all others there: it
is moved inward, and sees more of the scene than its halo.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from geoseg.errors import ConfigError
from geoseg.windows import Window

__all__ = ["Axis", "Chunk", "Grid", "Tile", "ceil_div", "round_up"]


def ceil_div(a: int, b: int) -> int:
    """``a / b`` rounded up."""
    return -(-a // b)


def round_up(value: int, multiple: int) -> int:
    """The least multiple that is not under the value."""
    return ceil_div(value, multiple) * multiple


@dataclass(frozen=True, slots=True)
class Axis:
    """Tiles and chunks along one axis of the scene; all lengths in pixels."""

    length: int
    """Pixels of the scene along the axis."""
    step: int
    """Pixels of a tile core; a multiple of the stride."""
    halo: int
    """Context on each side of a tile core; a multiple of the stride."""
    stride: int
    """The network's total downsampling; the extended scene is a multiple of it."""
    per_chunk: int
    """Tile cores in a chunk."""
    one_shape: bool = False
    """Whether tiles at the border are as long as the others."""
    phase: int = 0
    """Pixels by which the scene begins behind a corner of the lattice of chunks."""
    filled: bool = False
    """Whether a scene that is shorter than a tile is extended to one."""

    @property
    def skipped(self) -> int:
        """Tile cores of the first chunk that end before the scene begins."""
        return self.phase // self.step

    @property
    def extent(self) -> int:
        """The scene's length, rounded up to the stride, or to a tile at least."""
        return max(round_up(self.length, self.stride), self.step + 2 * self.halo if self.filled else 0)

    @property
    def tiles(self) -> int:
        """Number of tiles."""
        return ceil_div(self.phase + self.length, self.step) - self.skipped

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return ceil_div(self.skipped + self.tiles, self.per_chunk)

    def start(self, tile: int) -> int:
        """Where the core of a tile begins on the lattice; before the scene for one that it cuts."""
        return (self.skipped + tile) * self.step - self.phase

    def core(self, tile: int) -> tuple[int, int]:
        """First and last-plus-one pixel that a tile owns."""
        return max(0, self.start(tile)), min(self.start(tile + 1), self.length)

    def window(self, tile: int) -> tuple[int, int]:
        """First and last-plus-one pixel of the extended scene that a tile sees."""
        start, stop = self.start(tile) - self.halo, self.start(tile + 1) + self.halo
        if self.one_shape:
            # All of these are multiples of the stride. A scene that is shorter than a tile is seen whole.
            start = max(0, min(start, self.extent - (stop - start)))
            stop = start + self.step + 2 * self.halo
        return max(0, start), min(stop, self.extent)

    def chunk_core(self, chunk: int) -> tuple[int, int]:
        """First and last-plus-one pixel that a chunk owns."""
        size = self.per_chunk * self.step
        return max(0, chunk * size - self.phase), min((chunk + 1) * size - self.phase, self.length)

    def owned_tiles(self, chunk: int) -> range:
        """The tiles whose cores make up a chunk's core."""
        first, last = chunk * self.per_chunk - self.skipped, (chunk + 1) * self.per_chunk - self.skipped
        return range(max(0, first), min(last, self.tiles))

    def touching_tiles(self, chunk: int) -> range:
        """The tiles whose windows touch a chunk's core."""
        start, stop = self.chunk_core(chunk)
        first = ceil_div(self.phase + start + 1 - self.halo, self.step) - 1 - self.skipped
        last = (self.phase + stop - 1 + self.halo) // self.step - self.skipped
        return range(max(0, first), min(self.tiles - 1, last) + 1)


@dataclass(frozen=True, slots=True)
class Tile:
    """One unit of inference: the network sees ``window``, the result is kept in ``core``."""

    row: int
    """Row in the scene's lattice of tiles."""
    col: int
    """Column in the scene's lattice of tiles."""
    core: Window
    """The pixels that the tile owns; the cores of all tiles partition the scene."""
    window: Window
    """Core and halo; it may end past the scene's right and bottom edge, where the edge is repeated up to the stride."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The unit of work and of resume: a block of whole tile cores."""

    index: int
    """Position in the scene's chunks, row by row."""
    core: Window
    """The pixels that the chunk owns; the cores of all chunks partition the scene."""
    window: Window
    """What is read for it: the windows of its tiles, within the scene."""
    tiles: tuple[Tile, ...]
    """Its tiles in the order of reading."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A division of a scene into tiles and chunks.

    Raises:
        ConfigError: The tile leaves no core, or is not a multiple of the network's stride.
    """

    height: int
    """Rows of the scene."""
    width: int
    """Columns of the scene."""
    tile: int = 1024
    """Pixels along each side of a tile, halo included."""
    halo: int = 64
    """Context around a tile core; rounded up to the stride."""
    stride: int = 32
    """The network's total downsampling."""
    chunk: int = 4096
    """Pixels along each side of a chunk core, rounded to whole tile cores and balanced over the scene."""
    blend: bool = False
    """Whether tiles are blended where they overlap (networks with global context) rather than cropped to their cores."""
    one_shape: bool = False
    """Whether tiles at the border are moved inward, so that all have one shape, rather than cut (for GPUs)."""
    filled: bool = False
    """With ``one_shape``, whether a scene that is smaller than a tile is extended to one (for networks of one size)."""
    phase: tuple[int, int] | None = None
    """Rows and columns by which the scene begins behind a corner of a lattice of chunks that it shares with other scenes, where
    there is one: then its chunks are those of the lattice, and not balanced. Multiples of the stride."""

    def __post_init__(self) -> None:
        """Check the values."""
        if self.tile % self.stride:
            near = max(self.stride, round(self.tile / self.stride) * self.stride)
            raise ConfigError(f"tile: {self.tile} is not a multiple of the network's stride {self.stride}; use {near}")
        if self.halo < 0:
            raise ConfigError(f"halo: {self.halo} is negative; use 0 or more")
        if self.step < self.stride:
            least = 2 * round_up(self.halo, self.stride) + self.stride
            raise ConfigError(
                f"tile: {self.tile} has no room for a core between two halos of {self.halo} px; use at least {least}"
            )
        if self.blend and 2 * self.margin > self.step:
            raise ConfigError(
                f"halo: {self.halo} is over a quarter of the tile ({self.tile}), so more than two tiles would blend "
                f"along one axis; use at most {self.tile // 4 // self.stride * self.stride}"
            )

    @property
    def side(self) -> int:
        """Pixels along each side of a chunk core of a lattice."""
        return max(1, self.chunk // self.step) * self.step

    @property
    def margin(self) -> int:
        """The halo rounded up to the stride: what is really computed around a core."""
        return round_up(self.halo, self.stride)

    @property
    def step(self) -> int:
        """Pixels along each side of a tile core."""
        return self.tile - 2 * self.margin

    @property
    def rows(self) -> Axis:
        """The grid along the rows."""
        return self._axis(self.height, None if self.phase is None else self.phase[0])

    @property
    def cols(self) -> Axis:
        """The grid along the columns."""
        return self._axis(self.width, None if self.phase is None else self.phase[1])

    def _axis(self, length: int, phase: int | None) -> Axis:
        if phase is not None:
            per_chunk = self.side // self.step
            return Axis(length, self.step, self.margin, self.stride, per_chunk, self.one_shape, phase % self.side, self.filled)
        tiles = ceil_div(length, self.step)
        chunks = ceil_div(tiles, max(1, self.chunk // self.step))
        return Axis(length, self.step, self.margin, self.stride, ceil_div(tiles, chunks), self.one_shape, filled=self.filled)

    @property
    def scene(self) -> Window:
        """The window of the whole scene."""
        return Window.of((self.height, self.width))

    @property
    def extent(self) -> tuple[int, int]:
        """``(height, width)`` of the scene, extended to the stride."""
        return self.rows.extent, self.cols.extent

    @property
    def n_chunks(self) -> int:
        """Number of chunks."""
        return self.rows.chunks * self.cols.chunks

    @property
    def n_tiles(self) -> int:
        """Number of tiles."""
        return self.rows.tiles * self.cols.tiles

    def tile_at(self, row: int, col: int) -> Tile:
        """The tile in one place of the lattice."""
        rows, cols = self.rows, self.cols
        return Tile(
            row, col, Window.between(*rows.core(row), *cols.core(col)), Window.between(*rows.window(row), *cols.window(col))
        )

    def tiles(self) -> Iterator[Tile]:
        """All tiles, row by row."""
        for row in range(self.rows.tiles):
            for col in range(self.cols.tiles):
                yield self.tile_at(row, col)

    def chunk_core(self, index: int) -> Window:
        """The pixels that a chunk owns."""
        row, col = divmod(index, self.cols.chunks)
        return Window.between(*self.rows.chunk_core(row), *self.cols.chunk_core(col))

    def chunk_at(self, index: int) -> Chunk:
        """The chunk with this index, with its tiles.

        Raises:
            IndexError: There is no such chunk.
        """
        if not 0 <= index < self.n_chunks:
            raise IndexError(f"chunk {index} is not one of 0..{self.n_chunks - 1}")
        row, col = divmod(index, self.cols.chunks)
        if self.blend:
            tile_rows, tile_cols = self.rows.touching_tiles(row), self.cols.touching_tiles(col)
        else:
            tile_rows, tile_cols = self.rows.owned_tiles(row), self.cols.owned_tiles(col)
        tiles = tuple(self.tile_at(r, c) for r in tile_rows for c in tile_cols)
        # Windows begin and end in the order of their tiles, moved or not.
        first, last = tiles[0].window, tiles[-1].window
        window = Window.between(first.row_off, last.row_stop, first.col_off, last.col_stop) & self.scene
        assert window is not None
        return Chunk(index, self.chunk_core(index), window, tiles)

    def chunks(self) -> Iterator[Chunk]:
        """All chunks, row by row."""
        for index in range(self.n_chunks):
            yield self.chunk_at(index)

    def chunks_touched(self, window: Window) -> list[int]:
        """Indices of the chunks whose cores a window touches, in the order of reading."""
        rows, cols = self.rows, self.cols
        on_lattice = Window.at((window.row_off + rows.phase, window.col_off + cols.phase), window.shape)
        chunk_rows, chunk_cols = on_lattice.cells((rows.per_chunk * rows.step, cols.per_chunk * cols.step))
        return [row * cols.chunks + col for row in chunk_rows for col in chunk_cols]

    @property
    def waste(self) -> float:
        """Pixels that pass through the network for each pixel of the scene, at least 1."""
        rows, cols = self.rows, self.cols
        seen_rows = sum(b - a for a, b in map(rows.window, range(rows.tiles)))
        seen_cols = sum(b - a for a, b in map(cols.window, range(cols.tiles)))
        return seen_rows * seen_cols / (self.height * self.width)
