"""Probabilities as whole numbers, so that sums of them are the same in whatever order they are added."""

from __future__ import annotations

import numpy as np

from geoseg.arrays import F32, U8, U16, Bools
from geoseg.codes import NODATA

__all__ = ["ONE", "shares_of", "to_bytes"]

ONE = 60_000
"""The number of a probability of 1; its high byte is below 254, as that of no class is not."""


def to_bytes(probabilities: F32, valid: Bools) -> U8:
    """Probabilities (K, h, w) as whole numbers of 1 / ``ONE``, halves rounded up: (2K, h, w), all high bytes, then all low ones.

    Args:
        probabilities: Their values are from 0 to 1.
        valid: (h, w); elsewhere all bytes are 255.
    """
    with np.errstate(invalid="ignore"):  # NaN is refused by its own check
        shares = (np.float32(ONE) * np.clip(probabilities, 0, 1) + np.float32(0.5)).astype(np.uint16)
    parts = np.concatenate([shares >> 8, shares & 255]).astype(np.uint8)
    return np.asarray(np.where(valid, parts, np.uint8(NODATA)), np.uint8)


def shares_of(parts: U8) -> U16:
    """(K, h, w) numbers of 1 / ``ONE`` of what ``to_bytes`` gave; those of pixels without a class mean nothing."""
    high, low = np.split(parts.astype(np.uint16), 2)
    return np.asarray((high << 8) | low, np.uint16)
