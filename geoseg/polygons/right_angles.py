"""Outlines of buildings with right angles, and without overlap.

An outline is divided into sides along two directions at right angles, in which most of its border runs; each side is put
where its border lies on average, and sides that are too short are dropped. Angles are right on the ground, whatever the shape
of pixels; no outline moves further than its bound; and neighbours that both grew are parted again.
"""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.arrays import F64, I64, Bools
from geoseg.georeference import Georeference
from geoseg.polygons.geometries import Shapes, to_shapes
from geoseg.polygons.rings import Polygons

__all__ = ["MOST_MOVED", "REACH", "parted", "right_angled"]

Complex = NDArray[np.complex128]

MOST_MOVED = 0.2
"""Share of an object's area that may change sides for its angles; beyond it the outline along the pixels stays."""
REACH = 6
"""Pixels that an outline reaches beyond the box of its object at most."""
TOLERANCE = 1.5
"""Pixels by which a border may leave a straight side: the steps along its pixels are no sides."""
LEAST_SIDE = 3.0
"""Pixels; what is shorter is no side."""


def right_angled(polygons: Polygons, georeference: Georeference) -> Shapes:
    """Outlines (P,) in pixels with right angles on the ground where this moves them within bounds, else as they are.

    What becomes of a polygon depends on it alone. The result has the outline's holes, and may overlap its neighbours'.

    Args:
        polygons: Objects, traced along their pixels.
        georeference: Where pixels lie; without a CRS they are taken for squares.
    """
    traced = to_shapes(polygons)
    if not len(traced):
        return traced
    to_ground, to_pixels = _frames(shapely.centroid(traced), georeference)
    ground = _moved(traced, to_ground)
    found = _moved(_aligned(ground), to_pixels)
    usable = shapely.is_valid(found) & ~shapely.is_empty(found) & (shapely.get_type_id(found) == shapely.GeometryType.POLYGON)
    left, top, right, bottom = shapely.bounds(traced).T
    frame = shapely.box(left - REACH, top - REACH, right + REACH, bottom + REACH)
    usable &= shapely.covers(frame, found)
    usable[usable] = shapely.area(shapely.symmetric_difference(found[usable], traced[usable])) <= MOST_MOVED * shapely.area(
        traced[usable]
    )
    return np.where(usable, found, traced)


def parted(shapes: Shapes, order: I64, wanted: Bools) -> Shapes:
    """Polygons without overlap: of two that overlap, the one of lower order stays as it is, and is taken out of the other.

    A polygon depends on those that overlap it alone. Of one that falls apart, the largest part stays.

    Args:
        shapes: (N,) polygons.
        order: (N,) distinct; small objects first, so that none is lost in a larger one.
        wanted: (N,) bool: those to give; the others are neighbours.
    """
    which = np.flatnonzero(wanted)
    result = shapes[which].copy()
    tree = shapely.STRtree(shapes)
    own, other = tree.query(result, predicate="intersects")
    before = order[other] < order[which[own]]
    for index in np.unique(own[before]).tolist():
        taken = shapely.union_all(shapes[other[before & (own == index)]])
        rest = shapely.get_parts(shapely.difference(result[index], taken))
        rest = rest[shapely.get_type_id(rest) == shapely.GeometryType.POLYGON]
        if len(rest):
            result[index] = rest[shapely.area(rest).argmax()]
    return np.asarray(result)


def _frames(centres: Shapes, georeference: Georeference) -> tuple[F64, F64]:
    """(P, 2, 2) from (col, row) to axes of equal length on the ground, with pixels of area 1, and back."""
    x, y = shapely.get_x(centres), shapely.get_y(centres)
    if georeference.crs is None:
        there = np.broadcast_to(np.eye(2), (len(x), 2, 2))
    else:
        jacobian = np.moveaxis(georeference.jacobian(y, x), 2, 0)[:, :, ::-1]
        there = jacobian / np.sqrt(np.abs(np.linalg.det(jacobian)))[:, None, None]
    return there, np.asarray(np.linalg.inv(there), np.float64)


def _moved(shapes: Shapes, matrices: F64) -> Shapes:
    """Each shape by its own matrix (N, 2, 2)."""
    xy, owner = shapely.get_coordinates(shapes, return_index=True)
    turned = np.einsum("vij,vj->vi", matrices[owner], xy)
    return np.asarray(shapely.set_coordinates(shapes.copy(), turned))


def _aligned(shapes: Shapes) -> Shapes:
    """Shapes with aligned sides; an empty polygon for those that have no four."""
    return np.array([_aligned_polygon(shape) for shape in shapes], dtype=object)


def _aligned_polygon(polygon: shapely.Polygon) -> shapely.Polygon:
    outer = _Sides.of(np.asarray(polygon.exterior.coords), None)
    if outer is None:
        return shapely.Polygon()
    holes = []
    for ring in polygon.interiors:
        coordinates = np.asarray(ring.coords)
        sides = _Sides.of(coordinates, outer.axis)
        holes.append(coordinates if sides is None else sides.corners())
    return shapely.Polygon(outer.corners(), holes)


class _Sides:
    """The sides of a ring, in turn along an axis and across it."""

    def __init__(self, axis: complex, along: list[bool], position: list[float], weight: list[float]) -> None:
        self.axis = axis
        """A direction, of length 1."""
        self.along = along
        """Whether a side runs along the axis, or across it; they take turns."""
        self.position = position
        """What all points of a side have in common: their distance from the axis, or that along it."""
        self.weight = weight
        """Length of the border that a side stands for."""

    @classmethod
    def of(cls, ring: F64, given: complex | None) -> _Sides | None:
        """The sides of a closed ring (N + 1, 2), along a given axis or its own; None where it has less than four."""
        points: Complex = ring[:, 0] + 1j * ring[:, 1]
        ends = _ends(ring)
        if len(ends) < 5:
            return None
        strokes = np.diff(points[ends])
        # Directions at right angles are one direction to the fourth power; long strokes count more.
        axis = given or complex(np.exp(0.25j * np.angle((strokes**4 / abs(strokes) ** 2).sum())))
        turned = strokes * np.conj(axis)
        along = abs(turned.real) >= abs(turned.imag)
        starts = np.flatnonzero(along != np.roll(along, 1))
        if len(starts) < 4:
            return None
        # From the start of one side on, so that none begins at the end of the ring.
        edges = np.roll(points[1:] - points[:-1], -int(ends[starts[0]]))
        middles = np.roll((points[:-1] + points[1:]) / 2, -int(ends[starts[0]]))
        begins = ends[starts] - ends[starts[0]]
        kinds = along[starts]
        axis = given or _refined(axis, edges, middles, begins, kinds)
        lengths = abs(edges)
        weight = np.add.reduceat(lengths, begins)
        mean = np.add.reduceat(lengths * middles, begins) / weight * np.conj(axis)
        sides = cls(axis, kinds.tolist(), np.where(kinds, mean.imag, mean.real).tolist(), weight.tolist())
        sides._drop_short()
        return sides

    def _drop_short(self) -> None:
        """Take out sides that are too short, the shortest first; those on both sides of it become one."""
        while len(self.position) > 4:
            at = self.position
            spans = [abs(at[(k + 1) % len(at)] - at[k - 1]) for k in range(len(at))]
            k = min(range(len(at)), key=spans.__getitem__)
            if spans[k] >= LEAST_SIDE:
                return
            before, after = (k - 1) % len(at), (k + 1) % len(at)
            weight = self.weight[before] + self.weight[after]
            at[before] = (at[before] * self.weight[before] + at[after] * self.weight[after]) / weight
            self.weight[before] = weight
            for gone in sorted((k, after), reverse=True):
                del at[gone], self.weight[gone], self.along[gone]

    def corners(self) -> F64:
        """(M, 2) where consecutive sides meet."""
        at = np.array(self.position)
        following = np.roll(at, -1)
        points = np.where(self.along, following + 1j * at, at + 1j * following) * self.axis
        return np.stack([points.real, points.imag], axis=1)


def _ends(ring: F64) -> I64:
    """Indices of the vertices of a closed ring that simplifying it keeps, first and last among them."""
    kept = np.asarray(shapely.simplify(shapely.LineString(ring), TOLERANCE, preserve_topology=False).coords)
    found, at = [], 0
    for point in kept[:-1].tolist():
        while ring[at].tolist() != point:
            at += 1
        found.append(at)
        at += 1
    return np.array([*found, len(ring) - 1])


def _refined(axis: complex, edges: Complex, middles: Complex, begins: I64, along: Bools) -> complex:
    """The axis that leaves the border nearest to straight sides, in the sense of least squares.

    Sides across are turned to lie along; the second moment about the mean of each side, of all sides, has the axis as its
    main direction. Half the angle of the complex second moment is that direction.
    """
    lengths = abs(edges)
    weight = np.add.reduceat(lengths, begins)
    mean = np.add.reduceat(lengths * middles, begins) / weight
    side = np.repeat(np.arange(len(begins)), np.diff(np.append(begins, len(edges))))
    moment = lengths * ((middles - mean[side]) ** 2 + edges**2 / 12)
    total = (moment * np.where(along[side], 1, -1)).sum()
    refined = complex(np.exp(0.5j * np.angle(total)))
    # Of the two ends of a direction that of the axis.
    return refined if (refined * np.conj(axis)).real >= 0 else -refined
