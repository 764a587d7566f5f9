"""Losses: what is not labelled changes nothing; the rest agrees with other implementations."""

from __future__ import annotations

import numpy as np
import pytest

from geoseg.errors import ConfigError, ModelError

torch = pytest.importorskip("torch")

from geoseg.codes import UNLABELLED  # noqa: E402 - needs torch
from geoseg.training.data.chips import Chip  # noqa: E402 - needs torch
from geoseg.training.losses.losses import TERMS, build_loss  # noqa: E402
from geoseg.training.losses.weights import BorderWeights, border_weights, class_weights  # noqa: E402


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
    changed = torch.where(hidden, scores * -7 + 3, scores)
    broken = torch.where(hidden, torch.nan, scores)
    values, gradients = [], []
    for given in (scores, changed, broken):
        x = given.clone().requires_grad_()
        value = loss(x, labels, weights)
        value.backward()
        values.append(value.item())
        gradients.append(x.grad)
    assert values[0] == values[1] == values[2]
    for gradient in gradients:
        assert not gradient[hidden].any()
        assert gradient[~hidden].any()
        assert torch.equal(gradient, gradients[0])


@pytest.mark.parametrize("name", TERMS)
def test_pixels_of_weight_zero_are_as_if_they_had_no_label(name: str) -> None:
    scores, labels = made()
    dropped = torch.rand(labels.shape, generator=torch.Generator().manual_seed(1)) < 0.4
    loss = build_loss({name: 1.0}, classes=3)
    without = loss(scores, labels.masked_fill(dropped, UNLABELLED))
    assert torch.equal(loss(scores, labels, (~dropped).float()), without)


@pytest.mark.parametrize("name", [name for name in TERMS if name != "lovasz"])
def test_a_pixel_of_weight_two_counts_as_two_pixels(name: str) -> None:
    scores, labels = made()
    twice = torch.rand(labels.shape, generator=torch.Generator().manual_seed(1)) < 0.4
    loss = build_loss({name: 1.0}, classes=3, class_weights=[1.0, 2.0, 0.5], smoothing=0.1)
    again = torch.cat([labels, labels.masked_fill(~twice, UNLABELLED)])
    weighted = loss(scores, labels, 1 + twice.float())
    torch.testing.assert_close(weighted, loss(torch.cat([scores, scores]), again))
    # Weights are relative, however small they are.
    torch.testing.assert_close(loss(scores, labels, 1e-6 * (1 + twice)), weighted)
    assert abs(weighted - loss(scores, labels)) > 1e-4


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("weighted", [False, True])
def test_nothing_labelled_gives_zero_and_no_gradient(name: str, weighted: bool) -> None:
    scores, labels = made()
    x = torch.full_like(scores, torch.nan).requires_grad_()
    weights = torch.ones(labels.shape) if weighted else None
    value = build_loss({name: 1.0}, classes=3)(x, torch.full_like(labels, UNLABELLED), weights)
    value.backward()
    assert value.item() == 0
    assert not x.grad.any()
    assert build_loss({name: 1.0}, classes=3)(scores, labels, torch.zeros(labels.shape)) == 0


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("present", [(0,), (2,), (0, 1)])
def test_absent_classes_leave_loss_and_gradient_finite(name: str, present: tuple[int, ...]) -> None:
    scores, labels = made()
    labels = torch.where(labels == UNLABELLED, labels, torch.tensor(present)[labels % len(present)])
    for scale in (1.0, 50.0):
        x = (scale * scores).requires_grad_()
        value = build_loss({name: 1.0}, classes=3)(x, labels)
        value.backward()
        assert value.isfinite()
        assert x.grad.isfinite().all()
    # One class alone has no correlation with anything.
    assert (value == 0) == (name == "mcc" and len(present) == 1)


@pytest.mark.parametrize("name", [name for name in TERMS if name != "lovasz"])
def test_gradients_are_those_of_differences(name: str) -> None:
    scores, labels = made()
    weights = torch.rand(labels.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    loss = build_loss({name: 1.0}, classes=3, class_weights=[1.0, 2.0, 0.5], smoothing=0.1)
    x = scores[:1, :, :3, :3].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: loss(s, labels[:1, :3, :3], weights[:1, :3, :3]), (x,))


def test_what_is_quite_wrong_is_learned_from() -> None:
    wrong = torch.zeros(1, 2, 4, 4)
    wrong[:, 0] = 30
    wrong.requires_grad_()
    for name in ("cross-entropy", "focal"):
        (gradient,) = torch.autograd.grad(build_loss({name: 1.0}, classes=2)(wrong, torch.ones(1, 4, 4).long()), wrong)
        torch.testing.assert_close(gradient[:, 1], torch.full((1, 4, 4), -1 / 16))


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
        "dice": smp.losses.DiceLoss("multiclass"),
        "jaccard": smp.losses.JaccardLoss("multiclass"),
        "tversky": smp.losses.TverskyLoss("multiclass", alpha=0.3, beta=0.7),
    }
    for name, reference in pairs.items():
        assert build_loss({name: 1.0}, classes=3)(scores, labels).item() == pytest.approx(
            reference(scores, labels).item(), rel=1e-4
        )
    lovasz = smp.losses.LovaszLoss("multiclass", per_image=False)
    assert build_loss({"lovasz": 1.0}, classes=3)(scores, labels).item() == pytest.approx(lovasz(scores, labels).item(), rel=1e-4)


@pytest.mark.parametrize("name", ["dice", "tversky", "lovasz"])
def test_overlaps_of_the_labelled_pixels_are_those_of_segmentation_models(name: str) -> None:
    import segmentation_models_pytorch as smp

    scores, labels = made()
    reference = {
        "dice": smp.losses.DiceLoss("multiclass", ignore_index=UNLABELLED),
        "tversky": smp.losses.TverskyLoss("multiclass", ignore_index=UNLABELLED, alpha=0.3, beta=0.7),
        "lovasz": smp.losses.LovaszLoss("multiclass", per_image=False, ignore_index=UNLABELLED),
    }[name]
    assert build_loss({name: 1.0}, classes=3)(scores, labels).item() == pytest.approx(reference(scores, labels).item(), rel=1e-4)


def test_jaccard_and_dice_of_hard_predictions_are_those_of_torchmetrics() -> None:
    from torchmetrics.functional.classification import multiclass_f1_score, multiclass_jaccard_index

    scores, labels = made()
    hard = torch.nn.functional.one_hot(scores.argmax(1), 3).movedim(-1, 1) * 200.0
    for name, figure in (
        ("jaccard", multiclass_jaccard_index),
        ("dice", multiclass_f1_score),
        ("lovasz", multiclass_jaccard_index),
    ):
        wanted = 1 - figure(scores.argmax(1), labels, 3, average="macro", ignore_index=UNLABELLED)
        assert build_loss({name: 1.0}, classes=3)(hard, labels).item() == pytest.approx(wanted.item(), abs=1e-5)


def test_focal_and_cross_entropy_of_one_score_are_those_of_torchvision_and_torch() -> None:
    from torchvision.ops import sigmoid_focal_loss

    scores, labels = made(classes=2)
    known = labels != UNLABELLED
    one, truth = 3 * scores[:, :1], labels[known].float()
    focal = build_loss({"focal": 1.0}, classes=2, activation="sigmoid")(one, labels)
    torch.testing.assert_close(focal, sigmoid_focal_loss(one[:, 0][known], truth, alpha=-1, gamma=2, reduction="mean"))
    weights = torch.rand(labels.shape) + 0.1
    ours = build_loss({"cross-entropy": 1.0}, classes=2, activation="sigmoid", smoothing=0.2)(one, labels, weights)
    each = torch.nn.functional.binary_cross_entropy_with_logits(one[:, 0][known], 0.8 * truth + 0.1, reduction="none")
    torch.testing.assert_close(ours, (each * weights[known]).sum() / weights[known].sum())


def test_terms_are_added_by_their_weights_and_half_precision_is_enough() -> None:
    scores, labels = made()
    loss = build_loss({"cross-entropy": 1.0, "dice": 0.5, "mcc": 0.0}, classes=3)
    parts = loss.terms(scores, labels)
    assert list(parts) == ["cross-entropy", "dice"]
    torch.testing.assert_close(loss(scores, labels), parts["cross-entropy"] + 0.5 * parts["dice"])
    half = loss(scores.bfloat16(), labels)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(loss(scores, labels).item(), rel=1e-2)


def test_mcc_of_hard_predictions_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import matthews_corrcoef

    scores, labels = made(classes=2, unlabelled=0)
    hard = torch.nn.functional.one_hot(scores.argmax(1), 2).movedim(-1, 1) * 200.0
    wanted = 1 - matthews_corrcoef(labels.ravel(), scores.argmax(1).ravel())
    assert build_loss({"mcc": 1.0}, classes=2)(hard, labels).item() == pytest.approx(wanted, abs=1e-5)
    weights = torch.rand(labels.shape)
    wanted = 1 - matthews_corrcoef(labels.ravel(), scores.argmax(1).ravel(), sample_weight=weights.ravel())
    assert build_loss({"mcc": 1.0}, classes=2)(hard, labels, weights).item() == pytest.approx(wanted, abs=1e-5)


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
    with pytest.raises(ConfigError, match="0 or more"):
        build_loss({"dice": 1.0}, classes=2, class_weights=[1, float("nan")])
    with pytest.raises(ConfigError, match="above 0"):
        build_loss({"dice": float("nan"), "focal": 1.0}, classes=2)
    with pytest.raises(ConfigError, match="'sofmax' is not known"):
        build_loss({"dice": 1.0}, classes=2, activation="sofmax")
    with pytest.raises(ConfigError, match="distinguishes 2 classes, not 3"):
        build_loss({"dice": 1.0}, classes=3, activation="sigmoid")
    with pytest.raises(ConfigError, match=r"loss.smoothing: 1.0"):
        build_loss({"dice": 1.0}, classes=2, smoothing=1.0)
    scores, labels = made()
    with pytest.raises(ModelError, match=r"needs scores of shape \(2, 4, 12, 10\), not \(2, 3, 12, 10\)"):
        build_loss({"dice": 1.0}, classes=4)(scores, labels)


@pytest.mark.parametrize(("seed", "sigma"), [(0, 5.0), (1, 5.0), (2, 2.0), (3, 12.5), (4, 0.4)])
def test_border_weights_are_those_of_the_paper_by_brute_force(seed: int, sigma: float) -> None:
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    objects = ndimage.label(ndimage.gaussian_filter(rng.random((90, 70)), 3) > 0.505)[0]
    assert objects.max() >= 4
    distances = np.sort([ndimage.distance_transform_edt(objects != k) for k in range(1, objects.max() + 1)], axis=0)
    both = distances[0] + distances[1]
    wanted = np.where((objects == 0) & (both <= 4 * sigma), 10 * np.exp(-(both**2) / (2 * sigma**2)), 0)
    found = border_weights(objects, 10, sigma)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert found.any() == (sigma > 0.5)


def test_border_and_class_weights_are_added_in_the_cross_entropy() -> None:
    scores, labels = made(classes=2)
    codes = labels.numpy().astype(np.uint8)
    by_class = (0.4, 2.5)
    made_by = BorderWeights(1, w0=7.0, sigma=3.0, class_weights=by_class)
    chips = [Chip(np.zeros((1, 12, 10), np.float32), code != UNLABELLED, code) for code in codes]
    weights = torch.from_numpy(np.stack([made_by(chip) for chip in chips]))
    ours = build_loss({"cross-entropy": 1.0}, classes=2, class_weights=by_class)(scores, labels, weights)
    plain = torch.from_numpy(np.stack([BorderWeights(1, w0=7.0, sigma=3.0)(chip) - 1 for chip in chips]))
    known = labels != UNLABELLED
    assert (plain[known] > 0).any()
    paper = torch.tensor(by_class)[labels[known]] + plain[known]
    each = torch.nn.functional.cross_entropy(scores, labels, ignore_index=UNLABELLED, reduction="none")[known]
    torch.testing.assert_close(ours, (paper * each).sum() / paper.sum())
    # A class that weighs nothing gets no border either.
    none = BorderWeights(1, 10.0, 5.0, (0.0, 1.0))(chips[0])
    assert (none[codes[0] == 0] == 1).all()


def test_border_weights_need_two_objects_and_take_those_of_the_chip() -> None:
    labels = np.zeros((20, 20), np.uint8)
    labels[5:15, 4:9] = labels[5:15, 10:15] = 1
    chip = Chip(np.zeros((1, 20, 20), np.float32), np.ones((20, 20), bool), labels)
    weights = BorderWeights(1, 10.0, 5.0)(chip)
    assert weights[10, 9] == pytest.approx(1 + 10 * np.exp(-4 / 50), rel=1e-5)
    assert (weights[labels == 1] == 1).all()
    one = Chip(chip.image, chip.valid, labels, objects=(labels == 1).astype(np.int32))
    assert (BorderWeights(1, 10.0, 5.0)(one) == 1).all()


def test_class_weights() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    counts = np.array([900, 90, 10, 0])
    balanced = compute_class_weight("balanced", classes=np.arange(3), y=np.repeat(np.arange(3), counts[:3]))
    np.testing.assert_allclose(class_weights("inverse", counts)[:3], balanced)
    # Those of the median frequency differ by a factor only; effective numbers do when all counts are small.
    np.testing.assert_allclose(class_weights("median", counts), class_weights("inverse", counts))
    np.testing.assert_allclose(class_weights("effective", counts), class_weights("inverse", counts), rtol=1e-3)
    many = class_weights("effective", [10_000_000, 1_000_000])
    assert many[1] / many[0] == pytest.approx((1 - np.exp(-10)) / (1 - np.exp(-1)), rel=1e-4)
    with pytest.raises(ConfigError, match="'rare' is not known; choose one of inverse, median, effective"):
        class_weights("rare", counts)
    with pytest.raises(ConfigError, match="no pixel is labelled"):
        class_weights("inverse", [0, 0])
    assert class_weights("inverse", counts)[1] / class_weights("inverse", counts)[0] == pytest.approx(10)
    for balance in ("inverse", "median", "effective"):
        weights = np.array(class_weights(balance, counts))
        assert weights[3] == 0
        assert (weights * counts).sum() / counts.sum() == pytest.approx(1)
        assert (np.diff(weights[:3]) > 0).all()
