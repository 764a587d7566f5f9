"""The head of a model of one event: cumulative logits of ordered classes, learned from a few examples.

It is the proportional-odds model of McCullagh (1980, J. R. Stat. Soc. B 42), with a ridge. Scores of another model enter with a
weight whose Gaussian prior lies at one, so that they are followed as far as the labels agree (Chelba and Acero 2004, EMNLP).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from geoseg.arrays import F64, I64
from geoseg.damage.scale import CLASSES

__all__ = ["EventHead", "Examples", "fit_head"]

RIDGE = 1e-3
"""Weight of the squares of the slopes; features have a mean square of about 2 together."""
TRUST = 0.01
"""Weight of the square of what the weight of the prior scores lies off one."""
SPACING = 1e-3
"""Weight that keeps the steps between thresholds finite where a class has no label."""
MOST_STEPS = 500
STEPS = len(CLASSES) - 1


@dataclass(frozen=True, slots=True, eq=False)
class EventHead:
    """The logit of being worse than class k is ``x @ slopes + weight * prior - thresholds[k]``, divided by the temperature."""

    slopes: F64
    """(F,)."""
    thresholds: F64
    """(K - 1,), ascending."""
    weight: float
    """Of the prior scores."""
    temperature: float = 1.0

    def probability(self, features: F64, prior: F64) -> F64:
        """Probabilities (N, K) of the classes, from features (N, F) and prior scores (N,)."""
        score = features @ self.slopes + self.weight * prior
        worse = expit((score[:, None] - self.thresholds) / self.temperature)
        ones, zeros = np.ones((len(worse), 1)), np.zeros((len(worse), 1))
        return np.asarray(np.concatenate([ones, worse], axis=1) - np.concatenate([worse, zeros], axis=1), np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Buildings that a head learns from."""

    features: F64
    prior: F64
    label: I64
    weight: F64


def fit_head(examples: Examples, *, with_prior: bool) -> EventHead:
    """The head of the least penalized negative log likelihood, by L-BFGS.

    Args:
        examples: What it learns from.
        with_prior: Whether the prior scores are those of a model.
    """
    size = examples.features.shape[1]
    start = np.concatenate([np.zeros(size), [1.0 if with_prior else 0.0], [-1.0], np.zeros(STEPS - 1)])
    limits = [(None, None)] * size + [(0.0, None) if with_prior else (0.0, 0.0)] + [(None, None)] + [(-8.0, 4.0)] * (STEPS - 1)
    found = minimize(
        _objective,
        start,
        (examples, with_prior),
        jac=True,
        method="L-BFGS-B",
        bounds=limits,
        options={"maxiter": MOST_STEPS, "ftol": 1e-12, "gtol": 1e-7},
    )
    slopes, weight, thresholds = _unpacked(found.x, size)
    return EventHead(slopes, thresholds, weight)


def _unpacked(values: F64, size: int) -> tuple[F64, float, F64]:
    return (
        values[:size],
        float(values[size]),
        np.cumsum(np.concatenate([values[size + 1 : size + 2], np.exp(values[size + 2 :])])),
    )


def _objective(values: F64, examples: Examples, with_prior: bool) -> tuple[float, F64]:
    """Loss and gradient; thresholds are the first one and the logarithms of the steps to the next."""
    x, label, share = examples.features, examples.label, examples.weight
    slopes, weight, thresholds = _unpacked(values, x.shape[1])
    steps = values[x.shape[1] + 2 :]
    score = x @ slopes + weight * examples.prior
    # A class lies between two thresholds; the outer ones are infinite.
    ends = np.concatenate([[-np.inf], thresholds, [np.inf]])
    low, high = expit(score - ends[label]), expit(score - ends[label + 1])
    chance = np.maximum(low - high, 1e-12)
    slope_low, slope_high = low * (1 - low), high * (1 - high)
    by_score = -share / chance * (slope_low - slope_high)
    by_threshold = np.zeros(STEPS + 2)
    np.add.at(by_threshold, label, share / chance * slope_low)
    np.add.at(by_threshold, label + 1, -share / chance * slope_high)
    later = np.cumsum(by_threshold[1:-1][::-1])[::-1]
    trust = TRUST if with_prior else 0.0
    loss = (
        -float(share @ np.log(chance))
        + RIDGE * float(slopes @ slopes)
        + trust * (weight - 1) ** 2
        + SPACING * float(steps @ steps)
    )
    gradient = np.concatenate(
        [
            x.T @ by_score + 2 * RIDGE * slopes,
            [by_score @ examples.prior + 2 * trust * (weight - 1)],
            later[:1],
            later[1:] * np.exp(steps) + 2 * SPACING * steps,
        ]
    )
    return loss, gradient
