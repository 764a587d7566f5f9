"""Zones as shapes on the pixels of a raster: cut to where it lies, bent into its CRS, valid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyproj
from numpy.typing import NDArray

from geoseg.crs import between
from geoseg.errors import ConfigError
from geoseg.georeference import Georeference

__all__ = ["Placing"]

SEGMENT_PX = 16.0
"""Borders of zones are straight in their own CRS; they are bent into the raster's by points so far apart."""
LATTICE, MARGIN = 33, 1 / 16
"""Points a side by which the raster is found in the CRS of the zones, and what is added around it, as a share of its size."""


@dataclass(frozen=True, slots=True)
class Placing:
    """Brings zones to the pixels of a raster: x is columns, y is rows, upwards."""

    move: pyproj.Transformer
    inverse: Any
    """From the raster's CRS to columns and rows."""
    box: Any
    """Where the raster lies in the CRS of the zones; None where that can't be told."""
    step: float
    """Length of pieces of a border there."""

    @classmethod
    def of(cls, crs: pyproj.CRS, place: Georeference, shape: tuple[int, int]) -> Placing:
        """Of zones in a CRS, for a raster of so many rows and cols."""
        import shapely
        from rasterio.transform import Affine

        back = between(place.crs, crs)
        rows, cols = (part.ravel() for part in np.meshgrid(*(np.linspace(0, size, LATTICE) for size in shape), indexing="ij"))
        xy = place.xy(rows, cols)
        x, y = back.transform(xy[..., 0], xy[..., 1])
        left, bottom, right, top = np.min(x), np.min(y), np.max(x), np.max(y)
        # The middle of the raster tells how long a pixel is there; points lie in rows, LATTICE a row.
        middle = LATTICE * (LATTICE // 2) + LATTICE // 2
        cell = np.hypot(x[middle] - x[middle - LATTICE - 1], y[middle] - y[middle - LATTICE - 1])
        step = SEGMENT_PX * float(cell) * (LATTICE - 1) / float(np.hypot(*shape))
        box = None
        if np.isfinite([left, bottom, right, top]).all():
            pad_x, pad_y = max((right - left) * MARGIN, step), max((top - bottom) * MARGIN, step)
            box = shapely.box(left - pad_x, bottom - pad_y, right + pad_x, top + pad_y)
        return cls(between(crs, place.crs), ~Affine(*place.transform), box, step)

    def __call__(self, geometries: NDArray[Any]) -> list[Any]:
        """Valid polygons; empty where nothing of a zone is near the raster, or it has no geometry."""
        import shapely

        shapes = _polygons_of(shapely.make_valid(shapely.force_2d(geometries)))
        if self.box is not None:
            # What lies far away may have no place in the raster's CRS at all.
            shapes = _polygons_of(shapely.intersection(shapes, self.box))
        if np.isfinite(self.step) and self.step > 0:
            shapes = shapely.segmentize(shapes, self.step)
        return list(_polygons_of(shapely.make_valid(shapely.transform(shapes, self._pixels))))

    def _pixels(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y = self.move.transform(points[:, 0], points[:, 1])
        inverse = self.inverse
        found = np.stack([inverse.a * x + inverse.b * y + inverse.c, -(inverse.d * x + inverse.e * y + inverse.f)], axis=1)
        if not np.isfinite(found).all():
            raise ConfigError("zones: they reach where the map's CRS has no place; cut them to the area of the map")
        return found


def _polygons_of(geometries: NDArray[Any]) -> NDArray[Any]:
    """What of each has an area; empty where nothing has."""
    import shapely

    found = np.empty(len(geometries), object)
    for i, shape in enumerate(geometries):
        parts = () if shape is None else shapely.get_parts(shape)
        # Parts of a collection may have parts of their own.
        flat = [part for one in parts for part in shapely.get_parts(one) if part.geom_type == "Polygon" and not part.is_empty]
        found[i] = flat[0] if len(flat) == 1 else shapely.MultiPolygon(flat)
    return found
