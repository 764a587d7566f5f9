"""Histories of pixels: the values that they have date by date, of which many pixels share each."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from geoseg.arrays import I64, U8

__all__ = ["histories"]

MOST = 1 << 62
"""Numbers of histories stay below it."""


def histories(layers: Iterable[U8], base: int) -> tuple[U8, I64]:
    """The distinct histories of pixels.

    They are numbered by their values as digits; before numbers get too large, those that are there are counted anew.

    Args:
        layers: (h, w) values by date, below ``base``; at least one.
        base: How many values there may be.

    Returns:
        (T, N) distinct histories, and (h, w) which of them each pixel has.
    """
    rows, waiting, number = np.zeros((0, 1), np.uint8), 0, np.zeros((), np.int64)
    for layer in layers:
        if rows.shape[1] * base ** (waiting + 1) >= MOST:
            rows, number = _counted(rows, number, base, waiting)
            waiting = 0
        number, waiting = number * base + layer, waiting + 1
    return _counted(rows, number, base, waiting)


def _counted(rows: U8, number: I64, base: int, waiting: int) -> tuple[U8, I64]:
    """The histories that are there, which go on from ``rows`` by as many digits as ``waiting`` says."""
    distinct, at = np.unique(number, return_inverse=True)
    digits = [distinct // base ** (waiting - 1 - t) % base for t in range(waiting)]
    return np.concatenate([rows[:, distinct // base**waiting], np.array(digits, np.uint8)]), at.reshape(number.shape)
