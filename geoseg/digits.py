"""Numbers of digits: enough for the smallest pixels, no more than the largest need."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from geoseg.arrays import F64

__all__ = ["DEGREES", "count_text", "degree_decimals", "figure", "figures"]

SIGNIFICANT = 6
"""Digits that count, at least."""
DEGREES = 7
"""Decimals of a degree for pixels of a quarter of a metre and more: a centimetre."""
METRES_PER_DEGREE = 111_320.0
FINE_PX = 1 / 20
"""Coordinates are as exact as this share of a pixel, so that rings stay what they are."""
MOST_DECIMALS = 15
MILLIONS = 50_000
"""Counts from here on are told in millions."""


def figures(values: ArrayLike, decimals: int) -> F64:
    """Numbers rounded to so many decimals, or to six digits that count where this is finer; NaN stays."""
    numbers = np.asarray(values, np.float64)
    known = np.isfinite(numbers) & (numbers != 0)
    size = np.floor(np.log10(np.abs(numbers, where=known, out=np.ones_like(numbers))))
    places = np.clip(SIGNIFICANT - 1 - size, decimals, MOST_DECIMALS)
    factor = 10.0**places
    return np.asarray(np.round(numbers * factor) / factor)


def figure(value: float, decimals: int) -> float:
    """One number, as ``figures`` has it."""
    return float(figures(value, decimals))


def count_text(count: int) -> str:
    """A count in words: ``3.5 M``; all its digits where millions would say ``0.0``."""
    return f"{count / 1e6:.1f} M" if count >= MILLIONS else f"{count:,}"


def degree_decimals(pixel_m: float | None) -> int:
    """Decimals of longitudes and latitudes for pixels of a size in metres, or of unknown size.

    RFC 7946, 11.2, has six as a default and lets others follow what is described; seven are the least here.
    """
    if pixel_m is None or not math.isfinite(pixel_m) or pixel_m <= 0:
        return DEGREES
    wanted = math.ceil(-math.log10(pixel_m * FINE_PX / METRES_PER_DEGREE) - 1e-9)
    return min(max(DEGREES, wanted), 12)
