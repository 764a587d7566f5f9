"""Polygons brought to a CRS of square metres."""

from __future__ import annotations

import numpy as np
import pyproj

from geoseg.crs import between
from geoseg.vectors.polygon_file import Geometries, PolygonFile

__all__ = ["equal_area", "reprojected"]

EARTH_M = 6_371_000.0

GROUND_M = 1000.0
"""Edges are straight in their own CRS; moved to another one, points so far apart keep them within centimetres."""


def equal_area(file: PolygonFile) -> pyproj.CRS | None:
    """A CRS around the middle of a file's polygons in which areas are those on the ground.

    None without a CRS on Earth, or polygons.
    """
    extent = file.extent()
    if file.crs is None or file.crs.geodetic_crs is None or extent is None:
        # Also a flat map of its own, as engineers have.
        return None
    left, bottom, right, top = extent
    to_lonlat = between(file.crs, "OGC:CRS84")
    lon, lat = to_lonlat.transform((left + right) / 2, (bottom + top) / 2)
    return pyproj.CRS.from_proj4(f"+proj=laea +lat_0={lat:.6f} +lon_0={lon:.6f} +datum=WGS84 +units=m")


def reprojected(geometries: Geometries, source: pyproj.CRS | None, target: pyproj.CRS | None) -> Geometries:
    """Geometries in another CRS, their long edges with points in between; as they are where one has no CRS."""
    import shapely

    if source is None or target is None:
        return geometries
    move = between(source, target)
    if source != target:
        geometries = shapely.segmentize(geometries, GROUND_M / _metres(source))
    return np.asarray(shapely.transform(geometries, lambda xy: np.stack(move.transform(xy[:, 0], xy[:, 1]), axis=1)))


def _metres(crs: pyproj.CRS) -> float:
    """Length of a unit of a CRS, about."""
    factor = float(crs.axis_info[0].unit_conversion_factor) if crs.axis_info else 1.0
    # Of angles the factor gives radians.
    return factor * (EARTH_M if crs.is_geographic else 1.0) or 1.0
