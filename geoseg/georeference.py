"""Georeferences: places of pixels on Earth, and their size there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from geoseg.arrays import F64
from geoseg.crs import between, crs_of, horizontal
from geoseg.digits import degree_decimals
from geoseg.errors import GeoreferenceError
from geoseg.grid import ceil_div
from geoseg.windows import Window

if TYPE_CHECKING:
    import pyproj
    from rasterio.transform import Affine

__all__ = ["Georeference", "PixelMetric"]

WGS84 = "OGC:CRS84"
NODES_PX, NODES_M = 256, 50_000.0
"""Pixels, and about how many metres, between the places at which the size of pixels is computed."""


@lru_cache(maxsize=64)
def _geodetic(wkt: str) -> pyproj.CRS | None:
    """The longitudes and latitudes that a CRS is made from; None for one that has no ellipsoid.

    Those of a derived CRS, such as one of a rotated pole, are no latitudes of the ellipsoid: its base has them.
    """
    found = horizontal(crs_of(wkt)).geodetic_crs
    while found is not None and found.is_derived and found.source_crs is not None:
        found = found.source_crs
    return found


@dataclass(frozen=True, slots=True, eq=False)
class PixelMetric:
    """The size of pixels in metres, at nodes of a coarse grid over a window; bilinear in between."""

    window: Window
    """The pixels that it covers."""
    spacing: float
    """Pixels between nodes."""
    jacobian: F64
    """(2, 2, R, C): metres east and north (first axis) for one step along the rows and the cols (second axis)."""

    @property
    def area(self) -> F64:
        """(R, C) square metres of one pixel."""
        j = self.jacobian
        return np.ascontiguousarray(np.abs(j[0, 0] * j[1, 1] - j[0, 1] * j[1, 0]))


@dataclass(frozen=True, slots=True)
class Georeference:
    """The affine transform and the coordinate reference system of a raster."""

    transform: tuple[float, float, float, float, float, float]
    """``(a, b, c, d, e, f)``: ``x = a * col + b * row + c``, ``y = d * col + e * row + f``."""
    crs: str | None
    """The coordinate reference system as WKT, or None where coordinates are those of pixels."""

    @property
    def determinant(self) -> float:
        """Signed area of a pixel in units of the CRS; negative where the map is not mirrored (north-up)."""
        a, b, _, d, e, _ = self.transform
        return a * e - b * d

    @property
    def mirrored(self) -> bool:
        """Whether rows counted downward and cols to the right keep their sense on the map (south-up images)."""
        return self.determinant > 0

    def xy(self, rows: F64, cols: F64) -> F64:
        """(N, 2) coordinates in the CRS of pixel corners; row 0, col 0 is the upper left corner of the image."""
        a, b, c, d, e, f = self.transform
        out = np.empty((len(rows), 2))
        out[:, 0] = a * cols + b * rows + c
        out[:, 1] = d * cols + e * rows + f
        return out

    def moved(self, row: int, col: int) -> Georeference:
        """That of the part of the raster that begins at a pixel."""
        a, b, c, d, e, f = self.transform
        return Georeference((a, b, a * col + b * row + c, d, e, d * col + e * row + f), self.crs)

    @property
    def inverse(self) -> Affine:
        """``(col, row) = inverse @ (x, y)``, of coordinates in the CRS."""
        from rasterio.transform import Affine

        return ~Affine(*self.transform)

    def rows_cols(self, xy: F64) -> tuple[F64, F64]:
        """Rows (N,) and cols (N,) of coordinates (N, 2) in the CRS; whole at corners of pixels, which ``inverse`` may miss."""
        a, b, c, d, e, f = self.transform
        det = self.determinant
        x, y = xy[:, 0] - c, xy[:, 1] - f
        return (a * y - d * x) / det, (e * x - b * y) / det

    def lonlat(self, rows: F64, cols: F64) -> F64:
        """(N, 2) longitudes and latitudes in WGS 84 of pixel corners.

        Raises:
            GeoreferenceError: The CRS has no relation to WGS 84.
        """
        return self.xy_to_lonlat(self.xy(rows, cols))

    def xy_to_lonlat(self, xy: F64) -> F64:
        """(N, 2) longitudes and latitudes in WGS 84 of coordinates in the CRS.

        Raises:
            GeoreferenceError: The CRS has no relation to WGS 84.
        """
        if self.crs is None:
            raise GeoreferenceError("no coordinate reference system, so no longitudes and latitudes")
        return _transform(self.crs, WGS84, xy)

    @property
    def has_lonlat(self) -> bool:
        """Whether the scene's coordinates can be expressed in WGS 84."""
        if self.crs is None:
            return False
        try:
            self.xy_to_lonlat(self.xy(np.zeros(1), np.zeros(1)))
        except GeoreferenceError:
            return False
        return True

    @property
    def is_geographic(self) -> bool:
        """Whether the coordinates are longitudes and latitudes; those of a rotated pole are none."""
        return self.crs is not None and bool(crs_of(self.crs).is_geographic and not crs_of(self.crs).is_derived)

    @property
    def is_projected(self) -> bool:
        """Whether the coordinates are lengths on a map."""
        return self.crs is not None and not crs_of(self.crs).is_geographic

    @property
    def epsg(self) -> int | None:
        """The EPSG code where the CRS is one by name."""
        return None if self.crs is None else crs_of(self.crs).to_epsg()

    @property
    def name(self) -> str:
        """A short name of the CRS."""
        if self.crs is None:
            return "pixel coordinates"
        epsg = self.epsg
        return f"EPSG:{epsg}" if epsg else crs_of(self.crs).name

    @property
    def projjson(self) -> dict[str, Any] | None:
        """The CRS as a PROJJSON object."""
        return None if self.crs is None else crs_of(self.crs).to_json_dict()

    @property
    def nominal_pixel_m(self) -> float:
        """Side of a pixel in metres, roughly: degrees as they are at the equator; the image has a CRS."""
        assert self.crs is not None
        crs = crs_of(self.crs)
        unit = crs.axis_info[0].unit_conversion_factor if crs.axis_info else 1.0
        unit *= math.degrees(111_000.0) if crs.is_geographic else 1.0
        return math.sqrt(abs(self.determinant)) * unit

    def metric(self, window: Window, spacing: int | None = None) -> PixelMetric | None:
        """The size of pixels over a window; None where the image has no CRS.

        Lengths are those on the CRS's own ellipsoid (Snyder 1987, Map Projections: A Working Manual, eq. 4-18 ff.:
        radii of curvature of the meridian and of the prime vertical); a CRS without one (a local grid) is flat.
        Nodes every 256 pixels keep the interpolated area of UTM pixels of 10 m within 1e-7 of its value; where pixels are
        so large that this is further than 50 km, nodes are nearer, which keeps it within 1e-5 away from the poles.
        """
        if self.crs is None:
            return None
        if spacing is None:
            spacing = max(1, min(NODES_PX, int(NODES_M / max(self.nominal_pixel_m, 1e-9))))
        rows = window.row_off + spacing * np.arange(ceil_div(window.height, spacing) + 1, dtype=np.float64)
        cols = window.col_off + spacing * np.arange(ceil_div(window.width, spacing) + 1, dtype=np.float64)
        grid_rows, grid_cols = (g.ravel() for g in np.meshgrid(rows, cols, indexing="ij"))
        jacobian = self.jacobian(grid_rows, grid_cols)
        return PixelMetric(window, float(spacing), np.ascontiguousarray(jacobian.reshape(2, 2, len(rows), len(cols))))

    def jacobian(self, rows: F64, cols: F64) -> F64:
        """(2, 2, N) metres east and north for one row and for one col, at (N,) places; the image has a CRS."""
        assert self.crs is not None
        crs, geodetic = crs_of(self.crs), _geodetic(self.crs)
        ellipsoid = None if geodetic is None else geodetic.ellipsoid
        a, b, _, d, e, _ = self.transform
        if geodetic is None or ellipsoid is None:
            unit = crs.axis_info[0].unit_conversion_factor if crs.axis_info else 1.0
            return unit * np.array([[b, a], [e, d]])[:, :, None] * np.ones(len(rows))
        # Far enough apart for the last digits not to count, near enough for the meridians not to turn in between.
        reach = float(np.clip(50.0 / max(self.nominal_pixel_m, 1e-9), 0.5, 64.0))
        steps = [(-reach, 0.0), (reach, 0.0), (0.0, -reach), (0.0, reach)]
        up, down, left, right = (_to_geodetic(self.crs, self.xy(rows + dr, cols + dc)) for dr, dc in steps)
        middle = _to_geodetic(self.crs, self.xy(rows, cols))
        phi = np.radians(middle[:, 1])
        e2 = 1 - (ellipsoid.semi_minor_metre / ellipsoid.semi_major_metre) ** 2
        w2 = 1 - e2 * np.sin(phi) ** 2
        prime_vertical = ellipsoid.semi_major_metre / np.sqrt(w2)
        meridian = ellipsoid.semi_major_metre * (1 - e2) / w2**1.5

        def metres(before: F64, after: F64) -> tuple[F64, F64]:
            lon = (after[:, 0] - before[:, 0] + 180) % 360 - 180
            lat = after[:, 1] - before[:, 1]
            return (
                np.radians(lon) * prime_vertical * np.cos(phi) / (2 * reach),
                np.radians(lat) * meridian / (2 * reach),
            )

        per_row, per_col = metres(up, down), metres(left, right)
        return np.array([[per_row[0], per_col[0]], [per_row[1], per_col[1]]])

    def pixel_sides(self, window: Window) -> tuple[float, float] | None:
        """Metres of a row and of a column, the mean over a window; None without a CRS."""
        metric = self.metric(window, spacing=max(window.shape))
        if metric is None:
            return None
        jacobian = metric.jacobian.mean(axis=(2, 3))
        row_m, col_m = (jacobian[0] ** 2 + jacobian[1] ** 2) ** 0.5
        return float(row_m), float(col_m)

    def degree_decimals(self, shape: tuple[int, int] = (0, 0)) -> int:
        """Decimals that longitudes and latitudes of an image of so many rows and cols take; see ``digits.degree_decimals``."""
        sides = self.pixel_sides(Window.at((shape[0] // 2, shape[1] // 2), (1, 1)))
        return degree_decimals(None if sides is None else min(sides))

    def pixel_size(self, height: int, width: int) -> float | None:
        """Side in metres of a square with the area of the pixel in the middle of the image; None without a CRS."""
        if self.crs is None:
            return None
        j = self.jacobian(np.array([height / 2]), np.array([width / 2]))
        return math.sqrt(abs(float(j[0, 0, 0] * j[1, 1, 0] - j[0, 1, 0] * j[1, 0, 0])))

    def corners(self, height: int, width: int) -> F64:
        """(4, 2) coordinates in the CRS of the image's corners: upper left, lower left, lower right, upper right."""
        return self.xy(np.array([0.0, height, height, 0.0]), np.array([0.0, 0.0, width, width]))

    def outside_area_of_use(self, height: int, width: int) -> str | None:
        """Say what is wrong where the image lies outside the area that its CRS is made for; None if it lies inside."""
        if self.crs is None:
            return None
        crs = crs_of(self.crs)
        area = crs.area_of_use
        middle = self.xy(np.array([height / 2]), np.array([width / 2]))
        if self.is_geographic:
            lat = self.corners(height, width)[:, 1]
            if np.abs(lat).max() > 90 + 1e-6:
                return f"latitudes reach {np.abs(lat).max():.3f} degrees; are longitude and latitude swapped?"
        if area is None:
            return None
        try:
            lon, lat_ = _transform(self.crs, WGS84, middle)[0]
        except GeoreferenceError:
            return None
        slack = 3.0
        west, east = area.west - slack, area.east + slack
        inside_lon = west <= lon <= east if area.west <= area.east else lon >= west or lon <= east
        if inside_lon and area.south - slack <= lat_ <= area.north + slack:
            return None
        return (
            f"its middle (lon {lon:.3f}, lat {lat_:.3f}) lies outside the area of use of {self.name} "
            f"({area.west:g}, {area.south:g}, {area.east:g}, {area.north:g}); are coordinates swapped?"
        )


def _to_geodetic(crs: str, xy: F64) -> F64:
    """(N, 2) degrees in the CRS's own geodetic system, without a change of datum."""
    geodetic = _geodetic(crs)
    assert geodetic is not None
    # Some old ones count in grads.
    unit = geodetic.axis_info[0].unit_conversion_factor / math.radians(1)
    found = _transform(crs, geodetic.to_wkt(), xy)
    return found if math.isclose(unit, 1, rel_tol=1e-9) else found * unit


def _transform(source: str, target: str, xy: F64) -> F64:
    from pyproj.exceptions import ProjError

    if crs_of(source) == crs_of(target):
        return xy
    try:
        x, y = between(source, target).transform(xy[:, 0], xy[:, 1], errcheck=False)
    except (ProjError, GeoreferenceError) as error:
        raise GeoreferenceError(
            f"coordinates in {crs_of(source).name} can't be expressed in {crs_of(target).name}: {error.__cause__ or error}"
        ) from error
    out = np.stack([x, y], axis=1)
    if not np.isfinite(out).all():
        raise GeoreferenceError(f"some coordinates in {crs_of(source).name} have no place in {crs_of(target).name}")
    return out
