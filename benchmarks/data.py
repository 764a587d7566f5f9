"""Inputs of the benchmarks: made once by rule, kept in ``benchmarks/results/data``."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from common import DATA
from numpy.typing import NDArray
from rasterio.windows import Window as RasterioWindow

from geoseg.procedural import CRS, Frontier
from geoseg.windows import Window
from pipeline.files.atomic import atomic_path

SIDE = 4096
STRIP = 512
PATCH_PX = 4.3
"""Width of the blur that makes the patches."""
REFLECTANCE = 40
"""Digital numbers of the 16-bit scene for one of the 8-bit one."""


def profile(side: int, count: int, dtype: str, **more: Any) -> dict[str, Any]:
    """How the inputs are stored."""
    return {
        "driver": "GTiff",
        "height": side,
        "width": side,
        "count": count,
        "dtype": dtype,
        "crs": CRS,
        "transform": rasterio.Affine(*Frontier(side, side).transform),
        "tiled": True,
        "blockxsize": 512,
        "blockysize": 512,
        "compress": "deflate",
        "zlevel": 6,
        "predictor": 2,
        "bigtiff": "IF_SAFER",
        "num_threads": "ALL_CPUS",
    } | more


def four_bands(side: int = SIDE) -> Path:
    """A scene with red, green, blue and near infrared as 16-bit reflectances, as Sentinel-2 and Planet deliver them."""
    path = DATA / f"four_bands_{side}.tif"
    if not path.is_file():
        DATA.mkdir(parents=True, exist_ok=True)
        with (
            atomic_path(path) as part,
            rasterio.open(part, "w", **profile(side, 4, "uint16", interleave="pixel", photometric="minisblack")) as dataset,
        ):
            dataset.descriptions = ("red", "green", "blue", "nir")
            for row, strip in zip(range(0, side, STRIP), _strips(side), strict=True):
                dataset.write(strip, window=RasterioWindow(0, row, side, strip.shape[1]))
    return path


def _strips(side: int) -> Iterator[NDArray[np.uint16]]:
    """The strips of that scene from the top, made on all cores."""
    rows = range(0, side, STRIP)
    # Not forked: torch may be loaded.
    processes = min(len(rows), len(os.sched_getaffinity(0)))
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_strip, [side] * len(rows), rows)


def _strip(side: int, row: int) -> NDArray[np.uint16]:
    rgb, _ = Frontier(side, side, collar=False).window(Window.at((row, 0), (min(STRIP, side - row), side)))
    return with_infrared(rgb, row)


def mirrored(side: int, source: int = SIDE) -> Path:
    """The 16-bit scene, mirrored at its right and lower sides again and again until it has so many rows and columns."""
    path = DATA / f"mirrored_{side}_of_{source}.tif"
    if not path.is_file():
        with rasterio.open(four_bands(source)) as dataset:
            image = dataset.read()
        place = np.arange(side) % (2 * source)
        place = np.minimum(place, 2 * source - 1 - place)
        options = profile(side, 4, "uint16", interleave="pixel", photometric="minisblack", zlevel=1)
        with atomic_path(path) as part, rasterio.open(part, "w", **options) as target:
            target.descriptions = ("red", "green", "blue", "nir")
            for row in range(0, side, STRIP):
                rows = place[row : row + STRIP]
                target.write(image[:, rows][:, :, place], window=RasterioWindow(0, row, side, len(rows)))
    return path


def with_infrared(rgb: NDArray[np.uint8], seed: int) -> NDArray[np.uint16]:
    """(4, h, w): vegetation, which is dark in red, is bright in near infrared; with sensor noise."""
    bands = np.empty((4, *rgb.shape[1:]), np.float32)
    bands[:3] = rgb
    bands[3] = np.clip(120 - bands[0], 10, None) + 0.4 * bands[1]
    bands = bands * REFLECTANCE + np.random.default_rng(seed).normal(0, 8, bands.shape)
    return np.clip(np.rint(bands), 1, 65535).astype(np.uint16)


def frontier(side: int) -> Path:
    """The procedural scene in 8 bits."""
    path = DATA / f"frontier_{side}.tif"
    if not path.is_file():
        DATA.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as part:
            Frontier(side, side, collar=False).write(part)
    return path


def patches(side: int = SIDE) -> Path:
    """A class raster with three classes in about 25,000 patches."""
    path = DATA / f"patches_{side}_{PATCH_PX}.tif"
    if not path.is_file():
        from scipy.ndimage import gaussian_filter

        DATA.mkdir(parents=True, exist_ok=True)
        noise = gaussian_filter(np.random.default_rng(1).standard_normal((side, side), np.float32), PATCH_PX)
        codes = np.digitize(noise, np.quantile(noise, (0.4, 0.7))).astype(np.uint8)
        with atomic_path(path) as part, rasterio.open(part, "w", **profile(side, 1, "uint8", nodata=255, predictor=1)) as dataset:
            dataset.write(codes, 1)
            dataset.update_tags(1, class_0="water", class_1="forest", class_2="cleared")
    return path


def crop(side: int = 512) -> Path:
    """One image of the size that training samples have."""
    path = DATA / f"crop_{side}.tif"
    if not path.is_file():
        DATA.mkdir(parents=True, exist_ok=True)
        data, _ = Frontier().window(Window.at((1024, 1024), (side, side)))
        with atomic_path(path) as part, rasterio.open(part, "w", **profile(side, 3, "uint8", photometric="rgb")) as dataset:
            dataset.write(data)
    return path


def _gray() -> NDArray[np.uint8]:
    """(4096, 4096): the procedural scene in red, where forest is dark."""
    bands, _ = Frontier(SIDE, SIDE, collar=False).window(Window.of((SIDE, SIDE)))
    return bands[0]


def repeated(side: int) -> Path:
    """A scene of one band and any size: the procedural one, side by side."""
    path = DATA / f"repeated_{side}.tif"
    if not path.is_file():
        DATA.mkdir(parents=True, exist_ok=True)
        image = _gray()
        with atomic_path(path) as part, rasterio.open(part, "w", **profile(side, 1, "uint8", zlevel=1)) as dataset:
            for row in range(0, side, SIDE):
                for col in range(0, side, SIDE):
                    dataset.write(image, 1, window=RasterioWindow(col, row, SIDE, SIDE))
    return path


def sparse(side: int) -> Path:
    """A raster of which only a few blocks were ever written, in places of any distance."""
    path = DATA / f"sparse_{side}.tif"
    if not path.is_file():
        DATA.mkdir(parents=True, exist_ok=True)
        image, rng = _gray(), np.random.default_rng(2)
        options = profile(side, 1, "uint8", zlevel=1, nodata=0, sparse_ok=True)
        with atomic_path(path) as part, rasterio.open(part, "w", **options) as dataset:
            for row, col in rng.integers(0, side // STRIP - 2, (6, 2)) * STRIP:
                area = RasterioWindow(int(col), int(row), 2 * STRIP, 2 * STRIP)
                at = rng.integers(0, SIDE - 2 * STRIP, 2)
                dataset.write(image[at[0] : at[0] + 2 * STRIP, at[1] : at[1] + 2 * STRIP], 1, window=area)
    return path
