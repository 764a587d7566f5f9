"""Numbers of units by class, in a finite population and in domains of it, from a stratified random sample.

The number is that of the domain, which is known, times the share of the class in it: the ratio of two totals over strata
(Cochran 1977, Sampling Techniques, sections 2.13 and 6.11; Särndal, Swensson and Wretman 1992, Model Assisted Survey Sampling,
section 5.8), with the finite population correction. With the classes of the map as strata and all as domain, it is the estimator
of Olofsson et al. (2014, doi:10.1016/j.rse.2014.02.015) for units that all count alike.

Intervals are Wilson's (1927, doi:10.1080/01621459.1927.10502953) at the effective size of the sample (Korn and Graubard 1998,
Survey Methodology 24, 193-201): those of the normal distribution hold the truth too rarely where a class or a domain is small.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geoseg.arrays import F64, Bools
from geoseg.sampling.estimators import Z95, Sample, ratio

__all__ = ["Number", "number_of"]


@dataclass(frozen=True, slots=True)
class Number:
    """An estimated number of units; all NaN where no unit of the sample lies in the domain."""

    value: float
    se: float
    low: float
    """Of the 95 % interval: never fewer than the sample itself shows."""
    high: float
    """Never more than the domain has beside those that the sample shows to be something else."""
    units: int
    """Units of the sample in the domain."""


def number_of(sample: Sample, there: Bools, inside: Bools, size: int) -> Number:
    """Estimate how many units of a domain are of a class.

    Args:
        sample: The units.
        there: (n,) whether each is of the class.
        inside: (n,) whether each lies in the domain.
        size: Number of units that the domain has in all.
    """
    x = inside.astype(np.float64)
    y = x * there
    found = ratio(sample, y, x)
    if not inside.any() or not np.isfinite(found.value):
        return Number(np.nan, np.nan, np.nan, np.nan, 0)
    share, units = found.value, int(x.sum())
    low, high = found.interval
    variance = _variance(sample, y, x, share)
    if 0 < share < 1 and variance > 0:
        low, high = _wilson(share, share * (1 - share) / variance)
    known, other = float(y.sum()), float((x - y).sum())
    whole = float(size)
    return Number(
        min(max(share * whole, known), whole - other),
        found.se * whole,
        min(max(low * whole, known), whole - other),
        max(min(high * whole, whole - other), known),
        units,
    )


def _variance(sample: Sample, y: F64, x: F64, share: float) -> float:
    """Variance of a share; strata in which all units agree have that of (x + 1) / (n + 2), as they are not known for sure."""
    variance = total = 0.0
    for stratum, size in enumerate(sample.size.tolist()):
        units = np.flatnonzero(sample.stratum == stratum)
        count, inside = len(units), float(x[units].sum())
        total += size * float(x[units].mean())
        rest = 1 - count / size if sample.correction or count == 1 else 1.0
        if rest <= 0:
            continue
        spread = float((y[units] - share * x[units]).var(ddof=1))
        if inside and len(np.unique(y[units][x[units] > 0])) == 1:
            unlike = 1 / (inside + 2)
            spread = max(spread, unlike * (1 - unlike) * float(x[units].mean()))
        variance += size**2 * rest * spread / count
    return variance / total**2


def _wilson(share: float, size: float) -> tuple[float, float]:
    """The score interval of a share at a sample of some size, which need not be whole."""
    square = Z95**2 / size
    middle, half = share + square / 2, Z95 * np.sqrt(share * (1 - share) / size + square / (4 * size))
    return float((middle - half) / (1 + square)), float((middle + half) / (1 + square))
