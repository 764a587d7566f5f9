"""Errors of values, against scikit-learn and numpy."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from geoseg.evaluation.value_errors import FIGURES, ErrorSums, bootstrap_errors


def pair(seed: int, level: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Truths and values, some of them not known."""
    rng = np.random.default_rng(seed)
    truth = rng.gamma(2.0, 5.0, (60, 70)) + level
    found = truth + rng.normal(0.7, 2.0, truth.shape)
    truth[rng.random(truth.shape) < 0.1], found[rng.random(truth.shape) < 0.1] = np.nan, np.nan
    return truth, found


@pytest.mark.parametrize("level", [0.0, 1e7])
def test_figures(level: float) -> None:
    truth, found = pair(1, level)
    known = np.isfinite(truth) & np.isfinite(found)
    t, f = truth[known], found[known]
    sums = ErrorSums.tally(truth, found, level)
    assert sums.pixels == known.sum()
    wanted = {
        "rmse": metrics.root_mean_squared_error(t, f),
        "mae": metrics.mean_absolute_error(t, f),
        "bias": (f - t).mean(),
        "r2": metrics.r2_score(t, f),
    }
    assert sums.figures() == pytest.approx(wanted, rel=1e-6)
    parts = [ErrorSums.tally(truth[rows], found[rows], level) for rows in (slice(0, 7), slice(7, None))]
    assert sum(parts, ErrorSums.zeros(level)).figures() == pytest.approx(wanted, rel=1e-6)


def test_not_defined() -> None:
    nothing = ErrorSums.tally(np.full((2, 2), np.nan), np.ones((2, 2)))
    assert nothing.pixels == 0
    assert all(np.isnan(value) for value in nothing.figures().values())
    even = ErrorSums.tally(np.full((2, 2), 3.0), np.full((2, 2), 4.0), 3.0)
    assert np.isnan(even.figures()["r2"])
    assert even.figures()["bias"] == 1


def test_intervals() -> None:
    """Those of draws of whole scenes, made one by one."""
    scenes = [ErrorSums.tally(*pair(seed)) for seed in range(5)]
    assert bootstrap_errors(scenes[:1], np.random.default_rng(0)) == {}
    found = bootstrap_errors(scenes, np.random.default_rng(4), draws=300)
    counts = np.random.default_rng(4).multinomial(5, np.full(5, 0.2), size=300)
    draws = [
        sum((ErrorSums(n * scene.sums, 0.0) for n, scene in zip(row, scenes, strict=True)), ErrorSums.zeros()) for row in counts
    ]
    for name in FIGURES:
        ends = np.percentile([draw.figures()[name] for draw in draws], (2.5, 97.5))
        assert found[name] == pytest.approx(tuple(ends))
