"""The choice of classes in torch, for all tiles of a batch at once; its rule is that of ``Decision.decide``."""

from __future__ import annotations

import torch

from geoseg.codes import NODATA
from geoseg.inference.decision import Decision

__all__ = ["TorchDecision"]


class TorchDecision(torch.nn.Module):
    """A decision whose numbers lie on the device."""

    gain: torch.Tensor
    offset: torch.Tensor
    thresholds: torch.Tensor
    x: torch.Tensor
    y: torch.Tensor
    slope: torch.Tensor

    def __init__(self, decision: Decision) -> None:
        super().__init__()
        count = len(decision.gain)
        self._softmax, self._has_thresholds = decision.softmax, decision.thresholds is not None
        self._scales, self._shifts = any(g != 1 for g in decision.gain), any(o != 0 for o in decision.offset)
        self._count = count

        def column(values: tuple[float, ...]) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)

        self.register_buffer("gain", column(decision.gain))
        self.register_buffer("offset", column(decision.offset))
        self.register_buffer("thresholds", column(decision.thresholds_or(0.5)))
        self._bends = decision.curves is not None
        if decision.curves is not None:
            for name in ("x", "y", "slope"):
                self.register_buffer(name, torch.from_numpy(getattr(decision.curves, name)))

    def forward(self, scores: torch.Tensor, valid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Class and confidence (N, 2, h, w) uint8 of scores (N, K, h, w), and which pixels have no finite score (N, h, w).

        Where not ``valid`` (N, h, w), both are 255, and a score may be anything.
        """
        if self._scales:
            scores = scores * self.gain
        if self._shifts:
            scores = scores + self.offset
        bad = ~torch.isfinite(scores).all(dim=1) & valid
        best, p = self._chosen(scores)
        both = torch.stack((best.to(torch.uint8), (100 * p + 0.5).to(torch.uint8)), dim=1)
        return torch.where(valid.unsqueeze(1), both, NODATA), bad

    def _chosen(self, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Class and its probability, (N, h, w) each."""
        if not self._bends and self._softmax and not self._has_thresholds:
            top, best = scores.max(dim=1)
            return best, 1 / torch.exp(scores - top.unsqueeze(1)).sum(dim=1)
        if not self._softmax and self._count == 1:
            positive = torch.sigmoid(scores[:, 0])
            if self._bends:
                positive = self._bent(positive, 0)
            best = (positive >= self.thresholds[0]).long()
            return best, torch.where(best == 1, positive, 1 - positive)
        every = torch.softmax(scores, dim=1) if self._softmax else torch.sigmoid(scores)
        if self._bends:
            every = torch.stack([self._bent(every[:, k], k) for k in range(self._count)], dim=1)
            if self._softmax:
                every = every / every.sum(dim=1, keepdim=True)
        if self._softmax and not self._has_thresholds:
            best = every.argmax(dim=1)
        else:
            reached = every >= self.thresholds
            best = torch.where(reached, every, -1.0).argmax(dim=1)
            best = torch.where(reached.any(dim=1), best, 0)
        return best, every.gather(1, best.unsqueeze(1))[:, 0]

    def _bent(self, p: torch.Tensor, k: int) -> torch.Tensor:
        """The curve of one probability."""
        x, y, slope = self.x[k], self.y[k], self.slope[k]
        # NaN sorts behind all corners; it is counted elsewhere.
        i = (torch.searchsorted(x, p.contiguous(), right=True) - 1).clamp_(0, len(x) - 1)
        return torch.as_tensor(y[i] + slope[i] * (p - x[i]))
