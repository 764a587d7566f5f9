"""Origins of polygons: of which scenes the pixels of each are, where a raster was put together of several."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from geoseg.arrays import I32, I64, U8, U16
from geoseg.codes import NO_SOURCE
from geoseg.polygons.block_grid import BlockGrid
from geoseg.polygons.blocks import BlockPolygons
from geoseg.polygons.labelling import LabelledBlock, Measures
from geoseg.windows import Window

__all__ = ["Origins"]

BITS = 16
"""Of a key, those that are the number of a scene; the others are a label."""


@dataclass(frozen=True, slots=True, eq=False)
class Origins:
    """The scenes of a raster, and the sets of them that its regions are of; regions keep the number of their set.

    Numbers follow the order in which sets are met. What is written of them does not. Used by several threads.
    """

    read: Callable[[Window], U16]
    """Gives (h, w) numbers of the scenes of a window's pixels; ``NO_SOURCE`` for none."""
    names: Sequence[str]
    """Of the scenes, by number."""
    dates: Sequence[str | None]
    """Their dates, ISO 8601."""
    _sets: list[tuple[int, ...]] = field(default_factory=lambda: [()], repr=False)
    _numbers: dict[tuple[int, ...], int] = field(default_factory=lambda: {(): 0}, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def of_block(self, grid: BlockGrid, found: BlockPolygons, classes: U8 | None) -> BlockPolygons:
        """The polygons of a block, whose measures know their origin.

        Args:
            grid: The blocks.
            found: The polygons.
            classes: Class codes of ``grid.framed(found.index)``; None where all of it is one region.
        """
        if not len(found.closed_measures) and not len(found.open):
            return found
        core = grid.core(found.index)
        sources = self.read(core)
        if classes is None:
            anchor = np.array([core.row_off * grid.width + core.col_off])
            origin = np.array([self._number(np.unique(sources))])
        else:
            block = LabelledBlock.of(grid, found.index, classes)
            anchor, origin = block.anchor[1:], self._of_labels(block.labels[1:-1, 1:-1], sources, len(block.anchor))[1:]

        def known(measures: Measures) -> Measures:
            # Regions are numbered in the order of their first pixels.
            return replace(measures, origin=origin[np.searchsorted(anchor, measures.anchor)])

        return replace(
            found, closed_measures=known(found.closed_measures), open=replace(found.open, measures=known(found.open.measures))
        )

    def united(self, origin: I64, component: I64, count: int) -> I64:
        """(count,) numbers of the sets of components, of those (N,) of their parts."""
        pairs = np.unique(np.stack([component, origin], axis=1), axis=0)
        starts = np.searchsorted(pairs[:, 0], np.arange(count + 1))
        alone = np.diff(starts) == 1
        out = np.empty(count, np.int64)
        out[alone] = pairs[starts[:-1][alone], 1]
        for i in np.flatnonzero(~alone).tolist():
            sets = (self._sets[number] for number in pairs[starts[i] : starts[i + 1], 1].tolist())
            out[i] = self._number(np.array(sorted({scene for some in sets for scene in some}), np.int64))
        return out

    def texts(self, origin: I64) -> tuple[list[str], list[str | None]]:
        """Names of the scenes and range of the dates of each region, ``FIRST/LAST`` where there are several."""
        numbers, which = np.unique(origin, return_inverse=True)
        names = [", ".join(self.names[scene] for scene in self._sets[number]) for number in numbers.tolist()]
        dates = [self._range(self._sets[number]) for number in numbers.tolist()]
        return [names[i] for i in which.tolist()], [dates[i] for i in which.tolist()]

    def _range(self, scenes: Iterable[int]) -> str | None:
        known = sorted({date for scene in scenes if (date := self.dates[scene]) is not None})
        if not known:
            return None
        return known[0] if len(known) == 1 else f"{known[0]}/{known[-1]}"

    def _of_labels(self, labels: I32, sources: U16, count: int) -> I64:
        """(count,) number of the set of each label."""
        if (sources == sources[0, 0]).all():
            return np.full(count, self._number(sources[:1, 0]), np.int64)
        keys = (labels.astype(np.int64) << BITS) | sources
        # Along a row most pixels repeat the one before them.
        new = np.ones(keys.shape, np.bool_)
        new[:, 1:] = keys[:, 1:] != keys[:, :-1]
        pairs = np.unique(keys[new])
        label, source = pairs >> BITS, pairs & ((1 << BITS) - 1)
        starts = np.searchsorted(label, np.arange(count + 1))
        alone, first = np.diff(starts) == 1, starts[:-1]
        out = np.zeros(count, np.int64)
        if alone.any():
            scenes, which = np.unique(source[first[alone]], return_inverse=True)
            out[alone] = np.array([self._number(np.array([scene])) for scene in scenes])[which]
        for i in np.flatnonzero(np.diff(starts) > 1).tolist():
            out[i] = self._number(source[starts[i] : starts[i + 1]])
        return out

    def _number(self, scenes: NDArray[np.integer]) -> int:
        """The number of a set of scenes, given in ascending order."""
        key = tuple(scene for scene in scenes.tolist() if scene != NO_SOURCE)
        with self._lock:
            if key not in self._numbers:
                self._numbers[key] = len(self._sets)
                self._sets.append(key)
            return self._numbers[key]
