"""The script that a user writes: torch eager, tiles of 512 every 384 pixels, the whole scene in memory, geopandas.

    python benchmarks/naive.py SCENE MODEL OUT
    python benchmarks/naive.py SCENE MODEL OUT --device cuda --batch 16

It has no confidence, no validity, no overviews and no resume; it is what ``geoseg segment`` is measured against. On a GPU it
computes in 16 bits. ``--side`` takes the upper left part of the scene only.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
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
from rasterio.windows import Window
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


def predict(image: NDArray[np.float32], network: torch.nn.Module, device: str = "cpu", batch: int = 1) -> NDArray[np.uint8]:
    """Class of each pixel (h, w); of each tile the middle is kept, and the margin along the scene's border."""
    height, width = image.shape[1:]
    classes = np.zeros((height, width), np.uint8)
    dtype = torch.float32 if device == "cpu" else torch.float16
    network = network.to(device, dtype)
    places = [(row, col) for row in starts(height) for col in starts(width)]
    for first in range(0, len(places), batch):
        some = places[first : first + batch]
        tiles = np.stack([image[:, row : row + TILE, col : col + TILE] for row, col in some])
        with torch.no_grad():
            found = network(torch.from_numpy(tiles).to(device, dtype)).argmax(1).to(torch.uint8).cpu().numpy()
        for (row, col), part in zip(some, found, strict=True):
            top, left = MARGIN if row else 0, MARGIN if col else 0
            classes[row + top : row + TILE, col + left : col + TILE] = part[top:, left:]
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


def segment(
    scene: Path, model: Path, out: Path, device: str = "cpu", batch: int = 1, side: int | None = None
) -> dict[str, float]:
    """Map a scene; returns the seconds by step."""
    marks: list[tuple[str, float]] = [("", time.perf_counter())]

    def mark(step: str) -> None:
        marks.append((step, time.perf_counter()))

    network, mean, stddev, names = load(model)
    mark("load")
    with rasterio.open(scene) as dataset:
        window = None if side is None else Window(0, 0, min(side, dataset.width), min(side, dataset.height))
        image = (dataset.read(window=window).astype(np.float32) - mean) / stddev
        profile, transform, crs = dataset.profile, dataset.transform, dataset.crs
    mark("read")
    classes = predict(image, network, device, batch)
    mark("predict")
    profile.update(count=1, dtype="uint8", nodata=None, photometric=None, height=classes.shape[0], width=classes.shape[1])
    with rasterio.open(
        out / "classes.tif", "w", **{key: value for key, value in profile.items() if value is not None}
    ) as dataset:
        dataset.write(classes, 1)
    mark("write raster")
    frame = polygons(classes, transform, crs, names)
    mark("polygons")
    if importlib.util.find_spec("pyogrio"):
        frame.to_file(out / "polygons.gpkg", driver="GPKG")
    else:
        frame.to_parquet(out / "polygons.parquet")
    mark("write polygons")
    steps: Iterator[tuple[str, float]] = ((b[0], b[1] - a[1]) for a, b in pairwise(marks))
    return {"seconds": marks[-1][1] - marks[0][1], **dict(steps), "features": len(frame)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("scene", "model", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--side", type=int)
    print(json.dumps(segment(**vars(parser.parse_args()))))
