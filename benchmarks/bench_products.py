"""Reading a Sentinel-2 product: against decoding its JPEG 2000 files alone, and against the same pixels as COGs."""

from __future__ import annotations

import resource
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import rasterio
from common import ROOT, Row, Settings, fresh
from rasterio.transform import from_origin

SIDE, TILE, BAR = 4096, 1024, 1.10
NAMES = {"B02": "blue", "B03": "green", "B04": "red"}


def products_rows(settings: Settings) -> Iterator[Row]:
    """Three bands of 10 m, one thread, by the processor's time; both sides alternate in one process."""
    sys.path.insert(0, str(ROOT / "tests"))
    from archive_products import ORIGIN, write_safe

    folder = Path(fresh("products"))
    random = np.random.default_rng(0)
    rows, cols = np.mgrid[0:SIDE, 0:SIDE] / 300
    ground = 2000 + 600 * np.sin(rows) * np.cos(cols)
    pixels = {name: (ground + random.normal(0, 60, ground.shape)).astype(np.uint16) for name in NAMES}
    safe = write_safe(folder, pixels, block=TILE)
    images = [str(next(safe.rglob(f"*_{name}_10m.jp2"))) for name in NAMES]
    cogs = [str(folder / f"scene_{name}.tif") for name in NAMES]
    profile = {"driver": "COG", "height": SIDE, "width": SIDE, "count": 1, "dtype": "uint16", "crs": "EPSG:32720"}
    for path, values in zip(cogs, pixels.values(), strict=True):
        place = from_origin(*ORIGIN, 10, 10)
        with rasterio.open(path, "w", **profile, transform=place, compress="deflate", predictor=2, overviews="NONE") as file:
            file.write(values, 1)
    sides: dict[str, Callable[[], None]] = {
        "safe": lambda: _by_reader([str(safe)], ()),
        "jp2": lambda: _by_gdal(images),
        "cog": lambda: _by_reader(cogs, tuple(NAMES.values())),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(settings.repeat):
        for name, read in sides.items():
            start = _processor_seconds()
            read()
            seconds[name].append(_processor_seconds() - start)
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    ratio, slower = middle["safe"] / middle["jp2"], middle["safe"] / middle["cog"]
    what = f"reading three bands of 10 m of a SAFE, {SIDE} x {SIDE}, tiles of {TILE} with a halo"
    yield Row(
        "products", f"{what}, against decoding its JP2 alone", f"{BAR:g}x", f"{ratio:.2f}x", ratio <= BAR, {"seconds": seconds}
    )
    yield Row("products", "the same, against COGs of the same pixels", "-", f"{slower:.1f}x", ok=True)


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _by_reader(paths: list[str], names: tuple[str, ...]) -> None:
    from geoseg.scenes.bands.choosing import choose_bands
    from geoseg.scenes.opening import open_scene
    from geoseg.scenes.reader import SceneReader
    from geoseg.windows import Window

    scene = open_scene(paths, band_names=names)
    bands, _ = choose_bands(scene, ("red", "green", "blue"), None)
    with SceneReader(scene, bands, threads=1) as reader:
        windows = [
            Window.at((max(0, row - 64), max(0, col - 64)), (_extent(row), _extent(col)))
            for row in range(0, SIDE, TILE)
            for col in range(0, SIDE, TILE)
        ]
        reader.expect(windows)
        for window in windows:
            reader.read(window)


def _extent(start: int) -> int:
    return min(SIDE, start + 1088) - max(0, start - 64)


def _by_gdal(paths: list[str]) -> None:
    with rasterio.Env(GDAL_NUM_THREADS="1", GDAL_CACHEMAX=64):
        for path in paths:
            with rasterio.open(path) as file:
                for row in range(0, SIDE, TILE):
                    for col in range(0, SIDE, TILE):
                        file.read(1, window=((row, row + TILE), (col, col + TILE)))
