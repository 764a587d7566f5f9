"""Means of probabilities over the members of an ensemble and over the symmetries of the square (test-time augmentation)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from geoseg.arrays import F32
from geoseg.inference.decision import Decision
from geoseg.inference.engine import Engine, TileBatch
from geoseg.inference.symmetries import SYMMETRIES, extended, turn, turn_back
from geoseg.models.card_values import Quantity

__all__ = ["EnsembleMember", "mean_probabilities", "views"]


@dataclass(frozen=True, slots=True)
class EnsembleMember:
    """One network of an ensemble."""

    engine: Engine
    """The network."""
    decision: Decision
    """Its calibration, and how scores become classes."""
    quantity: Quantity | None = None
    """What it regresses; None where it knows classes."""


def mean_probabilities(
    members: Sequence[EnsembleMember], batch: TileBatch, *, augment: bool, with_entropy: bool = False
) -> tuple[F32, F32 | None]:
    """Mean of the calibrated probabilities (N, K, H, W) of whole tiles, and of their entropies (N, H, W) if wanted.

    The mean is over members, and over the symmetries of the square if asked.
    """
    total: F32 | None = None
    entropy: F32 | None = None
    count = 0
    for member in members:
        for p in views(member.engine, batch, member.decision.probabilities, augment=augment):
            total = p.copy() if total is None else total + p
            if with_entropy:
                own = member.decision.entropy(p)
                entropy = own if entropy is None else entropy + own
            count += 1
    assert total is not None
    number = np.float32(count)
    return total / number, None if entropy is None else entropy / number


def views(engine: Engine, batch: TileBatch, of: Callable[[F32], F32], *, augment: bool) -> Iterator[F32]:
    """What ``of`` makes of the scores (N, K, H, W) of whole tiles: once, or of all symmetries of the square."""
    if not augment:
        yield of(engine.scores(batch))
        return
    data = [extended(d, batch.shape) for d in batch.data]
    valid = [extended(v, batch.shape) for v in batch.valid]
    for turns, flip in SYMMETRIES:
        turned = [turn(d, turns, flip) for d in data]
        masks = [turn(v, turns, flip) for v in valid]
        shape = (turned[0].shape[-2], turned[0].shape[-1])
        yield turn_back(of(engine.scores(TileBatch(turned, masks, shape, batch.keep))), turns, flip)
