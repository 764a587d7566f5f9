"""Polygons of one block of a class raster: those that end inside it, and the parts of those that go on.

The raster is cut into blocks of a fixed size. A block is worked on alone, with a frame of one pixel of its neighbours;
what touches the frame where the scene goes on is *open* and is joined over the seams afterwards (``seams``).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from geoseg.arrays import F64, I32, I64, U8, U32
from geoseg.georeference import Georeference
from geoseg.polygons import _rings
from geoseg.polygons.block_grid import BlockGrid
from geoseg.polygons.labelling import SIDES, LabelledBlock, Measures, fill_frame, numbers_of
from geoseg.polygons.rings import Polygons, assemble, offsets_of
from geoseg.windows import Window

__all__ = ["BlockPolygons", "OpenParts", "polygonize_block", "polygonize_uniform"]


@dataclass(frozen=True, slots=True, eq=False)
class OpenParts:
    """The regions of a block that go on in its neighbours."""

    measures: Measures
    """Of the part inside the block."""
    histograms: U32
    """(N, 101) histogram of the confidence of each."""
    rc: F64
    """(V, 2) vertices of their rings within the block, in the raster's pixel coordinates."""
    marks: U8
    """(V,) see ``_rings.trace``."""
    rings: I64
    """(R + 1,) offsets into the vertices."""
    owner: I32
    """(R,) which of the regions each ring belongs to."""
    sides: dict[str, I32]
    """By side where the raster goes on, which region each pixel along it belongs to; -1 for none that is wanted."""

    def __len__(self) -> int:
        """Number of entries."""
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


def polygonize_block(
    grid: BlockGrid,
    index: int,
    classes: U8,
    confidence: U8 | None,
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
    number = numbers_of(is_open)
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
    grid: BlockGrid, index: int, code: int, confidence: U8 | None, georeference: Georeference, wanted: Collection[int]
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
    tiny_framed = Window.at(
        (-int(goes_on["top"]), -int(goes_on["left"])),
        (1 + goes_on["top"] + goes_on["bottom"], 1 + goes_on["left"] + goes_on["right"]),
    )
    labels = np.zeros((3, 3), np.int32)
    labels[1, 1] = 1
    fill_frame(labels, np.full(tiny_framed.shape, code, np.uint8), Window.of((1, 1)), tiny_framed)
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


def _constant_sides(core: Window, goes_on: dict[str, bool], number: int) -> dict[str, I32]:
    """One number for all pixels along each side, without memory for each."""
    lengths = {"top": core.width, "bottom": core.width, "left": core.height, "right": core.height}
    return {side: np.broadcast_to(np.int32(number), lengths[side]) for side in SIDES if goes_on[side]}


def _no_parts(core: Window, goes_on: dict[str, bool]) -> OpenParts:
    types = (np.uint8, np.int64, np.int64, np.float64, np.int64, np.uint8, np.int64)
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
