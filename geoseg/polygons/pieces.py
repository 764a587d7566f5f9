"""Cutting polygons with too many vertices, along a fixed grid.

GDAL does not read GeoJSON features beyond some 170,000 vertices, and web maps and PostGIS suffer long before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

import numpy as np
import shapely

from geoseg.arrays import I32, I64, U8, Bools
from geoseg.polygons import _rings
from geoseg.polygons.block_grid import BLOCK, BlockGrid
from geoseg.polygons.labelling import LabelledBlock, Measures
from geoseg.polygons.rings import Polygons, assemble, offsets_of
from geoseg.polygons.seams import Joined

__all__ = ["Mapper", "cut_giants"]

SMALLEST_CELL = 32
MOST_PIXELS = (BLOCK + 2) ** 2
"""Larger extents are not painted; polygons over several blocks were cut along these before."""
Mapper = Callable[[Callable[[int], Polygons], list[int]], Iterable[Polygons]]
"""Maps a function over giants, perhaps in parallel; results in their order."""


def cut_giants(polygons: Polygons, measures: Measures, part: I32, max_vertices: int, mapper: Mapper = map) -> list[Joined]:
    """Cut polygons with more than ``max_vertices`` vertices along a grid from the raster's origin.

    Cells halve from 4096 pixels down until every piece is small enough. Pieces keep the id and the measures of the whole
    (their area follows from their size) and are numbered from 1 on in ``part``.

    Returns:
        The polygons that are not cut, and the pieces of each that is.
    """
    giant = polygons.vertices > max_vertices
    if not giant.any():
        return [Joined(polygons, measures, part)]
    small, giants = np.flatnonzero(~giant), np.flatnonzero(giant).tolist()
    sets = [polygons.take(small), *mapper(lambda i: _cut(polygons.take(np.array([i])), max_vertices), giants)]
    owners = [small, *(np.full(len(pieces), i) for i, pieces in zip(giants, sets[1:], strict=True))]
    owner = np.concatenate(owners)
    part = _renumber(measures.anchor[owner], part[owner], giant[owner])
    ends = np.cumsum([len(pieces) for pieces in sets])
    return [
        Joined(pieces, measures.take(own), part[end - len(pieces) : end])
        for pieces, own, end in zip(sets, owners, ends.tolist(), strict=True)
    ]


def _renumber(anchor: I64, part: I32, cut: Bools) -> I32:
    """Number the parts of each id that has any from 1 on, in their order."""
    several = np.isin(anchor, anchor[cut])
    order = np.argsort(anchor, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order)) - np.searchsorted(anchor[order], anchor[order])
    return np.where(several, rank + 1, part).astype(np.int32)


def _cut(giant: Polygons, max_vertices: int) -> Polygons:
    """The pieces of one polygon, by cell."""
    rows, cols = giant.rc.T
    top, left, bottom, right = (
        int(v) for v in (np.floor(rows.min()), np.floor(cols.min()), np.ceil(rows.max()), np.ceil(cols.max()))
    )
    cell = BLOCK
    while cell > SMALLEST_CELL and len(giant.rc) * (cell / max(bottom - top, right - left)) ** 2 > max_vertices:
        cell //= 2
    if (giant.rc == np.rint(giant.rc)).all() and (bottom - top) * (right - left) <= MOST_PIXELS:
        inside = _painted(giant, top, left, bottom - top, right - left)
        return Polygons.concatenate(list(_cut_pixels(inside, top, left, cell, max_vertices)))
    bounds = giant.rings
    shell, *holes = (giant.rc[a:b] for a, b in pairwise(bounds.tolist()))
    return _polygons_of(list(_cut_shape(shapely.Polygon(shell, holes), cell, max_vertices)))


def _painted(polygon: Polygons, top: int, left: int, height: int, width: int) -> U8:
    """(height, width) 1 inside of a polygon of pixel edges: a pixel is inside when an odd number of edges lie left of it."""
    following = np.arange(1, len(polygon.rc) + 1)
    following[polygon.rings[1:] - 1] = polygon.rings[:-1]
    rows, cols = np.rint(polygon.rc).astype(np.int64).T
    upright = np.flatnonzero(cols == cols[following])
    first, last = np.minimum(rows, rows[following])[upright] - top, np.maximum(rows, rows[following])[upright] - top
    col = cols[upright] - left
    toggles = np.zeros((height + 1, width + 1), np.int8)
    flat = toggles.reshape(-1)
    np.add.at(flat, first * (width + 1) + col, 1)
    np.subtract.at(flat, last * (width + 1) + col, 1)
    np.cumsum(toggles, axis=0, dtype=np.int8, out=toggles)
    np.cumsum(toggles, axis=1, dtype=np.int8, out=toggles)
    return np.ascontiguousarray(toggles[:height, :width] & 1).view(np.uint8)


def _cut_pixels(inside: U8, top: int, left: int, cell: int, max_vertices: int) -> Iterator[Polygons]:
    """The pieces of painted pixels, by cells of the grid from the raster's origin, in the order of the cells."""
    height, width = inside.shape
    for row in range(top // cell * cell, top + height, cell):
        for col in range(left // cell * cell, left + width, cell):
            rows = slice(max(row - top, 0), min(row + cell - top, height))
            cols = slice(max(col - left, 0), min(col + cell - left, width))
            part = np.ascontiguousarray(inside[rows, cols])
            if not part.any():
                continue
            pieces = _traced(part)
            if cell > SMALLEST_CELL and (pieces.vertices > max_vertices).any():
                yield from _cut_pixels(part, top + rows.start, left + cols.start, cell // 2, max_vertices)
            else:
                yield Polygons(np.add(pieces.rc, (top + rows.start, left + cols.start)), pieces.rings, pieces.polygons)


def _traced(inside: U8) -> Polygons:
    """The 4-connected regions of ones."""
    height, width = inside.shape
    block = LabelledBlock.of(BlockGrid(height, width, max(height, width)), 0, inside)
    nowhere = np.zeros(len(block.values), np.uint8)
    rows, cols, _, rings, owner, area = _rings.trace(block.labels, block.values, block.values, nowhere)
    return assemble(np.stack([rows, cols], axis=1).astype(np.float64), rings, owner, area)[0]


def _cut_shape(shape: shapely.Polygon, cell: int, max_vertices: int) -> Iterator[shapely.Polygon]:
    """The pieces of a polygon whose vertices are not pixel corners, in the order of the cells."""
    top, left, bottom, right = shape.bounds
    for row in range(int(top // cell) * cell, int(np.ceil(bottom)), cell):
        # By rows of cells first: each cut then has less to look at.
        band = shapely.intersection(shape, shapely.box(row, left, row + cell, right))
        for col in range(int(left // cell) * cell, int(np.ceil(right)), cell):
            common = shapely.intersection(band, shapely.box(row, col, row + cell, col + cell))
            for piece in shapely.get_parts(common).tolist():
                if not isinstance(piece, shapely.Polygon) or piece.is_empty:
                    continue
                if shapely.get_num_coordinates(piece) > max_vertices and cell > SMALLEST_CELL:
                    yield from _cut_shape(piece, cell // 2, max_vertices)
                else:
                    yield piece


def _polygons_of(shapes: list[shapely.Polygon]) -> Polygons:
    """Shapes of (row, col) as polygons."""
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
