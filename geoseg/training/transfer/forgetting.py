"""A model learns a new region and keeps the old one: distillation, elastic weights, rehearsal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch uses
from torch import Tensor, nn

from geoseg.errors import ConfigError, ModelError
from geoseg.training.data.samplers import ChipRef, ChipSampler
from geoseg.training.transfer.teacher import Resting, seen

if TYPE_CHECKING:
    from geoseg.training.module import Step

__all__ = ["Distillation", "ElasticWeights", "Rehearsal", "distillation_loss", "fisher_of", "reservoir"]


def distillation_loss(scores: Tensor, old: Tensor, temperature: float, valid: Tensor | None = None) -> Tensor:
    """Kullback-Leibler divergence of new probabilities from old ones at a temperature, by pixel.

    The loss of learning without forgetting (Li and Hoiem 2018, arXiv:1606.09282). It is multiplied by the square of the
    temperature, so that its gradients keep their size (Hinton et al. 2015, arXiv:1503.02531).

    Args:
        scores: (N, K, H, W) float of the network that learns; one score tells class 1 from class 0.
        old: The same of the network as it was.
        temperature: What both are divided by; above 1, small probabilities count more.
        valid: (N, H, W) bool: pixels that count; None for all.

    Returns:
        A scalar, 0 where both agree everywhere.

    Raises:
        ModelError: The two have different shapes.
    """
    if scores.shape != old.shape:
        raise ModelError(f"distillation: the old model gives scores {tuple(old.shape)}, the new one {tuple(scores.shape)}")
    new_log, old_log = (F.log_softmax(_two(s) / temperature, 1) for s in (scores, old))
    distance = F.kl_div(new_log, old_log, reduction="none", log_target=True).sum(1)
    weights = torch.ones_like(distance) if valid is None else valid.to(distance)
    return (distance * weights).sum() / weights.sum().clamp(min=1) * temperature**2


def _two(scores: Tensor) -> Tensor:
    """One score as the scores of two classes."""
    return torch.cat([torch.zeros_like(scores), scores], 1) if scores.shape[1] == 1 else scores


class Distillation(nn.Module):
    """A term of the loss: on the new chips, the network keeps the predictions that it gave before it learned from them.

    Args:
        network: The old model; copied.
        weight: Of the term.
        temperature: See ``distillation_loss``.
    """

    def __init__(self, network: nn.Module, weight: float, temperature: float) -> None:
        super().__init__()
        self.old = Resting(network)
        self._weight, self._temperature = weight, temperature

    def forward(self, step: Step) -> Mapping[str, Tensor]:
        """The weighted loss under "distill"."""
        from geoseg.training.module import centre, scores_of

        scores = scores_of(step.output)
        valid = centre(seen(step.batch.image), *scores.shape[-2:])
        loss = distillation_loss(scores, self.old(step.batch.image), self._temperature, valid)
        return {"distill": self._weight * loss}


def fisher_of(network: nn.Module, images: Iterable[Tensor], seed: int) -> dict[str, Tensor]:
    """The diagonal of the Fisher information of the parameters, by pixel: how much predictions depend on each of them.

    Labels are drawn from the network's own predictions, pixel by pixel (Kunstner et al. 2019, arXiv:1905.12558), and one
    gradient a chip is squared; as such labels are independent, this is the mean over the pixels in expectation. The
    network stays in evaluation meanwhile.

    Args:
        network: The trained network.
        images: Batches (N, C, H, W) float32 of chips of the old region, normalized.
        seed: For the labels.

    Returns:
        By name of parameter, float32 of its shape; parameters that are frozen are left out.

    Raises:
        ConfigError: No image has a pixel with data.
    """
    from geoseg.training.module import centre, scores_of

    parameters = {name: value for name, value in network.named_parameters() if value.requires_grad}
    sums = {name: torch.zeros_like(value) for name, value in parameters.items()}
    modes = {module: module.training for module in network.modules()}
    network.eval()
    generator = torch.Generator().manual_seed(seed)
    count = 0
    try:
        for image in (chip[None] for batch in images for chip in batch):
            scores = _two(scores_of(network(image)))
            valid = centre(seen(image), *scores.shape[-2:])[0]
            pixels = scores[0][:, valid].T
            if not len(pixels):
                continue
            labels = torch.multinomial(pixels.detach().softmax(1).cpu(), 1, generator=generator)[:, 0].to(pixels.device)
            likelihood = F.cross_entropy(pixels, labels, reduction="sum") / len(pixels) ** 0.5
            gradients = torch.autograd.grad(likelihood, list(parameters.values()), allow_unused=True)
            for name, gradient in zip(sums, gradients, strict=True):
                if gradient is not None:
                    sums[name] += gradient**2
            count += 1
    finally:
        for module, mode in modes.items():
            module.training = mode
    if not count:
        raise ConfigError("the importance of the weights can't be measured: no chip of the old region has valid pixels")
    return {name: total / count for name, total in sums.items()}


class ElasticWeights(nn.Module):
    """A term of the loss: elastic weight consolidation (Kirkpatrick et al. 2017, arXiv:1612.00796).

    Half the squared distance of each parameter from what it was, times its Fisher information: to second order, by how
    much the loss of the old region has grown. With weight 1 a pixel of the old region so counts as much as a new one, as
    long as the weights stay near. A network that is sure of everything has little information, and moves far before it
    costs: weights of 10 to 1000 hold it. Statistics of batch normalization are not held.

    Args:
        network: The old model, with the weights to stay near.
        fisher: From ``fisher_of``.
        weight: Of the term.

    Raises:
        ModelError: The information is of another network.
    """

    def __init__(self, network: nn.Module, fisher: Mapping[str, Tensor], weight: float) -> None:
        super().__init__()
        parameters = dict(network.named_parameters())
        wrong = [name for name, value in fisher.items() if name not in parameters or parameters[name].shape != value.shape]
        if wrong:
            raise ModelError(f"elastic weights: {len(wrong)} parameters are of another network, such as {wrong[0]}")
        self._names = tuple(fisher)
        self._weight = weight
        # By number, as names of buffers have no dots.
        for i, (name, value) in enumerate(fisher.items()):
            self.register_buffer(f"fisher_{i}", value.detach().clone())
            self.register_buffer(f"anchor_{i}", parameters[name].detach().clone())

    def penalty(self, network: nn.Module) -> Tensor:
        """The distance of a network, not weighted; a scalar."""
        parameters = dict(network.named_parameters())
        distances = [
            (self.get_buffer(f"fisher_{i}") * (parameters[name] - self.get_buffer(f"anchor_{i}")) ** 2).sum()
            for i, name in enumerate(self._names)
        ]
        return 0.5 * torch.stack(distances).sum()

    def forward(self, step: Step) -> Mapping[str, Tensor]:
        """The weighted distance under "ewc"."""
        return {"ewc": self._weight * self.penalty(step.network)}


def reservoir(refs: Iterable[ChipRef], size: int, rng: np.random.Generator) -> tuple[ChipRef, ...]:
    """``size`` chips of a stream of any length, each as likely as every other (Vitter 1985, algorithm R)."""
    kept: list[ChipRef] = []
    for i, ref in enumerate(refs):
        if i < size:
            kept.append(ref)
        elif (place := int(rng.integers(i + 1))) < size:
            kept[place] = ref
    return tuple(kept)


class Rehearsal:
    """Chips of a sampler, with chips of a fixed memory among them at even distances.

    Args:
        sampler: Draws chips of the new region.
        memory: Chips of the old region; their sources are numbered as in the list that both are read from.
        share: Of the chips of an epoch that come from the memory, 0 to 1.
        seed: Of the whole training.

    Raises:
        ConfigError: The memory is empty, or the share is out of range.
    """

    def __init__(self, sampler: ChipSampler, memory: Sequence[ChipRef], share: float, seed: int) -> None:
        if not 0 <= share <= 1:
            raise ConfigError(f"rehearse: {share} is not from 0 to 1")
        if not memory:
            raise ConfigError("rehearse: there are no chips of the old region")
        self._sampler, self._memory, self._share, self._seed = sampler, tuple(memory), share, seed

    def epoch(self, number: int, count: int) -> Sequence[ChipRef]:
        """The chips of an epoch; every chip of the memory comes again before one comes twice more often than another."""
        old = round(self._share * count)
        new = iter(self._sampler.epoch(number, count - old))
        rng = np.random.default_rng((self._seed, number))
        rounds = -(-old // len(self._memory))
        order = iter(np.concatenate([rng.permutation(len(self._memory)) for _ in range(rounds)]) if rounds else [])
        return [
            replace(self._memory[next(order)], key=int(rng.integers(2**62)))
            if (i + 1) * old // count > i * old // count
            else next(new)
            for i in range(count)
        ]
