"""Labels in raster and vector files, and recipes that learn from them, for tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
import rasterio.features
import shapely
from rasterio.transform import from_origin

from pipeline.evaluate.run import evaluate
from pipeline.evaluate.settings import MeasureOptions, TruthOptions

SIDE = 60
UTM = "EPSG:32633"
GRID = from_origin(500000, 5400000, 10, 10)
CODES = np.zeros((SIDE, SIDE), np.uint8)
CODES[10:30, 10:30] = 1
RIGHT = [[3200, 0], [0, 400]]


def raster(path: Path, data: Any, *, after: Callable[[Any], None] | None = None, **options: Any) -> str:
    array = np.asarray(data)
    array = array[None] if array.ndim == 2 else array
    profile = {
        "driver": "GTiff",
        "height": array.shape[1],
        "width": array.shape[2],
        "count": len(array),
        "dtype": array.dtype.name,
        "crs": UTM,
        "transform": GRID,
        "compress": "deflate",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", **(profile | options)) as file:
        if after is not None:
            after(file)
        file.write(array)
    return str(path)


def legend(*names: str) -> Callable[[Any], None]:
    return lambda file: file.update_tags(1, **{f"class_{k}": name for k, name in enumerate(names)})


def compared(folder: Path, truth: str, **options: Any) -> dict[str, Any]:
    """What an evaluation of the right map against a truth says."""
    path = raster(folder / "map.tif", CODES, after=legend("other", "forest"))
    return evaluate([path], truth, truth_options=TruthOptions(**options), options=MeasureOptions(boundary=())).document


RECIPE = """
name = "tiny"
description = "made by a test"
bands = ["red", "green", "blue"]
value_range = [0, 255]
classes = [{{ name = "other", color = "#ffffff" }}, {{ name = "forest", color = "#00ff00"{labels} }}]
data = [{{ images = ["{folder}/images"], labels = "{folder}/masks"{more} }}]
split = {{ val = 0.5 }}
network = {{ architecture = "unet-2015", parameters = {{ width = 4, depth = 1 }} }}
sample = {{ chip = 32, batch = 1 }}
loop = {{ steps = 1, check = 1 }}
"""


def training(folder: Path, labels: Any, says: str = "", more: str = "", **options: Any) -> Path:
    image = np.random.default_rng(0).integers(0, 255, (3, SIDE, SIDE), np.uint8)
    for number in range(2):
        place = {"transform": from_origin(500000 + 10_000 * number, 5400000, 10, 10)}
        raster(folder / "images" / f"{number}.tif", image, photometric="RGB", **place)
        if isinstance(labels, str):
            (folder / "masks").mkdir(exist_ok=True)
            (folder / "masks" / f"{number}.geojson").write_text(labels)
        else:
            raster(folder / "masks" / f"{number}.tif", labels, **options, **place)
    (folder / "train.toml").write_text(RECIPE.format(folder=folder, labels=says, more=more))
    return folder / "train.toml"


FOREST = shapely.box(500100, 5399700, 500300, 5399900)


def features(path: Path, shapes: list[Any], crs: str = UTM, **columns: list[Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = geopandas.GeoDataFrame(columns or {"class": ["forest"] * len(shapes)}, geometry=shapes, crs=crs)
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_file(path)
    return str(path)
