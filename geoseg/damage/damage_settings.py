"""Settings of the training of a network that grades buildings; knows no torch."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DamageSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DamageSettings:
    """Settings of a training.

    A linear head on features that are left as they are is what a few hundred buildings carry; where there are many thousands,
    steps on the whole network follow (Kumar et al. 2022, arXiv:2202.10054: in this order, what the encoder knows is kept).
    """

    encoder: str = "tu-tf_efficientnet_lite0"
    weights: str | None = None
    """A file of weights for the encoder; None for random ones."""
    ridge: float = 0.03
    """Weight of the squares of the head's weights."""
    undamaged: float = 0.15
    """Weight, relative to all buildings after the event, of those before it, which are undamaged."""
    folds: int = 5
    """Groups of neighbours, each of which is graded by a network that has not seen it."""
    steps: int = 0
    """Steps on all weights after the head is there."""
    batch: int = 32
    rate: float = 1e-3
    encoder_rate: float = 0.2
    """Learning rate of the encoder relative to the head."""
    used: tuple[int, ...] = (0, 1)
    """Dates that are looked at."""
    views: int = 8
    """Symmetric views whose features are averaged."""
    seed: int = 0
