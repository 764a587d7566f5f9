"""Measures of maps against scikit-learn and torchmetrics; sums of parts against the whole."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import sklearn.metrics
import torch
import torchmetrics.functional as oracle
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from geoseg.errors import ConfigError
from geoseg.evaluation.boundary import BoundaryTally
from geoseg.evaluation.confusion import SCALARS, ConfusionMatrix, image_means
from geoseg.evaluation.curves import PERCENT, ScoreHistogram
from geoseg.evaluation.intervals import bootstrap


def maps(seed: int, classes: int, shape: tuple[int, int] = (60, 70), wrong: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """A patchy truth and a map that is partly wrong; both with 254 and 255 in places."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(classes, *shape)), (0, 4, 4))
    truth = smooth.argmax(axis=0).astype(np.uint8)
    moved = ndimage.gaussian_filter(rng.normal(size=(classes, *shape)), (0, 4, 4))
    found = (smooth + wrong * moved).argmax(axis=0).astype(np.uint8)
    truth[rng.random(shape) < 0.05] = 255
    found[rng.random(shape) < 0.05] = 254
    return truth, found


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_figures_are_those_of_scikit_learn_and_torchmetrics(classes: int) -> None:
    truth, found = maps(classes, classes, wrong=0.8)
    matrix = ConfusionMatrix.tally(truth, found, classes)
    known = (truth < classes) & (found < classes)
    t, p = truth[known], found[known]
    labels = range(classes)
    assert np.array_equal(matrix.counts, sklearn.metrics.confusion_matrix(t, p, labels=labels))
    assert matrix.pixels == len(t)
    for mine, name in [
        (matrix.iou(), "jaccard_score"),
        (matrix.dice(), "f1_score"),
        (matrix.precision(), "precision_score"),
        (matrix.recall(), "recall_score"),
    ]:
        assert mine == pytest.approx(getattr(sklearn.metrics, name)(t, p, labels=labels, average=None), abs=1e-12)
    assert matrix.accuracy() == pytest.approx(sklearn.metrics.accuracy_score(t, p), abs=1e-12)
    assert matrix.kappa() == pytest.approx(sklearn.metrics.cohen_kappa_score(t, p), abs=1e-12)
    assert matrix.mcc() == pytest.approx(sklearn.metrics.matthews_corrcoef(t, p), abs=1e-12)
    given_, wanted = torch.from_numpy(p.astype(np.int64)), torch.from_numpy(t.astype(np.int64))
    more = {"task": "multiclass", "num_classes": classes}
    assert matrix.miou() == pytest.approx(float(oracle.jaccard_index(given_, wanted, average="macro", **more)), abs=1e-6)
    assert matrix.mean_dice() == pytest.approx(float(oracle.f1_score(given_, wanted, average="macro", **more)), abs=1e-6)
    assert set(matrix.figures()) == set(SCALARS)


def test_means_of_images_are_those_of_scikit_learn() -> None:
    """Classes that an image lacks have no weight; images of no pixel are left out."""
    pairs = [maps(seed, 3, wrong=0.5 + seed / 2) for seed in range(3)]
    pairs.append((np.zeros((4, 5), np.uint8), np.eye(4, 5, dtype=np.uint8)))
    wanted = []
    for truth, found in pairs:
        known = (truth < 3) & (found < 3)
        t, p = truth[known], found[known]
        wanted.append(
            (
                sklearn.metrics.accuracy_score(t, p),
                sklearn.metrics.f1_score(t, p, average="weighted"),
                sklearn.metrics.jaccard_score(t, p, average="weighted"),
            )
        )
    matrices = [ConfusionMatrix.tally(truth, found, 3) for truth, found in pairs]
    for matrix, figures in zip(matrices, wanted, strict=True):
        assert (matrix.accuracy(), matrix.weighted_dice(), matrix.weighted_iou()) == pytest.approx(figures, abs=1e-12)
    means = image_means([*matrices, ConfusionMatrix.zeros(3)])
    assert tuple(means.values()) == pytest.approx(np.mean(wanted, axis=0), abs=1e-12)
    assert all(np.isnan(value) for value in image_means([ConfusionMatrix.zeros(2)]).values())


def test_figures_that_are_not_defined_are_no_numbers() -> None:
    nothing = ConfusionMatrix.zeros(3)
    assert all(np.isnan(value) for value in nothing.figures().values())
    one = ConfusionMatrix(np.array([[5, 0, 0], [0, 0, 0], [0, 0, 0]]))
    assert one.miou() == one.accuracy() == 1
    assert np.isnan(one.kappa())
    assert np.isnan(one.mcc())
    # A class that neither has is not counted into the mean; one that only the map has counts as 0.
    assert ConfusionMatrix(np.array([[6, 2, 0], [0, 0, 0], [0, 0, 0]])).miou() == pytest.approx((6 / 8 + 0) / 2)
    assert np.isnan(one.recall()[1:]).all()
    assert np.isnan(ConfusionMatrix(np.array([[6, 2, 0], [0, 0, 0], [0, 0, 0]])).recall()[1])


def test_large_matrices_keep_their_digits() -> None:
    counts = np.array([[4_000_000_000_000, 3], [5, 2_000_000_000_000]])
    assert ConfusionMatrix(counts).mcc() == pytest.approx(1 - 8 / 2_666_666_666_666, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 4), st.integers(5, 40), st.integers(5, 40))
def test_parts_add_up_to_the_whole(seed: int, classes: int, rows: int, cols: int) -> None:
    truth, found = maps(seed, classes, (48, 53), wrong=0.5)
    distances = (1, 2.5, 6)
    margin = BoundaryTally.margin(distances)
    whole = BoundaryTally.tally(truth, found, classes, distances)
    matrix, boundary = ConfusionMatrix.zeros(classes), BoundaryTally.zeros(classes, distances)
    rng = np.random.default_rng(seed)
    scores = rng.random((classes, *truth.shape))
    curves = ScoreHistogram.zeros(classes)
    for row in range(0, 48, rows):
        for col in range(0, 53, cols):
            wide = np.s_[max(0, row - margin) : row + rows + margin, max(0, col - margin) : col + cols + margin]
            inner = tuple(
                slice(at - s.start, min(at + n, end) - s.start)
                for at, n, end, s in zip((row, col), (rows, cols), (48, 53), wide, strict=True)
            )
            core = np.s_[row : row + rows, col : col + cols]
            matrix += ConfusionMatrix.tally(truth[core], found[core], classes)
            boundary += BoundaryTally.tally(truth[wide], found[wide], classes, distances, inner)
            curves += ScoreHistogram.tally(truth[core], scores[(slice(None), *core)], classes)
    assert np.array_equal(matrix.counts, ConfusionMatrix.tally(truth, found, classes).counts)
    for name in ("both", "either", "found_near", "true_near", "found", "true"):
        assert np.array_equal(getattr(boundary, name), getattr(whole, name)), name
    assert np.array_equal(curves.counts, ScoreHistogram.tally(truth, scores, classes).counts)


def test_boundary_measures_by_brute_force() -> None:
    truth, found = maps(3, 3, (30, 34), wrong=0.6)
    known = (truth < 3) & (found < 3)
    points = np.argwhere(np.ones_like(known))
    apart = np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1))
    distances = (1, 2, 4.3)
    tally = BoundaryTally.tally(truth, found, 3, distances)
    for k in range(3):
        masks = [(known & (m == k)).ravel() for m in (truth, found)]
        depth = [np.where(m, np.min(np.where((known.ravel() & ~m)[None], apart, np.inf), axis=1), np.inf) for m in masks]
        edges = [d == 1 for d in depth]
        near = [np.min(np.where(e[None], apart, np.inf), axis=1) for e in edges]
        for d, distance in enumerate(distances):
            a, b = (x <= distance for x in depth)
            assert tally.iou()[d, k] == pytest.approx((a & b).sum() / (a | b).sum())
            precision, recall = (near[0][edges[1]] <= distance).mean(), (near[1][edges[0]] <= distance).mean()
            assert tally.f1()[d, k] == pytest.approx(2 * precision * recall / (precision + recall))


def test_boundaries_of_shifted_squares() -> None:
    truth, found = np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.uint8)
    truth[10:30, 10:30] = 1
    found[10:30, 13:33] = 1
    tally = BoundaryTally.tally(truth, found, 2, (1, 3, 100))
    # At a distance as large as the object, boundary IoU is IoU; at three pixels, all boundary pixels are found again.
    assert tally.iou()[2, 1] == ConfusionMatrix.tally(truth, found, 2).iou()[1]
    assert tally.iou()[0, 1] < tally.iou()[1, 1] < tally.iou()[2, 1]
    assert tally.f1()[1, 1] == 1 > tally.f1()[0, 1] > 0
    same = BoundaryTally.tally(truth, truth, 2, (1,))
    assert same.iou()[0, 1] == same.f1()[0, 1] == 1
    # The rim of the raster and what is unlabelled are no boundary.
    bare = BoundaryTally.tally(np.where(truth == 1, truth, 255).astype(np.uint8), found, 2, (1,))
    assert bare.true[1] == 0
    assert np.isnan(BoundaryTally.tally(np.ones((9, 9), np.uint8), np.ones((9, 9), np.uint8), 2, (1,)).f1()).all()
    # A boundary that only one has is wrong, not unknown.
    assert BoundaryTally.tally(truth, np.zeros_like(truth), 2, (3,)).f1()[0].tolist() == [0, 0]


def test_intervals_hold_what_they_promise() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(60):
        right = rng.beta(8, 2, 30)
        scenes = [ConfusionMatrix(np.array([[round(r * 500), 500 - round(r * 500)], [100, 400]])) for r in right]
        low, high = bootstrap(scenes, rng, draws=400)["accuracy"] or (0, 0)
        hits += low <= (0.8 * 500 + 400) / 1000 <= high
    assert 49 <= hits <= 60
    found = bootstrap(scenes, np.random.default_rng(1))
    assert set(found) == {*SCALARS, "iou:0", "iou:1"}
    low, high = found["miou"] or (0, 0)
    assert low < sum(scenes, ConfusionMatrix.zeros(2)).miou() < high
    assert found == bootstrap(scenes, np.random.default_rng(1))
    assert bootstrap(scenes[:1], rng) == {}
    absent = [ConfusionMatrix(np.array([[5, 1, 0], [0, 4, 0], [0, 0, 0]]))] * 3
    assert bootstrap(absent, rng)["iou:2"] is None


def test_curves_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(5)
    truth = (rng.random(4000) < 0.2).astype(np.uint8)
    percent = np.clip(np.rint(100 * rng.beta(1 + truth, 2)), 0, 100)
    p = np.stack([1 - percent / 100, percent / 100])
    histogram = ScoreHistogram.tally(truth, p, 2, PERCENT)
    assert histogram.average_precision(1) == pytest.approx(sklearn.metrics.average_precision_score(truth, percent), abs=1e-12)
    assert histogram.roc_area(1) == pytest.approx(sklearn.metrics.roc_auc_score(truth, percent), abs=1e-12)
    precision, recall, thresholds = sklearn.metrics.precision_recall_curve(truth, percent)
    mine = histogram.precision_recall(1)
    assert mine[0][::-1] * 100 == pytest.approx(thresholds)
    assert mine[1][::-1] == pytest.approx(precision[:-1])
    assert mine[2][::-1] == pytest.approx(recall[:-1])
    fine = rng.random(4000)
    rounded = ScoreHistogram.tally(truth, np.stack([1 - fine, fine]), 2)
    assert rounded.average_precision(1) == pytest.approx(sklearn.metrics.average_precision_score(truth, fine), abs=2e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nothing = ScoreHistogram.tally(np.full(9, 255, np.uint8), np.full((2, 9), np.nan), 2)
        assert np.isnan([nothing.average_precision(1), nothing.roc_area(0)]).all()
    with pytest.raises(ConfigError, match="shape"):
        ScoreHistogram.tally(truth, p[:1], 2)
