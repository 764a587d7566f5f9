"""The pixels of the preview of a map: of the scene from thumbnails of chunks, of the map from its overviews."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoseg.formats.preview import PicturePlace
from geoseg.scenes.gdal import gdal_env, open_written
from pipeline.infer.chunk_store import ChunkStore
from pipeline.plan.plan import Plan

__all__ = ["preview_pixels", "preview_place"]


def preview_pixels(plan: Plan, store: ChunkStore, raster: Path) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """The pixels of the preview's lattice: (bands, h, w) of the scene, and (h, w) codes of the overviews of a raster."""
    grid, small = plan.grid, plan.thumbnail
    image = np.zeros((len(small.bands), *small.shape), plan.scene.bands[plan.bands[0]].dtype)
    for index in plan.active:
        part = store.thumbnail(index)
        if part is None or not part.size:
            continue
        small.put(image, part, grid.chunk_core(index))
    window = None if small.window == grid.scene else small.window.for_rasterio()
    with gdal_env(), open_written(raster) as dataset:
        codes: NDArray[np.generic] = dataset.read(1, window=window, out_shape=small.shape)
    return image, codes


def preview_place(plan: Plan) -> PicturePlace:
    """Where the pixels of the preview lie."""
    window, stride = plan.thumbnail.window, plan.thumbnail.stride
    return PicturePlace(
        plan.scene.georeference.moved(window.row_off, window.col_off),
        stride,
        None if plan.area is None else plan.area.border(window, stride),
    )
