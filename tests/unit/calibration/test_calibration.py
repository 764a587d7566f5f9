"""Calibration: measures against torchmetrics and scikit-learn, fits against known distortions, engines against NumPy."""

from __future__ import annotations

import json

import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.calibration.fitting import METHODS, fit, lowest_slope
from geoseg.calibration.measures import Tally, bootstrap
from geoseg.calibration.pixel_sample import PixelSample
from geoseg.calibration.selection import BEFORE, choose
from geoseg.errors import ConfigError, ModelError
from geoseg.inference.decision import Decision
from geoseg.models.card import Card
from geoseg.models.card_values import Calibration
from geoseg.models.model_folder import Model


def drawn(count: int, classes: int, gain: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores (K, n) whose softmax at ``1 / gain`` is the distribution of the labels (n,)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (classes, count))
    p = scipy.special.softmax(logits, axis=0)
    labels = (rng.random(count) > np.cumsum(p, axis=0)).sum(axis=0).clip(0, classes - 1).astype(np.uint8)
    return (gain * logits).astype(np.float32), labels


def sampled(scores: np.ndarray, labels: np.ndarray) -> PixelSample:
    sample = PixelSample(len(scores), max(2, len(scores)), np.random.default_rng(1), capacity=1_000_000)
    sample.add(scores, labels)
    return sample


def decision(calibration: Calibration, *, softmax: bool = True, thresholds: tuple[float, ...] | None = None) -> Decision:
    from geoseg.inference.decision import Curves

    return Decision(calibration.gain, calibration.offset, thresholds, softmax, Curves.of(calibration))


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("bins", [10, 15, 20])
def test_measures_equal_those_of_others(classes: int, bins: int) -> None:
    torch = pytest.importorskip("torch")
    from sklearn.calibration import calibration_curve
    from sklearn.metrics import brier_score_loss, log_loss
    from torchmetrics.functional.classification import multiclass_calibration_error

    scores, labels = drawn(60_000, classes, gain=1.7)
    p = scipy.special.softmax(scores.astype(np.float64), axis=0).astype(np.float32)
    unlabelled = np.random.default_rng(2).random(labels.size) < 0.1
    tally = Tally(classes)
    given_labels = np.where(unlabelled, 255, labels).astype(np.uint8)
    for part in np.array_split(np.arange(labels.size), 7):
        tally.add(p[:, part].reshape(classes, 1, -1), given_labels[part].reshape(1, -1))
    p, labels = p[:, ~unlabelled].astype(np.float64), labels[~unlabelled]
    assert tally.pixels == labels.size
    expected = multiclass_calibration_error(
        torch.from_numpy(p.T.copy()), torch.from_numpy(labels.astype(np.int64)), classes, n_bins=bins, norm="l1"
    )
    # Added up in 32 bits there.
    assert tally.ece(bins) == pytest.approx(float(expected), abs=5e-5)
    one_hot = np.eye(classes)[labels]
    squares = [brier_score_loss(one_hot[:, k], p[k]) for k in range(classes)]
    assert tally.brier == pytest.approx(sum(squares), rel=1e-6)
    assert tally.nll == pytest.approx(log_loss(labels, p.T / p.sum(axis=0)[:, None]), rel=1e-5)
    assert tally.accuracy == pytest.approx((p.argmax(axis=0) == labels).mean())
    for k in range(classes):
        frequency, mean = calibration_curve(one_hot[:, k], p[k], n_bins=bins)
        diagram = tally.diagram(bins, of_class=k)
        np.testing.assert_allclose(diagram.frequency, frequency, atol=1e-6)
        np.testing.assert_allclose(diagram.probability, mean, atol=1e-6)
        # Bins of equal mass have their edges on the fine bins here, between two pixels there.
        frequency, mean = calibration_curve(one_hot[:, k], p[k], n_bins=bins, strategy="quantile")
        diagram = tally.diagram(bins, of_class=k, equal_mass=True)
        assert np.abs(diagram.count / labels.size - 1 / len(diagram.count)).max() < 0.1
        if len(frequency) == len(diagram.frequency):
            assert np.abs(diagram.frequency - frequency).mean() < 0.02


def test_tallies_add_up_and_intervals_hold_the_value() -> None:
    parts, together = [], Tally(3)
    for seed in range(12):
        scores, labels = drawn(4_000, 3, gain=2.0, seed=seed)
        p = scipy.special.softmax(scores, axis=0)
        parts.append(Tally(3))
        parts[-1].add(p, labels)
        together.add(p, labels)
    total = sum(parts[1:], parts[0])
    assert total.summary() == pytest.approx(together.summary())
    intervals = bootstrap([part.brief() for part in parts], np.random.default_rng(0))
    for name in ("ece", "brier", "nll", "accuracy"):
        low, high = intervals[name]
        assert low < together.summary()[name] < high
        assert high - low < 0.1
    assert bootstrap([parts[0].brief()], np.random.default_rng(0)) == {}
    with pytest.raises(ConfigError, match="7 does not divide"):
        total.ece(7)


def test_temperature_and_vector_find_the_distortion() -> None:
    scores, labels = drawn(80_000, 3, gain=2.5)
    found = fit("temperature", sampled(scores, labels), softmax=True)
    assert found.gain == pytest.approx((0.4,) * 3, rel=0.03)
    distorted = scores * np.array([[1.0], [0.5], [2.0]]) + np.array([[0.0], [1.0], [-2.0]])
    found = fit("vector", sampled(distorted.astype(np.float32), labels), softmax=True)
    assert found.gain == pytest.approx((0.4, 0.8, 0.2), rel=0.05)
    back = np.array(found.offset) - np.mean(found.offset)
    truth = np.array([0.0, -0.8, 0.4])
    np.testing.assert_allclose(back, truth - truth.mean(), atol=0.06)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "binary"])
def test_every_method_makes_held_out_pixels_likelier(method: str, kind: str) -> None:
    softmax = kind == "softmax"
    scores, labels = drawn(60_000, 2 if kind == "binary" else 3, gain=3.0)
    if kind == "binary":
        scores = (scores[1:] - scores[:1]).astype(np.float32)
    half = labels.size // 2
    calibration = fit(method, sampled(scores[:, :half], labels[:half]), softmax=softmax)
    tallies = []
    for each in (Calibration(gain=(1.0,) * len(scores), offset=(0.0,) * len(scores)), calibration):
        p = decision(each, softmax=softmax).probabilities(scores[:, None, half:])[:, 0]
        tally = Tally(2, independent=False) if kind == "binary" else Tally(3, independent=not softmax)
        tally.add(np.concatenate([1 - p, p]) if kind == "binary" else p, labels[half:])
        tallies.append(tally)
    before, after = tallies
    assert after.nll < before.nll
    assert after.brier < before.brier
    # Sigmoids of a softmax's scores need an offset too, which a temperature does not have.
    share = 0.9 if (kind, method) == ("sigmoid", "temperature") else 0.5
    assert after.classwise_ece() < share * before.classwise_ece()


@given(seed=st.integers(0, 10_000), shape=st.sampled_from(["square", "root", "flat", "step", "falling"]))
@settings(max_examples=20)
def test_curves_rise(seed: int, shape: str) -> None:
    rng = np.random.default_rng(seed)
    p = rng.beta(0.4, 0.4, 3000)
    frequency = {"square": p**2, "root": p**0.5, "flat": 0 * p + 0.3, "step": (p > 0.6) * 0.9, "falling": 1 - p}[shape]
    labels = (rng.random(p.size) < frequency).astype(np.uint8)
    labels[:400] = rng.integers(0, 2, 400)
    scores = scipy.special.logit(np.clip(p, 1e-6, 1 - 1e-6)).astype(np.float32)[None]
    for method in ("isotonic", "cubic"):
        calibration = fit(method, sampled(scores, labels), softmax=False)
        if calibration.cubic is not None:
            assert lowest_slope(*calibration.cubic[0][1:]) >= -1e-9
        else:
            assert len(calibration.knots[0]) <= 64
        ordered = np.sort(scores, axis=1)[:, None]
        assert np.diff(decision(calibration, softmax=False).probabilities(ordered)[0, 0]).min() >= -1e-6
        # The card takes it and gives it back.
        assert Calibration.model_validate_json(calibration.model_dump_json()) == calibration


def test_isotonic_follows_that_of_scikit_learn() -> None:
    from sklearn.isotonic import IsotonicRegression

    scores, labels = drawn(50_000, 2, gain=3.0)
    difference = (scores[1:] - scores[:1]).astype(np.float32)
    p = scipy.special.expit(difference[0].astype(np.float64))
    expected = IsotonicRegression(out_of_bounds="clip").fit(p, labels).predict(p)
    got = decision(fit("isotonic", sampled(difference, labels), softmax=False), softmax=False).probabilities(difference[:, None])
    # Steps became lines between their middles, and small steps gave way to larger ones.
    assert np.abs(got[0, 0] - expected).mean() < 0.01


def test_cubic_is_the_least_squares_fit_where_that_rises() -> None:
    scores, labels = drawn(50_000, 2, gain=1.6)
    difference = (scores[1:] - scores[:1]).astype(np.float32)
    calibration = fit("cubic", sampled(difference, labels), softmax=False)
    p = scipy.special.expit(difference[0].astype(np.float64))
    expected = np.polynomial.polynomial.polyfit(p, labels, 3)
    assert lowest_slope(*expected[1:]) > 0
    np.testing.assert_allclose(calibration.cubic[0], expected, atol=5e-3)
    value = np.polynomial.polynomial.polyval(p, calibration.cubic[0])
    got = decision(calibration, softmax=False).probabilities(difference[:, None])[0, 0]
    np.testing.assert_allclose(got, np.clip(value, 0, 1), atol=2e-4)


RNG = np.random.default_rng(5)
KNOTS = (
    ((0.0, 0.0), (0.3, 0.1), (0.8, 0.7), (1.0, 0.9)),
    ((0.0, 0.05), (1.0, 1.0)),
    ((0.0, 0.0), (0.1, 0.5), (0.11, 0.5), (0.9, 0.5), (1.0, 1.0)),
)
CUBIC = ((0.1, 0.2, 0.5, 0.1), (0.0, 1.0, 0.0, 0.0), (0.05, 1.2, -0.9, 0.3))


@pytest.mark.parametrize("curve", [{"knots": KNOTS}, {"cubic": CUBIC}], ids=["knots", "cubic"])
@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "binary"])
@pytest.mark.parametrize("thresholds", [None, (0.2, 0.6, 0.3)])
def test_both_engines_apply_curves(curve: dict[str, tuple[object, ...]], kind: str, thresholds: tuple[float, ...] | None) -> None:
    torch = pytest.importorskip("torch")
    from geoseg.inference.torch_decision import TorchDecision

    count = 1 if kind == "binary" else 3
    calibration = Calibration.model_validate(
        {"gain": (1.5, 1.0, 0.7)[:count], "offset": (0.1, 0.0, -0.2)[:count]} | {key: v[:count] for key, v in curve.items()}
    )
    limits = thresholds and thresholds[:count]
    rule = decision(calibration, softmax=kind == "softmax", thresholds=limits)
    scores = RNG.normal(0, 2, (count, 90, 110)).astype(np.float32)
    valid = RNG.random((90, 110)) < 0.9
    z = scores.astype(np.float64) * np.array(calibration.gain)[:, None, None] + np.array(calibration.offset)[:, None, None]
    p = scipy.special.softmax(z, axis=0) if kind == "softmax" else scipy.special.expit(z)
    for k in range(count):
        if calibration.knots is not None:
            x, y = np.array(calibration.knots[k]).T
            p[k] = np.clip(np.interp(p[k], x, y), 1e-6, 1)
        else:
            p[k] = np.clip(np.polynomial.polynomial.polyval(p[k], calibration.cubic[k]), 1e-6, 1)
    if kind == "softmax":
        p /= p.sum(axis=0)
    np.testing.assert_allclose(rule.probabilities(scores), p, atol=2e-4)
    classes, confidence, bad = rule.decide(scores, valid)
    assert bad == 0
    assert (classes == 255).tolist() == (~valid).tolist()
    every = np.concatenate([1 - p, p]) if kind == "binary" else p
    chosen = np.take_along_axis(every, np.where(valid, classes, 0)[None], 0)[0]
    assert np.abs(confidence[valid].astype(float) - 100 * chosen[valid]).max() <= 0.53
    if kind == "binary":
        expected = (p[0] >= (limits or (0.5,))[0]).astype(int)
    elif kind == "softmax" and limits is None:
        expected = p.argmax(axis=0)
    else:
        reached = np.where(p >= np.array(limits or (0.5, 0.5, 0.5))[:, None, None], p, -1)
        expected = np.where(reached.max(axis=0) > 0, reached.argmax(axis=0), 0)
    assert (classes[valid] != expected[valid]).mean() < 0.002
    both, none = TorchDecision(rule)(torch.from_numpy(scores)[None], torch.from_numpy(valid)[None])
    other, sure = both[0].numpy()
    assert not none.any()
    assert (other != classes).mean() < 5e-4
    assert np.abs(sure.astype(int) - confidence).max() <= 1


def test_scores_that_are_not_finite_are_counted_with_curves() -> None:
    scores = np.zeros((3, 4, 5), np.float32)
    scores[0, 1, 2], scores[1, 3, 3] = np.nan, np.inf
    calibration = Calibration(gain=(1.0,) * 3, offset=(0.0,) * 3, knots=KNOTS)
    *_, bad = decision(calibration).decide(scores, np.ones((4, 5), np.bool_))
    assert bad == 2


def test_a_sample_is_bounded_and_fair() -> None:
    sample = PixelSample(1, 4, np.random.default_rng(0), capacity=2_000)
    for part in range(10):
        labels = np.full((50, 60), part % 4, np.uint8)
        labels[:10] = 255
        sample.add(np.full((1, 50, 60), part, np.float32), labels)
        assert len(sample) <= 2_000
    assert len(sample) == 2_000
    found = np.bincount(sample.scores[:, 0].astype(int), minlength=10)
    assert abs(found - 200).max() < 60
    assert (sample.labels == sample.scores[:, 0].astype(int) % 4).all()


def test_cards_of_before_and_after(forest: Model, tmp_path) -> None:
    old = forest.card.model_dump(mode="json")
    old["calibration"] = {"gain": [1.0, 1.0], "offset": [0.0, 0.5], "method": "by hand"}
    assert Decision.of(Card.model_validate(old)).curves is None
    old["calibration"]["knots"] = [[[0, 0], [1, 1]]] * 2
    card = Card.model_validate(old)
    assert Decision.of(card).curves is not None
    card.write(tmp_path / "card.json")
    assert Card.read(tmp_path / "card.json") == card
    for change, words in [
        ({"knots": [[[0, 0.5], [1, 0.4]]] * 2}, "not to fall"),
        ({"knots": [[[0, 0.5], [0.9, 0.6]]] * 2}, "rise from 0 to 1"),
        ({"knots": [[[0, 0], [1, 1]]]}, "1 entries for 2 gains"),
        ({"knots": None, "cubic": [[0, 1, 0, -1]] * 2}, "falls between"),
        ({"cubic": [[0, 1, 0, 0]] * 2}, "both"),
    ]:
        document = {"geoseg": old | {"calibration": old["calibration"] | change}}
        (tmp_path / "card.json").write_text(json.dumps(document))
        with pytest.raises(ModelError, match=words):
            Card.read(tmp_path / "card.json")


def test_too_few_labels_are_refused() -> None:
    scores, labels = drawn(1000, 3)
    with pytest.raises(ConfigError, match="class 2 has 0"):
        fit("isotonic", sampled(scores[:, labels != 2], labels[labels != 2]), softmax=True)
    with pytest.raises(ConfigError, match="none of temperature, vector, isotonic, cubic"):
        fit("platt", sampled(scores, labels), softmax=True)
    with pytest.raises(ConfigError, match="200 labelled pixels, there are 10"):
        fit("temperature", sampled(scores[:, :10], labels[:10]), softmax=True)


def test_the_choice_is_made_on_scenes_that_were_not_fitted_on(forest: Model) -> None:
    rng = np.random.default_rng(4)
    overconfident = PixelSample(2, 2, rng)
    for scene in range(4):
        margin = rng.normal(0, 2, 3000)
        truth = (rng.random(3000) < scipy.special.expit(margin)).astype(np.uint8)
        overconfident.add(np.stack([0 * margin, 3 * margin]).astype(np.float32), truth, scene)
    folds = list(overconfident.folds(9))
    assert [len(held) for _, held in folds] == [3000] * 4
    assert all(len(fitted) + len(held) == len(overconfident) for fitted, held in folds)
    assert choose([BEFORE, "temperature"], overconfident, forest.card) == "temperature"
    # What is fitted to one scene is wrong in the other: none is better, though one for both would fit both together.
    biased = PixelSample(2, 2, rng)
    for scene, offset in ((0, 3.0), (1, -3.0)):
        margin = rng.normal(0, 2, 3000)
        truth = (rng.random(3000) < scipy.special.expit(margin)).astype(np.uint8)
        biased.add(np.stack([0 * margin, margin + offset]).astype(np.float32), truth, scene)
    assert choose([BEFORE, "vector"], biased, forest.card) == BEFORE
