"""Small copies of images, for pictures and outlines."""

from __future__ import annotations

import numpy as np
import rasterio
from numpy.typing import NDArray

from geoseg.errors import SceneTooLargeError
from geoseg.scenes.gdal import RASTERS, gdal_env, open_raster

__all__ = ["LARGEST_PLAIN_PX", "shrunken"]

LARGEST_PLAIN_PX = 16_384
"""Images beyond this side are read by their overviews only."""


def shrunken(
    path: str, side: int, most_bands: int = 3
) -> tuple[NDArray[np.generic], NDArray[np.bool_], rasterio.Affine, rasterio.crs.CRS | None]:
    """The nearest pixels of an image for a copy of at most ``side`` pixels a side.

    Blocks are decoded once, row by row of them: GDAL itself decodes them again for each row of a small copy.

    Args:
        path: The image.
        side: Longer side of the copy.
        most_bands: How many bands are read: all of so many where it has them, else the first.

    Returns:
        Pixels (bands, h, w), where they are valid (h, w), the transform of the copy, and the CRS.

    Raises:
        SceneTooLargeError: It is too large to be read without overviews.
        SceneError: It is no GeoTIFF, or can't be read; addresses are not asked.
        RasterioIOError: A block can't be read.
    """
    with gdal_env(), open_raster(path, local=True) as whole:
        levels = [level for level, factor in enumerate(whole.overviews(1)) if max(whole.shape) / factor >= side]
        shape, place, crs = whole.shape, whole.transform, whole.crs
    options = {"overview_level": levels[-1]} if levels else {}
    with gdal_env(), open_raster(path, RASTERS, local=True, **options) as image:
        if max(image.shape) > LARGEST_PLAIN_PX:
            raise SceneTooLargeError(
                f"{path}: {image.height} x {image.width} pixels without overviews are too many for a picture; make them with "
                "gdaladdo"
            )
        scale = max(1.0, max(image.shape) / side)
        height, width = max(1, round(image.height / scale)), max(1, round(image.width / scale))
        rows = ((np.arange(height) + 0.5) * (image.height / height)).astype(np.int64)
        cols = ((np.arange(width) + 0.5) * (image.width / width)).astype(np.int64)
        bands = list(range(1, most_bands + 1)) if image.count >= most_bands else [1]
        pixels = np.empty((len(bands), height, width), image.dtypes[0])
        valid = np.empty((height, width), np.bool_)
        step = image.block_shapes[0][0] * max(1, 256 // image.block_shapes[0][0])
        for top in range(0, image.height, step):
            chosen = np.flatnonzero((rows >= top) & (rows < top + step))
            if len(chosen):
                window = rasterio.windows.Window(0, top, image.width, min(step, image.height - top))
                at = np.ix_(rows[chosen] - top, cols)
                for number, band in enumerate(image.read(bands, window=window)):
                    pixels[number, chosen] = band[at]
                valid[chosen] = image.dataset_mask(window=window)[at] > 0
    return pixels, valid, place @ rasterio.Affine.scale(shape[1] / width, shape[0] / height), crs
