"""What a card says of numbers becomes arithmetic: normalization, calibration, confidence."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special

from geoseg.inference.decision import Curves, Decision
from geoseg.inference.normalization import Normalization
from geoseg.models.card_values import Calibration
from geoseg.models.model_folder import Model
from geoseg.scenes.bands.value_map import ValueMap


def test_pixels_become_input_as_the_card_says(forest: Model) -> None:
    card, rng = forest.card, np.random.default_rng(0)
    bands = len(card.bands)
    values = ValueMap(tuple(rng.uniform(0.5, 2, bands)), tuple(rng.uniform(-9, 9, bands)), 10.0, 200.0)
    pixels = rng.integers(0, 255, (bands, 20, 30)).astype(np.uint8)
    out = np.zeros((bands, 20, 30), np.float32)
    Normalization.of(card, values).apply(pixels, np.ones((20, 30), np.bool_), out)
    for band, scaling in enumerate(card.scaling):
        value = np.clip(pixels[band] * values.scale[band] + values.offset[band], 10, 200)
        np.testing.assert_allclose(out[band], (value - scaling.mean) / scaling.stddev, rtol=1e-4, atol=1e-4)


KNOTS = (((0.0, 0.1), (0.3, 0.2), (0.8, 0.9), (1.0, 0.95)), ((0.0, 0.0), (0.5, 0.7), (1.0, 1.0)))


@pytest.mark.parametrize("softmax", [True, False])
def test_curves_are_interpolated(softmax: bool) -> None:
    calibration = Calibration(gain=(1.2, 0.8), offset=(0.1, -0.3), knots=KNOTS)
    scores = np.random.default_rng(1).normal(0, 2, (2, 30, 40)).astype(np.float32)
    decision = Decision(calibration.gain, calibration.offset, None, softmax, Curves.of(calibration))
    logits = scores * np.array([1.2, 0.8])[:, None, None] + np.array([0.1, -0.3])[:, None, None]
    p = scipy.special.softmax(logits, axis=0) if softmax else scipy.special.expit(logits)
    expected = np.stack([np.interp(p[k], *np.array(KNOTS[k]).T) for k in range(2)])
    if softmax:
        expected /= expected.sum(axis=0)
    np.testing.assert_allclose(decision.probabilities(scores), expected, atol=2e-6)
    classes, confidence, _ = decision.decide(scores, np.ones((30, 40), np.bool_))
    best = (
        expected.argmax(0)
        if softmax
        else np.where((expected >= 0.5).any(0), np.where(expected >= 0.5, expected, -1).argmax(0), 0)
    )
    clear = np.abs(expected[0] - expected[1]) > 1e-4
    np.testing.assert_array_equal(classes[clear], best[clear])
    chosen = np.take_along_axis(expected, classes[None].astype(int), 0)[0]
    assert np.abs(confidence - 100 * chosen).max() <= 0.52


@pytest.mark.parametrize("x", [0.0, 0.3, 0.8, 1.0])
def test_corners_belong_to_the_piece_that_begins_there(x: float) -> None:
    curves = Curves.of(Calibration(gain=(1.0, 1.0), offset=(0.0, 0.0), knots=KNOTS))
    assert curves is not None
    assert curves.apply(np.float32([x]), 0)[0] == pytest.approx(dict(KNOTS[0])[x])


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_entropy_is_a_share_of_the_largest(classes: int) -> None:
    p = np.random.default_rng(2).dirichlet(np.ones(classes), (20, 30)).transpose(2, 0, 1).astype(np.float32)
    decision = Decision((1.0,) * classes, (0.0,) * classes, None, softmax=True)
    np.testing.assert_allclose(decision.entropy(p), scipy.special.entr(p).sum(axis=0) / np.log(classes), atol=1e-5)
    even = np.full((classes, 1, 1), 1 / classes, np.float32)
    assert decision.entropy(even) == pytest.approx(1)


@pytest.mark.parametrize("softmax", [True, False])
def test_a_decision_from_probabilities_is_that_from_scores(softmax: bool) -> None:
    scores = np.random.default_rng(3).normal(0, 2, (3, 30, 40)).astype(np.float32)
    valid = np.ones((30, 40), np.bool_)
    for thresholds in (None, (0.2, 0.5, 0.6)):
        decision = Decision((1.3, 0.9, 1.0), (0.1, 0.0, -0.2), thresholds, softmax)
        classes, confidence, _ = decision.decide(scores, valid)
        again, confidence_again, _ = decision.decide_probabilities(decision.probabilities(scores), valid)
        assert (classes != again).mean() < 0.002
        assert np.abs(confidence.astype(int) - confidence_again)[classes == again].max() <= 1
