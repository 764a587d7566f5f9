"""The script that a user writes: torch eager, tiles of 512 every 384 pixels, the whole scene in memory, geopandas.

    python benchmarks/naive.py SCENE MODEL OUT

It has no confidence, no validity, no overviews and no resume; it is what ``geoseg segment`` is measured against.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
import rasterio.features
import segmentation_models_pytorch as smp
import shapely.geometry
import torch
from numpy.typing import NDArray
from rasterio.crs import CRS
from safetensors.torch import load_file

TILE, STRIDE = 512, 384
MARGIN = (TILE - STRIDE) // 2


def load(folder: Path) -> tuple[torch.nn.Module, NDArray[np.float32], NDArray[np.float32], list[str]]:
    """Network, means, deviations and class names of a model folder."""
    config = json.loads((folder / "config.json").read_text())
    card = json.loads((folder / "card.json").read_text())["geoseg"]
    network = smp.create_model(
        config["architecture"], config["encoder"], None, config["in_channels"], config["classes"], **config["parameters"]
    )
    network.load_state_dict({key: value.float() for key, value in load_file(folder / "model.safetensors").items()})
    mean, stddev = (np.array([s[key] for s in card["scaling"]], np.float32)[:, None, None] for key in ("mean", "stddev"))
    return network.eval(), mean, stddev, [c["name"] for c in card["classes"]]


def starts(length: int) -> list[int]:
    """Where tiles begin along a side; the last one ends where the scene ends."""
    return [*range(0, length - TILE, STRIDE), length - TILE]


def predict(image: NDArray[np.float32], network: torch.nn.Module) -> NDArray[np.uint8]:
    """Class of each pixel (h, w); of each tile the middle is kept, and the margin along the scene's border."""
    height, width = image.shape[1:]
    classes = np.zeros((height, width), np.uint8)
    for row in starts(height):
        for col in starts(width):
            tile = torch.from_numpy(image[:, row : row + TILE, col : col + TILE]).unsqueeze(0)
            with torch.no_grad():
                found = network(tile)[0].argmax(0).to(torch.uint8).numpy()
            top, left = MARGIN if row else 0, MARGIN if col else 0
            classes[row + top : row + TILE, col + left : col + TILE] = found[top:, left:]
    return classes


def polygons(classes: NDArray[np.uint8], transform: Any, crs: CRS, names: list[str]) -> gpd.GeoDataFrame:
    """The regions of a class raster."""
    found = list(rasterio.features.shapes(classes, transform=transform))
    frame = gpd.GeoDataFrame(
        {"class": [int(value) for _, value in found]}, geometry=[shapely.geometry.shape(shape) for shape, _ in found], crs=crs
    )
    frame["class_name"] = frame["class"].map(dict(enumerate(names)))
    frame["area_m2"] = frame.geometry.area
    return frame


def segment(scene: Path, model: Path, out: Path) -> dict[str, float]:
    """Map a scene; returns the seconds by step."""
    marks: list[tuple[str, float]] = [("", time.perf_counter())]

    def mark(step: str) -> None:
        marks.append((step, time.perf_counter()))

    network, mean, stddev, names = load(model)
    mark("load")
    with rasterio.open(scene) as dataset:
        image = (dataset.read().astype(np.float32) - mean) / stddev
        profile, transform, crs = dataset.profile, dataset.transform, dataset.crs
    mark("read")
    classes = predict(image, network)
    mark("predict")
    profile.update(count=1, dtype="uint8", nodata=None, photometric=None)
    with rasterio.open(
        out / "classes.tif", "w", **{key: value for key, value in profile.items() if value is not None}
    ) as dataset:
        dataset.write(classes, 1)
    mark("write raster")
    frame = polygons(classes, transform, crs, names)
    mark("polygons")
    frame.to_file(out / "polygons.gpkg", driver="GPKG")
    mark("write polygons")
    steps: Iterator[tuple[str, float]] = ((b[0], b[1] - a[1]) for a, b in pairwise(marks))
    return {"seconds": marks[-1][1] - marks[0][1], **dict(steps), "features": len(frame)}


if __name__ == "__main__":
    print(json.dumps(segment(*map(Path, sys.argv[1:4]))))
