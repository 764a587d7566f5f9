"""Scenes made by rule, with known truth: an Amazon frontier of any size, window by window.

Every pixel is a function of its row, its col and the seed, so windows fit together whatever their order and size. Forest
with its texture, roads in the fishbone pattern of settlements, clearings along them, a river, clouds, and a collar
without data around a rotated footprint, as satellite scenes have it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

from geoseg.arrays import F32, I64, U8, U64, Bools
from geoseg.codes import NODATA, NOT_ANALYSED
from geoseg.windows import Window

__all__ = ["CRS", "FOREST", "OTHER", "Frontier"]

OTHER, FOREST = 0, 1
CRS = "EPSG:32720"
ORIGIN = 430_000.0, 8_930_000.0
"""Easting and northing of the upper left corner: Rondonia."""
PIXEL_M = 10.0
BLOCK = 512


FOREST_RGB, WATER_RGB, ROAD_RGB, CLOUD_RGB = (27.0, 45.0, 51.0), (58.0, 64.0, 62.0), (120.0, 98.0, 90.0), (205.0, 205.0, 208.0)
LAND_RGB = np.array([(78, 84, 76), (96, 88, 80), (118, 94, 84), (64, 82, 70), (104, 98, 84)], np.float32)
"""Pastures and bare soil, by plot."""
HIGHWAY_EVERY, SIDE_ROAD_EVERY, PLOT = 2200, 320, 72


@dataclass(frozen=True, slots=True)
class Frontier:
    """A settlement frontier in the rain forest, at 10 m."""

    height: int = 4096
    width: int = 4096
    seed: int = 7
    collar: bool = True
    """Whether the corners hold no data."""
    years: float = 0.0
    """Years after the first date: settlers clear more along the side roads, some of what was cleared grows back, and the light
    and the clouds are others."""
    acquired: str = "2023-07-14"
    """Acquisition date of the file."""

    @property
    def transform(self) -> tuple[float, float, float, float, float, float]:
        """The affine transform of its pixels in ``CRS``."""
        return PIXEL_M, 0.0, ORIGIN[0], 0.0, -PIXEL_M, ORIGIN[1]

    def window(self, window: Window) -> tuple[U8, U8]:
        """The pixels of a window.

        Returns:
            (3, h, w) red, green and blue, 0 where there is no data; and (h, w) the truth: 1 forest, 0 other, 254 below
            clouds, 255 where there is no data.
        """
        rows = np.arange(window.row_off, window.row_stop, dtype=np.float32)[:, None]
        cols = np.arange(window.col_off, window.col_stop, dtype=np.float32)[None, :]

        def noise(cell: int, salt: int, octaves: int = 1) -> F32:
            return self._noise(window, cell, salt, octaves)

        cleared, plot, road = self._settlement(rows, cols, noise)
        river = np.abs(cols - self._river(rows)) < 9 + 9 * self._line(rows, 900, 31)
        other = cleared | road | river
        # Grain, light and clouds are those of the day; the land is the same.
        day = round(100 * self.years)

        shade = 0.06 * noise(1, 1 + day) + 0.05 * noise(3, 2 + day) + 0.05 * noise(24, 3, 2) + 0.07 * noise(700, 4, 2)
        image = np.empty((3, *shade.shape), np.float32)
        grain = 1 + 0.10 * noise(2, 5) + 0.10 * noise(40, 6, 2)
        for band in range(3):
            value = FOREST_RGB[band] * (1 + shade * (2.2 if band == 0 else 1.6))
            value = np.where(cleared, LAND_RGB[:, band][plot] * grain, value)
            value = np.where(road, ROAD_RGB[band] * (1 + 0.3 * shade), value)
            image[band] = np.where(river, WATER_RGB[band] * (1 + 0.1 * shade), value)
        truth = np.where(other, np.uint8(OTHER), np.uint8(FOREST))

        cloud, shadow = self._clouds(window), self._clouds(window, 60, 45)
        image *= 1 - 0.55 * shadow * (1 - cloud)
        image += (np.array(CLOUD_RGB, np.float32)[:, None, None] - image) * cloud
        truth[(cloud > 0.15) | (shadow > 0.3)] = NOT_ANALYSED
        data = np.clip(np.rint(image), 1, 255).astype(np.uint8)
        if self.collar:
            outside = ~self._inside(rows, cols)
            data[:, outside] = 0
            truth[outside] = NODATA
        return data, truth

    def write(self, image: Path, truth: Path | None = None) -> None:
        """Write the scene, and its truth, as tiled GeoTIFFs."""
        profile = {
            "driver": "GTiff",
            "height": self.height,
            "width": self.width,
            "dtype": "uint8",
            "crs": CRS,
            "transform": rasterio.Affine(*self.transform),
            "tiled": True,
            "blockxsize": BLOCK,
            "blockysize": BLOCK,
            "compress": "deflate",
            "zlevel": 1,
            "predictor": 2,
            "bigtiff": "IF_SAFER",
            "num_threads": "ALL_CPUS",
        }
        scene = Window.of((self.height, self.width))
        step = 2 * BLOCK
        with rasterio.open(image, "w", count=3, nodata=0, photometric="rgb", interleave="pixel", **profile) as pixels:
            pixels.update_tags(ACQUISITION_DATE=self.acquired)
            known = rasterio.open(truth, "w", count=1, nodata=NODATA, **profile) if truth is not None else None
            for row in range(0, self.height, step):
                for col in range(0, self.width, step):
                    window = Window.at((row, col), (step, step)) & scene
                    assert window is not None
                    where = window.for_rasterio()
                    data, codes = self.window(window)
                    pixels.write(data, window=where)
                    if known is not None:
                        known.write(codes, 1, window=where)
            if known is not None:
                known.close()

    def _settlement(self, rows: F32, cols: F32, noise: Callable[..., F32]) -> tuple[Bools, NDArray[np.intp], Bools]:
        """Where land is cleared, which kind of land it is, and where roads run."""
        bend = 9 * noise(160, 11, 2)
        warped_rows, warped_cols = rows + bend, cols + 9 * noise(160, 12, 2)
        highway = np.floor((warped_cols - self._highway(rows)) / HIGHWAY_EVERY + 0.5)
        across = warped_cols - self._highway(rows) - highway * HIGHWAY_EVERY
        side_road = np.floor(warped_rows / SIDE_ROAD_EVERY)
        along = warped_rows - (side_road + 0.5) * SIDE_ROAD_EVERY
        plot = np.floor(np.abs(across) / PLOT)
        key = _mix(self.seed, 13, highway, side_road, np.sign(across))
        reach = 150 + 850 * _unit(key)
        lot = _mix(self.seed, 14, key, plot, np.sign(along))
        depth = 25 + 95 * _unit(_mix(self.seed, 15, lot))
        near = np.abs(across) < reach
        chance = np.clip(0.92 - 0.5 * np.abs(across) / reach, 0, 1)
        cleared = near & (np.abs(along) < depth) & (_unit(lot) < chance)
        if self.years:
            # Plots further out are opened, those that are there grow deeper, and one in fifteen is given up.
            more = self.years / 10
            wider = np.abs(across) < reach + 150 * more
            opened = wider & (np.abs(along) < depth + 8 * more) & (_unit(lot) < np.clip(chance + 0.15 * more, 0, 0.97))
            left = _unit(_mix(self.seed, 18, lot)) < more / 15
            cleared = (cleared | opened) & ~left
        cleared |= np.abs(across) < 26 + 14 * noise(90, 16)
        road = (np.abs(along) < 1.2) & near | (np.abs(across) < 1.8)
        return cleared, (_unit(_mix(self.seed, 17, lot)) * len(LAND_RGB)).astype(np.intp), road

    def _highway(self, rows: F32) -> F32:
        return 700 + 160 * self._line(rows, 1500, 21)

    def _river(self, rows: F32) -> F32:
        """The col of the river's middle; one river for every 12,000 cols is enough of them."""
        return 1900 + 520 * self._line(rows, 1400, 22) + 60 * self._line(rows, 220, 23)

    def _line(self, rows: F32, cell: int, salt: int) -> F32:
        """Smooth noise along the rows, from -1 to 1."""
        at = rows / cell
        low = np.floor(at)
        t = _smooth(np.asarray(at - low, np.float32))
        a, b = (2 * _unit(_mix(self.seed, salt, k)) - 1 for k in (low, low + 1))
        return np.asarray(a + (b - a) * t, np.float32)

    def _clouds(self, window: Window, row_shift: int = 0, col_shift: int = 0) -> F32:
        """Opacity of clouds, or of their shadow some pixels away."""
        moved = Window.at((window.row_off + row_shift, window.col_off + col_shift), (window.height, window.width))
        day = round(100 * self.years)
        thick = self._noise(moved, 420, 41 + day, 4) + 0.35 * self._noise(moved, 2600, 42 + day)
        return np.asarray(_smooth(np.clip((thick - 0.62) * 5, 0, 1).astype(np.float32)), np.float32)

    def _inside(self, rows: F32, cols: F32) -> Bools:
        """Inside of the rotated footprint."""
        angle = math.radians(9)
        y, x = rows - self.height / 2, cols - self.width / 2
        u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
        return np.asarray((np.abs(u) < 0.47 * self.width) & (np.abs(v) < 0.47 * self.height))

    def _noise(self, window: Window, cell: int, salt: int, octaves: int = 1) -> F32:
        """Value noise (h, w) of about unit range: a lattice of random numbers, smooth in between."""
        total = np.zeros(window.shape, np.float32)
        weight, norm = 1.0, 0.0
        for octave in range(octaves):
            size = max(1, cell >> octave)
            row, row_t, lattice_rows = _lattice(window.row_off, window.row_stop, size)
            col, col_t, lattice_cols = _lattice(window.col_off, window.col_stop, size)
            grid = 2 * _unit(_mix(self.seed, salt * 8 + octave, lattice_rows[:, None], lattice_cols[None, :])) - 1
            if size == 1:
                total += weight * grid[np.ix_(row, col)]
            else:
                t = row_t[:, None]
                lines = grid[row] * (1 - t) + grid[row + 1] * t
                total += weight * (lines[:, col] * (1 - col_t) + lines[:, col + 1] * col_t)
            norm += weight
            weight /= 2
        return total / np.float32(norm)


def _lattice(start: int, stop: int, cell: int) -> tuple[NDArray[np.intp], F32, I64]:
    """For each pixel the lattice line before it and how far it lies behind it; and the lines themselves."""
    at = np.arange(start, stop)
    first = start // cell
    line = at // cell
    t = _smooth(((at - line * cell) / cell).astype(np.float32))
    return (line - first).astype(np.intp), np.asarray(t, np.float32), np.arange(first, int(line[-1]) + 2)


def _smooth(t: F32) -> F32:
    return t * t * (3 - 2 * t)


def _mix(*parts: int | NDArray[np.generic]) -> U64:
    """A 64-bit hash of integers (splitmix64, Steele, Lea and Flood 2014), element by element."""
    value = np.uint64(0)
    with np.errstate(over="ignore"):
        for part in parts:
            number = np.asarray(part)
            bits = number if number.dtype == np.uint64 else number.astype(np.int64).astype(np.uint64)
            value = (np.bitwise_xor(value, bits) + np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)
            value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            value = value ^ (value >> np.uint64(31))
    return np.asarray(value, np.uint64)


def _unit(bits: U64) -> F32:
    """Numbers from 0 to 1."""
    return ((bits >> np.uint64(40)).astype(np.float32)) / np.float32(1 << 24)
