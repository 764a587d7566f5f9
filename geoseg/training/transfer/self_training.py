"""Self-training: a network learns a region without labels from those that its moving average gives to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from geoseg.codes import UNLABELLED
from geoseg.training.training_plan import Sureness
from geoseg.training.transfer.teacher import DECAY, MeanTeacher, probabilities_of, seen

if TYPE_CHECKING:
    from geoseg.training.module import Loss, Step

__all__ = ["ConfidenceTally", "Light", "SelfTraining", "pseudo_labels"]


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
    """Confidence of a network in the pixels of each class, for thresholds that keep the same share of each.

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
        weight: float,
        sureness: Sureness,
        start: int = 0,
        decay: float = DECAY,
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
