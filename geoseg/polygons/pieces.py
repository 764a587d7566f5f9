"""Cutting polygons with too many vertices, along a fixed grid.

GDAL does not read GeoJSON features beyond some 170,000 vertices, and web maps and PostGIS suffer long before.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.polygons.blocks import BLOCK, Measures
from geoseg.polygons.rings import Polygons, offsets_of

__all__ = ["cut_giants"]

SMALLEST_CELL = 32


def cut_giants(
    polygons: Polygons, measures: Measures, part: NDArray[np.int32], max_vertices: int
) -> tuple[Polygons, Measures, NDArray[np.int32]]:
    """Cut polygons with more than ``max_vertices`` vertices along a grid from the raster's origin.

    Cells halve from 2048 pixels down until every piece is small enough. Pieces keep the id and the measures of the whole
    (their area follows from their size) and are numbered from 1 on in ``part``.
    """
    giant = polygons.vertices > max_vertices
    if not giant.any():
        return polygons, measures, part
    sets, owners = [], []
    for i in range(len(polygons)):
        if giant[i]:
            pieces = _polygons_of(list(_cut(_shape_of(polygons, i), BLOCK // 2, max_vertices)))
        else:
            pieces = polygons.take(np.array([i]))
        sets.append(pieces)
        owners.append(np.full(len(pieces), i))
    owner = np.concatenate(owners)
    cut = Polygons.concatenate(sets)
    return cut, measures.take(owner), _renumber(measures.anchor[owner], part[owner], giant[owner])


def _renumber(anchor: NDArray[np.int64], part: NDArray[np.int32], cut: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Number the parts of each id that has any from 1 on, in their order."""
    several = np.isin(anchor, anchor[cut])
    order = np.argsort(anchor, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order)) - np.searchsorted(anchor[order], anchor[order])
    return np.where(several, rank + 1, part).astype(np.int32)


def _shape_of(polygons: Polygons, index: int) -> shapely.Polygon:
    bounds = polygons.rings[polygons.polygons[index] : polygons.polygons[index + 1] + 1]
    shell, *holes = (polygons.rc[a:b] for a, b in pairwise(bounds.tolist()))
    return shapely.Polygon(shell, holes)


def _cut(shape: shapely.Polygon, cell: int, max_vertices: int) -> Iterator[shapely.Polygon]:
    """Pieces by cell, in the order of the cells."""
    top, left, bottom, right = shape.bounds
    for row in range(int(top // cell) * cell, int(np.ceil(bottom)), cell):
        for col in range(int(left // cell) * cell, int(np.ceil(right)), cell):
            common = shapely.intersection(shape, shapely.box(row, col, row + cell, col + cell))
            for piece in shapely.get_parts(common).tolist():
                if not isinstance(piece, shapely.Polygon) or piece.is_empty:
                    continue
                if shapely.get_num_coordinates(piece) > max_vertices and cell > SMALLEST_CELL:
                    yield from _cut(piece, cell // 2, max_vertices)
                else:
                    yield piece


def _polygons_of(shapes: list[shapely.Polygon]) -> Polygons:
    """Shapes of (row, col) as polygons: outer rings keep their inside on the left, rows counted downward."""
    # In (x = row, y = col) of rows counted downward the sense is that of shapely's (x, y) mirrored twice.
    shapes = [shapely.orient_polygons(shape, exterior_cw=False) for shape in shapes]
    rc, rings, holes = [np.empty((0, 2))], [], []
    for shape in shapes:
        lines = [shape.exterior, *shape.interiors]
        holes.append(len(lines))
        for line in lines:
            points = shapely.get_coordinates(line)[:-1]
            rc.append(points)
            rings.append(len(points))
    return Polygons(np.concatenate(rc), offsets_of(np.array(rings, np.int64)), offsets_of(np.array(holes, np.int64)))
