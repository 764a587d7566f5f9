"""Polygons of a tile made valid: where a tile's side cuts one into parts, clipping leaves them joined along that side.

Who draws them sees no difference; who reads tiles as data would lose parts.
"""

from __future__ import annotations

import numpy as np
import shapely

from geoseg.arrays import I64, Bools
from geoseg.tiles.clipping import offsets_of
from geoseg.tiles.mvt import Shapes

__all__ = ["made_valid"]


def made_valid(shapes: Shapes, outer: Bools) -> tuple[Shapes, Bools]:
    """The same areas as valid polygons in whole units, and which features have any.

    Args:
        shapes: Rings of F features.
        outer: (R,) which rings are outer ones; each is followed by its holes.
    """
    whole = np.ones(len(shapes.features) - 1, np.bool_)
    first = np.flatnonzero(outer)
    closed = np.insert(shapes.xy, shapes.rings[1:], shapes.xy[shapes.rings[:-1]], axis=0).astype(np.float64)
    rings = shapes.rings + np.arange(len(shapes.rings))
    polygons = np.append(first, len(outer))
    features = np.searchsorted(first, shapes.features)
    found = shapely.from_ragged_array(shapely.GeometryType.MULTIPOLYGON, closed, (rings, polygons, features))
    bad = ~shapely.is_valid(found)
    if not bad.any():
        return shapes, whole
    found[bad] = shapely.set_precision(shapely.make_valid(found[bad], method="structure", keep_collapsed=False), 1.0)
    parts, owner = shapely.get_parts(found, return_index=True)
    areal = shapely.get_type_id(parts) == shapely.GeometryType.POLYGON
    areal &= ~shapely.is_empty(parts)
    parts, owner = shapely.orient_polygons(parts[areal]), owner[areal]
    xy, rings, polygons = _without_ends(parts)
    count = np.bincount(owner, minlength=len(whole))
    ends = np.concatenate([[0], polygons])[np.cumsum(count[count > 0])] if len(parts) else np.zeros(0, np.int64)
    return Shapes(xy, rings, np.concatenate([[0], ends]).astype(np.int64)), count > 0


def _without_ends(parts: np.ndarray[tuple[int, ...], np.dtype[np.object_]]) -> tuple[I64, I64, I64]:
    """Points of polygons, where rings begin, and the rings up to the end of each polygon; last points are left out."""
    rings, of_part = shapely.get_rings(parts, return_index=True)
    xy, of_ring = shapely.get_coordinates(rings, return_index=True)
    last = np.append(of_ring[1:] != of_ring[:-1], [True] * bool(len(of_ring)))
    count = np.bincount(of_ring[~last], minlength=len(rings))
    return xy[~last].round().astype(np.int64), offsets_of(count), np.cumsum(np.bincount(of_part, minlength=len(parts)))
