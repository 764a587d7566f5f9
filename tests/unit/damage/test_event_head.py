"""The cumulative-logit head against an independent likelihood, and its gradient against differences."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime, minimize
from scipy.special import expit

from geoseg.damage.event_head import RIDGE, Examples, _objective, fit_head


def examples(count: int, size: int, seed: int = 0) -> Examples:
    rng = np.random.default_rng(seed)
    features, prior = rng.normal(size=(count, size)), rng.normal(size=count)
    score = features[:, 0] - 0.5 * features[:, -1] + 0.7 * prior + rng.logistic(size=count)
    label = np.digitize(score, [-1.5, 0.0, 1.0]).astype(np.int64)
    return Examples(features, prior, label, np.full(count, 1 / count))


@pytest.mark.parametrize("with_prior", [False, True])
def test_the_gradient_is_that_of_the_loss(*, with_prior: bool) -> None:
    some = examples(60, 5)
    at = np.random.default_rng(1).normal(size=5 + 4) * 0.4
    _, gradient = _objective(at, some, with_prior)
    assert gradient == pytest.approx(approx_fprime(at, lambda v: _objective(v, some, with_prior)[0], 1e-7), abs=1e-5)


def test_the_fit_is_the_most_likely_one() -> None:
    some = examples(400, 2, 2)
    head = fit_head(some, with_prior=False)

    def unlikely(values: np.ndarray) -> float:
        # Thresholds as they are: no steps, no logarithms, and classes by their cumulative probabilities.
        slopes, thresholds = values[:2], values[2:]
        if (np.diff(thresholds) <= 0).any():
            return np.inf
        below = expit(thresholds[None] - (some.features @ slopes)[:, None])
        p = np.diff(np.concatenate([np.zeros((400, 1)), below, np.ones((400, 1))], axis=1), axis=1)
        return -np.log(p[np.arange(400), some.label]).mean() + RIDGE * float(slopes @ slopes)

    found = minimize(unlikely, [0, 0, -1, 0, 1], method="Nelder-Mead", options={"maxiter": 8000, "xatol": 1e-7, "fatol": 1e-11})
    assert np.concatenate([head.slopes, head.thresholds]) == pytest.approx(found.x, abs=0.02)
    p = head.probability(some.features, some.prior)
    assert p.sum(axis=1) == pytest.approx(1)
    assert (p > 0).all()
    assert (np.diff(head.thresholds) > 0).all()


def test_scores_of_a_model_are_followed_as_far_as_labels_agree() -> None:
    some = examples(200, 3, 3)
    right = Examples(np.zeros((200, 3)), 3.0 * some.label - 4, some.label, some.weight)
    wrong = Examples(np.zeros((200, 3)), 4 - 3.0 * some.label, some.label, some.weight)
    assert fit_head(right, with_prior=True).weight > 1
    assert fit_head(wrong, with_prior=True).weight == pytest.approx(0, abs=1e-3)
    assert fit_head(right, with_prior=False).weight == 0
