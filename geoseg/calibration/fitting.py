"""Calibrations fitted to a sample of labelled pixels: scores before any calibration against class codes.

``temperature`` and ``vector`` change scores (Guo et al., 2017, https://arxiv.org/abs/1706.04599), ``isotonic`` and ``cubic``
bend the probability of each class against the others, after which those of a softmax are made to sum to 1 again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.arrays import F64, U8
from geoseg.calibration.pixel_sample import PixelSample
from geoseg.errors import ConfigError
from geoseg.inference.decision import Decision
from geoseg.models.card_values import Calibration

__all__ = ["METHODS", "fit", "fit_cubic", "fit_isotonic", "fit_temperature", "fit_vector"]

MAX_KNOTS = 64
LEAST_PIXELS = 200
"""Pixels of each class that are needed to fit it by itself."""
GAINS, OFFSET = (0.01, 100.0), 20.0


def fit(method: str, sample: PixelSample, *, softmax: bool) -> Calibration:
    """Fit a calibration by name.

    Args:
        method: One of ``METHODS``.
        sample: Scores before calibration, and labels.
        softmax: Whether the probabilities sum to 1, or each is a sigmoid of its own.

    Raises:
        ConfigError: There is no such method, or too few labelled pixels for it.
    """
    if method not in METHODS:
        raise ConfigError(f"method: {method!r} is none of {', '.join(METHODS)}")
    if len(sample) < LEAST_PIXELS:
        raise ConfigError(f"method: {method} needs {LEAST_PIXELS} labelled pixels, there are {len(sample)}; label more")
    scores, labels = sample.scores.astype(np.float64), sample.labels
    if method != "temperature":
        classes = 2 if scores.shape[1] == 1 else scores.shape[1]
        found = np.bincount(labels, minlength=classes)
        if found.min() < LEAST_PIXELS:
            raise ConfigError(
                f"method: {method} needs {LEAST_PIXELS} labelled pixels of every class, class {int(found.argmin())} has "
                f"{int(found.min())}; label more, or use temperature"
            )
    return METHODS[method](scores, labels, softmax)


def fit_temperature(scores: F64, labels: U8, softmax: bool) -> Calibration:
    """One gain for all scores, by maximum likelihood. Classes stay as they are.

    Args:
        scores: (n, K) before calibration.
        labels: (n,) class codes.
        softmax: Whether the probabilities sum to 1.
    """
    from scipy.optimize import minimize_scalar

    targets = _targets(scores, labels)
    count = scores.shape[1]

    def loss(log_gain: float) -> float:
        return _loss(scores, targets, np.full(count, np.exp(log_gain)), np.zeros(count), softmax)[0]

    found = minimize_scalar(loss, bounds=tuple(np.log(GAINS)), method="bounded", options={"xatol": 1e-4})
    gain = float(np.exp(found.x))
    return Calibration(gain=(gain,) * count, offset=(0.0,) * count, method="temperature")


def fit_vector(scores: F64, labels: U8, softmax: bool) -> Calibration:
    """A gain and an offset for each score, by maximum likelihood (vector scaling); arguments as ``fit_temperature``."""
    from scipy.optimize import minimize

    targets = _targets(scores, labels)
    count = scores.shape[1]
    start = fit_temperature(scores, labels, softmax)

    def loss(x: F64) -> tuple[float, F64]:
        value, gain, offset = _loss(scores, targets, x[:count], x[count:], softmax)
        return value, np.concatenate([gain, offset])

    found = minimize(
        loss,
        np.concatenate([start.gain, start.offset]),
        jac=True,
        method="L-BFGS-B",
        bounds=[GAINS] * count + [(-OFFSET, OFFSET)] * count,
    )
    gain, offset = found.x[:count], found.x[count:]
    if softmax:
        offset = offset - offset.mean()
    return Calibration(gain=tuple(gain.tolist()), offset=tuple(offset.tolist()), method="vector")


def fit_isotonic(scores: F64, labels: U8, softmax: bool) -> Calibration:
    """The rising step function with the least squared error for each class (Zadrozny and Elkan, 2002).

    Steps become lines between their centres (Oron and Flournoy, 2017, https://arxiv.org/abs/1701.05964), so that the order
    of pixels stays; of more than 64 steps those are merged that cost the least. Arguments as ``fit_temperature``.
    """
    p, targets = _probabilities(scores, softmax), _targets(scores, labels)
    knots = tuple(_isotonic_knots(p[:, k], targets[:, k]) for k in range(p.shape[1]))
    ones, zeros = (1.0,) * p.shape[1], (0.0,) * p.shape[1]
    return Calibration(gain=ones, offset=zeros, method="isotonic", knots=knots)


def _isotonic_knots(p: F64, target: F64) -> tuple[tuple[float, float], ...]:
    from sklearn.isotonic import IsotonicRegression

    order = np.argsort(p, kind="stable")
    p, target = p[order], target[order]
    steps = IsotonicRegression().fit_transform(p, target)
    first = np.flatnonzero(np.concatenate([[True], np.diff(steps) > 0]))
    count = np.diff(np.append(first, len(p))).astype(np.float64)
    x, y = np.add.reduceat(p, first) / count, np.add.reduceat(target, first) / count
    while len(x) > MAX_KNOTS - 2:
        # The pair whose common mean adds the least squared error.
        i = int(np.argmin(count[1:] * count[:-1] / (count[1:] + count[:-1]) * np.diff(y) ** 2))
        n = count[i] + count[i + 1]
        x[i], y[i] = ((v[i] * count[i] + v[i + 1] * count[i + 1]) / n for v in (x, y))
        count[i] = n
        x, y, count = (np.delete(v, i + 1) for v in (x, y, count))
    # No frequency is 0 or 1: half a pixel more of each kind where all were of one.
    y = np.clip(y, 0.5 / (count[0] + 1), 1 - 0.5 / (count[-1] + 1))
    x, y = np.round(np.concatenate([[0.0], x, [1.0]]), 7), np.maximum(np.round(np.concatenate([y[:1], y, y[-1:]]), 7), 1e-6)
    kept = np.concatenate([np.diff(x) > 0, [True]])
    kept[0] = True
    x, y = x[kept], y[kept]
    if len(x) > 2 and x[1] == 0:
        x, y = np.delete(x, 1), np.delete(y, 1)
    return tuple(zip(x.tolist(), y.tolist(), strict=True))


def fit_cubic(scores: F64, labels: U8, softmax: bool) -> Calibration:
    """The cubic polynomial with the least squared error that rises on [0, 1], for each class.

    The calibration of the winner of the ISBI 2012 challenge (Ciresan et al., 2012, "Deep Neural Networks Segment Neuronal
    Membranes in Electron Microscopy Images", section 2.3). Arguments as ``fit_temperature``.
    """
    p, targets = _probabilities(scores, softmax), _targets(scores, labels)
    cubic = tuple(_rising_cubic(p[:, k], targets[:, k]) for k in range(p.shape[1]))
    ones, zeros = (1.0,) * p.shape[1], (0.0,) * p.shape[1]
    return Calibration(gain=ones, offset=zeros, method="cubic", cubic=cubic)


def _rising_cubic(p: F64, target: F64) -> tuple[float, float, float, float]:
    from scipy.optimize import minimize

    powers = p[:, None] ** np.arange(4)
    # A trace of the identity settles what pixels at few probabilities leave open.
    weight = 1e-9
    moments = powers.T @ powers / len(p) + weight * np.eye(4)
    right = powers.T @ target / len(p) + weight * np.array([0.0, 1.0, 0.0, 0.0])
    at = np.linspace(0, 1, 65)[:, None]
    slope = np.concatenate([0 * at, 1 + 0 * at, 2 * at, 3 * at**2], axis=1)
    rows = np.concatenate([slope, [[1.0, 0, 0, 0]], [[-1.0, -1, -1, -1]]])
    least = np.concatenate([np.zeros(65), [0.0, -1.0]])
    found = minimize(
        lambda c: float(c @ moments @ c / 2 - right @ c),
        np.array([0.0, 1.0, 0.0, 0.0]),
        jac=lambda c: moments @ c - right,
        method="SLSQP",
        constraints=[{"type": "ineq", "fun": lambda c: rows @ c - least, "jac": lambda _: rows}],
        options={"maxiter": 300, "ftol": 1e-14},
    )
    c0, c1, c2, c3 = (float(v) for v in found.x)
    # Between the places where the slope was held it may fall below 0 by less than 1e-3.
    c1 += max(0.0, -lowest_slope(c1, c2, c3))
    return c0, c1, c2, c3


def lowest_slope(c1: float, c2: float, c3: float) -> float:
    """The least slope on [0, 1] of a cubic polynomial, from its coefficients without the constant."""
    places = [0.0, 1.0]
    if c3 > 0 and 0 < -c2 / (3 * c3) < 1:
        places.append(-c2 / (3 * c3))
    return min(c1 + 2 * c2 * x + 3 * c3 * x**2 for x in places)


METHODS: dict[str, Callable[[F64, U8, bool], Calibration]] = {
    "temperature": fit_temperature,
    "vector": fit_vector,
    "isotonic": fit_isotonic,
    "cubic": fit_cubic,
}


def _targets(scores: F64, labels: U8) -> F64:
    """(n, K): 1 where a pixel is of the class that a score stands for; a single score is that of class 1."""
    of = np.arange(scores.shape[1]) if scores.shape[1] > 1 else np.ones(1, np.int64)
    return np.asarray(labels[:, None] == of, np.float64)


def _probabilities(scores: F64, softmax: bool) -> F64:
    """(n, K) without calibration, as the engines compute them."""
    count = scores.shape[1]
    plain = Decision((1.0,) * count, (0.0,) * count, None, softmax)
    p: NDArray[Any] = plain.probabilities(np.ascontiguousarray(scores.T[:, None], np.float32))
    return p[:, 0].T.astype(np.float64)


def _loss(scores: F64, targets: F64, gain: F64, offset: F64, softmax: bool) -> tuple[float, F64, F64]:
    """Mean negative log-likelihood, and its slopes along gain and offset (K,)."""
    z = scores * gain + offset
    if softmax:
        z = z - z.max(axis=1, keepdims=True)
        p = np.exp(z)
        total = p.sum(axis=1, keepdims=True)
        p /= total
        value = float((np.log(total[:, 0]) - (z * targets).sum(axis=1)).mean())
    else:
        value = float((np.logaddexp(0, z) - z * targets).sum(axis=1).mean())
        p = np.exp(-np.logaddexp(0, -z))
    slope = (p - targets) / len(scores)
    return value, np.asarray((slope * scores).sum(axis=0)), np.asarray(slope.sum(axis=0))
