"""A model folder that was made of a stranger's network, beside its original."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from geoseg.adoption.network_facts import Activation
from geoseg.arrays import F32
from geoseg.models.model_folder import Model

__all__ = ["Made"]


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """What was made, and what it was made of."""

    model: Model
    original: Callable[[F32], F32]
    """Probabilities (1, K, H, W) float32 of a normalized image (1, C, H, W) float32, by the original."""
    side: tuple[int, int]
    """Height and width of an image that the original takes."""
    activation: Activation
    """What makes probabilities of the scores of the model."""
    kind: str
    """The format that it was in."""
    notes: tuple[str, ...] = ()
    """What whoever runs it should know."""
    difference: Callable[[Iterable[F32]], float] | None = None
    """The largest difference of a probability on images (1, C, h, w), of networks that do not give probabilities of pixels."""
