"""Stored chunk results read as one raster."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Protocol

import numpy as np

from geoseg.arrays import Bools
from geoseg.codes import ANALYSED, HIDDEN, MAX_CLASS, NODATA, OUTSIDE_AREA
from geoseg.georeference import Georeference
from geoseg.polygons.block_grid import BlockGrid
from geoseg.vectors.area_of_interest import AreaOfInterest
from geoseg.windows import Window
from pipeline.files.class_rasters import Bytes
from pipeline.infer.arrivals import Arrivals
from pipeline.infer.chunk_store import ChunkStore
from pipeline.infer.stage_parts import StoredChunks
from pipeline.plan.plan import Plan

__all__ = ["Coverage", "Covered", "StoredClasses", "StoredResult"]

FRAME = 1
"""Pixels around a block that are read with it."""


class StoredClasses:
    """Classes and confidence of stored chunks as one raster."""

    has_confidence = True

    def __init__(self, store: ChunkStore, georeference: Georeference, filled: Collection[int]) -> None:
        """Read the chunks that have files; all others hold no data."""
        self.shape, self.georeference = (store.grid.height, store.grid.width), georeference
        self._store, self._filled = store, filled

    def classes(self, window: Window) -> Bytes:
        """Class codes of a window."""
        return self._store.read("classes", window, self._filled)

    def confidence(self, window: Window) -> Bytes:
        """Confidence of a window."""
        return self._store.read("confidence", window, self._filled)

    def uniform(self, window: Window) -> int | None:
        """No data, where no chunk has a file."""
        return NODATA if self._store.is_empty(window, self._filled) else None


class StoredResult(StoredClasses):
    """The chunk results of a plan as one raster."""

    def __init__(self, plan: Plan, store: ChunkStore, arrivals: Arrivals) -> None:
        """Read the chunks that have files, as they come."""
        super().__init__(store, plan.scene.georeference, arrivals.filled)
        self.area, self._plan, self._arrivals = plan.area, plan, arrivals

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

    def blocks(self, grid: BlockGrid) -> Iterable[int]:
        """The blocks that chunks with a file touch, each once its pixels and those around it are there."""
        found = (_number(grid, window) for window in self._arrivals.squares(self._plan, grid.size, FRAME))
        return sorted(found) if self._arrivals.complete else found

    def groups(self, grid: BlockGrid) -> Iterator[list[int]]:
        """The same blocks; those that wait for one chunk together, once it is there."""
        for windows in self._arrivals.groups(self._plan, grid.size, FRAME):
            yield [_number(grid, window) for window in windows]

    def stored(self, grid: BlockGrid, blocks: Iterable[int]) -> StoredChunks:
        """Where others read some blocks and those pixels around them that belong to them."""
        chunks = self._store.grid
        touched = {index for block in blocks for index in chunks.chunks_touched(grid.framed(block))}
        return StoredChunks.near(self._store, touched, self._filled)

    def all_blocks(self, grid: BlockGrid) -> Iterable[int]:
        """All blocks, each once its pixels and those around it are there; those without a chunk come last."""
        if self._arrivals.complete:
            return range(len(grid))
        return self._as_they_come(grid)

    def _as_they_come(self, grid: BlockGrid) -> Iterator[int]:
        given = set()
        for window in self._arrivals.squares_near(self._plan, grid.size, FRAME):
            given.add(_number(grid, window))
            yield _number(grid, window)
        yield from (block for block in range(len(grid)) if block not in given)


class Covered(Protocol):
    """A result as far as its coverage needs it."""

    shape: tuple[int, int]
    georeference: Georeference
    area: AreaOfInterest | None

    @property
    def has_coverage(self) -> bool:
        """Whether it says why pixels are not analysed."""

    def coverage(self, window: Window) -> Bytes:
        """Codes of coverage of a window, where it says them."""

    def classes(self, window: Window) -> Bytes:
        """Class codes of a window."""

    def uniform(self, window: Window) -> int | None:
        """The code of a whole window, where that is known."""

    def all_blocks(self, grid: BlockGrid) -> Iterable[int]:
        """All blocks."""


class Coverage:
    """Coverage of another raster: 0 where there is a class, not analysed, no data, outside of the area of interest."""

    has_confidence = False

    def __init__(self, result: Covered) -> None:
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
        return self._result.all_blocks(grid)


def _number(grid: BlockGrid, window: Window) -> int:
    return next(grid.touched(window))
