"""The frame of a map on a page: its scale, its north, its graticule.

The page shows the ground as it is in the middle of the map, in metres: columns of the raster run to the right, and nothing is
mirrored. So lengths are right there in any CRS, degrees included, and a rotated raster fills its frame while north turns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from geoseg.arrays import F64
from geoseg.errors import GeoreferenceError
from geoseg.georeference import Georeference

__all__ = ["MapFrame", "degrees_text", "graticule_values", "length_text", "round_denominator", "round_length"]

STEPS_DEGREES = tuple(
    [30.0, 20.0, 10.0, 5.0, 2.0, 1.0]
    + [minutes / 60 for minutes in (30, 20, 10, 5, 2, 1)]
    + [seconds / 3600 for seconds in (30, 20, 10, 5, 2, 1, 0.5, 0.2, 0.1)]
)
"""Distances of lines that read well in degrees, minutes and seconds."""
LEAST_LINES = 3
DENOMINATORS = 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.5, 8.0, 10.0
"""Of scales that read well, times a power of ten."""
NET = 65
EDGE = 513


@dataclass(frozen=True, slots=True)
class MapFrame:
    """A part of a raster's plane on a page."""

    georeference: Georeference
    """Of the raster; lengths on the page are pixels where it has no CRS."""
    middle: tuple[float, float]
    """Row and column in the middle of the frame."""
    matrix: tuple[float, float, float, float]
    """Metres to the right by column and by row, then metres up by column and by row."""
    north: float | None
    """Degrees from up to true north, clockwise; None without a CRS."""
    size_mm: tuple[float, float]
    """Width and height on the page."""
    metres_per_mm: float
    """Ground to page, in the middle."""

    @classmethod
    def fit(
        cls,
        georeference: Georeference,
        box: tuple[float, float, float, float],
        size_mm: tuple[float, float],
        margin: float = 0.02,
    ) -> MapFrame:
        """The largest round scale at which a box of pixels fits a frame; without a CRS the largest of all.

        Args:
            georeference: Of the raster.
            box: First row, first column, last row and last column, which may lie outside of the raster.
            size_mm: Width and height of the frame.
            margin: Share of the frame that stays free around it.

        Raises:
            GeoreferenceError: The middle of the box has no place on Earth, or the box is empty.
        """
        top, left, bottom, right = box
        if not (bottom > top and right > left):
            raise GeoreferenceError(f"a map of rows {top:g} to {bottom:g}, columns {left:g} to {right:g} is empty")
        middle = (top + bottom) / 2, (left + right) / 2
        if georeference.crs is None:
            matrix, north = (1.0, 0.0, 0.0, -1.0), None
        else:
            j = georeference.jacobian(np.array([middle[0]]), np.array([middle[1]]))[:, :, 0]
            turn = math.atan2(j[1, 1], j[0, 1])
            cos, sin = math.cos(turn), math.sin(turn)
            right_, up = cos * j[0] + sin * j[1], cos * j[1] - sin * j[0]
            matrix, north = (float(right_[1]), float(right_[0]), float(up[1]), float(up[0])), math.degrees(turn)
            if not np.isfinite(matrix).all() or abs(matrix[0] * matrix[3] - matrix[1] * matrix[2]) == 0:
                raise GeoreferenceError(f"pixels have no size at row {middle[0]:g}, column {middle[1]:g}")
        rows, cols = np.array([top, top, bottom, bottom]) - middle[0], np.array([left, right, left, right]) - middle[1]
        wide = 2 * float(np.abs(matrix[0] * cols + matrix[1] * rows).max())
        high = 2 * float(np.abs(matrix[2] * cols + matrix[3] * rows).max())
        scale = max(wide / size_mm[0], high / size_mm[1]) / (1 - 2 * margin)
        scale = scale if north is None else round_denominator(1000 * scale) / 1000
        return cls(georeference, middle, matrix, north, size_mm, scale)

    @property
    def half(self) -> tuple[float, float]:
        """Half of the width and of the height, in metres on the ground."""
        return self.size_mm[0] * self.metres_per_mm / 2, self.size_mm[1] * self.metres_per_mm / 2

    @property
    def denominator(self) -> float | None:
        """The scale is one to so many; None without a CRS."""
        return None if self.north is None else self.metres_per_mm * 1000

    def affine_of(self, other: Georeference) -> tuple[float, float, float, float, float, float]:
        """``(a, b, c, d, e, f)`` from columns and rows of a raster in the same CRS to metres right and up on the page."""
        corners = self.from_crs(other.xy(np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0])))
        col, row = corners[1] - corners[0], corners[2] - corners[0]
        return float(col[0]), float(row[0]), float(corners[0, 0]), float(col[1]), float(row[1]), float(corners[0, 1])

    def from_pixels(self, rows: F64, cols: F64) -> F64:
        """(N, 2) metres right and up of the middle."""
        right_col, right_row, up_col, up_row = self.matrix
        d_row, d_col = rows - self.middle[0], cols - self.middle[1]
        return np.stack([right_col * d_col + right_row * d_row, up_col * d_col + up_row * d_row], axis=1)

    def from_crs(self, xy: F64) -> F64:
        """(N, 2) metres right and up of the middle, of coordinates in the CRS."""
        return self.from_pixels(*self.georeference.rows_cols(xy))

    def to_crs(self, page: F64) -> F64:
        """(N, 2) coordinates in the CRS of metres right and up of the middle."""
        right_col, right_row, up_col, up_row = self.matrix
        det = right_col * up_row - right_row * up_col
        cols = self.middle[1] + (up_row * page[:, 0] - right_row * page[:, 1]) / det
        rows = self.middle[0] + (right_col * page[:, 1] - up_col * page[:, 0]) / det
        return self.georeference.xy(rows, cols)

    def lonlat(self, page: F64) -> F64:
        """(N, 2) longitudes and latitudes; longitudes go on beyond 180 degrees rather than jump.

        Raises:
            GeoreferenceError: The CRS has no relation to WGS 84, or a part of the frame has no place on Earth.
        """
        found = self.georeference.xy_to_lonlat(self.to_crs(np.vstack([np.zeros((1, 2)), page])))
        lon = found[0, 0] + (found[1:, 0] - found[0, 0] + 180) % 360 - 180
        return np.stack([lon, found[1:, 1]], axis=1)

    def net(self) -> tuple[F64, F64, F64, F64]:
        """Metres right (n,) and up (n,), longitudes (n, n) and latitudes (n, n) of a net over the frame."""
        wide, high = self.half
        x, y = np.linspace(-wide, wide, NET), np.linspace(-high, high, NET)
        grid = np.stack([g.ravel() for g in np.meshgrid(x, y)], axis=1)
        found = self.lonlat(grid)
        return x, y, found[:, 0].reshape(NET, NET), found[:, 1].reshape(NET, NET)

    def crossings(self, side: str, values: F64, axis: int) -> list[tuple[float, float]]:
        """``(metres along a side, value)`` where meridians (axis 0) or parallels (axis 1) meet side ``bottom`` or ``left``."""
        wide, high = self.half
        along = np.linspace(-wide, wide, EDGE) if side == "bottom" else np.linspace(-high, high, EDGE)
        fixed = np.full(EDGE, -high if side == "bottom" else -wide)
        points = np.stack([along, fixed] if side == "bottom" else [fixed, along], axis=1)
        degrees = self.lonlat(points)[:, axis]
        out = []
        for value in values.tolist():
            left = degrees - value
            for i in np.flatnonzero((left[:-1] <= 0) != (left[1:] <= 0)).tolist():
                share = left[i] / (left[i] - left[i + 1])
                out.append((float(along[i] + share * (along[i + 1] - along[i])), value))
        return out


def graticule_values(low: float, high: float) -> F64:
    """Degrees at which lines are drawn between two values: at least three, at round minutes or seconds."""
    span = high - low
    step = next((s for s in STEPS_DEGREES if span / s >= LEAST_LINES), STEPS_DEGREES[-1])
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return np.arange(first, last + 1, dtype=np.float64) * np.float64(step)


def degrees_text(value: float, axis: int) -> str:
    """A longitude (axis 0) or latitude (axis 1) in degrees, minutes and seconds, as far as they are needed."""
    value = (value + 180) % 360 - 180 if axis == 0 and abs(value) > 180 else value
    tenths = round(abs(value) * 36000)
    degrees, rest = divmod(tenths, 36000)
    minutes, seconds = divmod(rest, 600)
    text = f"{degrees}°"
    if minutes or seconds:
        text += f"{minutes:02d}'"
    if seconds:
        text += f'{seconds // 10:02d}"' if seconds % 10 == 0 else f'{seconds / 10:04.1f}"'
    sides = "EW" if axis == 0 else "NS"
    return text if tenths == 0 else f"{text} {sides[0] if value > 0 else sides[1]}"


def round_length(most: float) -> float:
    """The largest of 1, 2 or 5 times a power of ten that is not above a length."""
    if not (most > 0 and math.isfinite(most)):
        raise ValueError(f"a length of {most:g} has no scale bar; it is above 0")
    power = 10.0 ** math.floor(math.log10(most) + 1e-12)
    return next(digit * power for digit in (5.0, 2.0, 1.0) if digit * power <= most * (1 + 1e-12))


def round_denominator(least: float) -> float:
    """The smallest round denominator of a scale that is not below another: 1 to 5 000, 1 to 7 500."""
    power = 10.0 ** math.floor(math.log10(least) + 1e-12)
    return next(digit * power for digit in DENOMINATORS if digit * power >= least * (1 - 1e-12))


def length_text(metres: float) -> str:
    """A length with its unit: m, km from 1000 m, cm below 1 m."""
    if metres >= 1000:
        return f"{metres / 1000:,g} km"
    return f"{metres:g} m" if metres >= 1 else f"{metres * 100:g} cm"
