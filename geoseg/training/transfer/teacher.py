"""Networks beside the one that learns: its copy at rest, and its moving average."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

__all__ = ["DECAY", "MeanTeacher", "Resting", "probabilities_of", "seen"]

DECAY = 0.99
"""Share of itself that the average keeps at each step, once it is warm."""


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

    def __init__(self, network: nn.Module, decay: float = DECAY) -> None:
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
