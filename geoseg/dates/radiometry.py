"""Bringing the values of one date to those of another: a line a band, from pixels that have not changed.

Pseudo-invariant pixels are found by iteratively reweighted multivariate alteration detection (Nielsen 2007,
doi:10.1109/TIP.2006.888195; for radiometric normalization, Canty and Nielsen 2008, doi:10.1016/j.rse.2007.07.013).
"""

from __future__ import annotations

import numpy as np

from geoseg.arrays import F64, Bools
from geoseg.dialect import setting
from geoseg.errors import SceneError

__all__ = ["Lines", "invariant", "lines_of", "moments"]

Lines = list[tuple[float, float]]
"""By band, gain and offset: ``value of the first date = gain * value + offset``."""
MAX_ROUNDS = 60
SETTLED = 1e-4
UNCHANGED = 0.95
"""Probability of no change of pixels that count as invariant."""
LEAST_PIXELS = 200


def invariant(first: F64, second: F64) -> Bools:
    """Pixels of two dates (C, N) that have not changed: (N,) bool.

    Raises:
        SceneError: There are too few.
    """
    from scipy import linalg, stats

    bands, count = first.shape
    # Weights favour small differences, so that what is left looks less noisy than it is, each round more so: of normal noise by
    # this factor.
    x = np.linspace(0, 20 * bands + 40, 20001)
    weighed = stats.chi2.sf(x, bands) * stats.chi2.pdf(np.maximum(x, 1e-9), bands)
    shrink = float((weighed * x).sum() / weighed.sum() / bands)
    both = np.concatenate([first, second])
    both = both + np.random.default_rng(0).normal(scale=1e-6 * (both.std() + 1e-9), size=both.shape)
    weight, before, chance = np.ones(count), np.zeros(bands), np.ones(count)
    for _ in range(MAX_ROUNDS):
        mean = (both * weight).sum(axis=1) / weight.sum()
        away = both - mean[:, None]
        covariance = (away * weight) @ away.T / weight.sum()
        s11, s22, s12 = covariance[:bands, :bands], covariance[bands:, bands:], covariance[:bands, bands:]
        rho2, a = linalg.eigh(s12 @ np.linalg.solve(s22, s12.T), s11)
        rho = np.sqrt(np.clip(rho2, 0, 1 - 1e-9))
        b = np.linalg.solve(s22, s12.T @ a)
        b /= np.sqrt(np.einsum("ik,ij,jk->k", b, s22, b))
        variates = a.T @ away[:bands] - b.T @ away[bands:]
        noise = 2 * (1 - rho) / (shrink if before.any() else 1.0)
        chance = stats.chi2.sf((variates**2 / noise[:, None]).sum(axis=0), bands)
        weight = np.maximum(chance, 1e-12)
        if np.abs(rho - before).max() < SETTLED:
            break
        before = rho
    found = chance > UNCHANGED
    if found.sum() < LEAST_PIXELS:
        raise SceneError(
            f"radiometry: {int(found.sum())} of {count:,} sampled pixels have not changed; {LEAST_PIXELS} are needed; "
            f"use {setting('radiometry', 'moments')} or none"
        )
    return np.asarray(found)


def lines_of(first: F64, second: F64) -> Lines:
    """Lines through pixels of two dates (C, N), by orthogonal regression: both are measured with errors."""
    found = []
    for one, other in zip(first, second, strict=True):
        covariance = np.cov(other, one)
        _, vectors = np.linalg.eigh(covariance)
        x, y = vectors[:, -1]
        gain = float(y / x) if abs(x) > 1e-12 else 1.0
        found.append((gain, float(one.mean() - gain * other.mean())))
    return found


def moments(first: F64, second: F64) -> Lines:
    """Lines that give the second date the mean and the deviation of the first, by band."""
    found = []
    for one, other in zip(first, second, strict=True):
        spread = float(other.std())
        gain = float(one.std()) / spread if spread > 0 else 1.0
        found.append((gain, float(one.mean() - gain * other.mean())))
    return found
