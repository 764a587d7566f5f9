"""Compositing: of several observations of each pixel, its value without clouds.

Medians and means are those of each band by itself. The best observation keeps all bands of one date together: the medoid, which
is the observation with the least sum of distances to all others (Flood 2013, Remote Sensing 5(12), 6481-6500); the observation
nearest to the median of each band (Kennedy et al. 2018, Remote Sensing 10(5), 691, who call it a medoid, too); or the latest, the
best available pixel by date (White et al. 2014, Canadian Journal of Remote Sensing 40(3), 192-212).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from geoseg.arrays import F64, I64, Bools

__all__ = ["BestRule", "best_observation", "mean_of", "median_of", "picked", "stored"]

BestRule = Literal["nearest", "medoid", "latest"]
Stack = NDArray[np.generic]
"""(observations, bands, h, w)."""


def median_of(stack: Stack, clear: Bools) -> F64:
    """(bands, h, w) median of the clear observations of each band; of an even number the mean of the two in the middle.

    Args:
        stack: (n, bands, h, w), finite where it is clear.
        clear: (n, h, w), True where an observation counts.

    Returns:
        NaN where there is none.
    """
    kind = stack.dtype
    last = np.array(np.inf if kind.kind == "f" else np.iinfo(kind.name).max, kind)
    count = clear.sum(axis=0)
    low, high = ((np.maximum(count, 1) - 1) // 2)[None], (count // 2)[None]
    high = np.minimum(high, len(stack) - 1)
    out = np.empty(stack.shape[1:], np.float64)
    for band in range(stack.shape[1]):
        # What does not count stands behind all that does, and is never picked.
        values = np.where(clear, stack[:, band], last)
        values.sort(axis=0)
        pair = (np.take_along_axis(values, at, axis=0)[0].astype(np.float64) for at in (low, high))
        with np.errstate(invalid="ignore"):
            out[band] = sum(pair) / 2
    out[:, count == 0] = np.nan
    return out


def mean_of(stack: Stack, clear: Bools) -> F64:
    """(bands, h, w) mean of the clear observations of each band, NaN where there is none; arguments as of ``median_of``."""
    count = clear.sum(axis=0)
    out = np.empty(stack.shape[1:], np.float64)
    for band in range(stack.shape[1]):
        total = np.zeros(count.shape, np.float64)
        for values, ones in zip(stack[:, band], clear, strict=True):
            total += np.where(ones, values, 0)
        out[band] = total / np.maximum(count, 1)
    out[:, count == 0] = np.nan
    return out


def best_observation(stack: Stack, clear: Bools, rule: BestRule) -> I64:
    """(h, w) index of the best clear observation, -1 where there is none; of equally good ones the first.

    Distances are Euclidean over all bands, in the numbers of the stack.

    Args:
        stack: (n, bands, h, w), the latest first.
        clear: (n, h, w).
        rule: ``nearest`` to the median, ``medoid``, or ``latest``.
    """
    found = np.argmax(clear, axis=0) if rule == "latest" else np.argmin(_distances(stack, clear, rule), axis=0)
    return np.where(clear.any(axis=0), found, -1)


def picked(stack: Stack, index: I64) -> Stack:
    """(bands, h, w) of the observation that an index (h, w) names; that of the first where it is below 0."""
    return np.asarray(np.take_along_axis(stack, np.maximum(index, 0)[None, None], axis=0)[0])


def stored(values: NDArray[np.generic], known: Bools, dtype: str, nodata: int) -> tuple[NDArray[np.generic], int]:
    """Values as they are stored: whole numbers rounded, halves to the even one; no data where nothing is known.

    A pixel of which all bands would be taken for no data gets the numbers beside it, as GDAL's warper does it.

    Args:
        values: (bands, h, w).
        known: (h, w).
        dtype: Of the file.
        nodata: Its value for no data.

    Returns:
        (bands, h, w), and how many pixels were moved.
    """
    kind = np.dtype(dtype)
    whole = kind.kind in "iu"
    filled = np.where(known, values, nodata)
    out = (np.rint(filled) if whole and filled.dtype.kind == "f" else filled).astype(kind)
    same = known & (out == kind.type(nodata)).all(axis=0)
    if not same.any():
        return out, 0
    if whole:
        beside = nodata + 1 if nodata < np.iinfo(kind).max else nodata - 1
    else:
        beside = np.nextafter(kind.type(nodata), kind.type(0))
    out[:, same] = beside
    return out, int(same.sum())


def _distances(stack: Stack, clear: Bools, rule: BestRule) -> F64:
    """(n, h, w) distances that the best observation has least of; infinite where none counts."""
    out = np.full(clear.shape, np.inf)
    middle = median_of(stack, clear) if rule == "nearest" else None
    for number, one in enumerate(stack):
        distance = _between(one, middle) if middle is not None else _to_others(stack, clear, one)
        out[number] = np.where(clear[number], distance, np.inf)
    return out


def _to_others(stack: Stack, clear: Bools, one: Stack) -> F64:
    """(h, w) sum of the distances of one observation to all clear ones."""
    total = np.zeros(clear.shape[1:], np.float64)
    for other, ones in zip(stack, clear, strict=True):
        total += np.where(ones, _between(one, other), 0)
    return total


def _between(one: Stack, other: Stack | F64) -> F64:
    """(h, w) Euclidean distance over bands."""
    total = np.zeros(one.shape[1:], np.float64)
    minus: Callable[..., F64] = np.subtract
    for a, b in zip(one, other, strict=True):
        total += minus(a, b, dtype=np.float64) ** 2
    return np.asarray(np.sqrt(total))
