"""A network that grades one building from crops of both dates: one encoder for all, features pooled over the footprint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["DamageNetwork", "ordinal_loss", "probabilities"]


class DamageNetwork(nn.Module):
    """Maps crops (N, dates * C, S, S) and masks (N, 1, S, S) to conditional scores (N, K - 1).

    Score k is the logit of being worse than class k for a building that is at least of class k (CORN; Shi, Cao and Raschka
    2023, arXiv:2111.08851), so that the probabilities of being worse are always in order. Features of the footprint and of
    what lies around it are pooled from all levels of the encoder and averaged over symmetric views; the head is linear.

    Args:
        encoder: Of segmentation-models-pytorch, for C bands.
        dates: How many dates there are.
        classes: K.
        used: Which of them it looks at, by position.
        scaling: Means and deviations of the bands.
        views: Symmetries of the square that are averaged: 1, 2, 4 or 8.
    """

    def __init__(
        self,
        encoder: Any,
        dates: int,
        classes: int,
        used: tuple[int, ...],
        scaling: tuple[list[float], list[float]],
        views: int = 8,
    ) -> None:
        super().__init__()
        self.encoder, self.dates, self.used, self.views = encoder, dates, used, views
        for name, values in zip(("mean", "deviation"), scaling, strict=True):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1))
        count = len(used) * 2 * sum(encoder.out_channels[1:])
        self.register_buffer("feature_mean", torch.zeros(count))
        self.register_buffer("feature_deviation", torch.ones(count))
        self.head = nn.Linear(count, classes - 1)
        self.temperature = nn.Parameter(torch.ones(()), requires_grad=False)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Conditional scores."""
        every = [self.pooled(image, mask, view, self.used) for view in range(self.views)]
        return self.graded(torch.stack(every).mean(0).flatten(1))

    def graded(self, features: Tensor) -> Tensor:
        """Conditional scores (N, K - 1) of features (N, used * F)."""
        assert isinstance(self.feature_mean, Tensor)
        assert isinstance(self.feature_deviation, Tensor)
        scores: Tensor = self.head((features - self.feature_mean) / self.feature_deviation) / self.temperature
        return scores

    def pooled(self, image: Tensor, mask: Tensor, view: int, dates: Sequence[int]) -> Tensor:
        """Features (N, len(dates), F) of some dates under a symmetry, for which see ``seen``."""
        assert isinstance(self.mean, Tensor)
        assert isinstance(self.deviation, Tensor)
        place, chunks = seen(mask, view), torch.chunk(image, self.dates, dim=1)
        found = []
        for number in dates:
            parts = []
            for level in self.encoder(seen((chunks[number] - self.mean) / self.deviation, view))[1:]:
                # Sides of crops are multiples of the encoder's stride.
                inside = nn.functional.avg_pool2d(place, int(mask.shape[-1]) // int(level.shape[-1]))
                parts += [(level * w).sum((2, 3)) / (w.sum((2, 3)) + 1e-3) for w in (inside, 1 - inside)]
            found.append(torch.cat(parts, dim=1))
        return torch.stack(found, dim=1)


def seen(image: Tensor, view: int) -> Tensor:
    """An image (..., S, S) under one of the eight symmetries of the square, the first of which changes nothing.

    Written with what ONNX knows, which has no rotation: a transposition or none, then a flip of each axis or none.
    """
    if view & 4:
        image = image.transpose(-1, -2)
    axes = [axis for axis, bit in ((-1, 1), (-2, 2)) if view & bit]
    return image.flip(axes) if axes else image


def ordinal_loss(scores: Tensor, label: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean over buildings of the cross entropies of ``worse than class k``, of those k that it is at least of (Shi et al. 2023).

    Args:
        scores: (N, K - 1).
        label: (N,) classes.
        weight: (N,) of the buildings; equal by default.
    """
    step = torch.arange(scores.shape[1], device=label.device)
    worse, reached = (label[:, None] > step).float(), (label[:, None] >= step).float()
    loss = (nn.functional.binary_cross_entropy_with_logits(scores, worse, reduction="none") * reached).sum(dim=1)
    return loss.mean() if weight is None else (loss * weight).sum() / weight.sum()


def probabilities(scores: Tensor) -> Tensor:
    """Probabilities (N, K) of the classes."""
    worse = torch.exp(torch.cumsum(nn.functional.logsigmoid(scores), dim=1))
    ones, zeros = torch.ones_like(worse[:, :1]), torch.zeros_like(worse[:, :1])
    return torch.cat([ones, worse], 1) - torch.cat([worse, zeros], 1)
