"""A model of one event, learned from the few of its buildings that are labelled, and which to label next.

Embeddings are standardized over all buildings of the event, which needs no labels, and joined by the mean of those of the
nearest buildings, as damage is alike where buildings are near (Tobler 1970). As in training, the image before teaches what is
undamaged.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import logit

from geoseg.arrays import F32, F64, I64
from geoseg.damage.embedder import Embedded
from geoseg.damage.event_head import EventHead, Examples, fit_head
from geoseg.damage.scale import CLASSES, building_figures, chances, class_f1, decided
from geoseg.dialect import number_of, setting
from geoseg.errors import ConfigError
from geoseg.sampling.bootstrap import DRAWS, interval

__all__ = ["LEAST_LABELS", "EventData", "EventFigures", "EventModel", "learn_event", "to_label"]

NEIGHBOURS = 8
UNDAMAGED = 0.3
"""Weight, relative to all labels, of the images before, on which buildings are undamaged."""
MOST_BEFORE = 2048
"""Buildings of which the image before is learned from."""
LIMIT = 12.0
"""Largest logit that a score of another model counts as."""
FOLDS = 5
LEAST_LABELS = 5
TEMPERATURES = np.exp(np.linspace(np.log(0.5), np.log(4), 60))
USUAL = 0.5
"""Standard deviation of the logarithm of the temperature, before anything is known."""


class EventFigures(TypedDict):
    """Figures of a model of an event, each labelled building graded by one that has not learned from it."""

    labels: int
    classes: list[int]
    """Labels of each."""
    folds: int
    macro_f1: float
    macro_f1_95: tuple[float, float] | None
    """From drawing labelled buildings with replacement."""
    accuracy: float
    temperature: float
    prior_weight: float | None
    """Of the scores of the model that was given; None without one."""


@dataclass(frozen=True, slots=True, eq=False)
class EventData:
    """All buildings of an event that both dates show."""

    after: F64
    """(N, 2 F) features: of each, and of its neighbours."""
    before: F64
    """(N, 2 F) the same on the image before."""
    prior: F64
    """(N,) scores of the model that was given; 0 without one."""
    prior_before: F64
    """(N,) those of the image before."""
    with_prior: bool

    @classmethod
    def of(cls, embedded: Embedded, place: F64) -> EventData:
        """Features of embedded buildings, which lie at ``place`` (N, 2)."""
        after, before = _features(embedded.event, embedded.before, place)
        prior, prior_before = (_scores(p, len(place)) for p in (embedded.probability, embedded.probability_before))
        return cls(after, before, prior, prior_before, embedded.probability is not None)

    def examples(self, which: I64, label: I64) -> Examples:
        """Some labelled buildings, and buildings on the image before, as undamaged ones."""
        some = np.unique(np.linspace(0, len(self.before) - 1, min(MOST_BEFORE, len(self.before))).astype(np.int64))
        return Examples(
            np.concatenate([self.after[which], self.before[some]]),
            np.concatenate([self.prior[which], self.prior_before[some]]),
            np.concatenate([label, np.zeros(len(some), np.int64)]),
            np.concatenate([chances(label), np.full(len(some), UNDAMAGED / len(some))]),
        )

    def head(self, which: I64, label: I64) -> EventHead:
        """The head that has learned from some labelled buildings."""
        return fit_head(self.examples(which, label), with_prior=self.with_prior)

    def probability(self, head: EventHead, which: I64 | slice = slice(None)) -> F64:
        """Probabilities (N, K) of buildings."""
        return head.probability(self.after[which], self.prior[which])


@dataclass(frozen=True, slots=True, eq=False)
class EventModel:
    """What was learned from labelled buildings of an event."""

    probability: F64
    """(N, K) of all buildings of the event."""
    figures: EventFigures


def learn_event(data: EventData, which: I64, label: I64, *, seed: int = 0) -> EventModel:
    """Learn from some labelled buildings; the model is calibrated and judged by ones that have learned from four fifths of them.

    Folds hold about as many of each class, and neighbours are not kept together: labels are to lie all over the event, as the
    buildings do that are graded.

    Args:
        data: The event.
        which: (n,) labelled buildings, ascending, so that their order in a file does not matter.
        label: (n,) their classes.
        seed: Of the draws for the interval.

    Raises:
        ConfigError: There are too few labels, or all of one class.
    """
    counts = np.bincount(label, minlength=len(CLASSES))
    if len(label) < LEAST_LABELS or (counts > 0).sum() < 2:
        raise ConfigError(
            f"{setting('labels')}: {len(label)} labelled buildings of {number_of(int((counts > 0).sum()), 'class')}; at least "
            f"{LEAST_LABELS} of 2 classes are needed: label more of those in label_next.gpkg"
        )
    fold = np.empty(len(label), np.int64)
    fold[np.argsort(label, kind="stable")] = np.arange(len(label)) % FOLDS
    heads = [data.head(which[fold != k], label[fold != k]) for k in range(FOLDS)]

    def held_out(temperature: float) -> F64:
        found = np.empty((len(label), len(CLASSES)))
        for k, head in enumerate(heads):
            found[fold == k] = data.probability(replace(head, temperature=temperature), which[fold == k])
        return found

    temperature = min(TEMPERATURES.tolist(), key=lambda t: _unlikely(held_out(t), label) + (np.log(t) / USUAL) ** 2 / 2)
    judged = decided(held_out(temperature))
    rng = np.random.default_rng(seed)
    drawn = np.array([np.nanmean(class_f1(judged[some], label[some])) for some in _draws(rng, len(label))])
    figures, head = building_figures(judged, label), replace(data.head(which, label), temperature=temperature)
    return EventModel(
        data.probability(head),
        {
            "labels": len(label),
            "classes": counts.tolist(),
            "folds": FOLDS,
            "macro_f1": figures["macro_f1"],
            "macro_f1_95": interval(drawn),
            "accuracy": figures["accuracy"],
            "temperature": temperature,
            "prior_weight": head.weight if data.with_prior else None,
        },
    )


def _unlikely(probability: F64, label: I64) -> float:
    return -float(np.log(np.maximum(probability[np.arange(len(label)), label], 1e-6)).sum())


def _draws(rng: np.random.Generator, count: int) -> list[I64]:
    return [rng.integers(count, size=count) for _ in range(DRAWS)]


def to_label(data: EventData, labelled: I64, probability: F64 | None, count: int) -> I64:
    """Buildings (count,) to label next, the most useful first.

    Each is that whose features lie the farthest from all that are labelled or chosen (the core set of Sener and Savarese 2018,
    arXiv:1708.00489, by the greedy choice of Gonzalez 1985), its distance weighted by how unsure the model is: one less the
    margin between the two most probable classes (Scheffer et al. 2001). Without labels, the first is the one that the model is
    the least sure of, or without a model the most central one.

    Args:
        data: The event.
        labelled: (n,) buildings that have a label.
        probability: (N, K) of a model of the event, or of any that grades it; None where there is none yet.
        count: How many; fewer where the event has fewer.
    """
    x = data.after
    unsure = np.ones(len(x))
    if probability is not None:
        ranked = np.sort(probability, axis=1)
        unsure = 1 - (ranked[:, -1] - ranked[:, -2])
    away = np.full(len(x), np.inf)
    for one in labelled.tolist():
        away = np.minimum(away, _away(x, one))
    free = np.ones(len(x), bool)
    free[labelled] = False
    chosen: list[int] = []
    while len(chosen) < min(count, len(x) - len(labelled)):
        if np.isfinite(away).all():
            one = int(np.argmax(np.where(free, unsure * away, -1.0)))
        elif probability is not None:
            one = int(np.argmax(unsure))
        else:
            one = int(np.argmin(((x - x.mean(axis=0)) ** 2).sum(axis=1)))
        chosen.append(one)
        free[one] = False
        away = np.minimum(away, _away(x, one))
    return np.array(chosen, np.int64)


def _away(x: F64, one: int) -> F64:
    """Distances (N,) of features to those of one building."""
    return np.asarray(np.sqrt(((x - x[one]) ** 2).sum(axis=1)))


def _features(event: F32, before: F32, place: F64) -> tuple[F64, F64]:
    """Features (N, 2 F) of the buildings after the event, and of the same buildings before it, from embeddings (N, F)."""
    mean, deviation = event.mean(axis=0, dtype=np.float64), event.std(axis=0, dtype=np.float64) + 1e-6
    scale = deviation * np.sqrt(event.shape[1])
    near = _nearest(place)
    parts = ((values - mean) / scale for values in (event, before))
    after, undamaged = (np.concatenate([part, part[near].mean(axis=1)], axis=1) for part in parts)
    return after, undamaged


def _nearest(place: F64) -> I64:
    """Indices (N, k) of the nearest buildings, itself where there are no others."""
    count = min(NEIGHBOURS, len(place) - 1)
    if count < 1:
        return np.zeros((len(place), 1), np.int64)
    _, found = cKDTree(place).query(place, count + 1)
    return np.asarray(found[:, 1:], np.int64)


def _scores(probability: F32 | None, count: int) -> F64:
    """Scores (N,) of a model from its probabilities (N, K): the mean logit of being worse than a class; 0 without a model."""
    if probability is None:
        return np.zeros(count)
    worse = 1 - np.cumsum(probability.astype(np.float64), axis=1)[:, :-1]
    with np.errstate(divide="ignore"):
        return np.asarray(np.clip(logit(np.clip(worse, 0, 1)), -LIMIT, LIMIT).mean(axis=1), np.float64)
