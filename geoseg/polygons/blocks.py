"""Polygons of one block of a class raster: those that end inside it, and the parts of those that go on.

The raster is cut into blocks of a fixed size. A block is worked on alone, with a frame of one pixel of its neighbours;
what touches the frame where the scene goes on is *open* and is joined over the seams afterwards (``seams``).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.georeference import Georeference
from geoseg.grid import ceil_div
from geoseg.polygons import _regions, _rings
from geoseg.polygons.rings import Polygons, assemble, offsets_of
from geoseg.windows import Window

__all__ = [
    "BLOCK",
    "BlockGrid",
    "BlockPolygons",
    "LabelledBlock",
    "Measures",
    "OpenParts",
    "polygonize_block",
    "polygonize_uniform",
]

BLOCK = 4096
"""Side of a block in pixels; also the grid along which ``max_vertices`` cuts and in which borders are simplified."""
OUTSIDE = 256
"""Stands for pixels outside of the scene, beside the classes 0..255."""
SIDES = ("top", "bottom", "left", "right")

Longs = NDArray[np.int64]
Ints = NDArray[np.int32]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class BlockGrid:
    """The blocks of a raster, which partition it from its origin."""

    height: int
    width: int
    size: int = BLOCK

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of blocks."""
        return ceil_div(self.height, self.size), ceil_div(self.width, self.size)

    def __len__(self) -> int:
        return self.shape[0] * self.shape[1]

    @property
    def scene(self) -> Window:
        """The window of the whole raster."""
        return Window(0, 0, self.height, self.width)

    def core(self, index: int) -> Window:
        """The pixels of a block."""
        row, col = divmod(index, self.shape[1])
        window = Window(row * self.size, col * self.size, self.size, self.size) & self.scene
        assert window is not None
        return window

    def framed(self, index: int) -> Window:
        """The pixels of a block and one more to each side, within the raster."""
        core = self.core(index)
        window = Window(core.row_off - 1, core.col_off - 1, core.height + 2, core.width + 2) & self.scene
        assert window is not None
        return window


@dataclass(frozen=True, slots=True, eq=False)
class Measures:
    """What is measured on each region, one entry a region."""

    value: Bytes
    """Class code."""
    anchor: Longs
    """Position of the region's first pixel in the raster (row * width + col); its stable id."""
    pixels: Longs
    """Number of pixels."""
    area_m2: NDArray[np.float64]
    """Geodesic area; the number of pixels where the raster has no CRS."""
    confidence_sum: Longs
    """Sum of the confidence of its pixels."""
    confidence_p10: Bytes
    """Least confidence that a tenth of its pixels do not exceed."""

    def __len__(self) -> int:
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
        )


@dataclass(frozen=True, slots=True, eq=False)
class OpenParts:
    """The regions of a block that go on in its neighbours."""

    measures: Measures
    """Of the part inside the block."""
    histograms: NDArray[np.uint32]
    """(N, 101) histogram of the confidence of each."""
    rc: NDArray[np.float64]
    """(V, 2) vertices of their rings within the block, in the raster's pixel coordinates."""
    marks: Bytes
    """(V,) see ``_rings.trace``."""
    rings: Longs
    """(R + 1,) offsets into the vertices."""
    owner: Ints
    """(R,) which of the regions each ring belongs to."""
    sides: dict[str, Ints]
    """By side where the raster goes on, which region each pixel along it belongs to; -1 for none that is wanted."""

    def __len__(self) -> int:
        return len(self.measures)


@dataclass(frozen=True, slots=True, eq=False)
class BlockPolygons:
    """All polygons of a block."""

    index: int
    """Which block."""
    closed: Polygons
    """The polygons that end in it."""
    closed_measures: Measures
    """Of these."""
    open: OpenParts
    """The parts of polygons that go on."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelledBlock:
    """The 4-connected regions of a block, numbered from 1 in the order of their first pixels."""

    core: Window
    """The pixels of the block."""
    labels: Ints
    """(h + 2, w + 2): regions, and in the frame -(class + 1) of the pixels outside."""
    values: Bytes
    """(N + 1,) class by label."""
    anchor: Longs
    """(N + 1,) position in the raster of each region's first pixel."""
    is_open: NDArray[np.bool_]
    """(N + 1,) by label, whether the region touches the frame where the raster goes on."""
    edges: dict[str, Ints]
    """By side where the raster goes on, the labels of the pixels along it."""
    runs: tuple[Ints, Ints, Ints, Ints]
    """``row, start, stop, label`` of the runs of equal class, in the order of reading."""

    @classmethod
    def of(cls, grid: BlockGrid, index: int, classes: Bytes) -> LabelledBlock:
        """Label the block whose framed class codes are given."""
        core, framed = grid.core(index), grid.framed(index)
        inner = classes[core.slices_in(framed)]
        labels, run_row, run_start, run_stop, run_label, first = _regions.label(inner)
        open_sides = _fill_frame(labels, classes, core, framed)
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
        self, georeference: Georeference, confidence: Bytes | None = None, open_: NDArray[np.bool_] | None = None
    ) -> tuple[Measures, NDArray[np.uint32]]:
        """Measure the regions, by label; and the histograms of the confidence of those that are ``open_``."""
        count = len(self.values) - 1
        open_ = np.zeros(count + 1, np.bool_) if open_ is None else open_
        number = _numbers(open_)
        histograms = np.zeros((int(open_.sum()), 101), np.uint32)
        metric = georeference.metric(self.core)
        area = metric.area if metric is not None else np.ones((2, 2))
        spacing = metric.spacing if metric is not None else float(2 * max(self.core.shape))
        measured = _regions.measure(*self.runs, count, area, spacing, confidence, number, histograms)
        return Measures(self.values, self.anchor, *measured), histograms


def _numbers(chosen: NDArray[np.bool_]) -> Ints:
    """The position of each chosen entry among the chosen ones, -1 for the others."""
    number = np.full(len(chosen), -1, np.int32)
    number[chosen] = np.arange(int(chosen.sum()), dtype=np.int32)
    return number


def polygonize_block(
    grid: BlockGrid,
    index: int,
    classes: Bytes,
    confidence: Bytes | None,
    georeference: Georeference,
    wanted: Collection[int],
    *,
    simplify_px: float = 0.0,
    smooth: int = 0,
) -> BlockPolygons:
    """Trace the regions of a block.

    Args:
        grid: The blocks.
        index: Which block.
        classes: Class codes of ``grid.framed(index)``.
        confidence: Confidence of ``grid.core(index)``, or None.
        georeference: Where the raster's pixels lie.
        wanted: Codes to trace.
        simplify_px: Tolerance of simplification in pixels; 0 keeps every pixel edge.
        smooth: Rounds of corner cutting.
    """
    block = LabelledBlock.of(grid, index, classes)
    is_wanted = np.isin(block.values, list(wanted))
    is_wanted[0] = False
    is_open = block.is_open & is_wanted
    number = _numbers(is_open)
    measures, histograms = block.measure(georeference, confidence, is_open)
    if simplify_px or smooth:
        from geoseg.polygons.simplify import simplified_rings

        rc, marks, rings, owner, ring_area = simplified_rings(block.labels, block.values, is_wanted, is_open, simplify_px, smooth)
    else:
        rows, cols, marks, rings, ring_owner, pixels = _rings.trace(
            block.labels, block.values, is_wanted.view(np.uint8), is_open.view(np.uint8)
        )
        owner, ring_area = ring_owner.astype(np.int64), pixels.astype(np.float64)
        rc = np.stack([rows, cols], axis=1).astype(np.float64)
    rc += (block.core.row_off, block.core.col_off)

    lengths, ring_open = np.diff(rings), is_open[owner]
    by_vertex = np.repeat(ring_open, lengths)
    parts = OpenParts(
        measures.take(np.flatnonzero(is_open)),
        histograms,
        rc[by_vertex],
        marks[by_vertex],
        offsets_of(lengths[ring_open]),
        number[owner[ring_open]],
        {side: number[edge] for side, edge in block.edges.items()},
    )
    if ring_open.any():
        rc, rings, owner, ring_area = rc[~by_vertex], offsets_of(lengths[~ring_open]), owner[~ring_open], ring_area[~ring_open]
    closed, owners = assemble(rc, rings, owner, ring_area)
    return BlockPolygons(index, closed, measures.take(owners), parts)


def polygonize_uniform(
    grid: BlockGrid, index: int, code: int, confidence: Bytes | None, georeference: Georeference, wanted: Collection[int]
) -> BlockPolygons:
    """The polygon of a block that, with its frame, holds one code only; equals ``polygonize_block`` at a small part of its cost.

    Args:
        grid: The blocks.
        index: Which block.
        code: The code.
        confidence: Confidence of ``grid.core(index)``, or None.
        georeference: Where the raster's pixels lie.
        wanted: Codes to trace.
    """
    core, framed = grid.core(index), grid.framed(index)
    goes_on = {
        "top": core.row_off > framed.row_off,
        "bottom": core.row_stop < framed.row_stop,
        "left": core.col_off > framed.col_off,
        "right": core.col_stop < framed.col_stop,
    }
    if code not in wanted:
        none = _no_parts(core, goes_on)
        return BlockPolygons(index, Polygons.empty(), none.measures, none)
    # The ring and its marks are those of a block of one pixel, stretched; what is measured follows from its runs.
    tiny_framed = Window(
        -int(goes_on["top"]),
        -int(goes_on["left"]),
        1 + goes_on["top"] + goes_on["bottom"],
        1 + goes_on["left"] + goes_on["right"],
    )
    labels = np.zeros((3, 3), np.int32)
    labels[1, 1] = 1
    _fill_frame(labels, np.full(tiny_framed.shape, code, np.uint8), Window(0, 0, 1, 1), tiny_framed)
    is_open = any(goes_on.values())
    flags = np.array([0, 1], np.uint8)
    rows, cols, marks, rings, _, _ = _rings.trace(labels, np.array([0, code], np.uint8), flags, flags * np.uint8(is_open))
    rc = np.stack([rows * float(core.height) + core.row_off, cols * float(core.width) + core.col_off], axis=1)
    each_row = np.arange(core.height, dtype=np.int32)
    runs = (each_row, np.zeros_like(each_row), np.full_like(each_row, core.width), np.ones_like(each_row))
    values, anchor = np.array([0, code], np.uint8), np.array([-1, core.row_off * grid.width + core.col_off])
    block = LabelledBlock(core, labels, values, anchor, np.array([False, is_open]), {}, runs)
    measures, histograms = block.measure(georeference, confidence, block.is_open)
    measures = measures.take(np.array([1]))
    if not is_open:
        return BlockPolygons(index, Polygons(rc, rings, np.array([0, 1])), measures, _no_parts(core, goes_on))
    parts = OpenParts(measures, histograms, rc, marks, rings, np.zeros(1, np.int32), _constant_sides(core, goes_on, 0))
    return BlockPolygons(index, Polygons.empty(), measures.take(np.empty(0, np.int64)), parts)


def _constant_sides(core: Window, goes_on: dict[str, bool], number: int) -> dict[str, Ints]:
    """One number for all pixels along each side, without memory for each."""
    lengths = {"top": core.width, "bottom": core.width, "left": core.height, "right": core.height}
    return {side: np.broadcast_to(np.int32(number), lengths[side]) for side in SIDES if goes_on[side]}


def _no_parts(core: Window, goes_on: dict[str, bool]) -> OpenParts:
    types = (np.uint8, np.int64, np.int64, np.float64, np.int64, np.uint8)
    measures = Measures(*(np.empty(0, dtype) for dtype in types))  # type: ignore[arg-type]  # in the order of its fields
    return OpenParts(
        measures,
        np.empty((0, 101), np.uint32),
        np.empty((0, 2)),
        np.empty(0, np.uint8),
        np.zeros(1, np.int64),
        np.empty(0, np.int32),
        _constant_sides(core, goes_on, -1),
    )


def _fill_frame(labels: Ints, classes: Bytes, core: Window, framed: Window) -> list[str]:
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


def _edge(labels: Ints, side: str) -> Ints:
    """The labels of the block's pixels along a side."""
    edges = {"top": labels[1, 1:-1], "bottom": labels[-2, 1:-1], "left": labels[1:-1, 1], "right": labels[1:-1, -2]}
    return edges[side]
