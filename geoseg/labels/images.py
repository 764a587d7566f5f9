"""Images that lie beside labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import rasterio
import rasterio.errors
from numpy.typing import NDArray

from geoseg.errors import ReadError
from geoseg.scenes.gdal import IMAGES, gdal_env, open_picture, open_raster

__all__ = ["read_image"]


def read_image(path: str) -> NDArray[Any]:
    """(bands, h, w) of a PNG, JPEG or TIFF without a place on Earth; palettes give their indices, one bit gives 0 and 1.

    PNG and TIFF are read by GDAL: pillow cuts colours of 16 bits to 8 without a word, and knows few kinds of TIFF.

    Raises:
        ReadError: It can't be read.
    """
    if path.lower().endswith((".png", ".tif", ".tiff")):
        try:
            with gdal_env(), open_raster(path, IMAGES) as dataset:
                pixels: NDArray[Any] = dataset.read()
        except rasterio.errors.RasterioError as error:
            raise ReadError(f"{path}: can't be read as an image: {str(error.__cause__ or error).splitlines()[0]}") from error
        return pixels
    try:
        with open_picture(path) as image:
            # Palettes of VOC masks stand for classes; their colours don't matter.
            array = np.asarray(image)
    except (OSError, ValueError) as error:
        raise ReadError(f"{path}: can't be read as an image: {error}") from error
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))
