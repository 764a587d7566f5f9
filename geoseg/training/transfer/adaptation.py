"""Adaptation of a network to a region without labels: statistics of its activations, and labels that it gives itself."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from geoseg.codes import UNLABELLED
from geoseg.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from geoseg.training.module import Loss, Step

__all__ = [
    "ConfidenceTally",
    "Light",
    "MeanTeacher",
    "Resting",
    "SelfTraining",
    "Sureness",
    "adapt_statistics",
    "probabilities_of",
    "pseudo_labels",
    "seen",
]


def adapt_statistics(network: nn.Module, images: Iterable[Tensor], *, mix: float = 1.0) -> int:
    """Adaptive batch normalization (Li et al. 2016, arXiv:1603.04779): its statistics become those of other images.

    Mean and variance of what each layer gets are pooled over all images, as if they were one batch; while they are
    measured, each batch is normalized by its own statistics. The weights stay. Pixels without data count like others, so
    chips should be full.

    Args:
        network: Changed in place; its modes stay.
        images: Batches (N, C, H, W) float32, normalized as in training, of several chips each.
        mix: Share of the new statistics in the result, above 0 and up to 1; the rest are the old ones.

    Returns:
        How many images there were.

    Raises:
        ModelError: The network has no batch normalization with statistics.
        ConfigError: There are no images, a batch holds a single value per channel, or ``mix`` is out of range.
    """
    if not 0 < mix <= 1:
        raise ConfigError(f"mix: {mix} is not above 0 and up to 1")
    layers = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    if not layers:
        raise ModelError(f"{type(network).__name__} has no batch normalization, so it has no statistics to adapt")
    modes = {module: module.training for module in network.modules()}
    before = [(layer.momentum, layer.num_batches_tracked) for layer in layers]
    moments = [_Moments() for _ in layers]
    hooks = [layer.register_forward_pre_hook(moment.hook) for layer, moment in zip(layers, moments, strict=True)]
    network.eval()
    for layer in layers:
        layer.train()
        layer.momentum, layer.num_batches_tracked = 0.0, None
    count = 0
    try:
        with torch.no_grad():
            for batch in images:
                network(batch)
                count += len(batch)
    except ValueError as error:
        raise ConfigError(f"statistics can't be adapted on batches this small: {error}; take more chips a batch") from error
    finally:
        for hook in hooks:
            hook.remove()
        for layer, (momentum, batches) in zip(layers, before, strict=True):
            layer.momentum, layer.num_batches_tracked = momentum, batches
        for module, mode in modes.items():
            module.training = mode
    if not count:
        raise ConfigError("statistics can't be adapted: there are no images of the target")
    for layer, moment in zip(layers, moments, strict=True):
        if moment.count > 1:
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.lerp_(moment.mean.to(layer.running_mean), mix)
            layer.running_var.lerp_(moment.variance.to(layer.running_var), mix)
    return count


class _Moments:
    """Count, mean and summed squared deviation by channel, pooled exactly over batches (Chan et al. 1979)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = self.squares = torch.zeros(())

    @property
    def variance(self) -> Tensor:
        """Unbiased, as batch normalization keeps it."""
        return self.squares / (self.count - 1)

    def hook(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].detach().transpose(0, 1).flatten(1)
        values = values.to(torch.float32 if values.device.type == "mps" else torch.float64)
        count, mean = values.shape[1], values.mean(1)
        total, shift = self.count + count, mean - self.mean
        self.squares = self.squares + ((values - mean[:, None]) ** 2).sum(1) + shift**2 * (self.count * count / total)
        self.mean = self.mean + shift * (count / total)
        self.count = total


class Resting(nn.Module):
    """A copy of a network that does not learn and stays in evaluation, whatever the mode of what holds it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(requires_grad=False)
        self.eval()

    def train(self, mode: bool = True) -> Resting:  # noqa: FBT002 - torch's signature
        """Stays in evaluation."""
        del mode
        super().train(mode=False)
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Scores (N, K, h, w) of images, without gradients."""
        from geoseg.training.module import scores_of

        with torch.no_grad():
            return scores_of(self.network(image))


class MeanTeacher(Resting):
    """The exponential moving average of a network that learns (Tarvainen and Valpola 2017, arXiv:1703.01780).

    The decay at the nth update is ``min(decay, n / (n + 10))``, so that it soon forgets the start. Statistics of batch
    normalization are averaged, too.
    """

    updates: Tensor

    def __init__(self, network: nn.Module, decay: float = 0.99) -> None:
        super().__init__(network)
        self.decay = decay
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the weights of the network after a step; what it has beyond the teacher, such as further heads, is left out."""
        self.updates += 1
        n = int(self.updates)
        share = 1 - min(self.decay, n / (n + 10))
        state = network.state_dict()
        for name, kept in self.network.state_dict().items():
            new = state[name]
            if kept.is_floating_point():
                kept.lerp_(new.detach(), share)
            else:
                kept.copy_(new)


def probabilities_of(scores: Tensor) -> Tensor:
    """(N, K, H, W) probabilities of K classes from scores; one score (N, 1, H, W) tells class 1 from class 0."""
    if scores.shape[1] == 1:
        p = scores.sigmoid()
        return torch.cat([1 - p, p], 1)
    return scores.softmax(1)


def seen(image: Tensor) -> Tensor:
    """(N, H, W) bool: where a normalized image (N, C, H, W) has data; elsewhere all its bands are 0."""
    return (image != 0).any(1)


def pseudo_labels(probabilities: Tensor, thresholds: float | Tensor, valid: Tensor | None = None) -> Tensor:
    """Labels that a network is sure of; UNLABELLED elsewhere.

    With a threshold by class, a pixel gets the class whose probability is largest relative to its threshold, so that rare
    classes are not crowded out (Zou et al. 2018, arXiv:1810.07911, equation 5).

    Args:
        probabilities: (N, K, H, W) float.
        thresholds: Least probability of a label, for all classes or (K,), above 0.
        valid: (N, H, W) bool: pixels that may be labelled; None for all.

    Returns:
        (N, H, W) int64.
    """
    limits = torch.as_tensor(thresholds, dtype=probabilities.dtype, device=probabilities.device)
    best, labels = (probabilities / limits.reshape(-1, 1, 1)).max(1)
    sure = best >= 1
    if valid is not None:
        sure &= valid
    return labels.masked_fill(~sure, UNLABELLED)


class ConfidenceTally(nn.Module):
    """How sure a network is of the pixels that it gives to each class, for thresholds that keep the same share of each.

    Class-balanced self-training (Zou et al. 2018, arXiv:1810.07911, algorithm 2), with histograms of 1/1000 instead of
    sorted lists, so that it takes any number of pixels.

    Args:
        classes: How many.
        forget: What the counts are multiplied by before each update: 1 counts all, less follows a network that learns.
    """

    BINS = 1000
    counts: Tensor

    def __init__(self, classes: int, forget: float = 1.0) -> None:
        super().__init__()
        self.forget = forget
        self.register_buffer("counts", torch.zeros(classes, self.BINS))

    def update(self, probabilities: Tensor, valid: Tensor | None = None) -> None:
        """Count the pixels of (N, K, H, W) probabilities; ``valid`` is (N, H, W) bool."""
        confidence, labels = probabilities.detach().max(1)
        chosen = torch.ones_like(labels, dtype=torch.bool) if valid is None else valid
        bins = (confidence[chosen] * self.BINS).long().clamp(0, self.BINS - 1)
        found = torch.bincount(labels[chosen] * self.BINS + bins, minlength=self.counts.numel())
        self.counts.mul_(self.forget).add_(found.reshape(self.counts.shape))

    def thresholds(self, share: float, most: float = 1.0) -> Tensor:
        """(K,) float32: the largest thresholds that keep at least ``share`` of the pixels of each class.

        Args:
            share: 0 to 1.
            most: Pixels at least this sure are kept even where their share is then larger.
        """
        # Pixels at least as sure as the lower edge of each bin.
        above = self.counts.flip(1).cumsum(1).flip(1)
        enough = above >= share * above[:, :1]
        lowest = enough.sum(1).clamp(min=1) - 1
        limits = torch.where(above[:, 0] > 0, lowest / self.BINS, 1.0)
        return limits.clamp(1 / self.BINS, most).float()


class Light:
    """Changes the light of normalized images at random.

    A network then has to give to a dim or pale image what its teacher gives to the plain one (the strong change of FixMatch,
    Sohn et al. 2020, arXiv:2001.07685).

    Args:
        strength: Standard deviation of the logarithm of the gain and of the offset, in deviations of the bands: half of it
            shared by all bands, half by band. Pixels without data stay 0.
    """

    def __init__(self, strength: float) -> None:
        self.strength = strength

    def __call__(self, image: Tensor) -> Tensor:
        """Images (N, C, H, W) in another light."""
        count, bands = image.shape[:2]

        def random(width: int) -> Tensor:
            return self.strength * math.sqrt(0.5) * torch.randn(count, width, 1, 1, device=image.device, dtype=image.dtype)

        changed = image * (random(1) + random(bands)).exp() + random(1) + random(bands)
        return changed * seen(image)[:, None]


@dataclass(frozen=True, slots=True)
class Sureness:
    """Which labels of a teacher count."""

    confidence: float = 0.9
    """Least probability of a label."""
    share: float | None = None
    """Where given, the thresholds of the classes keep this share of the pixels of each instead, and those above
    ``confidence`` in any case."""
    classes: int = 2
    """How many; needed for ``share``."""


class SelfTraining(nn.Module):
    """A term of the loss: chips of the target without labels are learned with the labels of a mean teacher.

    The loss on the pixels of which the teacher is sure is multiplied by their share, so that few pixels weigh little.

    Args:
        network: What learns; the teacher begins as its copy.
        loss: Of scores, labels and weights.
        weight: Of the term.
        sureness: Which labels count.
        start: Steps of the optimizer before it counts.
        decay: Of the teacher's average.
        change: Changes the images (N, C, H, W) that the learning network gets, but not the teacher.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: Loss,
        *,
        weight: float = 1.0,
        sureness: Sureness = Sureness(),
        start: int = 0,
        decay: float = 0.99,
        change: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.teacher = MeanTeacher(network, decay)
        self.tally = ConfidenceTally(sureness.classes, forget=0.99)
        self._loss, self._change = loss, change
        self._weight, self._sureness, self._start = weight, sureness, start

    def forward(self, step: Step) -> Mapping[str, Tensor]:
        """The weighted loss under "pseudo"; nothing before the start, nor without chips of the target."""
        from geoseg.training.module import centre, scores_of

        if step.number > int(self.teacher.updates):
            self.teacher.update(step.network)
        if step.target is None or step.number < self._start:
            return {}
        image = step.target.image
        probabilities = probabilities_of(self.teacher(image))
        valid = centre(seen(image), *probabilities.shape[-2:])
        thresholds: float | Tensor = self._sureness.confidence
        if self._sureness.share is not None:
            self.tally.update(probabilities, valid)
            thresholds = self.tally.thresholds(self._sureness.share, self._sureness.confidence)
        labels = pseudo_labels(probabilities, thresholds, valid)
        kept = (labels != UNLABELLED).float().mean()
        if not kept:
            return {"pseudo": kept}
        scores = scores_of(step.network(image if self._change is None else self._change(image)))
        return {"pseudo": self._weight * kept * self._loss(scores, labels, None)}
