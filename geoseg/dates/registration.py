"""Registration of two dates of one place: their shift in parts of a pixel, and whether moving one of them corrects it.

Windows of both are compared by phase correlation (Kuglin and Hines 1975; to parts of a pixel, Guizar-Sicairos et al. 2008,
doi:10.1364/OL.33.000156, as in scikit-image). A window counts where moving it makes it more alike; the shift is the
median of the windows, and consistent where most of them agree with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from geoseg.arrays import F64, Bools

__all__ = ["LEAST_WINDOWS", "Registration", "register", "shift_of"]

UPSAMPLED = 20
"""Shifts are found to this part of a pixel."""
LEAST_ALIKE = 0.3
"""Correlation of two windows that show the same, once moved."""
AGREE_PX = 1.0
"""Windows agree with the median shift within so many pixels."""
LEAST_WINDOWS = 3
"""Windows without which nothing can be said."""
LEAST_VALID = 0.6
"""Share of a window that is to hold data at both dates."""


@dataclass(frozen=True, slots=True)
class Registration:
    """The shift of a date against the first one."""

    rows: float
    """Pixels that it is to be moved down."""
    cols: float
    """Pixels that it is to be moved to the right."""
    residual: float | None
    """Median distance in pixels of the windows' shifts to it; None where there were too few."""
    windows: int
    """Windows that could be compared."""
    agreeing: int
    """Those that agree with it."""

    @property
    def distance(self) -> float:
        """Pixels that it lies off."""
        return float(np.hypot(self.rows, self.cols))

    @property
    def consistent(self) -> bool:
        """Whether most windows agree."""
        return self.windows >= LEAST_WINDOWS and 2 * self.agreeing > self.windows


def shift_of(fixed: F64, moving: F64, valid: Bools) -> tuple[float, float] | None:
    """Rows and cols by which one window (h, w) is to be moved to lie on another; None where that can't be told.

    Args:
        fixed: The one that stays.
        moving: The other.
        valid: Where both hold data.
    """
    from scipy import ndimage
    from skimage.registration import phase_cross_correlation

    if valid.mean() < LEAST_VALID:
        return None
    inner = ndimage.binary_erosion(valid, iterations=2)
    edges = []
    for image in (fixed, moving):
        # Edges stay where the light changes; what is not known has none.
        smooth = ndimage.gaussian_filter(np.where(valid, image, image[valid].mean()), 1.0)
        strength = np.where(inner, np.hypot(ndimage.sobel(smooth, 0), ndimage.sobel(smooth, 1)), 0)
        if not strength.any():
            return None
        edges.append(np.minimum(strength, np.percentile(strength, 98)) - strength.mean())
    frame = np.outer(np.hanning(valid.shape[0]), np.hanning(valid.shape[1]))
    found, _, _ = phase_cross_correlation(edges[0] * frame, edges[1] * frame, upsample_factor=UPSAMPLED, normalization=None)
    rows, cols = (float(part) for part in found)
    before = _alike(edges[0], edges[1])
    after = _alike(edges[0], ndimage.shift(edges[1], (rows, cols), order=1, mode="nearest"))
    return (rows, cols) if after >= LEAST_ALIKE and after >= before else None


def _alike(one: F64, other: F64) -> float:
    a, b = one - one.mean(), other - other.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / scale if scale else 0.0


def register(shifts: Iterable[tuple[float, float]], *, agree_px: float = AGREE_PX) -> Registration:
    """The shift that most windows agree on, within so many pixels."""
    found = np.array(list(shifts), np.float64).reshape(-1, 2)
    if len(found) < LEAST_WINDOWS:
        return Registration(0.0, 0.0, None, len(found), 0)
    middle = np.median(found, axis=0)
    # The windows that agree decide: those of clouds or water say nothing.
    near = np.hypot(*(found - middle).T) <= agree_px
    if near.any():
        middle = np.median(found[near], axis=0)
    away = np.hypot(*(found - middle).T)
    agreeing = int((away <= agree_px).sum())
    return Registration(float(middle[0]), float(middle[1]), float(np.median(away)), len(found), agreeing)
