"""Regions of one block of a class raster: numbered, measured, and with what goes on beyond its sides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.arrays import F64, I32, I64, U8, U32, Bools
from geoseg.georeference import Georeference
from geoseg.polygons import _regions
from geoseg.polygons.block_grid import BlockGrid
from geoseg.windows import Window

__all__ = ["SIDES", "LabelledBlock", "Measures", "fill_frame", "numbers_of"]

OUTSIDE = 256
"""Stands for pixels outside of the scene, beside the classes 0..255."""
SIDES = ("top", "bottom", "left", "right")


@dataclass(frozen=True, slots=True, eq=False)
class Measures:
    """Measurements of regions, one entry a region."""

    value: U8
    """Class code."""
    anchor: I64
    """Position of the region's first pixel in the raster (row * width + col); its stable id."""
    pixels: I64
    """Number of pixels."""
    area_m2: F64
    """Geodesic area; the number of pixels where the raster has no CRS."""
    confidence_sum: I64
    """Sum of the confidence of its pixels."""
    confidence_p10: U8
    """Least confidence that a tenth of its pixels do not exceed."""
    origin: I64
    """Number of the set of scenes that its pixels are of, as of ``Origins``; 0 where there is one scene."""

    def __len__(self) -> int:
        """Number of entries."""
        return len(self.value)

    def take(self, which: NDArray[np.integer]) -> Measures:
        """Some of the regions, in the order given."""
        return Measures(
            self.value[which],
            self.anchor[which],
            self.pixels[which],
            self.area_m2[which],
            self.confidence_sum[which],
            self.confidence_p10[which],
            self.origin[which],
        )


@dataclass(frozen=True, slots=True, eq=False)
class LabelledBlock:
    """The 4-connected regions of a block, numbered from 1 in the order of their first pixels."""

    core: Window
    """The pixels of the block."""
    labels: I32
    """(h + 2, w + 2): regions, and in the frame -(class + 1) of the pixels outside."""
    values: U8
    """(N + 1,) class by label."""
    anchor: I64
    """(N + 1,) position in the raster of each region's first pixel."""
    is_open: Bools
    """(N + 1,) by label, whether the region touches the frame where the raster goes on."""
    edges: dict[str, I32]
    """By side where the raster goes on, the labels of the pixels along it."""
    runs: tuple[I32, I32, I32, I32]
    """``row, start, stop, label`` of the runs of equal class, in the order of reading."""

    @classmethod
    def of(cls, grid: BlockGrid, index: int, classes: U8) -> LabelledBlock:
        """Label the block whose framed class codes are given."""
        core, framed = grid.core(index), grid.framed(index)
        inner = classes[core.slices_in(framed)]
        labels, run_row, run_start, run_stop, run_label, first = _regions.label(inner)
        open_sides = fill_frame(labels, classes, core, framed)
        rows, cols = np.divmod(first, core.width)
        values = np.zeros(len(first) + 1, np.uint8)
        values[1:] = inner[rows, cols]
        anchor = np.full(len(first) + 1, -1, np.int64)
        anchor[1:] = (rows + core.row_off) * grid.width + cols + core.col_off
        edges = {side: _edge(labels, side) for side in open_sides}
        is_open = np.zeros(len(first) + 1, np.bool_)
        for edge in edges.values():
            is_open[edge] = True
        return cls(core, labels, values, anchor, is_open, edges, (run_row, run_start, run_stop, run_label))

    def measure(
        self, georeference: Georeference, confidence: U8 | None = None, open_: Bools | None = None
    ) -> tuple[Measures, U32]:
        """Measure the regions, by label; and the histograms of the confidence of those that are ``open_``."""
        count = len(self.values) - 1
        open_ = np.zeros(count + 1, np.bool_) if open_ is None else open_
        number = numbers_of(open_)
        histograms = np.zeros((int(open_.sum()), 101), np.uint32)
        metric = georeference.metric(self.core)
        area = metric.area if metric is not None else np.ones((2, 2))
        spacing = metric.spacing if metric is not None else float(2 * max(self.core.shape))
        measured = _regions.measure(*self.runs, count, area, spacing, confidence, number, histograms)
        return Measures(self.values, self.anchor, *measured, np.zeros(count + 1, np.int64)), histograms


def numbers_of(chosen: Bools) -> I32:
    """The position of each chosen entry among the chosen ones, -1 for the others."""
    number = np.full(len(chosen), -1, np.int32)
    number[chosen] = np.arange(int(chosen.sum()), dtype=np.int32)
    return number


def fill_frame(labels: I32, classes: U8, core: Window, framed: Window) -> list[str]:
    """Write -(class + 1) of the neighbouring pixels into the frame; return the sides where the raster goes on."""
    top, left = core.row_off - framed.row_off, core.col_off - framed.col_off
    bottom, right = framed.row_stop - core.row_stop, framed.col_stop - core.col_stop
    labels[0], labels[-1], labels[:, 0], labels[:, -1] = (-OUTSIDE - 1,) * 4
    rows = slice(1 - top, labels.shape[0] - 1 + bottom)
    cols = slice(1 - left, labels.shape[1] - 1 + right)
    if top:
        labels[0, cols] = -(classes[0].astype(np.int32) + 1)
    if bottom:
        labels[-1, cols] = -(classes[-1].astype(np.int32) + 1)
    if left:
        labels[rows, 0] = -(classes[:, 0].astype(np.int32) + 1)
    if right:
        labels[rows, -1] = -(classes[:, -1].astype(np.int32) + 1)
    return [side for side, there in zip(SIDES, (top, bottom, left, right), strict=True) if there]


def _edge(labels: I32, side: str) -> I32:
    """The labels of the block's pixels along a side."""
    edges = {"top": labels[1, 1:-1], "bottom": labels[-2, 1:-1], "left": labels[1:-1, 1], "right": labels[1:-1, -2]}
    return edges[side]
