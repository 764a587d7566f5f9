"""Pixels to the network's input, scores to classes: compared with plain NumPy and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special

from geoseg.inference.decision import Decision
from geoseg.inference.normalization import Normalization

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "float32", "float64"])
def test_normalization(dtype: str) -> None:
    data = (RNG.random((2, 40, 50)) * 100).astype(dtype)
    valid = RNG.random((40, 50)) < 0.8
    if data.dtype.kind == "f":
        data[:, ~valid] = np.nan
    normalization = Normalization((0.5, 2.0), (-1.0, 3.0), (-0.5, 10.0), (20.0, 90.0))
    out = np.full((2, 48, 64), 7, np.float32)
    normalization.apply(data, valid, out)
    for band in range(2):
        low, high = normalization.low[band], normalization.high[band]
        with np.errstate(invalid="ignore"):
            expected = np.clip(data[band].astype(np.float64) * normalization.scale[band] + normalization.shift[band], low, high)
        expected[~valid] = 0
        np.testing.assert_allclose(out[band, :40, :50], expected, rtol=1e-6, atol=1e-6)
    # Beyond the data the edge is repeated, as far as the network's stride needs it.
    np.testing.assert_array_equal(out[:, 40:, :50], np.repeat(out[:, 39:40, :50], 8, axis=1))
    np.testing.assert_array_equal(out[:, :, 50:], np.repeat(out[:, :, 49:50], 14, axis=2))


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("thresholds", [None, (0.2, 0.6, 0.3)])
def test_decision(activation: str, thresholds: tuple[float, ...] | None) -> None:
    scores = RNG.normal(0, 2, (3, 60, 70)).astype(np.float32)
    valid = RNG.random((60, 70)) < 0.9
    decision = Decision((1.5, 1.0, 0.7), (0.1, 0.0, -0.2), thresholds, activation == "softmax")
    classes, confidence, bad = decision.decide(scores, valid)
    calibrated = scores.astype(np.float64) * np.array(decision.gain)[:, None, None] + np.array(decision.offset)[:, None, None]
    probability = scipy.special.softmax(calibrated, axis=0) if activation == "softmax" else scipy.special.expit(calibrated)
    if thresholds is None and activation == "softmax":
        expected = probability.argmax(0)
    else:
        # Of the classes whose probability reaches their threshold the most probable; none of them: class 0.
        least = np.array(thresholds or (0.5, 0.5, 0.5))[:, None, None]
        reached = np.where(probability >= least, probability, -1)
        expected = np.where(reached.max(0) > 0, reached.argmax(0), 0)
    assert bad == 0
    assert (classes == 255).tolist() == (~valid).tolist()
    assert (classes[valid] != expected[valid]).mean() < 0.001
    chosen = np.take_along_axis(probability, expected[None], 0)[0]
    assert np.abs(confidence[valid].astype(float) - 100 * chosen[valid]).max() <= 0.51


def test_scores_that_are_not_finite_are_counted() -> None:
    scores = np.zeros((2, 4, 5), np.float32)
    scores[0, 1, 2], scores[1, 3, 3] = np.nan, np.inf
    scores[0, 0, 0] = np.nan
    valid = np.ones((4, 5), np.bool_)
    valid[0, 0] = False
    *_, bad = Decision((1.0, 1.0), (0.0, 0.0), None, softmax=True).decide(scores, valid)
    assert bad == 2


@pytest.mark.parametrize("classes", [1, 2, 3, 16, 17])
def test_a_run_of_pixels_is_decided_as_each_of_them_alone(classes: int) -> None:
    """Scores that lie band by band are decided many at once, with an exp that is a little off; others each by the C library's."""
    scores = RNG.normal(0, 3, (classes, 1500, 999 if classes < 16 else 199)).astype(np.float32)
    scores[0, 3, 5], scores[-1, 7, 500 % scores.shape[2]] = np.nan, -np.inf
    valid = np.ones(scores.shape[1:], np.bool_)
    valid[:40, :130] = RNG.random((40, 130)) < 0.5
    decision = Decision((1.3,) * classes, (0.1,) * classes, (0.4,) if classes == 1 else None, softmax=classes > 1)
    apart = np.asfortranarray(scores)
    for one, other in zip(decision.decide(scores, valid), decision.decide(apart, valid), strict=True):
        np.testing.assert_array_equal(one, other)
