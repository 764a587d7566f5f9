"""Whether a band that is tagged alpha holds a mask, or pixels of an image that GDAL has tagged so by default."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import rasterio
import rasterio.errors
import rasterio.shutil
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.windows import Window as RasterioWindow

from geoseg.scenes.band_roles import ALPHA, Role, default_colors

__all__ = ["alpha_of", "is_mask"]

PLACES, HEIGHT, WIDTH = 5, 64, 256
"""Values are looked at in so many rows and columns of windows of this size."""
LEAST_SHARE = 0.9
"""So many of the values that are not 0 are the same in a mask; smooth edges have others."""


def alpha_of(dataset: rasterio.DatasetReader, roles: Sequence[Role]) -> tuple[int | None, str | None]:
    """The number of the band that says which pixels are data, and a note where a band only seems to.

    Args:
        dataset: The open file.
        roles: By band, what names and wavelengths say.
    """
    colors = [color.name for color in dataset.colorinterp]
    if ALPHA not in colors:
        return None, None
    number = colors.index(ALPHA) + 1
    role = roles[number - 1]
    if role.name == ALPHA:
        return number, None
    if role.name is not None:
        return None, f"band {number} is tagged alpha, but {role.source} says {role.name}, so it is not taken as a mask"
    if not default_colors(colors, dataset.dtypes) or _looks_like_a_mask(dataset, number):
        return number, None
    return None, (
        f"band {number} is tagged alpha, as GDAL tags any file of four bands, but its values are those of an image, so it is not "
        "taken as a mask"
    )


def _looks_like_a_mask(dataset: rasterio.DatasetReader, number: int) -> bool:
    height, width = dataset.shape
    values = []
    for row in np.unique(np.linspace(0, max(0, height - HEIGHT), PLACES).astype(int)):
        for col in np.unique(np.linspace(0, max(0, width - WIDTH), PLACES).astype(int)):
            window = RasterioWindow(int(col), int(row), min(WIDTH, width), min(HEIGHT, height))
            try:
                values.append(dataset.read(number, window=window).ravel())
            except (rasterio.errors.RasterioError, CPLE_BaseError):
                # Whoever reads the pixels says so; what can't be read says nothing here.
                continue
    return not values or is_mask(np.concatenate(values))


def is_mask(values: NDArray[Any]) -> bool:
    """Whether values are those of a mask: two of them, or nearly all that are not 0 the same."""
    found, counts = np.unique(values, return_counts=True)
    if len(found) <= 2:
        return True
    some = counts[found != 0]
    return bool(some.max() >= LEAST_SHARE * some.sum())
