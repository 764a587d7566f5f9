"""Losses: what is not labelled changes nothing; the rest agrees with other implementations."""

from __future__ import annotations

import numpy as np
import pytest

from geoseg.errors import ConfigError

torch = pytest.importorskip("torch")

from geoseg.training.chips import UNLABELLED, Chip  # noqa: E402 - needs torch
from geoseg.training.losses import TERMS, build_loss  # noqa: E402
from geoseg.training.weights import BorderWeights, border_weights, class_weights  # noqa: E402


def made(seed: int = 0, classes: int = 3, unlabelled: float = 0.3):
    g = torch.Generator().manual_seed(seed)
    scores = torch.randn(2, classes, 12, 10, generator=g)
    labels = torch.randint(0, classes, (2, 12, 10), generator=g)
    labels[torch.rand(labels.shape, generator=g) < unlabelled] = UNLABELLED
    return scores, labels


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("weighted", [False, True])
def test_pixels_without_a_label_change_neither_loss_nor_gradient(name: str, weighted: bool) -> None:
    scores, labels = made()
    weights = torch.rand(labels.shape) + 0.5 if weighted else None
    loss = build_loss({name: 1.0}, classes=3, smoothing=0.1, class_weights=[1.0, 2.0, 0.5])
    hidden = (labels == UNLABELLED)[:, None].expand_as(scores)
    other = torch.where(hidden, scores * -7 + 3, scores)
    values, gradients = [], []
    for given in (scores, other):
        x = given.clone().requires_grad_()
        value = loss(x, labels, weights)
        value.backward()
        values.append(value.item())
        gradients.append(x.grad)
    assert values[0] == pytest.approx(values[1], rel=1e-6)
    assert not gradients[1][hidden].any()
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("name", TERMS)
def test_nothing_labelled_gives_zero_and_no_gradient(name: str) -> None:
    scores, labels = made()
    x = scores.clone().requires_grad_()
    value = build_loss({name: 1.0}, classes=3)(x, torch.full_like(labels, UNLABELLED))
    value.backward()
    assert value.item() == 0
    assert not x.grad.any()


@pytest.mark.parametrize("name", TERMS)
def test_a_class_that_is_absent_gives_no_nan_and_right_scores_less_loss_than_wrong_ones(name: str) -> None:
    _, labels = made(unlabelled=0)
    labels[labels == 2] = 1
    hot = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float()
    loss = build_loss({name: 1.0}, classes=3)
    right, half, wrong = (loss(scale * hot, labels).item() for scale in (20.0, 1.0, -20.0))
    assert 0 <= right < 0.01 < half < wrong


def test_cross_entropy_is_that_of_torch_and_overlaps_those_of_segmentation_models() -> None:
    import segmentation_models_pytorch as smp

    scores, labels = made(unlabelled=0)
    class_w = torch.tensor([1.0, 2.0, 0.5])
    ours = build_loss({"cross-entropy": 1.0}, classes=3, class_weights=class_w.tolist(), smoothing=0.1)(scores, labels)
    theirs = torch.nn.functional.cross_entropy(scores, labels, weight=class_w, label_smoothing=0.1)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    pairs = {
        "dice": smp.losses.DiceLoss("multiclass"), "jaccard": smp.losses.JaccardLoss("multiclass"),
        "tversky": smp.losses.TverskyLoss("multiclass", alpha=0.3, beta=0.7),
    }  # fmt: skip
    for name, reference in pairs.items():
        assert build_loss({name: 1.0}, classes=3)(scores, labels).item() == pytest.approx(
            reference(scores, labels).item(), rel=1e-4
        )
    lovasz = smp.losses.LovaszLoss("multiclass", per_image=False)
    assert build_loss({"lovasz": 1.0}, classes=3)(scores, labels).item() == pytest.approx(lovasz(scores, labels).item(), rel=1e-4)


def test_mcc_of_hard_predictions_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import matthews_corrcoef

    scores, labels = made(classes=2, unlabelled=0)
    hard = torch.nn.functional.one_hot(scores.argmax(1), 2).movedim(-1, 1) * 200.0
    wanted = 1 - matthews_corrcoef(labels.ravel(), scores.argmax(1).ravel())
    assert build_loss({"mcc": 1.0}, classes=2)(hard, labels).item() == pytest.approx(wanted, abs=1e-5)


def test_one_score_is_two_scores() -> None:
    scores, labels = made(classes=2)
    single = scores[:, 1:] - scores[:, :1]
    terms = dict.fromkeys(TERMS, 1.0)
    one = build_loss(terms, classes=2, activation="sigmoid")(single, labels)
    assert one.item() == pytest.approx(build_loss(terms, classes=2)(scores, labels).item(), rel=1e-5)


def test_names_and_weights_are_checked() -> None:
    with pytest.raises(ConfigError, match="huber is not known"):
        build_loss({"huber": 1.0}, classes=2)
    with pytest.raises(ConfigError, match="above 0"):
        build_loss({"dice": 0.0}, classes=2)
    with pytest.raises(ConfigError, match="3 weights for 2 classes"):
        build_loss({"dice": 1.0}, classes=2, class_weights=[1, 1, 1])


@pytest.mark.parametrize("seed", range(3))
def test_border_weights_are_those_of_the_paper_by_brute_force(seed: int) -> None:
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    objects = ndimage.label(ndimage.gaussian_filter(rng.random((90, 70)), 3) > 0.505)[0]
    assert objects.max() >= 4
    distances = np.sort([ndimage.distance_transform_edt(objects != k) for k in range(1, objects.max() + 1)], axis=0)
    wanted = np.where(objects == 0, 10 * np.exp(-((distances[0] + distances[1]) ** 2) / (2 * 25)), 0)
    np.testing.assert_allclose(border_weights(objects, 10, 5), wanted, atol=10 * np.exp(-8))


def test_border_weights_need_two_objects_and_take_those_of_the_chip() -> None:
    labels = np.zeros((20, 20), np.uint8)
    labels[5:15, 4:9] = labels[5:15, 10:15] = 1
    chip = Chip(np.zeros((1, 20, 20), np.float32), np.ones((20, 20), bool), labels)
    weights = BorderWeights(1)(chip)
    assert weights[10, 9] == pytest.approx(1 + 10 * np.exp(-4 / 50), rel=1e-5)
    assert (weights[labels == 1] == 1).all()
    one = Chip(chip.image, chip.valid, labels, objects=(labels == 1).astype(np.int32))
    assert (BorderWeights(1)(one) == 1).all()


def test_class_weights() -> None:
    counts = np.array([900, 90, 10, 0])
    assert class_weights("inverse", counts)[1] / class_weights("inverse", counts)[0] == pytest.approx(10)
    for balance in ("inverse", "median", "effective"):
        weights = np.array(class_weights(balance, counts))
        assert weights[3] == 0
        assert (weights * counts).sum() / counts.sum() == pytest.approx(1)
        assert (np.diff(weights[:3]) > 0).all()
