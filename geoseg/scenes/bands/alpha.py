"""Bands that are tagged alpha: masks, or pixels of an image that GDAL has tagged so by default."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import rasterio
import rasterio.errors
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp
from rasterio.windows import Window as RasterioWindow

from geoseg.scenes.bands.roles import ALPHA, Role, default_colors
from geoseg.scenes.gdal import open_virtual

__all__ = ["alpha_of", "is_mask", "some_values", "without_alpha"]

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
    values = some_values(dataset, number)
    return not values.size or is_mask(values)


def some_values(dataset: rasterio.DatasetReader, number: int) -> NDArray[Any]:
    """Values of a band in windows that are spread over the file, one after the other; empty where none can be read."""
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
    return np.concatenate(values) if values else np.empty(0, dataset.dtypes[number - 1])


def is_mask(values: NDArray[Any]) -> bool:
    """Whether values are those of a mask: two of them, or nearly all that are not 0 the same."""
    found, counts = np.unique(values, return_counts=True)
    if len(found) <= 2:
        return True
    some = counts[found != 0]
    return bool(some.max() >= LEAST_SHARE * some.sum())


@contextmanager
def without_alpha(dataset: rasterio.DatasetReader) -> Iterator[rasterio.DatasetReader]:
    """The file with no band tagged alpha: what warps it would take such a band for a mask, whatever it holds."""
    if ColorInterp.alpha not in dataset.colorinterp:
        yield dataset
        return
    with open_virtual(dataset, [ColorInterp.undefined if c == ColorInterp.alpha else c for c in dataset.colorinterp]) as view:
        yield view
