"""Statistics of windows of an image: of second order, so that those of linearly mapped values follow from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.arrays import F64, Bools

__all__ = ["LAGS", "WINDOW_PX", "WindowStats", "measure_windows", "stack_of", "taken"]

WINDOW_PX = 128
"""Rows and columns of a window."""
LEAST_SIDE = 32
"""Windows at the edges of an image may be as small as this."""
LEAST_VALID = 0.5
"""Windows with a smaller share of data tell of the gaps, not of the image."""
LAGS = (1, 4)
"""Distances in pixels at which values are compared: texture, fine and coarse."""


@dataclass(frozen=True, slots=True, eq=False)
class WindowStats:
    """Statistics of some windows."""

    mean: F64
    """(windows, bands) of the valid pixels."""
    moments: F64
    """(windows, 1 + lags, bands, bands): the covariance of the values, then by lag the mean products of the differences
    between pixels that lie so far apart in a row or a column."""

    def __len__(self) -> int:
        """Number of entries."""
        return len(self.mean)

    def __getitem__(self, which: NDArray[np.intp] | slice) -> WindowStats:
        """The statistics of some windows."""
        return WindowStats(self.mean[which], self.moments[which])

    def mapped(self, scale: Sequence[float] | F64, offset: Sequence[float] | F64) -> WindowStats:
        """Those of ``value * scale + offset``, by band."""
        by = np.asarray(scale, np.float64)
        return WindowStats(self.mean * by + np.asarray(offset, np.float64), self.moments * np.outer(by, by))


def stack_of(parts: Sequence[WindowStats], bands: int) -> WindowStats:
    """The windows of several parts as one."""
    size = 1 + len(LAGS)
    return WindowStats(
        np.concatenate([np.empty((0, bands)), *(part.mean for part in parts)]),
        np.concatenate([np.empty((0, size, bands, bands)), *(part.moments for part in parts)]),
    )


def measure_windows(image: NDArray[np.floating], valid: Bools, *, step: int = WINDOW_PX) -> WindowStats:
    """The windows of an image, (bands, h, w), that hold enough data.

    Args:
        image: Pixel values.
        valid: (h, w), True where they are data.
        step: Rows and columns from one window to the next.
    """
    found = [
        stats
        for rows, cols in _places(valid.shape, step)
        if (stats := _measure(np.asarray(image[:, rows, cols], np.float64), valid[rows, cols])) is not None
    ]
    bands = len(image)
    if not found:
        return stack_of((), bands)
    return WindowStats(np.stack([mean for mean, _ in found]), np.stack([moments for _, moments in found]))


def _places(shape: tuple[int, ...], step: int) -> Iterator[tuple[slice, slice]]:
    def starts(extent: int) -> list[int]:
        return [start for start in range(0, extent, step) if start == 0 or extent - start >= WINDOW_PX]

    for row in starts(shape[0]):
        for col in starts(shape[1]):
            yield slice(row, min(row + WINDOW_PX, shape[0])), slice(col, min(col + WINDOW_PX, shape[1]))


def taken(image: NDArray[np.generic], which: Bools) -> NDArray[Any]:
    """(bands, n) of some pixels of an image, (bands, h, w), in the order of rows; without picking one by one where it is all."""
    return image.reshape(len(image), -1) if which.all() else image[:, which]


def _measure(image: F64, valid: Bools) -> tuple[F64, F64] | None:
    if min(valid.shape) < LEAST_SIDE or valid.mean() < LEAST_VALID:
        return None
    values = taken(image, valid)
    mean = values.mean(axis=1)
    centred = values - mean[:, None]
    moments = [centred @ centred.T / values.shape[1], *(_products(image, valid, lag) for lag in LAGS)]
    return mean, np.stack(moments)


def _products(image: F64, valid: Bools, lag: int) -> F64:
    down = taken(image[:, lag:] - image[:, :-lag], valid[lag:] & valid[:-lag])
    right = taken(image[:, :, lag:] - image[:, :, :-lag], valid[:, lag:] & valid[:, :-lag])
    count = max(1, down.shape[1] + right.shape[1])
    products: F64 = (down @ down.T + right @ right.T) / count
    return products
