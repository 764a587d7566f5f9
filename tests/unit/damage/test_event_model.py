"""A model of an event: what it learns from few labels, how honest its figures are, and what it asks for next."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from geoseg.damage.embedder import Embedded
from geoseg.damage.event_model import EventData, learn_event, to_label
from geoseg.damage.scale import building_figures, decided
from geoseg.errors import ConfigError


def event(count: int = 240, seed: int = 0) -> tuple[EventData, np.ndarray]:
    """Buildings whose damage shows in a few of 40 features; before the event they look like undamaged ones."""
    rng = np.random.default_rng(seed)
    place = rng.uniform(0, 1000, (count, 2))
    label = rng.integers(0, 4, count)
    noise = rng.normal(size=(2, count, 40)).astype(np.float32)
    ways = rng.normal(size=40).astype(np.float32)
    after, before = noise[0] + 0.5 * label[:, None] * ways, noise[1]
    return EventData.of(Embedded(after.astype(np.float32), before), place), label


def f1(found: np.ndarray, truth: np.ndarray) -> float:
    return float(building_figures(decided(found), truth)["macro_f1"])


def test_few_labels_teach_it_and_more_teach_more() -> None:
    data, truth = event()
    scores = []
    for count in (10, 40, 120):
        which = np.sort(np.random.default_rng(1).choice(len(truth), count, replace=False))
        model = learn_event(data, which, truth[which])
        rest = np.setdiff1d(np.arange(len(truth)), which)
        scores.append(f1(model.probability[rest], truth[rest]))
        assert model.probability.sum(axis=1) == pytest.approx(1)
        assert model.figures["labels"] == count
        low, high = model.figures["macro_f1_95"] or (1, 0)
        assert low <= model.figures["macro_f1"] <= high
    assert scores[0] > 0.45
    assert scores[2] > 0.75
    assert scores[2] > scores[0]
    # What it says of itself holds for those that it has not seen.
    assert abs(model.figures["macro_f1"] - scores[2]) < 0.12


def test_cross_validation_finds_labels_that_say_nothing() -> None:
    data, truth = event()
    label = np.random.default_rng(2).permutation(truth)[:100]
    assert learn_event(data, np.arange(100), label).figures["macro_f1"] < 0.4


def test_a_model_that_was_given_helps_where_it_is_right() -> None:
    data, truth = event()
    which = np.arange(12)
    rest = np.arange(12, len(truth))
    rng = np.random.default_rng(3)
    right = replace(
        data, prior=2.5 * (truth - 1.5) + rng.normal(size=len(truth)), prior_before=np.full(len(truth), -4.0), with_prior=True
    )
    alone, helped = (learn_event(one, which, truth[which]) for one in (data, right))
    assert alone.figures["prior_weight"] is None
    assert f1(helped.probability[rest], truth[rest]) > f1(alone.probability[rest], truth[rest]) + 0.05


@pytest.mark.parametrize("label", [[0, 1, 2, 3], [2] * 9])
def test_too_few_labels_are_refused(label: list[int]) -> None:
    data, _ = event(30)
    with pytest.raises(ConfigError, match="at least 5 of 2 classes are needed"):
        learn_event(data, np.arange(len(label)), np.array(label))


def test_what_to_label_next_is_the_farthest_from_all_that_is_labelled() -> None:
    data, truth = event(80)
    known = np.array([3, 30, 77])
    distance = cdist(data.after, data.after)
    expected = list(known)
    for _ in range(6):
        expected.append(int(distance[:, expected].min(axis=1).argmax()))
    assert to_label(data, known, None, 6).tolist() == expected[3:]
    # Where the model is sure, nothing is asked.
    sure = np.tile([1.0, 0, 0, 0], (80, 1))
    sure[[5, 60]] = 0.25
    assert set(to_label(data, known, sure, 2).tolist()) == {5, 60}
    assert set(to_label(data, np.empty(0, np.int64), sure, 2).tolist()) == {5, 60}
    every = to_label(data, known, None, 500)
    assert sorted([*every.tolist(), *known.tolist()]) == list(range(80))
    assert len(to_label(data, np.empty(0, np.int64), None, 80)) == len(truth)
