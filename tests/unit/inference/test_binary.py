"""A network of one score: it is that of class 1, and class 0 has the rest."""

from __future__ import annotations

import numpy as np
import pytest

from geoseg.grid import Grid
from geoseg.inference.averaging import EnsembleMember
from geoseg.inference.chunks import Extra, classify_chunk
from geoseg.inference.decision import Decision
from geoseg.inference.engine import TileBatch
from geoseg.scenes.reader import Pixels

SCORES = np.linspace(-4, 4, 30 * 20, dtype=np.float32).reshape(1, 30, 20)
SURE = 1 / (1 + np.exp(-SCORES[0].astype(np.float64)))


class Told:
    """An engine that gives fixed scores."""

    name, device, batch = "onnx", "cpu", 1

    def scores(self, batch: TileBatch) -> np.ndarray:
        del batch
        return np.pad(SCORES, [(0, 0), (0, 2), (0, 12)])[None]


def decision(threshold: float | None = None) -> Decision:
    return Decision((1.0,), (0.0,), None if threshold is None else (threshold,), softmax=False)


@pytest.mark.parametrize("threshold", [None, 0.2, 0.9])
def test_class_1_is_where_its_probability_reaches_the_threshold(threshold: float | None) -> None:
    classes, confidence, bad = decision(threshold).decide(SCORES, np.ones((30, 20), np.bool_))
    is_one = threshold_of(threshold) <= SURE
    assert bad == 0
    np.testing.assert_array_equal(classes, is_one)
    assert np.abs(confidence - 100 * np.where(is_one, SURE, 1 - SURE)).max() <= 0.51


def threshold_of(given: float | None) -> float:
    return 0.5 if given is None else given


def test_probabilities_by_class_are_those_of_both() -> None:
    p = decision().probabilities(SCORES)
    both = decision().by_class(p)
    np.testing.assert_allclose(both[1], SURE, atol=1e-6)
    np.testing.assert_allclose(both[0], 1 - SURE, atol=1e-6)
    three = np.random.default_rng(0).random((3, 4, 5), dtype=np.float32)
    assert decision().by_class(three) is three


@pytest.mark.parametrize("augment", [False, True])
def test_layers_of_probabilities_have_class_0_first(augment: bool) -> None:
    grid = Grid(30, 20, tile=32, halo=0, stride=32)
    pixels = Pixels(np.zeros((1, 30, 20), np.uint8), np.ones((30, 20), np.bool_), None)
    layers = classify_chunk(
        grid, grid.chunk_at(0), pixels, [EnsembleMember(Told(), decision())], extra=Extra(probabilities=2), augment=augment
    )
    assert layers.probabilities is not None
    np.testing.assert_array_equal(
        (layers.classes == 1)[layers.probabilities[1] != 50], (layers.probabilities[1] > 50)[layers.probabilities[1] != 50]
    )
    np.testing.assert_allclose(layers.probabilities.sum(axis=0), 100, atol=1)
    if not augment:
        assert np.abs(layers.probabilities[1] - 100 * SURE).max() <= 0.51
