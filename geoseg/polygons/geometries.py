"""Polygons as geometries of Shapely, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.arrays import F64, I64
from geoseg.polygons import _rings
from geoseg.polygons.rings import Polygons, offsets_of

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Shapes", "boxes_of", "from_shapes", "not_finite", "to_shapes"]

Shapes = NDArray[np.object_]
"""Geometries of Shapely; x is the column, y the row."""


def to_shapes(polygons: Polygons) -> Shapes:
    """(P,) polygons of Shapely."""
    xy = np.ascontiguousarray(polygons.rc[_closed(polygons)][:, ::-1])
    offsets = (polygons.rings + np.arange(len(polygons.rings)), polygons.polygons)
    return np.asarray(shapely.from_ragged_array(shapely.GeometryType.POLYGON, xy, offsets))


def from_shapes(shapes: Shapes) -> Polygons:
    """Polygons of Shapely's, none of which may be empty or of several parts, with their rings in our direction."""
    if not len(shapes):
        return Polygons.empty()
    kind, xy, (rings, parts) = shapely.to_ragged_array(shapes)
    if kind != shapely.GeometryType.POLYGON:
        raise ValueError(f"{kind.name} among polygons")
    last = np.zeros(len(xy), np.bool_)
    last[rings[1:] - 1] = True
    rc = np.ascontiguousarray(xy[~last][:, ::-1])
    return _oriented(rc, offsets_of(np.diff(rings) - 1), parts.astype(np.int64))


def _closed(polygons: Polygons) -> I64:
    """Indices of the vertices with each ring's first one repeated at its end."""
    lengths = np.diff(polygons.rings)
    begins = np.repeat(polygons.rings[:-1], lengths + 1)
    at = np.arange(len(begins)) - np.repeat(offsets_of(lengths + 1)[:-1], lengths + 1)
    return np.asarray(begins + at % np.repeat(lengths, lengths + 1), np.int64)


def _oriented(rc: F64, rings: I64, polygons: I64) -> Polygons:
    """With the polygon on the left of each ring: outer rings positive, holes negative."""
    area = _rings.ring_areas(rc, rings)
    outer = np.zeros(len(area), np.bool_)
    outer[polygons[:-1]] = True
    backwards = (area > 0) != outer
    if backwards.any():
        lengths = np.diff(rings)
        begin, length = np.repeat(rings[:-1], lengths), np.repeat(lengths, lengths)
        at = np.arange(len(rc)) - begin
        flip = np.repeat(backwards, lengths)
        rc = rc[begin + np.where(flip, (length - at) % length, at)]
    return Polygons(rc, rings, polygons)


def not_finite(shapes: Shapes) -> int | None:
    """Position of the first geometry with a coordinate that is NaN or infinite; None where all are finite."""
    points, owners = shapely.get_coordinates(shapes, return_index=True)
    finite = np.isfinite(points).all(axis=1)
    return None if finite.all() else int(owners[np.argmin(finite)])


def boxes_of(geometries: pa.BinaryArray) -> F64:
    """(N, 4) bounding boxes of a column of polygons in well-known binary: least x, least y, largest x, largest y."""
    if not len(geometries):
        return np.empty((0, 4))
    _, offsets, data = geometries.buffers()
    ends = np.frombuffer(offsets, np.int32)[geometries.offset : geometries.offset + len(geometries) + 1]
    return np.asarray(_rings.wkb_bounds(np.frombuffer(data, np.uint8), ends), np.float64)
