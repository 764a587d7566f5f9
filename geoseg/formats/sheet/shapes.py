"""Polygons as a page shows them: outlines to its resolution, dots where they are too small or too many."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.arrays import F64, Bools
from geoseg.formats.sheet.frame import MapFrame
from geoseg.polygons.features import GEOMETRY

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["DOT_MM", "PageShapes", "page_shapes"]

DOT_MM = 0.45
"""Side of a dot, and the size below which a polygon is one."""
THIN_MM = 0.05
"""Vertices closer than this fall together."""
MAX_VERTICES = 400_000
"""Vertices of all outlines together; polygons beyond are dots."""


@dataclass(slots=True)
class PageShapes:
    """Shapes on the page of the polygons of one code."""

    rings: list[F64] = field(default_factory=list)
    """(N, 2) metres right and up of the middle, closed; shells and holes turn in opposite senses."""
    dots: set[tuple[int, int]] = field(default_factory=set)
    """Cells of ``DOT_MM`` right and up of the middle."""


def page_shapes(
    frame: MapFrame, batches: Iterable[pa.RecordBatch], *, max_vertices: int = MAX_VERTICES
) -> tuple[dict[int, PageShapes], int, int]:
    """Draw features, by code. Memory is bounded by the page, not by the features.

    Args:
        frame: The frame.
        batches: Features with columns ``code`` and ``geometry`` (WKB, in the CRS of the frame): polygons or points.
        max_vertices: Vertices of outlines at most; further polygons become dots.

    Returns:
        The shapes, how many features lie in the frame, and how many of them became dots.
    """
    found: dict[int, PageShapes] = {}
    seen = dotted = 0
    budget = max_vertices
    wide, high = frame.half
    window = shapely.box(-1.1 * wide, -1.1 * high, 1.1 * wide, 1.1 * high)
    for batch in batches:
        codes = np.asarray(batch.column("code").to_numpy(zero_copy_only=False))
        wkb = np.asarray(batch.column(GEOMETRY).to_numpy(zero_copy_only=False), dtype=object)
        shapes: NDArray[Any] = shapely.transform(shapely.force_2d(shapely.from_wkb(wkb)), frame.from_crs)
        boxes = shapely.bounds(shapes)
        inside = (boxes[:, 0] <= wide) & (boxes[:, 2] >= -wide) & (boxes[:, 1] <= high) & (boxes[:, 3] >= -high)
        codes, shapes, boxes = codes[inside], shapes[inside], boxes[inside]
        seen += len(shapes)
        small = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]) < DOT_MM * frame.metres_per_mm
        outlined, budget = _outline(frame, codes, shapes, ~small, window, found, budget)
        dots = np.flatnonzero(~outlined)
        dotted += len(dots)
        centre = (boxes[dots, :2] + boxes[dots, 2:]) / 2
        cells = np.floor(centre / (DOT_MM * frame.metres_per_mm)).astype(np.int64)
        for code in np.unique(codes[dots]).tolist():
            of_code = np.unique(cells[codes[dots] == code], axis=0)
            found.setdefault(code, PageShapes()).dots.update(map(tuple, of_code.tolist()))
    return found, seen, dotted


def _outline(
    frame: MapFrame,
    codes: NDArray[Any],
    shapes: NDArray[Any],
    large: Bools,
    window: Any,
    found: dict[int, PageShapes],
    budget: int,
) -> tuple[Bools, int]:
    """Add outlines of large polygons while the budget lasts; returns which polygons have one, and what is left."""
    done = np.zeros(len(shapes), np.bool_)
    step = THIN_MM * frame.metres_per_mm
    which = np.flatnonzero(large & np.isin(shapely.get_type_id(shapes), (3, 6)))
    # Only what is near the frame is drawn, however far a polygon goes on.
    over = which[~shapely.covers(window, shapes[which])]
    shapes[over] = shapely.intersection(shapely.make_valid(shapes[over]), window)
    for i in which.tolist():
        rings = []
        for part in shapely.get_parts(shapes[i]):
            if part.geom_type == "Polygon":
                turned = shapely.orient_polygons(part, exterior_cw=False)
                rings += [_thinned(shapely.get_coordinates(ring), step) for ring in shapely.get_rings(turned)]
        rings = [ring for ring in rings if len(ring) > 3]
        size = sum(map(len, rings))
        if rings and size <= budget:
            budget -= size
            done[i] = True
            found.setdefault(int(codes[i]), PageShapes()).rings += rings
    return done, budget


def _thinned(points: F64, step: float) -> F64:
    """A ring without vertices that fall together on the page; it stays closed."""
    cell = np.floor(points / step).astype(np.int64)
    keep = np.ones(len(points), np.bool_)
    keep[1:-1] = (cell[1:-1] != cell[:-2]).any(axis=1)
    return points[keep]
