"""Features of pixels: their bands, and mean and deviation of each in a window around them."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from geoseg.arrays import F32, F64, Bools

__all__ = ["MARGIN", "WINDOW_PX", "pixel_features"]

WINDOW_PX = 7
"""Rows and columns of the window."""
MARGIN = WINDOW_PX // 2
"""Pixels around an area that its features depend on."""


def pixel_features(image: F32, valid: Bools) -> F32:
    """Features of each pixel: bands, means of 7 x 7 pixels, standard deviations of 7 x 7 pixels.

    Only valid pixels within the image count; sums are taken in a fixed order for each pixel, so that the features of a
    window, read with ``MARGIN`` pixels around it, are those of the whole image to the last bit.

    Args:
        image: (C, h, w) pixels.
        valid: (h, w) where there is data.

    Returns:
        (3 C, h, w) float32; 0 where no pixel of the window is valid.
    """
    bands, height, width = image.shape
    out = np.empty((3 * bands, height, width), np.float32)
    count = np.maximum(_window_sum(valid.astype(np.float64)), 1)
    for band, plane in enumerate(image):
        values = np.where(valid, plane, 0).astype(np.float64)
        mean = _window_sum(values) / count
        square = _window_sum(values * values) / count
        out[band] = values
        out[bands + band] = mean
        out[2 * bands + band] = np.sqrt(np.maximum(square - mean * mean, 0))
    return out


def _window_sum(plane: F64) -> F64:
    """Sums over windows, not running ones: those would carry roundings from pixel to pixel."""
    kernel = np.ones(WINDOW_PX)
    rows = ndimage.correlate1d(plane, kernel, axis=0, mode="constant")
    return np.asarray(ndimage.correlate1d(rows, kernel, axis=1, mode="constant"))
