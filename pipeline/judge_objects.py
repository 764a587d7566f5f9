"""Judge a model of instances on validation data: choose its thresholds there, and say how many objects it finds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

import numpy as np

from geoseg.evaluation.instances import match_masks
from geoseg.inference.values import Decision
from geoseg.instances.finding import found_objects
from geoseg.instances.masks import Masks
from geoseg.models.card import Card, InstanceFacts
from geoseg.models.folder import CARD, Model, load_model
from geoseg.training.chips import UNLABELLED
from geoseg.training.judging import Judged, judge, open_for_chips
from pipeline.training_data import TrainingData

__all__ = ["judge_objects"]

TRIED: tuple[dict[str, float], ...] = tuple(
    {"foreground": foreground, "seed": seed, "boundary": boundary}
    for foreground, seed, boundary in product((0.3, 0.4, 0.5, 0.6), (0.1, 0.2, 0.3, 0.45, 0.6), (0.3, 0.5, 0.7))
)
SCORES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
IOU = 0.5
UNKNOWN = 0.5
"""Share of an object from which on it counts as lying where nothing is labelled, and is left out."""


Figures = dict[str, float]


def judge_objects(model: Model, data: TrainingData, areas: Sequence[Any]) -> tuple[Model, dict[str, Any]]:
    """Choose the thresholds of a model by the F1 of objects at an intersection over union of 0.5, on all validation data.

    Returns:
        The model with its thresholds, and the figures.
    """
    card = model.card
    assert card.instances is not None
    parts = list(judge(open_for_chips(model), card, data.validation, areas=areas))
    best: tuple[InstanceFacts, Figures] | None = None
    tried = TRIED if card.instances.kind == "watershed" else ({},)
    for thresholds in tried:
        facts = card.instances.model_copy(update={**thresholds, "score": 0.0})
        for least, figures in _by_score(parts, card.model_copy(update={"instances": facts})).items():
            if best is None or figures["f1"] > best[1]["f1"]:
                best = facts.model_copy(update={"score": least}), figures
    assert best is not None
    card.model_copy(update={"instances": best[0]}).write(model.path / CARD)
    chosen = best[0].model_dump(include={"score", *tried[0]})
    return load_model(str(model.path)), {**best[1], "iou": IOU, "thresholds": chosen}


def _by_score(parts: Iterable[Judged], card: Card) -> dict[float, Figures]:
    """The figures by the least score of the objects that count."""
    counts = {least: np.zeros(3, np.int64) for least in SCORES}
    decision = Decision.of(card)
    for part in parts:
        channels = np.concatenate([part.scores, part.further])
        labels, codes, score, _ = found_objects(channels, part.probabilities(decision), part.valid, card)
        found, truth = Masks.of_labels(labels, len(codes)), _numbered(part)
        known = _known(found, part)
        for least in SCORES:
            which = known[score[known] >= least]
            matches = match_masks(found.take(which), truth, score[which], iou=IOU)
            counts[least] += (len(matches.found), matches.found_count, matches.truth_count)
    return {least: _figures(*count.tolist()) for least, count in counts.items()}


def _figures(matched: int, found: int, truth: int) -> Figures:
    return {
        "f1": 2 * matched / max(1, found + truth), "precision": matched / max(1, found), "recall": matched / max(1, truth),
        "found": found, "truth": truth,
    }  # fmt: skip


def _numbered(part: Judged) -> Masks:
    assert part.objects is not None
    numbers, labels = np.unique(part.objects, return_inverse=True)
    shift = int(numbers[0] != 0)
    return Masks.of_labels((labels.reshape(part.objects.shape) + shift).astype(np.int32), len(numbers) - 1 + shift)


def _known(found: Masks, part: Judged) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The objects that don't mostly lie where nothing is labelled."""
    unknown = Masks.of_labels((part.labels == UNLABELLED).astype(np.int32), 1)
    both = Masks.concatenate([found, unknown])
    every = np.arange(len(found))
    hidden = both.common_pixels(every, np.full(len(found), len(found)))
    return np.flatnonzero(hidden < UNKNOWN * found.pixels)
