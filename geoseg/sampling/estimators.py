"""Accuracy and area of classes, with standard errors, from a probability sample.

One estimator stands behind all: the ratio of two totals over strata (Stehman 2014, doi:10.1080/01431161.2014.930207),

    R = sum N_h mean(y_h) / sum N_h mean(x_h),
    V(R) = sum N_h^2 (1 - n_h / N_h) (s_yh^2 + R^2 s_xh^2 - 2 R s_xyh) / n_h  /  (sum N_h mean(x_h))^2.

With the classes of the map as strata it gives the estimators of Olofsson et al. (2014, doi:10.1016/j.rse.2014.02.015), which leave
the factor 1 - n_h / N_h out; one stratum is simple random sampling; and where what is drawn are blocks of pixels, y and x are sums over
a block (one-stage cluster sampling: Cochran 1977, chapter 9A).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import ConfigError

__all__ = ["Z95", "Accuracy", "Estimate", "Sample", "accuracy", "ratio", "shares_of_blocks"]

Floats = NDArray[np.float64]
Z95 = 1.959964
"""Half of a 95 % interval in standard errors."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and how sure it is."""

    value: float
    """The figure; NaN where nothing speaks of it."""
    se: float
    """Its standard error."""

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval, from the normal distribution."""
        return self.value - Z95 * self.se, self.value + Z95 * self.se

    def times(self, factor: float) -> Estimate:
        """The same of a multiple."""
        return Estimate(self.value * factor, self.se * abs(factor))

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        if not np.isfinite(self.value):
            return {"value": None, "se": None, "low": None, "high": None}
        low, high = self.interval
        return {"value": self.value, "se": self.se, "low": low, "high": high}


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """The units of a sample."""

    stratum: NDArray[np.int64]
    """(n,) position of each unit's stratum."""
    size: Floats
    """(H,) number of units of each stratum in the population."""
    correction: bool = True
    """Whether a stratum of which much was drawn is known the better (finite population correction)."""

    def __post_init__(self) -> None:
        counts = np.bincount(self.stratum, minlength=len(self.size))
        if (counts < 2).any():
            few = int(np.flatnonzero(counts < 2)[0])
            raise ConfigError(
                f"sample: stratum {few} has {counts[few]} units; at least 2 are needed for a standard error: draw more, or join strata"
            )
        if (counts > self.size).any():
            many = int(np.flatnonzero(counts > self.size)[0])
            raise ConfigError(
                f"sample: stratum {many} has {counts[many]} units in the sample, and {self.size[many]:g} in all; check its size"
            )


def ratio(sample: Sample, y: Floats, x: Floats) -> Estimate:
    """The ratio of two totals.

    Args:
        sample: The units.
        y: (n,) what is counted, by unit.
        x: (n,) what it is counted of.
    """
    total_y = total_x = 0.0
    groups = [np.flatnonzero(sample.stratum == h) for h in range(len(sample.size))]
    for size, units in zip(sample.size, groups, strict=True):
        total_y += size * y[units].mean()
        total_x += size * x[units].mean()
    if total_x == 0:
        return Estimate(float("nan"), float("nan"))
    value = total_y / total_x
    variance = 0.0
    for size, units in zip(sample.size, groups, strict=True):
        count = len(units)
        rest = 1 - count / size if sample.correction else 1.0
        variance += size**2 * rest * float((y[units] - value * x[units]).var(ddof=1)) / count
    return Estimate(float(value), float(np.sqrt(variance) / abs(total_x)))


@dataclass(frozen=True, slots=True, eq=False)
class Accuracy:
    """What a sample says of a map of K classes."""

    counts: NDArray[np.int64]
    """(K, K): units by class of the map (rows) and of the reference."""
    proportions: Floats
    """(K, K): estimated shares of the area."""
    overall: Estimate
    """Share of the area that is mapped as it is."""
    users: tuple[Estimate, ...]
    """By class of the map, the share of it that is so."""
    producers: tuple[Estimate, ...]
    """By class of the reference, the share of it that is mapped so."""
    shares: tuple[Estimate, ...]
    """By class of the reference, its share of the area."""


def accuracy(
    sample: Sample, mapped: NDArray[np.int64], reference: NDArray[np.int64], classes: int, area: Floats | None = None
) -> Accuracy:
    """Accuracies and shares of area from points.

    Args:
        sample: The units.
        mapped: (n,) class of the map at each, 0 to K - 1; it need not be what the strata were made of.
        reference: (n,) class that is there.
        classes: K.
        area: (n,) area of the pixel at each; by default all are equal. A pixel counts as much as it is large.
    """
    whole = np.ones(len(mapped)) if area is None else area.astype(np.float64)

    def estimate(y: NDArray[np.bool_], x: NDArray[np.bool_] | None = None) -> Estimate:
        return ratio(sample, whole * y, whole if x is None else whole * x)

    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (mapped, reference), 1)
    every = range(classes)
    is_map, is_reference = ([array == k for k in every] for array in (mapped, reference))
    return Accuracy(
        counts,
        np.array([[estimate(is_map[i] & is_reference[j]).value for j in every] for i in every]),
        estimate(mapped == reference),
        tuple(estimate(is_map[k] & is_reference[k], is_map[k]) for k in every),
        tuple(estimate(is_map[k] & is_reference[k], is_reference[k]) for k in every),
        tuple(estimate(is_reference[k]) for k in every),
    )


def shares_of_blocks(sample: Sample, share: Floats, area: Floats) -> tuple[Estimate, ...]:
    """Shares of area from blocks: one-stage cluster sampling.

    Args:
        sample: The blocks.
        share: (n, K) share of each block's area that is of each class.
        area: (n,) the analysed area of each block.
    """
    return tuple(ratio(sample, area * share[:, k], area) for k in range(share.shape[1]))
