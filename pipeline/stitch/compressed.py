"""Squares of rasters that workers compress from the chunk results, with their first overviews."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from geoseg.formats.pyramid import SUPERBLOCK, Layer
from geoseg.formats.squares import Square, encode_square, pack_squares, unpack_squares
from geoseg.grid import ceil_div
from geoseg.parallel import ordered
from geoseg.windows import Window
from pipeline.infer.chunk_store import ChunkStore
from pipeline.infer.stage_parts import AT_ONCE, OpenPartWorkers, Part, Stop, StoredChunks
from pipeline.plan.result_layers import LayerName

__all__ = ["CompressSquare", "Compressors"]


@dataclass(frozen=True, slots=True)
class CompressSquare:
    """Compresses a square of some layers of stored chunks; ready to be pickled."""

    window: Window
    layers: tuple[tuple[LayerName, Layer, int], ...]
    """Name, raster and number of bands of each."""
    levels: int
    """Levels whose tiles are compressed."""

    def __call__(self, store: ChunkStore, filled: Collection[int]) -> bytes:
        """The square of each layer, packed."""
        return pack_squares(
            [
                encode_square(layer, [store.reader(name, filled, band)(self.window) for band in range(bands)], self.levels)
                for name, layer, bands in self.layers
            ]
        )


@dataclass(frozen=True, slots=True)
class Compressors:
    """Has squares of chunk results compressed by workers, where there are any."""

    store: ChunkStore
    filled: Collection[int]
    """The chunks that have files, as far as they are in."""
    workers: OpenPartWorkers
    """Gives them, as soon as they are there."""
    should_stop: Stop

    def squares(
        self, windows: Iterable[Window], layers: tuple[tuple[LayerName, Layer, int], ...], levels: int
    ) -> Generator[tuple[Window, Sequence[Square] | None]]:
        """The windows in their order, each with its square of each layer; with None where no worker has compressed it."""

        def compressed(window: Window) -> tuple[Window, Sequence[Square] | None]:
            return window, self._square(CompressSquare(window, layers, levels))

        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="geoseg-squares") as pool:
            yield from ordered(pool, compressed, windows, AT_ONCE)

    def _square(self, work: CompressSquare) -> Sequence[Square] | None:
        workers = self.workers()
        if workers is None:
            return None
        grid, window = self.store.grid, work.window
        chunks = StoredChunks.near(self.store, grid.chunks_touched(window), self.filled)
        number = window.row_off // SUPERBLOCK * ceil_div(grid.width, SUPERBLOCK) + window.col_off // SUPERBLOCK
        data = workers.do(Part.of(f"{number:07d}.squares.npy", chunks, work), self.should_stop)
        return None if data is None else unpack_squares(data)
