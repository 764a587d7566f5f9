"""Polygons of any CRS on the pixels of a raster: cut to where it lies, reprojected, valid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyproj
from numpy.typing import NDArray

from geoseg.arrays import F64
from geoseg.crs import between
from geoseg.errors import ConfigError
from geoseg.georeference import Georeference

__all__ = ["Placing", "polygons_of", "valid_polygons"]

SEGMENT_PX = 16.0
"""Edges are straight in their own CRS; they are reprojected with points so far apart."""
LATTICE, MARGIN = 33, 1 / 16
"""Points a side by which the raster is found in the CRS of the polygons, and what is added around it, as a share of its size."""
HALF_TURN = 180.0 + 1e-6
POLYGON, MULTI = 3, 6
"""Kinds of geometries that have an area, as shapely numbers them."""


@dataclass(frozen=True, slots=True)
class Placing:
    """Brings polygons to the pixels of a raster: x is columns, y is rows, upwards or downwards."""

    move: pyproj.Transformer | None
    """To the raster's CRS; None where the polygons have it."""
    inverse: Any
    """From the raster's CRS to columns and rows."""
    box: Any
    """Where the raster lies in the CRS of the polygons; None where that can't be told."""
    step: float
    """Length of pieces of an edge there."""
    upwards: bool
    """Whether y grows upwards, as exactextract has it."""
    turn: tuple[float, float] | None
    """Columns and rows of 360 degrees, where the raster goes on over the 180th meridian in degrees."""

    @classmethod
    def of(cls, crs: pyproj.CRS, place: Georeference, shape: tuple[int, int], *, upwards: bool = False) -> Placing:
        """A placing of polygons in a CRS, for a raster of so many rows and cols."""
        inverse, there = place.inverse, pyproj.CRS.from_user_input(place.crs)
        lons = place.xy(*np.array([[0, 0, shape[0], shape[0]], [0, shape[1], 0, shape[1]]], np.float64))[..., 0]
        over = there.is_geographic and bool((np.abs(lons) > HALF_TURN).any())
        turn = (360 * inverse.a, 360 * inverse.d * (-1 if upwards else 1)) if over else None
        if crs == there:
            return cls(None, inverse, None, 0.0, upwards, turn)
        back = between(there, crs)
        rows, cols = (part.ravel() for part in np.meshgrid(*(np.linspace(0, size, LATTICE) for size in shape), indexing="ij"))
        xy = place.xy(rows, cols)
        x, y = (np.asarray(part) for part in back.transform(xy[..., 0], xy[..., 1]))
        # The shortest way across a cell of the lattice: around a pole, longitudes say little of lengths.
        across = [part.reshape(LATTICE, LATTICE)[1:, 1:] - part.reshape(LATTICE, LATTICE)[:-1, :-1] for part in (x, y)]
        cell = np.hypot((across[0] + 180) % 360 - 180 if crs.is_geographic else across[0], across[1]).min()
        step = SEGMENT_PX * float(cell) * (LATTICE - 1) / float(np.hypot(*shape))
        finite = bool(np.isfinite(x).all() and np.isfinite(y).all())
        box = _box(x, y, step, turns=crs.is_geographic) if finite else None
        return cls(between(crs, there), inverse, box, step, upwards, turn)

    def __call__(self, geometries: NDArray[Any]) -> NDArray[Any]:
        """(N,) valid polygons; empty where nothing of one is near the raster, or it has no area.

        Raises:
            ConfigError: One reaches where the raster's CRS has no place.
        """
        import shapely

        shapes = valid_polygons(shapely.force_2d(geometries))
        if self.move is not None:
            if self.box is not None:
                # What lies far away may have no place in the raster's CRS at all.
                far = ~shapely.covered_by(shapes, self.box)
                shapes[far] = polygons_of(shapely.intersection(shapes[far], self.box))
            if np.isfinite(self.step) and self.step > 0:
                shapes = shapely.segmentize(shapes, self.step)
        return self._turned(valid_polygons(np.asarray(shapely.transform(shapes, self._pixels), object)))

    def _turned(self, shapes: NDArray[Any]) -> NDArray[Any]:
        """With what lies on the raster when it is counted on by a turn around the Earth."""
        import shapely

        if self.turn is None:
            return shapes
        x, y = self.turn
        copies = [shapely.transform(shapes, lambda xy, k=k: np.add(xy, (k * x, k * y))) for k in (-1, 0, 1)]
        return polygons_of(np.asarray(shapely.union_all(np.stack(copies), axis=0), object))

    def _pixels(self, points: F64) -> F64:
        x, y = (points[:, 0], points[:, 1]) if self.move is None else self.move.transform(points[:, 0], points[:, 1])
        inverse = self.inverse
        cols, rows = inverse @ (x, y)
        found = np.stack([cols, -rows if self.upwards else rows], axis=1)
        if not np.isfinite(found).all():
            raise ConfigError("polygons reach where the CRS of the raster has no place; cut them to its area")
        return found


def _box(x: F64, y: F64, step: float, *, turns: bool) -> Any:
    """What holds some points and something around them; where x is longitudes, on each turn around the Earth."""
    import shapely

    left, right, bottom, top = float(x.min()), float(x.max()), float(y.min()), float(y.max())
    if turns:
        around = np.sort(np.mod(x, 360))
        gaps = np.diff(np.append(around, around[0] + 360))
        widest = int(gaps.argmax())
        if gaps[widest] > 180:
            left = float(around[(widest + 1) % len(around)])
            right = left + 360 - float(gaps[widest])
        else:
            # All around: a pole may be within.
            left, right, bottom, top = -180.0, 180.0, -90.0 if bottom < 0 else bottom, 90.0 if top > 0 else top
    pad_x, pad_y = max((right - left) * MARGIN, step), max((top - bottom) * MARGIN, step)
    boxes = [
        shapely.box(left + turn - pad_x, bottom - pad_y, right + turn + pad_x, top + pad_y)
        for turn in ((-720, -360, 0, 360) if turns else (0,))
    ]
    return shapely.union_all(boxes)


def valid_polygons(geometries: NDArray[Any]) -> NDArray[Any]:
    """Those parts of each that have an area, repaired; what repairs leave behind, such as lines, is left out."""
    import shapely

    broken = ~shapely.is_valid(geometries) & ~shapely.is_missing(geometries)
    if broken.any():
        geometries = geometries.copy()
        geometries[broken] = shapely.make_valid(geometries[broken])
    return polygons_of(geometries)


def polygons_of(geometries: NDArray[Any]) -> NDArray[Any]:
    """Those parts of each that have an area; empty where nothing has."""
    import shapely

    found = np.array(geometries, object)
    for i in np.flatnonzero(~np.isin(shapely.get_type_id(geometries), (POLYGON, MULTI))).tolist():
        found[i] = shapely.MultiPolygon(_parts(geometries[i]))
    return found


def _parts(shape: Any) -> list[Any]:
    """The polygons of a geometry, whose parts may have parts of their own."""
    if shape is None or shape.is_empty:
        return []
    if shape.geom_type == "Polygon":
        return [shape]
    return [one for part in getattr(shape, "geoms", ()) for one in _parts(part)]
