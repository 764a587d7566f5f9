"""A network that grades one building from crops of both dates: one encoder for all, features pooled over the footprint."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["DamageNetwork", "ordinal_loss", "probabilities"]

DEPTH = 4


class DamageNetwork(nn.Module):
    """Maps crops (N, dates * C, S, S) and masks (N, 1, S, S) to cumulative scores (N, K - 1): logits of being worse than each class.

    Features of the footprint and of what lies around it are pooled from the last two levels; both dates and their difference
    are graded together. Scores are one score of the building less rising thresholds (CORAL; Cao et al. 2020, arXiv:1901.07884),
    so that they are always in order.

    Args:
        encoder: Of segmentation-models-pytorch, for C bands.
        dates: How many dates; of one alone, nothing is compared.
        classes: K.
        used: Which dates it looks at, by position; all by default.
        scaling: Means and deviations of the bands.
    """

    def __init__(
        self,
        encoder: Any,
        dates: int,
        classes: int,
        used: tuple[int, ...],
        scaling: tuple[list[float], list[float]],
        hidden: int = 64,
    ) -> None:
        super().__init__()
        self.encoder, self.dates, self.used = encoder, dates, used
        for name, values in zip(("mean", "deviation"), scaling, strict=True):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1))
        features = 2 * sum(encoder.out_channels[-2:])
        parts = len(used) + (1 if len(used) > 1 else 0)
        self.head = nn.Sequential(
            nn.LayerNorm(parts * features), nn.Dropout(0.3), nn.Linear(parts * features, hidden), nn.ReLU(), nn.Dropout(0.3),
            nn.Linear(hidden, 1),
        )  # fmt: skip
        self.first = nn.Parameter(torch.tensor(-2.0))
        self.gaps = nn.Parameter(torch.full((classes - 2,), 2.0))
        self.temperature = nn.Parameter(torch.ones(()), requires_grad=False)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Cumulative logits."""
        chunks = torch.chunk(image, self.dates, dim=1)
        assert isinstance(self.mean, Tensor)
        assert isinstance(self.deviation, Tensor)
        every = [self._pooled((chunks[k] - self.mean) / self.deviation, mask) for k in self.used]
        if len(every) > 1:
            every.append(every[-1] - every[0])
        score = self.head(torch.cat(every, dim=1))
        steps = torch.cat([self.first[None], self.first + torch.cumsum(nn.functional.softplus(self.gaps), 0)])
        scores: Tensor = (score - steps) / self.temperature
        return scores

    def _pooled(self, image: Tensor, mask: Tensor) -> Tensor:
        found = []
        for level in self.encoder(image)[-2:]:
            # Sides of crops are multiples of the encoder's stride.
            inside = nn.functional.avg_pool2d(mask, int(mask.shape[-1]) // int(level.shape[-1]))
            found += [(level * w).sum((2, 3)) / (w.sum((2, 3)) + 1e-3) for w in (inside, 1 - inside)]
        return torch.cat(found, dim=1)


def ordinal_loss(logits: Tensor, label: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean binary cross entropy of ``worse than class k`` (Cao et al. 2020).

    Args:
        logits: (N, K - 1).
        label: (N,) classes.
        weight: (K,) by class.
    """
    worse = (label[:, None] > torch.arange(logits.shape[1], device=label.device)).float()
    loss = nn.functional.binary_cross_entropy_with_logits(logits, worse, reduction="none").mean(dim=1)
    return (loss * weight[label]).sum() / weight[label].sum() if weight is not None else loss.mean()


def probabilities(logits: Tensor) -> Tensor:
    """Probabilities (N, K) of the classes."""
    worse = torch.sigmoid(logits)
    ones, zeros = torch.ones_like(worse[:, :1]), torch.zeros_like(worse[:, :1])
    return torch.cat([ones, worse], 1) - torch.cat([worse, zeros], 1)
