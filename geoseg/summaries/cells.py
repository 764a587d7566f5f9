"""Counts, areas and shares of classes in the square cells of a metric grid, and densities of points."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyproj
from numpy.typing import NDArray

from geoseg.arrays import F64, I64
from geoseg.errors import ConfigError

__all__ = ["Cells", "Tally", "add_kernels", "cell_boxes", "kernel_weights", "metric_crs"]

BITS, CODE_BITS = 27, 8
REACH = 1 << (BITS - 1)
AREA_UNITS = 10_000
"""Areas are summed up in square centimetres, as whole numbers, so that the order of features does not matter."""
MERGE_AT = 1 << 20
UTM_REACH_DEGREES = 3.5


def metric_crs(lon: float, lat: float, width_degrees: float = 0.0) -> pyproj.CRS:
    """A CRS in metres for a place: its UTM zone, or where that reaches too far an equal-area projection around the middle.

    UTM is named by an EPSG code; its areas are within 0.2 % of those on the ground. West of or beyond 3.5 degrees of its
    meridian, and near the poles, it is Lambert's azimuthal equal-area projection (Snyder 1987, ch. 24).

    Args:
        lon: Longitude of the middle in degrees.
        lat: Latitude of the middle in degrees.
        width_degrees: How many degrees of longitude the features span.

    Raises:
        ConfigError: The place is not on Earth.
    """
    if not (math.isfinite(lon) and -90 <= lat <= 90):
        raise ConfigError(f"longitude {lon:g}, latitude {lat:g} is no place on Earth; latitudes are -90 to 90")
    lon = (lon + 180) % 360 - 180
    zone = int((lon + 180) // 6) + 1
    reach = abs(lon - (6 * zone - 183)) + width_degrees / 2
    if -80 <= lat <= 84 and reach <= UTM_REACH_DEGREES:
        return pyproj.CRS.from_epsg((32600 if lat >= 0 else 32700) + zone)
    return pyproj.CRS.from_proj4(f"+proj=laea +lat_0={lat:.2f} +lon_0={lon:.2f} +datum=WGS84 +units=m +type=crs")


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Cells that hold features, by rows from south to north, then from west to east."""

    side: float
    """Metres."""
    row: I64
    """(N,) cells north of the origin of the CRS."""
    col: I64
    """(N,) cells east of it."""
    codes: tuple[int, ...]
    """The class codes that occur."""
    count: I64
    """(N, K) features by code."""
    area_m2: F64
    """(N, K) their areas."""

    def share(self, interest: Sequence[int], without: Sequence[int] = ()) -> F64:
        """(N,) share from 0 to 1 of some codes among all but those ``without`` a class; NaN where there are no others."""
        chosen = self.count[:, [code in interest for code in self.codes]].sum(axis=1)
        known = self.count[:, [code not in without for code in self.codes]].sum(axis=1)
        return np.asarray(np.where(known > 0, chosen / np.maximum(known, 1), np.nan))


class Tally:
    """Counts features by cell and class, batch by batch. Memory grows with the cells that hold features."""

    def __init__(self, side: float) -> None:
        """Start with nothing.

        Args:
            side: Of a cell, metres. Cells lie on multiples of it, wherever the features are.

        Raises:
            ConfigError: The side is not above 0.
        """
        if not (math.isfinite(side) and side > 0):
            raise ConfigError(f"cell: {side:g} m; the side of a cell is above 0")
        self.side = side
        self._parts: list[tuple[I64, I64, I64]] = []
        self._pending = 0

    def add(self, xy: F64, codes: NDArray[np.integer], area_m2: F64 | None = None) -> None:
        """Count features.

        Args:
            xy: (N, 2) where they are, metres.
            codes: (N,) class codes, 0 to 255.
            area_m2: (N,) their areas; nothing is 0.

        Raises:
            ConfigError: A feature lies so many cells from the origin that they can't be numbered.
        """
        if not len(xy):
            return
        cell = np.floor(xy / self.side)
        if not (np.abs(cell) < REACH).all():
            raise ConfigError(
                f"cell: {self.side:g} m is too small for coordinates up to {np.abs(xy).max():g} m; take larger cells"
            )
        place = cell.astype(np.int64) + REACH
        keys = ((place[:, 1] << BITS | place[:, 0]) << CODE_BITS) | codes.astype(np.int64)
        area = np.zeros(len(xy), np.int64) if area_m2 is None else np.rint(area_m2 * AREA_UNITS).astype(np.int64)
        self._parts.append(_merged(keys, np.ones(len(keys), np.int64), area))
        self._pending += len(self._parts[-1][0])
        if self._pending > MERGE_AT:
            self._merge()
            self._pending = 0

    def _merge(self) -> None:
        keys, count, area = (np.concatenate([part[i] for part in self._parts]) for i in range(3))
        self._parts = [_merged(keys, count, area)]

    def cells(self) -> Cells:
        """The cells that were counted."""
        if not self._parts:
            return Cells(
                self.side, np.empty(0, np.int64), np.empty(0, np.int64), (), np.empty((0, 0), np.int64), np.empty((0, 0))
            )
        self._merge()
        keys, count, area = self._parts[0]
        code, place = keys & ((1 << CODE_BITS) - 1), keys >> CODE_BITS
        places, which = np.unique(place, return_inverse=True)
        codes, kind = np.unique(code, return_inverse=True)
        counts = np.zeros((len(places), len(codes)), np.int64)
        areas = np.zeros((len(places), len(codes)), np.int64)
        counts[which, kind], areas[which, kind] = count, area
        row, col = (places >> BITS) - REACH, (places & ((1 << BITS) - 1)) - REACH
        return Cells(self.side, row, col, tuple(codes.tolist()), counts, areas / AREA_UNITS)


def _merged(keys: I64, count: I64, area: I64) -> tuple[I64, I64, I64]:
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    begin = np.flatnonzero(np.diff(keys, prepend=keys[0] - 1))
    return keys[begin], np.add.reduceat(count[order], begin), np.add.reduceat(area[order], begin)


def cell_boxes(cells: Cells) -> F64:
    """(N, 4) left, bottom, right and top of cells, metres; neighbours share their numbers to the last bit."""
    return np.stack([cells.col, cells.row, cells.col + 1, cells.row + 1], axis=1) * cells.side


def kernel_weights(offset: F64, pixel: float, radius: float) -> tuple[I64, I64, F64]:
    """Rows and columns of pixels around points, and the density that a point gives to each.

    The quartic kernel 3 / (pi r^2) (1 - d^2 / r^2)^2 (Silverman 1986, Density Estimation, eq. 4.5) in the middles of
    pixels, scaled so that each point is spread over exactly one: sums of density times area are numbers of points.

    Args:
        offset: (N, 2) columns right of, and rows below, the upper left corner of the pixel that a point lies in, 0 to 1.
        pixel: Side of a pixel, metres.
        radius: Where the kernel ends, metres.

    Returns:
        Rows (M,) and columns (M,) relative to the point's pixel, and (N, M) points per square kilometre.
    """
    reach = math.ceil(radius / pixel) + 1
    step = np.arange(-reach, reach + 1)
    rows, cols = (g.ravel() for g in np.meshgrid(step, step, indexing="ij"))
    near = np.hypot(np.maximum(np.abs(rows) - 0.5, 0), np.maximum(np.abs(cols) - 0.5, 0)) * pixel < radius
    rows, cols = rows[near], cols[near]
    down = (rows + 0.5 - offset[:, 1:]) * pixel
    right = (cols + 0.5 - offset[:, :1]) * pixel
    weight = np.maximum(0.0, 1 - (down * down + right * right) / radius**2) ** 2
    total = weight.sum(axis=1, keepdims=True)
    # A kernel smaller than a pixel may miss all middles: then its own pixel has the point.
    weight = np.where(total > 0, weight / np.where(total > 0, total, 1.0), (rows == 0) & (cols == 0))
    return rows, cols, np.asarray(weight * (1e6 / pixel**2), np.float64)


def add_kernels(out: F64, origin: tuple[float, float], window: tuple[int, int], xy: F64, pixel: float, radius: float) -> None:
    """Add the kernels of points to a part of a raster, in the points' order.

    Each pixel adds the same numbers in the same order whatever part it is in, so blocks give the raster to the last bit.

    Args:
        out: (h, w) points per square kilometre.
        origin: x and y of the raster's upper left corner, metres.
        window: First row and column of the part.
        xy: (N, 2) points, metres.
        pixel: Side of a pixel, metres.
        radius: Of the kernel, metres.
    """
    height, width = out.shape
    for part in _parts(len(xy), pixel, radius):
        place = np.stack([xy[part, 0] - origin[0], origin[1] - xy[part, 1]], axis=1) / pixel
        cell = np.floor(place)
        rows, cols, weight = kernel_weights(place - cell, pixel, radius)
        row = cell[:, 1:].astype(np.int64) + rows - window[0]
        col = cell[:, :1].astype(np.int64) + cols - window[1]
        inside = (row >= 0) & (row < height) & (col >= 0) & (col < width) & (weight > 0)
        np.add.at(out.reshape(-1), (row * width + col)[inside], weight[inside])


def _parts(count: int, pixel: float, radius: float) -> Iterator[slice]:
    """Slices of points of which the kernels fit into some tens of megabytes."""
    size = max(1, (1 << 21) // (2 * math.ceil(radius / pixel) + 3) ** 2)
    return (slice(start, start + size) for start in range(0, count, size))
