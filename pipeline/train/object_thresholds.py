"""Thresholds of a model of instances, chosen on validation data, and the figures of the objects that it finds there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from geoseg.codes import UNLABELLED
from geoseg.evaluation.instances import Matches, Overlaps, PrecisionTally, match
from geoseg.inference.decision import Decision
from geoseg.instances.finding import found_objects
from geoseg.instances.masks import Masks
from geoseg.models.card import Card
from geoseg.models.model_folder import CARD, Model, load_model
from geoseg.training.validation import Judged, judge, open_for_chips
from pipeline.train.data import Area, TrainingData
from pipeline.train.report import ObjectFigures

__all__ = ["judge_objects"]

TRIED: tuple[dict[str, float], ...] = tuple(
    {"foreground": foreground, "seed": seed, "boundary": boundary}
    for foreground, seed, boundary in product((0.3, 0.4, 0.5, 0.6), (0.1, 0.2, 0.3, 0.45, 0.6), (0.3, 0.5, 0.7))
)
SCORES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
IOU = 0.5
UNKNOWN = 0.5
"""Share of an object from which on it counts as lying where nothing is labelled, and is left out."""


Longs = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Seen:
    """Objects that a model finds in a window, and labelled ones; none where nothing is labelled."""

    found: Masks
    score: NDArray[np.float32]
    truth: Masks

    @classmethod
    def of(cls, part: Judged, card: Card) -> Seen:
        """The objects of a window with the thresholds of a card."""
        channels = np.concatenate([part.scores, part.further])
        labels, codes, score, _ = found_objects(channels, part.probabilities(Decision.of(card)), part.valid, card)
        found = Masks.of_labels(labels, len(codes))
        which = _known(found, part)
        return cls(found.take(which), score[which], _numbered(part))

    def matches(self, least: float) -> Matches:
        """Those of the objects with at least this score."""
        which = np.flatnonzero(self.score >= least)
        return match(Overlaps.of_masks(self.found.take(which), self.truth), self.score[which], iou=IOU)


def judge_objects(model: Model, data: TrainingData, areas: Sequence[Area], engine: str) -> tuple[Model, ObjectFigures]:
    """Choose the thresholds of a model by the F1 of objects at an intersection over union of 0.5, on all validation data.

    The figures are those of windows whose thresholds were chosen on the other windows, so that nothing is judged by what it
    was fitted to; where there is one window only, the report says that it chose its own.

    Returns:
        The model with its thresholds, and the figures.
    """
    card = model.card
    assert card.instances is not None
    parts = list(judge(open_for_chips(model, engine), card, data.validation, areas=areas))
    tried = TRIED if card.instances.kind == "watershed" else ({},)
    # All objects are looked at, however unsure: the least score is chosen below.
    cards = [card.model_copy(update={"instances": card.instances.model_copy(update=values | {"score": 0.0})}) for values in tried]
    counts = np.zeros((len(cards), len(SCORES), len(parts), 3), np.int64)
    for at, part in product(range(len(cards)), range(len(parts))):
        seen = Seen.of(parts[part], cards[at])
        for k, least in enumerate(SCORES):
            matches = seen.matches(least)
            counts[at, k, part] = len(matches.found), matches.found_count, matches.truth_count
    total = counts.sum(axis=2)
    crossed = len(parts) > 1
    precision, matched = PrecisionTally(), []
    for part, labelled in enumerate(parts):
        at, k = _best(total - counts[:, :, part] if crossed else total)
        seen = Seen.of(labelled, cards[at])
        precision.add(Overlaps.of_masks(seen.found, seen.truth), seen.score)
        matched.append(seen.matches(SCORES[k]))
    at, k = _best(total)
    facts = cards[at].instances
    assert facts is not None
    chosen = facts.model_copy(update={"score": SCORES[k]})
    card.model_copy(update={"instances": chosen}).write(model.path / CARD)
    pooled = Matches.pooled(matched)
    figures = {name: value if np.isfinite(value) else None for name, value in (pooled.figures | precision.figures).items()}
    return load_model(str(model.path)), ObjectFigures(
        figures,
        pooled.found_count,
        pooled.truth_count,
        iou=IOU,
        cross_fitted=crossed,
        windows=len(parts),
        thresholds=chosen.model_dump(include={"score", *tried[0]}),
    )


def _best(counts: Longs) -> tuple[int, int]:
    """Thresholds and least score that give the largest F1, of (settings, scores, 3); the first of equal ones."""
    f1 = 2 * counts[..., 0] / np.maximum(1, counts[..., 1] + counts[..., 2])
    at, k = np.unravel_index(int(f1.argmax()), f1.shape)
    return int(at), int(k)


def _numbered(part: Judged) -> Masks:
    assert part.objects is not None
    numbers, labels = np.unique(part.objects, return_inverse=True)
    shift = int(numbers[0] != 0)
    return Masks.of_labels((labels.reshape(part.objects.shape) + shift).astype(np.int32), len(numbers) - 1 + shift)


def _known(found: Masks, part: Judged) -> Longs:
    """The objects that don't mostly lie where nothing is labelled."""
    unknown = Masks.of_labels((part.labels == UNLABELLED).astype(np.int32), 1)
    both = Masks.concatenate([found, unknown])
    every = np.arange(len(found))
    hidden = both.common_pixels(every, np.full(len(found), len(found)))
    return np.flatnonzero(hidden < UNKNOWN * found.pixels)
