"""Weights of the losses of several tasks: given, by their rates of descent, by their uncertainty."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812
from all_tasks import TASKS  # noqa: E402

from geoseg.errors import ConfigError  # noqa: E402
from geoseg.training.losses.balancing import (  # noqa: E402
    MAIN,
    DynamicWeights,
    ManualWeights,
    UncertaintyWeights,
    UniformWeights,
    make_weighting,
)
from geoseg.training.losses.tasks import (  # noqa: E402
    kinds_of,
)


def losses_of(*values: float) -> dict[str, Any]:
    return dict(zip((MAIN, "a", "b"), (torch.tensor(float(value)) for value in values), strict=False))


def test_uniform_weights_are_the_sum_or_the_mean() -> None:
    assert float(UniformWeights()(losses_of(1, 2, 6), 0)) == 9
    assert float(UniformWeights("mean")(losses_of(1, 2, 6), 0)) == 3


def test_manual_weights_are_those_given() -> None:
    weighting = ManualWeights({MAIN: 1, "a": 0.5, "b": 0})
    assert float(weighting(losses_of(1, 2, 6), 0)) == 2
    assert float(weighting(losses_of(1, 2), 0)) == 2
    with pytest.raises(ConfigError, match=r"tasks\.b: no weight"):
        ManualWeights({MAIN: 1, "a": 1})(losses_of(1, 2, 6), 0)
    with pytest.raises(ConfigError, match=r"tasks\.a: the weight -1"):
        ManualWeights({"a": -1})


@given(st.lists(st.tuples(*[st.floats(1e-3, 1e3)] * 3), min_size=1, max_size=12), st.floats(0, 3))
def test_the_main_task_always_has_weight_one_and_the_others_their_budget(rows: list[Any], budget: float) -> None:
    weighting = DynamicWeights((MAIN, "a", "b"), period=2, budget=budget)
    for step, row in enumerate(rows):
        losses = {name: value.requires_grad_() for name, value in losses_of(*row).items()}
        weighting(losses, step).backward()
        assert float(losses[MAIN].grad) == 1
        weights = weighting.weights()
        period = rows[max(0, step // 2 * 2 - 2) : step // 2 * 2] or rows[: step + 1]
        means = np.mean(period, axis=0)
        together = sum(float(weights[name]) * mean for name, mean in zip(("a", "b"), means[1:], strict=True))
        assert together == pytest.approx(budget * means[0], rel=1e-3)
        assert float(losses["a"].grad) == float(weights["a"])


def test_dynamic_weights_follow_the_rates_of_descent() -> None:
    """Against the formula of dynamic weight averaging; what falls slowly gets more."""
    weighting = DynamicWeights((MAIN, "a", "b"), period=5, temperature=2)
    rng = np.random.default_rng(0)
    rows = []
    for step in range(20):
        rows.append((1.0, 0.9 ** (step // 5) * (1 + 0.1 * rng.random()), 0.3 ** (step // 5) * (1 + 0.1 * rng.random())))
        weighting(losses_of(*rows[-1]), step)
    before, last = np.mean(rows[5:10], 0), np.mean(rows[10:15], 0)
    rates = np.exp(last[1:] / before[1:] / 2)
    weights = weighting.weights()
    np.testing.assert_allclose([float(weights["a"]), float(weights["b"])], rates / rates.sum() / last[1:], rtol=1e-5)
    assert float(weights["a"]) * last[1] > float(weights["b"]) * last[2]


def test_dynamic_weights_resume_exactly_and_rest_in_evaluation() -> None:
    torch.manual_seed(0)
    rows = torch.rand(30, 3).tolist()
    whole = DynamicWeights((MAIN, "a", "b"), period=4)
    totals = [float(whole(losses_of(*row), step)) for step, row in enumerate(rows)]
    first = DynamicWeights((MAIN, "a", "b"), period=4)
    for step, row in enumerate(rows[:13]):
        first(losses_of(*row), step)
    second = DynamicWeights((MAIN, "a", "b"), period=4)
    second.load_state_dict(first.state_dict())
    kept = copy.deepcopy(second.state_dict())
    second.eval()(losses_of(9, 9, 9), 13)
    assert all(torch.equal(value, kept[name]) for name, value in second.state_dict().items())
    second.train()
    assert [float(second(losses_of(*row), step)) for step, row in enumerate(rows[13:], 13)] == totals[13:]


def test_a_task_that_is_missing_at_times_keeps_its_weight() -> None:
    weighting = DynamicWeights((MAIN, "a", "b"), period=2)
    for step in range(4):
        weighting(losses_of(1, 2, 4 if step < 2 else 1), step)
    weighting(losses_of(1, 2), 4)
    before = {name: float(value) for name, value in weighting.weights().items()}
    assert before["b"] * 1 < before["a"] * 2
    for step in range(5, 9):
        weighting(losses_of(1, 2), step)
    assert {name: float(value) for name, value in weighting.weights().items()} == pytest.approx(before)


def test_uncertainty_finds_the_noise() -> None:
    """Two regressions of the same line, with noise of standard deviation 0.5 and 2."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=4000)).float()
    noise = {"a": 0.5, "b": 2.0}
    wanted = {name: 3 * x + torch.from_numpy(rng.normal(0, sd, 4000)).float() for name, sd in noise.items()}
    weighting = UncertaintyWeights({"a": "regression", "b": "regression"})
    slope = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.Adam([slope, *weighting.parameters()], 0.02)
    for step in range(500):
        optimizer.zero_grad()
        weighting({name: F.mse_loss(slope * x, y) for name, y in wanted.items()}, step).backward()
        optimizer.step()
    found = {name: math.exp(float(value.detach()) / 2) for name, value in weighting.log_variances().items()}
    assert found == pytest.approx(noise, rel=0.05)
    assert found["b"] / found["a"] == pytest.approx(4, rel=0.05)
    # Weighted by the inverse of the variances, the slope is the best estimate of both together.
    weights = {name: 1 / found[name] ** 2 for name in found}
    best = sum(weights[n] * float(x @ y) for n, y in wanted.items()) / (sum(weights.values()) * float(x @ x))
    assert float(slope.detach()) == pytest.approx(best, abs=5e-3)


@given(st.floats(0.01, 10), st.floats(0.01, 10), st.floats(-2, 2), st.floats(-2, 2))
def test_uncertainty_weighs_by_the_formula_of_the_paper(a: float, b: float, sa: float, sb: float) -> None:
    weighting = UncertaintyWeights({"a": "regression", "b": "classification"}, speed=4)
    with torch.no_grad():
        weighting.scaled["a"].fill_(2 * math.log(math.exp(sa)) / 4)
        weighting.scaled["b"].fill_(2 * math.log(math.exp(sb)) / 4)
    total = weighting({"a": torch.tensor(a), "b": torch.tensor(b)}, 0).detach()
    assert float(total) == pytest.approx(a / (2 * math.exp(sa) ** 2) + sa + b / math.exp(sb) ** 2 + sb, rel=1e-4, abs=1e-4)


def test_weightings_by_name() -> None:
    kinds = kinds_of(TASKS)
    assert list(kinds) == [MAIN, "boundary", "distance", "scene_class", "scene_classes", "regression"]
    losses = {name: torch.tensor(1.0) for name in kinds}

    def total(name: str, **weights: float) -> float:
        return float(make_weighting(name, kinds, weights)(losses, 0).detach())

    assert total("uniform") == 6
    assert total("manual", boundary=3) == 8
    assert total("dynamic") == pytest.approx(2)
    assert total("uncertainty") == 5
    with pytest.raises(ConfigError, match="uniform, manual, dynamic, uncertainty"):
        make_weighting("best", kinds)
    with pytest.raises(ConfigError, match="main task"):
        DynamicWeights(("a", "b"))
    with pytest.raises(ConfigError, match="period of 0"):
        DynamicWeights((MAIN,), period=0)
    with pytest.raises(ConfigError, match="regression, classification"):
        UncertaintyWeights({"a": "other"})  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match="kind is not given"):
        UncertaintyWeights({MAIN: "classification"})(losses_of(1, 2), 0)
