"""A new region is learned, the old one kept."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from geoseg.codes import UNLABELLED  # noqa: E402
from geoseg.errors import ConfigError, ModelError  # noqa: E402
from geoseg.training.data.chips import Batch  # noqa: E402
from geoseg.training.data.samplers import ChipRef  # noqa: E402
from geoseg.training.transfer.forgetting import (  # noqa: E402
    Distillation,
    ElasticWeights,
    Rehearsal,
    distillation_loss,
    fisher_of,
    reservoir,
)
from geoseg.windows import Window  # noqa: E402

nn = torch.nn


# Distillation


@settings(max_examples=20)
@given(st.integers(1, 4), st.floats(0.5, 5), st.integers(0, 99))
def test_distillation_is_the_divergence_by_pixel(classes: int, temperature: float, seed: int) -> None:
    """Compared with torch's divergence of distributions, pixel by pixel; only valid pixels count."""
    generator = torch.Generator().manual_seed(seed)
    new, old = (2 * torch.randn(2, classes, 5, 4, generator=generator) for _ in range(2))
    valid = torch.rand(2, 5, 4, generator=generator) < 0.7

    def distribution(scores: Any) -> Any:
        scores = scores.movedim(1, -1) / temperature
        if classes == 1:
            return torch.distributions.Bernoulli(logits=scores[..., 0])
        return torch.distributions.Categorical(logits=scores)

    by_pixel = torch.distributions.kl_divergence(distribution(old), distribution(new)) * temperature**2
    torch.testing.assert_close(distillation_loss(new, old, temperature), by_pixel.mean(), rtol=1e-4, atol=1e-5)
    expected = by_pixel[valid].mean() if valid.any() else torch.tensor(0.0)
    torch.testing.assert_close(distillation_loss(new, old, temperature, valid), expected, rtol=1e-4, atol=1e-5)
    assert abs(float(distillation_loss(old + 3, old, temperature))) < 1e-5 or classes == 1
    with pytest.raises(ModelError, match="distillation"):
        distillation_loss(new, torch.randn(2, classes + 1, 5, 4), temperature)


def test_the_old_model_stays() -> None:
    """The term is 0 before the first step, grows when the network moves, and its gradient leads back."""
    from geoseg.training.module import Step

    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 1)).eval()
    term = nn.ModuleList([Distillation(network, weight=2.0, temperature=2.0)]).train()[0]
    batch = Batch(torch.randn(2, 2, 8, 8), torch.zeros(2, 8, 8, dtype=torch.int64))

    def value() -> Any:
        return term(Step(network, network(batch.image), batch, None, 0))["distill"]

    assert float(value().detach()) < 1e-10
    with torch.no_grad():
        network[3].weight.add_(torch.randn_like(network[3].weight))
    moved = value()
    assert float(moved.detach()) > 0.01
    optimizer = torch.optim.SGD(network.parameters(), lr=0.2)
    for _ in range(50):
        optimizer.zero_grad()
        value().backward()
        optimizer.step()
    assert float(value().detach()) < 0.05 * float(moved.detach())
    assert not any(p.requires_grad for p in term.parameters())
    assert not any(m.training for m in term.old.modules())


# Elastic weights


def test_the_information_of_a_logistic_regression() -> None:
    """Known in closed form: the mean over the pixels of p (1 - p) x x."""
    torch.manual_seed(0)
    network = nn.Conv2d(2, 1, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([1.5, -0.7]).reshape(1, 2, 1, 1))
        network.bias.fill_(0.3)
    images = [torch.randn(10, 2, 12, 12) * torch.tensor([1.0, 3.0]).reshape(1, 2, 1, 1) + 0.5 for _ in range(80)]
    for image in images:
        image[:, :, :3] = 0
    found = fisher_of(network, images, 0)
    x = torch.cat(images)[:, :, 3:]
    p = network(x).sigmoid().detach()
    information = (p * (1 - p) * x**2).mean((0, 2, 3))
    torch.testing.assert_close(found["weight"].flatten(), information, rtol=0.12, atol=0)
    torch.testing.assert_close(found["bias"][0], (p * (1 - p)).mean(), rtol=0.12, atol=0)


def test_the_penalty_is_the_loss_that_comes_back() -> None:
    """To second order: moving one weight away raises the old loss by what the penalty says."""
    torch.manual_seed(1)
    network = nn.Conv2d(2, 2, 1).double()
    image = torch.randn(200, 2, 16, 16, dtype=torch.float64)
    p = network(image).softmax(1).detach()

    def old_loss(net: Any) -> float:
        """Of the probabilities that the old network gave, so that it is at its minimum."""
        with torch.no_grad():
            return float(-(p * net(image).log_softmax(1)).sum(1).mean())

    term = ElasticWeights(network, fisher_of(network, [image], 0), weight=3.0)
    assert float(term.penalty(network).detach()) == 0
    for place in range(2):
        moved = copy.deepcopy(network)
        with torch.no_grad():
            moved.weight[1, place] += 0.2
        rise, penalty = old_loss(moved) - old_loss(network), float(term.penalty(moved).detach())
        assert penalty == pytest.approx(rise, rel=0.25)
    from geoseg.training.module import Step

    step = Step(moved, None, Batch(image, torch.zeros(0)), None, 0)
    assert float(term(step)["ewc"].detach()) == pytest.approx(3 * penalty)
    assert len([*term.parameters()]) == 0
    assert len(term.state_dict()) == 4
    with pytest.raises(ModelError, match="another network"):
        ElasticWeights(nn.Conv2d(3, 2, 1), {"weight": torch.zeros(2, 2, 1, 1)}, 1.0)
    with pytest.raises(ConfigError, match="no chip"):
        fisher_of(network, [torch.zeros(2, 2, 4, 4, dtype=torch.float64)], 0)


def test_frozen_parameters_and_modes_are_left_alone() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)).train()
    network[0].requires_grad_(requires_grad=False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = fisher_of(network, [torch.randn(3, 2, 4, 4)], 0)
    assert {*found} == {"1.weight", "1.bias", "2.weight", "2.bias"}
    assert all(value.min() >= 0 and value.max() > 0 for value in found.values())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(m.training for m in network.modules())
    assert all(p.grad is None for p in network.parameters())


# Rehearsal


class Numbered:
    """A sampler whose chips are told apart by their number."""

    def epoch(self, number: int, count: int) -> list[ChipRef]:
        return [ChipRef(0, Window.at((i, number), (8, 8)), i) for i in range(count)]


def old_refs(count: int) -> list[ChipRef]:
    return [ChipRef(1, Window.at((i, 0), (8, 8)), i) for i in range(count)]


@given(st.integers(0, 200), st.floats(0, 1), st.integers(1, 30), st.integers(0, 5))
def test_rehearsal_keeps_its_share(count: int, share: float, memory: int, number: int) -> None:
    """In every stretch of an epoch; all of the memory is used evenly; the same again for the same epoch."""
    sampler = Rehearsal(Numbered(), old_refs(memory), share, seed=3)
    refs = sampler.epoch(number, count)
    old = [ref for ref in refs if ref.source == 1]
    assert len(refs) == count
    assert len(old) == round(share * count)
    assert [ref for ref in refs if ref.source == 0] == Numbered().epoch(number, count - len(old))
    for first in range(0, count, 8):
        batch = refs[first : first + 8]
        assert abs(sum(ref.source for ref in batch) - len(batch) * len(old) / count) < 1 + 1e-9
    times = np.bincount([ref.window.row_off for ref in old], minlength=memory)
    assert times.max() - times.min() <= 1
    assert len({ref.key for ref in old}) == len(old)
    assert refs == sampler.epoch(number, count)


def test_rehearsal_that_can_not_be() -> None:
    with pytest.raises(ConfigError, match="no chips of the old region"):
        Rehearsal(Numbered(), [], 0.5, 0)
    with pytest.raises(ConfigError, match=r"1\.5 is not from 0 to 1"):
        Rehearsal(Numbered(), old_refs(3), 1.5, 0)


def test_every_chip_is_as_likely_in_the_memory() -> None:
    times = np.zeros(20)
    for seed in range(2000):
        kept = reservoir(iter(old_refs(20)), 5, np.random.default_rng(seed))
        assert len({*kept}) == 5
        times[[ref.window.row_off for ref in kept]] += 1
    # 500 each are expected, with a standard deviation of about 19.
    assert np.abs(times - 500).max() < 90
    assert reservoir(old_refs(3), 5, np.random.default_rng(0)) == tuple(old_refs(3))


# All of them on two regions


def region(turn: float, cue: float, n: int, generator: Any) -> tuple[Any, Any]:
    """Images (n, 3, 16, 16) and labels: a region is known by its third band, and has its own line between the classes."""
    image = torch.randn(n, 2, 16, 16, generator=generator)
    labels = (np.cos(turn) * image[:, 0] + np.sin(turn) * image[:, 1] > 0).long()
    third = cue + 0.3 * torch.randn(n, 1, 16, 16, generator=generator)
    return torch.cat([image, third], 1), labels


OLD, NEW = (0.0, -1.0), (0.45 * np.pi, 1.0)


def mean_iou(network: Any, place: tuple[float, float]) -> float:
    from torchmetrics.functional import jaccard_index

    image, labels = region(*place, 16, torch.Generator().manual_seed(99))
    with torch.no_grad():
        return float(jaccard_index(network.eval()(image).argmax(1), labels, "multiclass", num_classes=2))


def train(network: Any, draw: Callable[[int], tuple[Any, Any]], steps: int, rate: float, terms: tuple[Any, ...] = ()) -> Any:
    from geoseg.training.module import Step

    optimizer = torch.optim.Adam(network.train().parameters(), lr=rate)
    for number in range(steps):
        image, labels = draw(number)
        scores = network(image)
        loss = nn.functional.cross_entropy(scores, labels, ignore_index=UNLABELLED)
        for term in terms:
            loss = loss + sum(term(Step(network, scores, Batch(image, labels), None, number)).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


def test_each_way_keeps_more_of_the_old_region() -> None:
    """Than plain fine-tuning does, which forgets; and each still learns the new region."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 24, 1), nn.ReLU(), nn.Conv2d(24, 24, 1), nn.ReLU(), nn.Conv2d(24, 2, 1))
    train(network, lambda _: region(*OLD, 8, generator), 200, 1e-2)
    before = mean_iou(network, OLD), mean_iou(network, NEW)
    fisher = fisher_of(network, [region(*OLD, 200, generator)[0]], 0)
    memory = region(*OLD, 8, generator)
    rehearsed = iter(Rehearsal(Numbered(), old_refs(8), 0.25, seed=0).epoch(0, 8 * 150))

    def mixed(number: int) -> tuple[Any, Any]:
        image, labels = region(*NEW, 8, generator)
        for i in range(8):
            ref = next(rehearsed)
            if ref.source == 1:
                image[i], labels[i] = memory[0][ref.window.row_off], memory[1][ref.window.row_off]
        return image, labels

    def new_only(number: int) -> tuple[Any, Any]:
        return region(*NEW, 8, generator)

    ways: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "plain": (new_only, ()),
        "distill": (new_only, (Distillation(network, weight=0.5, temperature=2.0),)),
        "ewc": (new_only, (ElasticWeights(network, fisher, weight=30.0),)),
        "rehearse": (mixed, ()),
    }
    found = {}
    for name, (draw, terms) in ways.items():
        tuned = train(copy.deepcopy(network), draw, 150, 3e-3, terms)
        found[name] = mean_iou(tuned, OLD), mean_iou(tuned, NEW)
    assert before[0] > 0.9
    assert found["plain"][0] < before[0] - 0.2
    for name in ("distill", "ewc", "rehearse"):
        assert found[name][0] > found["plain"][0] + 0.03, (name, found)
        assert found[name][1] > before[1] + 0.1, (name, found)
