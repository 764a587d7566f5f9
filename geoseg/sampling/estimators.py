"""Accuracy and area of classes, with standard errors, from a probability sample.

One estimator stands behind all: the ratio of two totals over strata (Stehman 2014, doi:10.1080/01431161.2014.930207),

    R = sum N_h mean(y_h) / sum N_h mean(x_h),
    V(R) = sum N_h^2 (1 - n_h / N_h) (s_yh^2 + R^2 s_xh^2 - 2 R s_xyh) / n_h  /  (sum N_h mean(x_h))^2.

With the classes of the map as strata it gives the estimators of Olofsson et al. (2014, doi:10.1016/j.rse.2014.02.015), which
leave the factor 1 - n_h / N_h out; one stratum is simple random sampling; and where what is drawn are blocks of pixels, y and x
are sums over a block: one-stage cluster sampling (Cochran 1977, chapter 9A; Stehman 1997, Remote Sensing of Environment 60,
258-269; with strata, Särndal, Swensson and Wretman 1992, Model Assisted Survey Sampling, section 5.6).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from geoseg.arrays import F64, I64
from geoseg.errors import ConfigError

__all__ = [
    "Z95",
    "Accuracy",
    "Estimate",
    "Sample",
    "accuracy",
    "accuracy_of_blocks",
    "estimate_area",
    "most_unseen",
    "ratio",
    "shares_of_blocks",
]

Z95 = 1.959964
"""Half of a 95 % interval in standard errors."""
UNSEEN = 0.025
"""What no unit showed is possible up to the share at which as few as that many samples would not have shown it."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and how sure it is."""

    value: float
    """The figure; NaN where nothing speaks of it."""
    se: float
    """Its standard error."""
    least: float = -np.inf
    """What the figure can't be below; intervals end there."""
    most: float = np.inf
    """What it can't be above."""
    unseen: float = 0.0
    """Where all units agree, so that the standard error is 0: how far off the figure may be all the same."""

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval, from the normal distribution; from the binomial one where all units agree."""
        away = max(Z95 * self.se, self.unseen)
        return max(self.value - away, self.least), min(self.value + away, self.most)

    @property
    def cut(self) -> bool:
        """Whether the interval would reach further than the figure can."""
        return bool(self.value - Z95 * self.se < self.least or self.value + Z95 * self.se > self.most)

    def times(self, factor: float) -> Estimate:
        """The estimate of a multiple, by a factor of 0 or more."""
        return Estimate(self.value * factor, self.se * factor, self.least * factor, self.most * factor, self.unseen * factor)

    def to_json(self) -> dict[str, Any]:
        """The estimate as a JSON object."""
        if not np.isfinite(self.value):
            return {"value": None, "se": None, "low": None, "high": None}
        low, high = self.interval
        return {"value": self.value, "se": self.se, "low": low, "high": high}


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """The units of a sample."""

    stratum: I64
    """(n,) position of each unit's stratum."""
    size: F64
    """(H,) number of units of each stratum in the population."""
    correction: bool = True
    """Whether a stratum of which much was drawn is known the better (finite population correction)."""

    def __post_init__(self) -> None:
        """Check the values."""
        counts = np.bincount(self.stratum, minlength=len(self.size))
        # A stratum of one unit is known when that is.
        if (counts < np.minimum(self.size, 2)).any():
            few = int(np.flatnonzero(counts < np.minimum(self.size, 2))[0])
            raise ConfigError(
                f"sample: stratum {few} has {counts[few]} units; at least 2 are needed for a standard error: draw more, or "
                "join strata"
            )
        if (counts > self.size).any():
            many = int(np.flatnonzero(counts > self.size)[0])
            raise ConfigError(
                f"sample: stratum {many} has {counts[many]} units in the sample, and {self.size[many]:g} in all; check its size"
            )


def most_unseen(weight: F64, units: F64) -> float:
    """The largest total of what no unit of a sample showed, as a part of the whole weight: its upper 97.5 % bound.

    Among all shares ``q_h`` of strata under which a sample without it has a probability of 2.5 % or more,
    ``prod (1 - q_h)^n_h >= 0.025``, that of the largest ``sum w_h q_h``. With one stratum, it is the interval of Clopper and
    Pearson.

    Args:
        weight: (H,) what each stratum counts.
        units: (H,) units that were seen of each; strata without any say nothing, and are left out.
    """
    weight, units = weight[units > 0], units[units > 0]
    if not weight.sum() > 0:
        return 0.0
    rate = weight / units
    order = np.argsort(-rate)
    weight, units, rate = weight[order], units[order], rate[order]
    # By Lagrange, 1 - q_h = min(1, level n_h / w_h): strata in which a unit stands for much may hide most.
    level = np.exp((np.log(UNSEEN) + np.cumsum(units * np.log(np.maximum(rate, 1e-300)))) / np.cumsum(units))
    inside = np.flatnonzero(level >= np.append(rate[1:], 0.0))[0]
    hidden = np.maximum(1 - level[inside] / rate[: inside + 1], 0.0)
    return float((weight[: inside + 1] * hidden).sum() / weight.sum())


def ratio(sample: Sample, y: F64, x: F64) -> Estimate:
    """The ratio of two totals.

    Args:
        sample: The units.
        y: (n,) what is counted, by unit; a part of x, so that the ratio lies between 0 and 1.
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
        rest = 1 - count / size if sample.correction or count == 1 else 1.0
        if rest > 0:
            variance += size**2 * rest * float((y[units] - value * x[units]).var(ddof=1)) / count
    unseen = 0.0
    if not (y != 0).any() or not (y != x).any():
        value, variance = float((y != 0).any()), 0.0
        partial = [(size, units) for size, units in zip(sample.size, groups, strict=True) if len(units) < size]
        unseen = (
            most_unseen(
                np.array([size * x[units].mean() for size, units in partial]),
                np.array([(x[units] > 0).sum() for _, units in partial], float),
            )
            * sum(size * x[units].mean() for size, units in partial)
            / total_x
        )
    return Estimate(float(value), float(np.sqrt(variance) / abs(total_x)), 0.0, 1.0, float(unseen))


@dataclass(frozen=True, slots=True, eq=False)
class Accuracy:
    """Accuracies and areas of a map of K classes, estimated from a sample."""

    counts: I64
    """(K, K): units, or pixels of blocks, by class of the map (rows) and of the reference."""
    proportions: F64
    """(K, K): estimated shares of the area."""
    overall: Estimate
    """Share of the area that is mapped as it is."""
    users: tuple[Estimate, ...]
    """By class of the map, the share of it that is so."""
    producers: tuple[Estimate, ...]
    """By class of the reference, the share of it that is mapped so."""
    shares: tuple[Estimate, ...]
    """By class of the reference, its share of the area."""


def accuracy(sample: Sample, mapped: I64, reference: I64, classes: int, area: F64 | None = None) -> Accuracy:
    """Accuracies and shares of area from points.

    Args:
        sample: The units.
        mapped: (n,) class of the map at each, 0 to K - 1; it need not be what the strata were made of.
        reference: (n,) class that is there.
        classes: K.
        area: (n,) area of the pixel at each; by default all are equal. A pixel counts as much as it is large.
    """
    whole = np.ones(len(mapped)) if area is None else area.astype(np.float64)
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (mapped, reference), 1)

    def part(row: int | None, column: int | None) -> F64:
        is_row = True if row is None else mapped == row
        return np.asarray(whole * is_row * (True if column is None else reference == column))

    return _accuracy(sample, counts, part, whole * (mapped == reference))


def accuracy_of_blocks(sample: Sample, counts: I64, area: F64) -> Accuracy:
    """Accuracies and shares of area from blocks in which it is known what lies where: one-stage cluster sampling.

    Args:
        sample: The blocks.
        counts: (n, K, K) pixels of each block by class of the map (rows) and of the reference.
        area: (n, K, K) their area.
    """

    def part(row: int | None, column: int | None) -> F64:
        rows = area.sum(axis=1) if row is None else area[:, row]
        return np.asarray(rows.sum(axis=1) if column is None else rows[:, column])

    return _accuracy(sample, counts.sum(axis=0), part, np.trace(area, axis1=1, axis2=2))


def _accuracy(sample: Sample, counts: I64, part: Callable[[int | None, int | None], F64], right: F64) -> Accuracy:
    """All figures; ``part`` gives the area by unit of a class of the map and one of the reference, of all where there is none."""
    every, whole = range(len(counts)), part(None, None)
    return Accuracy(
        counts,
        np.array([[ratio(sample, part(i, j), whole).value for j in every] for i in every]),
        ratio(sample, right, whole),
        tuple(ratio(sample, part(k, k), part(k, None)) for k in every),
        tuple(ratio(sample, part(k, k), part(None, k)) for k in every),
        tuple(ratio(sample, part(None, k), whole) for k in every),
    )


def shares_of_blocks(sample: Sample, share: F64, area: F64) -> tuple[Estimate, ...]:
    """Shares of area from blocks of which only the shares of classes are known.

    Args:
        sample: The blocks.
        share: (n, K) share of each block's area that is of each class.
        area: (n,) the analysed area of each block.
    """
    return tuple(ratio(sample, area * share[:, k], area) for k in range(share.shape[1]))


def estimate_area(
    stratum: ArrayLike,
    reference: ArrayLike,
    size: ArrayLike,
    *,
    classes: int | None = None,
    total: float | None = None,
    correction: bool = True,
) -> tuple[Estimate, ...]:
    """Estimate the area of each class of the ground from a stratified random sample of pixels.

    Args:
        stratum: (n,) whole numbers from 0 to H - 1: the stratum that each pixel was drawn from, mostly its class on the map.
        reference: (n,) whole numbers from 0 to K - 1: the class that is there.
        size: (H,) how many pixels each stratum has in all.
        classes: K; by default as many as strata, or one more than the largest class.
        total: Area of all strata together, in the unit of the result, such as hectares; by default in pixels.
        correction: Whether a stratum of which much was drawn is known the better (finite population correction).

    Returns:
        For each class its area, with standard error and 95 % interval.

    Raises:
        ConfigError: Shapes or numbers don't fit, or a stratum has fewer than 2 pixels in the sample.
    """
    drawn, found, sizes = np.asarray(stratum), np.asarray(reference), np.asarray(size, np.float64)
    if drawn.ndim != 1 or drawn.shape != found.shape or not drawn.size or sizes.ndim != 1:
        raise ConfigError(
            f"sample: stratum {drawn.shape}, reference {found.shape} and size {sizes.shape} are to be (n,), (n,) and (H,)"
        )
    if drawn.dtype.kind not in "ui" or found.dtype.kind not in "ui" or min(drawn.min(), found.min()) < 0:
        raise ConfigError(f"sample: stratum ({drawn.dtype}) and reference ({found.dtype}) are to be whole numbers from 0")
    count = max(len(sizes), int(found.max()) + 1) if classes is None else classes
    if drawn.max() >= len(sizes) or found.max() >= count:
        raise ConfigError(
            f"sample: strata up to {drawn.max()} and classes up to {found.max()}; "
            f"there are {len(sizes)} strata and {count} classes"
        )
    sample = Sample(drawn.astype(np.int64), sizes, correction)
    ones = np.ones(len(drawn))
    whole = float(sizes.sum()) if total is None else total
    return tuple(ratio(sample, (found == k).astype(np.float64), ones).times(whole) for k in range(count))
