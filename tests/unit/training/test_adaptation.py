"""Adaptation to a region without labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
exposure = pytest.importorskip("skimage.exposure")

from geoseg.codes import UNLABELLED  # noqa: E402
from geoseg.errors import ConfigError, ModelError  # noqa: E402
from geoseg.training.augment.style import (  # noqa: E402
    FourierStyle,
    HistogramStyle,
    low_frequencies,
    match_histogram,
    measure_values,
    with_low_frequencies,
)
from geoseg.training.data.chips import Batch, Chip  # noqa: E402
from geoseg.training.training_plan import Sureness  # noqa: E402
from geoseg.training.transfer.adaptation import adapt_statistics  # noqa: E402
from geoseg.training.transfer.self_training import ConfidenceTally, Light, SelfTraining, pseudo_labels  # noqa: E402
from geoseg.training.transfer.teacher import MeanTeacher, probabilities_of  # noqa: E402

nn = torch.nn


def chip_of(image: np.ndarray, valid: np.ndarray | None = None) -> Chip:
    """A chip of (C, h, w) values, 0 where not valid."""
    valid = np.ones(image.shape[1:], np.bool_) if valid is None else valid
    return Chip(np.where(valid, image, 0).astype(np.float32), valid, np.zeros(valid.shape, np.uint8))


# Statistics of batch normalization


def small_network(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout2d(0.5),
        nn.Conv2d(4, 3, 1),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Conv2d(3, 2, 1),
    )


def inputs_of(network: Any, image: Any) -> dict[Any, Any]:
    """What each batch normalization of a network in evaluation gets."""
    found = {}
    hooks = [
        m.register_forward_pre_hook(lambda module, args: found.__setitem__(module, args[0].double()))
        for m in network.modules()
        if isinstance(m, nn.BatchNorm2d)
    ]
    with torch.no_grad():
        network.eval()(image)
    for hook in hooks:
        hook.remove()
    return found


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.integers(0, 99))
def test_statistics_are_the_moments_of_all_activations(sizes: list[int], seed: int) -> None:
    """Of the first layer: pooled over batches of any sizes, as if they were one."""
    network = small_network()
    generator = torch.Generator().manual_seed(seed)
    batches = [torch.randn(n, 2, 5, 7, generator=generator) * 3 + 50 for n in sizes]
    assert adapt_statistics(network, batches) == sum(sizes)
    with torch.no_grad():
        activations = torch.cat([network[0](b) for b in batches]).double().transpose(0, 1).flatten(1)
    torch.testing.assert_close(network[1].running_mean.double(), activations.mean(1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(network[1].running_var.double(), activations.var(1), rtol=1e-4, atol=1e-5)


def test_every_layer_sees_what_its_statistics_say() -> None:
    """Of one batch: after the adaptation, evaluation gives each layer inputs with exactly the moments that it holds."""
    network, image = small_network(), torch.randn(6, 2, 16, 16) * 4 - 2
    counts = [int(m.num_batches_tracked) for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    weights = {name: p.detach().clone() for name, p in network.named_parameters()}
    network.train()
    adapt_statistics(network, [image])
    assert all(m.training for m in network.modules())
    for layer, values in inputs_of(network, image).items():
        flat = values.transpose(0, 1).flatten(1)
        torch.testing.assert_close(layer.running_mean.double(), flat.mean(1), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(layer.running_var.double(), flat.var(1), rtol=1e-2, atol=1e-4)
        assert layer.momentum == 0.1
    assert [int(m.num_batches_tracked) for m in network.modules() if isinstance(m, nn.BatchNorm2d)] == counts
    assert all(torch.equal(p, weights[name]) for name, p in network.named_parameters())


@given(st.integers(1, 3), st.integers(1, 4), st.integers(0, 99))
def test_light_is_a_gain_and_an_offset_of_each_band(count: int, bands: int, seed: int) -> None:
    """Of each image its own; pixels without data stay 0; without strength nothing changes."""
    torch.manual_seed(seed)
    image = torch.randn(count, bands, 6, 7) * (torch.rand(count, 1, 6, 7) < 0.7)
    known = image.ne(0).any(1)
    torch.testing.assert_close(Light(0.0)(image), image)
    changed = Light(0.3)(image)
    assert torch.equal(changed.ne(0).any(1), known)
    for one, other, where in zip(image, changed, known, strict=True):
        for x, y in zip(one, other, strict=True):
            if where.sum() > 2 and x[where].std() > 0.1:
                gain, offset = np.polyfit(x[where].numpy(), y[where].numpy(), 1)
                assert gain > 0
                np.testing.assert_allclose(gain * x[where] + offset, y[where], atol=1e-4)


def test_adaptation_undoes_a_change_of_gain_and_offset() -> None:
    """A network whose first layer is followed by normalization gives the same scores for images in other units."""
    network, image = small_network(), torch.randn(8, 2, 16, 16)
    network[0].padding = (0, 0)
    adapt_statistics(network, [image])
    with torch.no_grad():
        expected = network.eval()(image)
        other = image * 7.5 - 3
        adapt_statistics(network, [other])
        torch.testing.assert_close(network(other), expected, rtol=1e-3, atol=1e-3)


def test_statistics_can_be_mixed() -> None:
    image = torch.randn(4, 2, 8, 8) + 5
    whole, half = small_network(), small_network()
    old = half[1].running_mean.clone(), half[1].running_var.clone()
    adapt_statistics(whole, [image])
    adapt_statistics(half, [image], mix=0.25)
    torch.testing.assert_close(half[1].running_mean, 0.75 * old[0] + 0.25 * whole[1].running_mean)
    torch.testing.assert_close(half[1].running_var, 0.75 * old[1] + 0.25 * whole[1].running_var)
    with pytest.raises(ConfigError, match="no images"):
        adapt_statistics(whole, [])
    with pytest.raises(ConfigError, match="more chips a batch"):
        adapt_statistics(whole, [torch.zeros(1, 2, 1, 1)])
    with pytest.raises(ModelError, match="no batch normalization"):
        adapt_statistics(nn.Conv2d(2, 2, 1), [image])
    assert whole.training


# Looks


def test_histograms_are_matched_as_scikit_image_does() -> None:
    """Where everything is valid; the target in one chip or in several."""
    rng = np.random.default_rng(0)
    source = rng.normal(80, 20, (3, 40, 50)).round().clip(0, 255)
    for target in (rng.gamma(3, 12, (3, 60, 30)).round().clip(0, 255), rng.normal(0, 1, (3, 60, 30))):
        expected = exposure.match_histograms(source.astype(np.float64), target, channel_axis=0)
        parts = [chip_of(part) for part in np.array_split(target, 4, axis=1)]
        found = match_histogram(chip_of(source), measure_values(parts))
        np.testing.assert_allclose(found.image, expected, rtol=1e-5, atol=1e-5)


def test_pixels_without_data_take_no_part() -> None:
    rng = np.random.default_rng(1)
    source, target = rng.normal(80, 20, (2, 32, 32)), rng.normal(30, 5, (2, 32, 32))
    valid, known = rng.random((32, 32)) < 0.7, rng.random((32, 32)) < 0.4
    found = match_histogram(chip_of(source, valid), measure_values([chip_of(target, known)]))
    assert not found.image[:, ~valid].any()
    for band in range(2):
        expected = exposure.match_histograms(
            source[band, valid].astype(np.float32).astype(np.float64), target[band, known].astype(np.float32)
        )
        np.testing.assert_allclose(found.image[band, valid], expected, rtol=1e-5)
    empty = chip_of(source, np.zeros((32, 32), np.bool_))
    assert not match_histogram(empty, measure_values([chip_of(target)])).image.any()
    with pytest.raises(ConfigError, match="no valid pixels"):
        measure_values([empty])


def test_a_region_is_mapped_alike_everywhere() -> None:
    """With the distribution of the whole source, equal values in different chips stay equal, and order is kept."""
    rng = np.random.default_rng(2)
    dark, bright = rng.integers(0, 100, (1, 32, 32)), rng.integers(60, 200, (1, 32, 32))
    source, target = measure_values([chip_of(dark), chip_of(bright)]), measure_values([chip_of(rng.gamma(2, 30, (1, 64, 64)))])
    before = np.concatenate([dark.ravel(), bright.ravel()])
    after = np.concatenate([match_histogram(chip_of(c), target, source).image.ravel() for c in (dark, bright)])
    order = np.argsort(before, kind="stable")
    steps, moves = np.diff(before[order]), np.diff(after[order])
    assert (moves[steps == 0] == 0).all()
    assert (moves >= 0).all()
    wanted = rng.gamma(2, 30, (1, 64, 64))
    assert abs(after.mean() - wanted.mean()) < 4
    look = HistogramStyle(target, source, share=0.3)
    changed = [look(chip_of(dark), np.random.default_rng(k)).image for k in range(200)]
    assert 30 <= sum(not np.array_equal(c, dark) for c in changed) <= 90


def test_quantiles_of_many_values_stay_near() -> None:
    """Thinned again and again, a look is off by a few of its steps."""
    rng = np.random.default_rng(3)
    parts = [rng.normal(0, 1, (1, 30, 30)).astype(np.float32) for _ in range(60)]
    exact, thin = (measure_values(map(chip_of, parts), most=most) for most in (10**6, 500))
    assert len(exact.values[0]) > 50_000
    assert len(thin.values[0]) <= 500
    shares = np.interp(thin.values[0], exact.values[0], exact.shares[0])
    assert np.abs(shares - thin.shares[0]).max() < 0.02


def reference_fda(source: np.ndarray, target: np.ndarray, beta: float) -> np.ndarray:
    """The paper's swap: amplitudes in a square around the zero frequency of the shifted spectrum."""
    source_fft, target_fft = (np.fft.fftshift(np.fft.fft2(x), axes=(1, 2)) for x in (source, target))
    h, w = source.shape[1:]
    b = int(np.floor(min(h, w) * beta))
    rows, cols = slice(h // 2 - b, h // 2 + b + 1), slice(w // 2 - b, w // 2 + b + 1)
    amplitude, phase = np.abs(source_fft), np.angle(source_fft)
    amplitude[:, rows, cols] = np.abs(target_fft)[:, rows, cols]
    return np.real(np.fft.ifft2(np.fft.ifftshift(amplitude * np.exp(1j * phase), axes=(1, 2))))


@pytest.mark.parametrize("beta", [0.0, 0.01, 0.05, 0.3])
def test_low_frequencies_are_exchanged_as_published(beta: float) -> None:
    rng = np.random.default_rng(4)
    source, target = rng.normal(100, 20, (3, 64, 80)), rng.normal(40, 10, (3, 64, 80))
    found = with_low_frequencies(chip_of(source), low_frequencies(chip_of(target), beta)).image
    np.testing.assert_allclose(found, reference_fda(source, target, beta), rtol=1e-4, atol=2e-3)
    same = with_low_frequencies(chip_of(source), low_frequencies(chip_of(source), beta)).image
    np.testing.assert_allclose(same, source, rtol=1e-4, atol=2e-3)
    if beta == 0:
        np.testing.assert_allclose(
            found - found.mean((1, 2), keepdims=True), source - source.mean((1, 2), keepdims=True), atol=2e-3
        )
        np.testing.assert_allclose(found.mean((1, 2)), target.mean((1, 2)), rtol=1e-4)


def test_a_fourier_look_of_chips() -> None:
    rng = np.random.default_rng(5)
    valid = np.ones((32, 32), np.bool_)
    valid[:10] = False
    chips = [chip_of(rng.normal(level, 5, (2, 32, 32)), valid) for level in (20, 60)]
    look = FourierStyle.of(chips, 0.1, share=1.0, limits=(0, 90))
    source = chip_of(rng.normal(85, 10, (2, 32, 32)), valid)
    changed = [look(source, np.random.default_rng(k)).image for k in range(40)]
    levels = {round(float(c[:, valid].mean()) / 10) * 10 for c in changed}
    assert levels == {20, 60}
    assert all(not c[:, ~valid].any() for c in changed)
    assert all(c.min() >= 0 and c.max() <= 90 for c in changed)
    assert all(c.dtype == np.float32 for c in changed)
    with pytest.raises(ConfigError, match="beta"):
        FourierStyle.of(chips, 0.7, share=1.0)
    with pytest.raises(ConfigError, match="beta"):
        with_low_frequencies(chip_of(rng.normal(size=(2, 6, 6))), look.amplitudes[0])


# Self-training


def test_a_teacher_is_the_average_of_its_students() -> None:
    """Compared with the closed form; statistics and counts go along; it stays in evaluation and gets no gradient."""
    network = small_network()
    teacher = MeanTeacher(network, decay=0.6)
    holder = nn.ModuleList([teacher]).train()
    expected = {name: value.double().clone() for name, value in network.state_dict().items()}
    for n in range(1, 30):
        network.train()(torch.randn(4, 2, 8, 8))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.randn_like(parameter))
        teacher.update(network)
        keep = min(0.6, n / (n + 10))
        for name, value in network.state_dict().items():
            expected[name] = keep * expected[name] + (1 - keep) * value if value.is_floating_point() else value
    for name, value in teacher.network.state_dict().items():
        torch.testing.assert_close(value.double(), expected[name].double(), rtol=1e-4, atol=1e-5)
    assert holder.training
    assert not any(m.training for m in teacher.modules())
    assert not any(p.requires_grad for p in holder.parameters())
    assert int(holder.state_dict()["0.updates"]) == 29


@settings(max_examples=25)
@given(st.integers(2, 5), st.floats(0.3, 0.99), st.integers(0, 99))
def test_labels_are_given_where_the_network_is_sure(classes: int, threshold: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    p = (3 * torch.randn(2, classes, 6, 6, generator=generator)).softmax(1)
    valid = torch.rand(2, 6, 6, generator=generator) < 0.8
    labels = pseudo_labels(p, threshold, valid)
    best, guess = p.max(1)
    known = labels != UNLABELLED
    assert torch.equal(labels[known], guess[known])
    assert not known[~valid].any()
    unsure = (best - threshold).abs() > 1e-6
    assert torch.equal((known & valid)[unsure], (valid & (best >= threshold))[unsure])
    assert labels.dtype == torch.int64


@settings(max_examples=25)
@given(st.floats(0.05, 1), st.integers(0, 99))
def test_thresholds_keep_the_same_share_of_each_class(share: float, seed: int) -> None:
    """As sorted lists would have it, to the width of a bin; and a rare, unsure class is not crowded out."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(4, 3, 40, 40, generator=generator) * torch.tensor([3.0, 2.0, 1.0]).reshape(1, 3, 1, 1)
    scores[:, 2] -= 1.0
    p = scores.softmax(1)
    tally = ConfidenceTally(3)
    for part in p.split(1):
        tally.update(part)
    thresholds = tally.thresholds(share)
    best, guess = p.max(1)
    for k in range(3):
        mine = best[guess == k].sort(descending=True).values
        wanted = mine[max(1, int(np.ceil(share * len(mine)))) - 1]
        assert wanted - 1 / tally.BINS - 1e-6 <= thresholds[k] <= wanted + 1e-6
        assert (mine >= thresholds[k]).float().mean() >= share - 1e-6
    labels = pseudo_labels(p, thresholds)
    assert {*labels.unique().tolist()} >= {0, 1, 2}
    assert tally.thresholds(share, most=0.5).max() <= 0.5
    assert ConfidenceTally(2).thresholds(0.5).tolist() == [1.0, 1.0]


def test_one_score_is_two_classes() -> None:
    scores = torch.tensor([-2.0, 0.0, 3.0]).reshape(1, 1, 1, 3)
    two = probabilities_of(torch.cat([torch.zeros_like(scores), scores], 1))
    torch.testing.assert_close(probabilities_of(scores), two)


class Line(nn.Module):
    """Scores of two classes that are linear in the bands."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Conv2d(2, 2, 1)

    def forward(self, image: Any) -> Any:
        return self.linear(image)


def two_bands(n: int, angle: float, generator: Any) -> tuple[Any, Any]:
    """Two clouds on a line at an angle, with codes of which one a pixel is from."""
    codes = (torch.rand(n, 12, 12, generator=generator) < 0.5).long()
    along = (codes * 2 - 1) * 2 + 0.4 * torch.randn(n, 12, 12, generator=generator)
    across = 0.4 * torch.randn(n, 12, 12, generator=generator)
    c, s = np.cos(angle), np.sin(angle)
    return torch.stack([c * along - s * across, s * along + c * across], 1), codes


def test_self_training_follows_a_slow_turn() -> None:
    """Clouds that turn step by step by 108 degrees: only a network that labels them itself still tells them apart."""
    from geoseg.training.module import Step

    generator = torch.Generator().manual_seed(0)

    def loss(scores: Any, labels: Any, weights: Any) -> Any:
        return nn.functional.cross_entropy(scores, labels, ignore_index=UNLABELLED)

    def accuracy(network: Any, angle: float) -> float:
        image, codes = two_bands(8, angle, generator)
        with torch.no_grad():
            return float((network(image).argmax(1) == codes).float().mean())

    torch.manual_seed(0)
    network = Line()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.2)
    for _ in range(30):
        image, codes = two_bands(4, 0.0, generator)
        optimizer.zero_grad()
        loss(network(image), codes, None).backward()
        optimizer.step()
    assert accuracy(network, 0.0) > 0.98
    last = 0.6 * np.pi
    before = accuracy(network, last)
    term = SelfTraining(network, loss, weight=1.0, sureness=Sureness(0.8), start=3, decay=0.5)
    for step in range(120):
        image, codes = two_bands(4, last * min(1.0, step / 90), generator)
        unlabelled = Batch(image, torch.full_like(codes, UNLABELLED))
        found = term(Step(network, None, unlabelled, unlabelled, step))
        assert bool(found) == (step >= 3)
        if found:
            optimizer.zero_grad()
            found["pseudo"].backward()
            optimizer.step()
    assert before < 0.6
    assert accuracy(network, last) > 0.95
    assert int(term.teacher.updates) == 119
    assert not term(Step(network, None, unlabelled, None, 200))


def test_what_is_not_valid_or_not_sure_teaches_nothing() -> None:
    from geoseg.training.module import Step

    calls = []

    def loss(scores: Any, labels: Any, weights: Any) -> Any:
        calls.append(labels)
        return scores.sum() * 0 + 1

    network = Line()
    with torch.no_grad():
        network.linear.weight.copy_(torch.tensor([[5.0, 0], [-5.0, 0]]).reshape(2, 2, 1, 1))
        network.linear.bias.zero_()
    image = torch.zeros(1, 2, 2, 2)
    image[0, 0] = torch.tensor([[1.0, -1.0], [0.01, 0.0]])
    target = Batch(image, torch.full((1, 2, 2), UNLABELLED))
    term = SelfTraining(network, loss, weight=2.0, sureness=Sureness(0.9))
    found = term(Step(network, None, target, target, 0))
    assert calls[0].tolist() == [[[0, 1], [UNLABELLED, UNLABELLED]]]
    assert float(found["pseudo"].detach()) == 2.0 * 0.5
    empty = Batch(torch.zeros_like(image), target.labels)
    assert float(term(Step(network, None, empty, empty, 0))["pseudo"]) == 0
    assert len(calls) == 1
