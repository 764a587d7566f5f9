"""Masks of many objects as flat arrays of runs: as small as their outlines, at any place of the largest raster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geoseg.arrays import I32, I64
from geoseg.instances import _runs
from geoseg.polygons.rings import offsets_of, ranges
from geoseg.windows import Window

__all__ = ["Masks"]


@dataclass(frozen=True, slots=True, eq=False)
class Masks:
    """Sets of pixels, each as runs along the rows of the scene, ascending by row and column, apart from each other."""

    runs: I32
    """(R, 3) int32: row, first column, column after the last one."""
    offsets: I64
    """(N + 1,) int64 offsets into the runs."""

    def __len__(self) -> int:
        """Number of entries."""
        return len(self.offsets) - 1

    @classmethod
    def empty(cls) -> Masks:
        """No masks."""
        return cls(np.empty((0, 3), np.int32), np.zeros(1, np.int64))

    @classmethod
    def of_labels(cls, labels: I32, count: int, row_off: int = 0, col_off: int = 0) -> Masks:
        """The masks of the labels 1..count of an array (h, w) int32 whose first pixel lies at (row_off, col_off)."""
        return cls(*_runs.of_labels(labels, count, row_off, col_off))

    @classmethod
    def of_runs(cls, runs: Sequence[I32]) -> Masks:
        """Masks of which the runs are given."""
        return cls(np.concatenate([np.empty((0, 3), np.int32), *runs]), offsets_of(np.array([len(r) for r in runs], np.int64)))

    @classmethod
    def concatenate(cls, sets: Sequence[Masks]) -> Masks:
        """All masks of some sets, in order."""
        lengths = [np.diff(masks.offsets) for masks in sets]
        runs = [np.empty((0, 3), np.int32), *(masks.runs for masks in sets)]
        return cls(np.concatenate(runs), offsets_of(np.concatenate([np.empty(0, np.int64), *lengths])))

    def __getitem__(self, index: int) -> I32:
        """The runs of one mask."""
        return self.runs[self.offsets[index] : self.offsets[index + 1]]

    def take(self, which: I64) -> Masks:
        """Some of the masks, in the order given."""
        lengths = np.diff(self.offsets)[which]
        return Masks(self.runs[ranges(self.offsets[:-1][which], lengths)], offsets_of(lengths))

    @property
    def owners(self) -> I64:
        """(R,) the mask of each run."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    @property
    def pixels(self) -> I64:
        """(N,) int64 number of pixels of each mask."""
        lengths = (self.runs[:, 2] - self.runs[:, 1]).astype(np.int64)
        return np.diff(np.concatenate([[0], np.cumsum(lengths)])[self.offsets])

    @property
    def boxes(self) -> I32:
        """(N, 4) int32: first row, row after the last, first column, column after the last; zeros where a mask is empty."""
        boxes = np.zeros((len(self), 4), np.int32)
        there = np.flatnonzero(np.diff(self.offsets))
        if len(there):
            first, last = self.offsets[:-1][there], self.offsets[1:][there] - 1
            boxes[there, 0], boxes[there, 1] = self.runs[first, 0], self.runs[last, 0] + 1
            boxes[there, 2] = np.minimum.reduceat(self.runs[:, 1], first)
            boxes[there, 3] = np.maximum.reduceat(self.runs[:, 2], first)
        return boxes

    def first_pixels(self, width: int) -> I64:
        """(N,) int64 position (row * width + column) of each mask's first pixel in a scene of this width; -1 if empty."""
        first = np.full(len(self), -1, np.int64)
        there = np.flatnonzero(np.diff(self.offsets))
        row, col, _ = self.runs[self.offsets[:-1][there]].astype(np.int64).T
        first[there] = row * width + col
        return first

    def pixels_within(self, which: I64, windows: I32) -> I64:
        """(P,) pixels of the masks ``which`` (P,) inside windows (P, 4) given as ``boxes`` are."""
        return _runs.pixels_within(self.runs, self.offsets, which, windows)

    def common_pixels(self, first: I64, second: I64) -> I64:
        """(P,) pixels that the masks ``first`` (P,) and ``second`` (P,) have in common."""
        return _runs.common_pixels(self.runs, self.offsets, first, second)

    def largest_parts(self) -> Masks:
        """The largest 4-connected part of each mask, the first of equals."""
        part = _runs.parts(self.runs, self.offsets)
        owner = self.owners
        if not part.any():
            return self
        # Parts of all masks are numbered through; a part's size is the sum of its runs.
        counts = np.zeros(len(self), np.int64)
        np.maximum.at(counts, owner, part + 1)
        begins = offsets_of(counts)
        number = begins[owner] + part
        size = np.bincount(number, self.runs[:, 2] - self.runs[:, 1], begins[-1])
        mask_of_part = np.repeat(np.arange(len(self)), counts)
        order = np.lexsort((np.arange(len(size)), -size, mask_of_part))
        is_first = np.append(True, mask_of_part[order][1:] != mask_of_part[order][:-1])
        chosen = np.zeros(len(size), np.bool_)
        chosen[order[is_first]] = True
        keep = chosen[number]
        return Masks(self.runs[keep], offsets_of(np.bincount(owner[keep], minlength=len(self))))

    def connected_parts(self) -> tuple[Masks, I64]:
        """The 4-connected parts of all masks, by mask and first pixel, and the mask (P,) of each."""
        part, owner = _runs.parts(self.runs, self.offsets), self.owners
        order = np.lexsort((np.arange(len(part)), part, owner))
        is_first = np.ones(len(order), np.bool_)
        is_first[1:] = (np.diff(owner[order]) != 0) | (np.diff(part[order]) != 0)
        begins = np.append(np.flatnonzero(is_first), len(order)).astype(np.int64)
        return Masks(self.runs[order], begins), np.asarray(owner[order][is_first], np.int64)

    def paint(self, labels: I32, values: I32, row_off: int = 0, col_off: int = 0) -> None:
        """Write the value of each mask (N,) into its pixels of an array whose first pixel lies at (row_off, col_off)."""
        _runs.paint(labels, self.runs, self.offsets, values, row_off, col_off)

    @staticmethod
    def union(parts: Sequence[I32]) -> I32:
        """The runs of all pixels of some masks, whose runs are given."""
        runs = np.concatenate(parts)
        return _runs.united(runs[np.lexsort((runs[:, 1], runs[:, 0]))])

    @staticmethod
    def difference(runs: I32, others: I32) -> I32:
        """The runs of the pixels of one mask that are not in another."""
        return _runs.without(runs, others)

    @staticmethod
    def clip(runs: I32, window: Window) -> I32:
        """The runs of the pixels of a mask inside a window."""
        return _runs.clipped(runs, window.row_off, window.row_stop, window.col_off, window.col_stop)
