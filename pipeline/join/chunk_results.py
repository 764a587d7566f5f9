"""Stored chunk results read as one raster."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np

from geoseg.arrays import Bools
from geoseg.codes import ANALYSED, HIDDEN, MAX_CLASS, NODATA, OUTSIDE_AREA
from geoseg.formats.pyramid import SUPERBLOCK
from geoseg.polygons.block_grid import BlockGrid
from geoseg.windows import Window
from pipeline.files.class_rasters import Bytes
from pipeline.infer.chunk_store import ChunkStore
from pipeline.plan.plan import Plan

__all__ = ["Coverage", "StoredResult", "superblocks"]


class StoredResult:
    """The chunk results of a plan as one raster."""

    has_confidence = True

    def __init__(self, plan: Plan, store: ChunkStore, filled: Collection[int]) -> None:
        """Read the chunks that have files; all others hold no data."""
        self.shape = plan.grid.height, plan.grid.width
        self.georeference, self.area = plan.scene.georeference, plan.area
        self._plan, self._store, self._filled = plan, store, filled

    def classes(self, window: Window) -> Bytes:
        """Class codes of a window."""
        return self._store.read("classes", window, self._filled)

    def confidence(self, window: Window) -> Bytes:
        """Confidence of a window."""
        return self._store.read("confidence", window, self._filled)

    @property
    def has_coverage(self) -> bool:
        """Whether chunks say why pixels are not analysed."""
        return "coverage" in dict(self._plan.layers)

    def coverage(self, window: Window) -> Bytes:
        """Codes of coverage of a window, where chunks say them."""
        return self._store.read("coverage", window, self._filled)

    def hidden(self, window: Window) -> Bools:
        """Where in a window clouds hide the ground."""
        return np.asarray(self.coverage(window) == HIDDEN)

    def uniform(self, window: Window) -> int | None:
        """No data, where no chunk has a file."""
        return NODATA if self._store.is_empty(window, self._filled) else None

    def blocks(self, grid: BlockGrid) -> Iterable[int]:
        """The blocks that chunks with a file touch."""
        for window in superblocks(self._plan, self._filled, grid.size):
            yield (window.row_off // grid.size) * grid.shape[1] + window.col_off // grid.size


class Coverage:
    """Coverage of another raster: 0 where there is a class, not analysed, no data, outside of the area of interest."""

    has_confidence = False

    def __init__(self, result: StoredResult) -> None:
        self.shape, self.georeference, self._area = result.shape, result.georeference, result.area
        self._result = result
        self._code = np.arange(256, dtype=np.uint8)
        self._code[: MAX_CLASS + 1] = ANALYSED

    def classes(self, window: Window) -> Bytes:
        """Coverage codes of a window."""
        if self._result.has_coverage:
            codes = self._result.coverage(window)
        else:
            codes = np.asarray(self._code[self._result.classes(window)])
        if self._area is None:
            return codes
        return np.where(self._area.mask(window), codes, np.uint8(OUTSIDE_AREA))

    def confidence(self, window: Window) -> Bytes:
        """No data everywhere: a coverage has no confidence."""
        return np.full(window.shape, NODATA, np.uint8)

    def uniform(self, window: Window) -> int | None:
        """No data, where no chunk has a file, or outside of the area of interest."""
        if self._area is not None:
            return None if self._area.touches(window) else OUTSIDE_AREA
        return self._result.uniform(window)

    def blocks(self, grid: BlockGrid) -> Iterable[int]:
        """All blocks: no data is part of the coverage."""
        return range(len(grid))


def superblocks(plan: Plan, filled: Iterable[int], size: int = SUPERBLOCK) -> list[Window]:
    """The squares on the grid from the scene's origin that chunks with files touch, in the order of reading."""
    found: set[tuple[int, int]] = set()
    for index in filled:
        rows, cols = plan.grid.chunk_core(index).cells((size, size))
        found.update((row, col) for row in rows for col in cols)
    windows = (Window.cell(place, (size, size)) & plan.grid.scene for place in sorted(found))
    return [window for window in windows if window is not None]
