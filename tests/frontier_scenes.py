"""Scenes of a frontier by rule, in the folders of the labelled imagery, for where that is not at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio

from geoseg.codes import MAX_CLASS, UNLABELLED
from geoseg.procedural import CRS, Frontier
from geoseg.windows import Window

SIDE, APART = 512, 700
"""Rows and columns of a scene, and from the beginning of one to that of the next: no two show the same ground."""


def write_frontier_scenes(folder: Path) -> Path:
    """Write scenes and masks (0 other, 1 forest, 255 unlabelled) to train on and to validate on: ``train/images`` and so on."""
    frontier = Frontier(4096, 4096, collar=False)
    places = [Window.at((row, col), (SIDE, SIDE)) for row in range(0, 2800, APART) for col in range(0, 2800, APART)]
    for number, window in enumerate(places):
        part = folder / ("train" if number < 8 else "val")
        image, truth = frontier.window(window)
        mask = np.where(truth > MAX_CLASS, UNLABELLED, truth).astype(np.uint8)
        transform = rasterio.Affine(*frontier.transform) @ rasterio.Affine.translation(window.col_off, window.row_off)
        for kind, pixels, options in (("images", image, {"photometric": "rgb"}), ("masks", mask[None], {"nodata": UNLABELLED})):
            path = part / kind / f"Amazon_1{number % 8}.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            profile = {"count": len(pixels), "height": SIDE, "width": SIDE, "dtype": "uint8", "crs": CRS, "transform": transform}
            with rasterio.open(path, "w", driver="GTiff", compress="deflate", **profile, **options) as dataset:
                dataset.write(pixels)
    return folder
