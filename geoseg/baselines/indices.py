"""Indices of bands: one number a pixel, in which a class may stand out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from geoseg.arrays import F32, F64
from geoseg.errors import ConfigError

__all__ = ["INDICES", "available", "band_index"]

Bands = Mapping[str, F64]


def _ratio(above: F64, below: F64) -> F64:
    """A quotient within -1 and 1; 0 where the denominator is 0."""
    quotient = np.divide(above, below, out=np.zeros_like(above), where=below != 0)
    return np.clip(quotient, -1.0, 1.0)


def _ndvi(b: Bands) -> F64:
    return _ratio(b["nir"] - b["red"], b["nir"] + b["red"])


def _ndwi(b: Bands) -> F64:
    return _ratio(b["green"] - b["nir"], b["green"] + b["nir"])


def _vari(b: Bands) -> F64:
    return _ratio(b["green"] - b["red"], b["green"] + b["red"] - b["blue"])


def _excess_green(b: Bands) -> F64:
    total = b["red"] + b["green"] + b["blue"]
    return 3 * _ratio(b["green"], total) - np.where(total != 0, 1.0, 0.0)


INDICES: Mapping[str, tuple[tuple[str, ...], Callable[[Bands], F64]]] = {
    "ndvi": (("red", "nir"), _ndvi),
    "ndwi": (("green", "nir"), _ndwi),
    "vari": (("red", "green", "blue"), _vari),
    "excess-green": (("red", "green", "blue"), _excess_green),
}
"""Bands and formula by name, beside ``brightness`` (mean of all bands) and the bands themselves.

NDVI: Rouse et al. 1974. NDWI: McFeeters 1996. VARI: Gitelson et al. 2002, here cut to -1 and 1, since its denominator can
come near 0. Excess green, 2 g - r - b of the shares of red, green and blue: Woebbecke et al. 1995.
"""


def available(bands: Sequence[str]) -> tuple[str, ...]:
    """Names of the indices that can be computed of these bands."""
    found = [name for name, (needed, _) in INDICES.items() if set(needed) <= set(bands)]
    return (*found, *(["brightness"] if len(bands) > 1 else []), *bands)


def band_index(name: str, image: F32, bands: Sequence[str]) -> F64:
    """An index of an image, pixel by pixel.

    Args:
        name: One of ``INDICES``, ``brightness``, or the name of a band.
        image: (C, h, w) pixels.
        bands: Names of the C bands.

    Returns:
        (h, w) float64; 0 where an index is not defined.

    Raises:
        ConfigError: There is no such index for these bands.
    """
    if name not in available(bands):
        raise ConfigError(f"index: {name!r} can't be computed of {', '.join(bands)}; use one of {', '.join(available(bands))}")
    if name in bands:
        return np.asarray(image[list(bands).index(name)], np.float64)
    # Band after band, so that a pixel's value does not depend on its neighbours in memory.
    planes = {band: plane.astype(np.float64) for band, plane in zip(bands, image, strict=True)}
    if name == "brightness":
        total = np.zeros(image.shape[1:])
        for plane in planes.values():
            total += plane
        return np.asarray(total / len(bands))
    return INDICES[name][1](planes)
