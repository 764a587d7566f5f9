"""The tiles of a chunk as batches of one shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from geoseg.errors import ChunkError, Interrupted
from geoseg.grid import Chunk, Grid, Tile
from geoseg.inference.engine import TileBatch
from geoseg.scenes.reader import Pixels
from geoseg.windows import Window

__all__ = ["TileBatches", "refuse_not_finite"]


class TileBatches:
    """The tiles of a chunk that hold data which shows the ground, as batches of one shape."""

    def __init__(self, grid: Grid, chunk: Chunk, pixels: Pixels, size: int, should_stop: Callable[[], bool]) -> None:
        self._grid, self._chunk, self._pixels = grid, chunk, pixels
        self._shown = pixels.shown
        self._size, self._should_stop = max(1, size), should_stop
        self._sent: list[list[Tile]] = []

    def next_sent(self) -> list[Tile]:
        """The tiles of the oldest batch whose result was not asked for yet."""
        return self._sent.pop(0)

    def batches(self) -> Iterator[TileBatch]:
        """Batches in the order of reading, as far as their shapes allow."""
        waiting: dict[tuple[int, int], list[Tile]] = {}
        for tile in self._chunk.tiles:
            if not self._has_data(tile):
                continue
            group = waiting.setdefault(tile.window.shape, [])
            group.append(tile)
            if len(group) >= self._size:
                yield self._batch(waiting.pop(tile.window.shape))
        for group in waiting.values():
            yield self._batch(group)

    def _seen(self, tile: Tile) -> Window:
        seen = tile.window & self._grid.scene
        assert seen is not None
        return seen

    def _has_data(self, tile: Tile) -> bool:
        # With blending a tile matters wherever it is seen; cropped, only in its core.
        area = self._seen(tile) if self._grid.blend else tile.core
        return bool(self._shown[area.slices_in(self._chunk.window)].any())

    def _batch(self, tiles: list[Tile]) -> TileBatch:
        if self._should_stop():
            raise Interrupted("stopped between two batches")
        self._sent.append(tiles)
        windows = [self._seen(tile).slices_in(self._chunk.window) for tile in tiles]
        keep = [(self._seen(tile) if self._grid.blend else tile.core).slices_in(tile.window) for tile in tiles]
        return TileBatch(
            [self._pixels.data[:, rows, cols] for rows, cols in windows],
            [self._pixels.valid[rows, cols] for rows, cols in windows],
            tiles[0].window.shape,
            keep,
        )


def refuse_not_finite(tile: Tile, count: int) -> None:
    """Raise ChunkError if the network gave a number of pixels of a tile no finite score."""
    if count:
        raise ChunkError(
            f"the network gave NaN or infinity for {count} pixels of the tile at row {tile.core.row_off}, col {tile.core.col_off}"
        )
