"""Polygons of maps that end at a meridian or a parallel, in longitude and latitude: brought to the line, and joined over it.

Each map ends at the pixels along the line, up to half a pixel on either side of it, so that between two maps are slivers. What
lies that near is moved onto the line: borders that polygons share stay shared, and on the line both sides meet exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import shapely

from geoseg.arrays import F64, I64, Bools
from geoseg.polygons.geometries import Shapes
from geoseg.polygons.placing import polygons_of, valid_polygons

__all__ = ["CutLine", "brought_to", "groups_over", "lines_between", "near_lines", "united"]

LEAST = 1e-10
"""Degrees that two polygons share on a line at least, to be one: a hundredth of a millimetre."""


@dataclass(frozen=True, slots=True, order=True)
class CutLine:
    """A meridian or a parallel at which maps end."""

    axis: int
    """0 for a meridian, 1 for a parallel."""
    at: float
    """Degrees."""

    def shape(self) -> shapely.LineString:
        """The line from pole to pole, or around the Earth."""
        ends = ((self.at, -90.0), (self.at, 90.0)) if self.axis == 0 else ((-180.0, self.at), (180.0, self.at))
        return shapely.LineString(ends)


def near_lines(shapes: Shapes, lines: Sequence[CutLine], within: tuple[float, float]) -> Bools:
    """Which (N,) shapes come within so many degrees of longitude and latitude of one of some lines."""
    bounds, found = shapely.bounds(shapes), np.zeros(len(shapes), np.bool_)
    for line in lines:
        least, most = bounds[:, line.axis], bounds[:, line.axis + 2]
        found |= (least <= line.at + within[line.axis]) & (most >= line.at - within[line.axis])
    return found


def brought_to(shapes: Shapes, lines: Sequence[CutLine], within: tuple[float, float]) -> Shapes:
    """(N,) polygons whose vertices within so many degrees of a line lie on it; empty where nothing of one is left.

    What two polygons share they share afterwards, as a vertex moves by its place alone.
    """

    def move(xy: F64) -> F64:
        moved = xy.copy()
        for line in lines:
            near = np.abs(moved[:, line.axis] - line.at) <= within[line.axis]
            moved[near, line.axis] = line.at
        return moved

    return polygons_of(valid_polygons(shapely.transform(shapes, move)))


def groups_over(shapes: Shapes, kinds: Sequence[object], lines: Sequence[CutLine]) -> list[I64]:
    """Indices of polygons that are one over some lines: those of a kind, on the two sides of one, that share a part of it.

    Args:
        shapes: (N,) polygons that end on the lines.
        kinds: Of each its kind, as its class.
        lines: They.

    Returns:
        Groups of at least two, by their first members.
    """
    root = np.arange(len(shapes))

    def find(index: int) -> int:
        while root[index] != index:
            root[index] = root[root[index]]
            index = int(root[index])
        return index

    for line in lines:
        for one, other in _pairs(shapes, kinds, line):
            first, second = sorted((find(one), find(other)))
            root[second] = first
    roots = np.array([find(index) for index in range(len(shapes))], np.int64)
    order = np.argsort(roots, kind="stable")
    cuts = np.flatnonzero(np.diff(roots[order])) + 1
    return [np.sort(group) for group in np.split(order, cuts) if len(group) > 1]


def _pairs(shapes: Shapes, kinds: Sequence[object], line: CutLine) -> Iterator[tuple[int, int]]:
    """Polygons of a kind on the two sides of a line that share a part of it."""
    on_it = np.flatnonzero(near_lines(shapes, [line], (0.0, 0.0)))
    middles = shapely.bounds(shapes[on_it])[:, [line.axis, line.axis + 2]].mean(axis=1)
    stretches: dict[object, tuple[list[tuple[float, float, int]], list[tuple[float, float, int]]]] = {}
    edges = shapely.intersection(shapely.boundary(shapes[on_it]), line.shape())
    for index, middle, edge in zip(on_it.tolist(), middles.tolist(), edges, strict=True):
        sides = stretches.setdefault(kinds[index], ([], []))
        for low, high in _stretches(edge, 1 - line.axis):
            sides[int(middle > line.at)].append((low, high, index))
    for below, above in stretches.values():
        yield from _overlapping(sorted(below), sorted(above))


def _stretches(edge: shapely.Geometry, axis: int) -> Iterator[tuple[float, float]]:
    """Begin and end of what lies on a line."""
    for part in shapely.get_parts(edge):
        if part.geom_type != "Point" and not part.is_empty:
            values = shapely.get_coordinates(part)[:, axis]
            yield float(values.min()), float(values.max())


def _overlapping(one: Sequence[tuple[float, float, int]], other: Sequence[tuple[float, float, int]]) -> Iterator[tuple[int, int]]:
    """Pairs of stretches that have more than a point in common; both are sorted, and none of one overlaps another of it."""
    i = j = 0
    while i < len(one) and j < len(other):
        if min(one[i][1], other[j][1]) - max(one[i][0], other[j][0]) > LEAST:
            yield one[i][2], other[j][2]
        if one[i][1] < other[j][1]:
            i += 1
        else:
            j += 1


def united(shapes: Shapes) -> Shapes:
    """The polygons that some are together: one, as far as they touch along a line."""
    return np.asarray(shapely.get_parts(polygons_of(np.array([shapely.union_all(shapes)], object))), object)


def lines_between(boxes: Sequence[tuple[float, float, float, float]]) -> list[CutLine]:
    """The meridians and parallels at which boxes meet that lie side by side, without the 180th meridian.

    GeoJSON cuts polygons there (RFC 7946, 3.1.9).

    Args:
        boxes: West, south, east, north in degrees.
    """
    found = set()
    for axis in (0, 1):
        begins, ends = {box[axis] for box in boxes}, {box[axis + 2] for box in boxes}
        found |= {CutLine(axis, at) for at in begins & ends if abs(at) < (180 if axis == 0 else 90)}
    return sorted(found)
