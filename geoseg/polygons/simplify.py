"""Simplified and smoothed borders that stay shared: no gaps, no overlaps.

All regions of a block, also those that are not wanted, form a coverage, whose borders are simplified once for both
sides by GEOS (Visvalingam and Whyatt 1993, doi:10.1179/caj.1993.30.1.46, with the constraint that edges never cross).
The frame of the block is kept as it is, so that blocks still fit together; blocks lie on a fixed grid from the raster's
origin, whatever the chunks.
"""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.arrays import F64, I32, I64, U8, Bools
from geoseg.polygons import _rings
from geoseg.polygons.geometries import from_shapes, to_shapes
from geoseg.polygons.rings import Polygons, assemble, offsets_of

__all__ = ["simplified_rings"]


def simplified_rings(
    labels: I32, values: U8, wanted: Bools, open_: Bools, simplify_px: float, smooth: int
) -> tuple[F64, U8, I64, I64, F64]:
    """Trace all regions of a block and simplify their borders.

    Args:
        labels: (H + 2, W + 2) regions from 1, with the classes outside in the frame (``_rings.trace``).
        values: By label, its class.
        wanted: By label, whether its rings are returned.
        open_: By label, whether it goes on outside.
        simplify_px: Tolerance in pixels: about the square root of the area of the triangles that are dropped.
        smooth: Rounds of corner cutting (Chaikin 1974, doi:10.1016/0146-664X(74)90028-8).

    Returns:
        Vertices (V, 2) as (row, col), their marks (V,), ring offsets (R + 1,), and by ring its label and signed area.
    """
    everything = np.ones(len(values), np.uint8)
    rows, cols, marks, rings, owner, area = _rings.trace(labels, values, everything, open_.view(np.uint8))
    height, width = labels.shape[0] - 2, labels.shape[1] - 2
    rc = np.stack([rows, cols], axis=1).astype(np.float64)
    vertex_owner = np.repeat(owner, np.diff(rings))
    marked = marks != 0
    lookup_key = _vertex_key(rc[marked], vertex_owner[marked], height, width)
    lookup_mark = marks[marked]
    polygons, owners = assemble(rc, rings, owner, area)
    if simplify_px > 0:
        polygons = _simplify(polygons, simplify_px)
    for _ in range(smooth):
        polygons = _cut_corners(polygons, height, width)
    ring_owner = np.repeat(owners, np.diff(polygons.polygons))
    keep = wanted[ring_owner]
    lengths = np.diff(polygons.rings)
    rc = polygons.rc[np.repeat(keep, lengths)]
    new_owner, lengths = ring_owner[keep], lengths[keep]
    new_rings = offsets_of(lengths)
    new_marks = _restore(rc, np.repeat(new_owner, lengths), lookup_key, lookup_mark, height, width)
    return rc, new_marks, new_rings, new_owner, _rings.ring_areas(rc, new_rings)


def _vertex_key(rc: F64, owner: NDArray[np.integer], height: int, width: int) -> I64:
    at = np.rint(rc).astype(np.int64)
    return np.asarray((owner.astype(np.int64) * (height + 1) + at[:, 0]) * (width + 1) + at[:, 1], np.int64)


def _restore(rc: F64, owner: NDArray[np.integer], key: I64, mark: U8, height: int, width: int) -> U8:
    """The marks of vertices that are still there."""
    marks = np.zeros(len(rc), np.uint8)
    if not len(key):
        return marks
    order = np.argsort(key)
    wanted = _vertex_key(rc, owner, height, width)
    found = order[np.minimum(np.searchsorted(key[order], wanted), len(order) - 1)]
    there = (key[found] == wanted) & (rc == np.rint(rc)).all(axis=1)
    marks[there] = mark[found[there]]
    return marks


def _simplify(polygons: Polygons, tolerance: float) -> Polygons:
    # Simplifying a coverage never splits a polygon.
    return from_shapes(shapely.coverage_simplify(to_shapes(polygons), tolerance, simplify_boundary=False))


def _cut_corners(polygons: Polygons, height: int, width: int) -> Polygons:
    """One round: each vertex gives way to two points on its edges, a quarter of the way along.

    Nodes, where more than two borders meet, and the frame stay, and so do corners whose triangle holds another vertex:
    cutting them could make borders cross. What is done at a vertex depends on the vertex alone, so both sides agree.
    """
    rc, rings = polygons.rc, polygons.rings
    lengths = np.diff(rings)
    before, after = np.roll(rc, 1, axis=0), np.roll(rc, -1, axis=0)
    before[rings[:-1]], after[rings[1:] - 1] = rc[rings[1:] - 1], rc[rings[:-1]]
    points, vertex = np.unique(rc, axis=0, return_inverse=True)
    vertex = vertex.ravel()
    following = np.roll(vertex, -1)
    following[rings[1:] - 1] = vertex[rings[:-1]]
    edges = np.unique(np.sort(np.stack([vertex, following], axis=1), axis=1), axis=0)
    degree = np.bincount(edges.ravel(), minlength=len(points))
    on_frame = (points == 0).any(axis=1) | (points[:, 0] == height) | (points[:, 1] == width)
    cut = (degree == 2) & ~on_frame

    first = np.zeros(len(points), np.int64)
    first[vertex] = np.arange(len(vertex))
    candidates = np.flatnonzero(cut)
    at = first[candidates]
    corners = np.stack([0.75 * rc[at] + 0.25 * before[at], rc[at], 0.75 * rc[at] + 0.25 * after[at]], axis=1)
    if len(candidates):
        triangles = shapely.polygons(corners)
        tree = shapely.STRtree(shapely.points(points))
        triangle, point = tree.query(triangles, predicate="intersects")
        cut[candidates[triangle[point != candidates[triangle]]]] = False

    by_vertex = cut[vertex]
    counts = 1 + by_vertex.astype(np.int64)
    out = np.repeat(rc, counts, axis=0)
    begin = offsets_of(counts)[:-1]
    out[begin[by_vertex]] = 0.75 * rc[by_vertex] + 0.25 * before[by_vertex]
    out[begin[by_vertex] + 1] = 0.75 * rc[by_vertex] + 0.25 * after[by_vertex]
    new_lengths = np.add.reduceat(counts, rings[:-1]) if len(lengths) else lengths
    return Polygons(out, offsets_of(new_lengths), polygons.polygons)
