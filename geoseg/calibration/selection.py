"""Selection of a calibration: candidates fitted to a sample, and the one that holds on scenes it was not fitted on."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import numpy as np

from geoseg.calibration.fitting import METHODS, fit
from geoseg.calibration.measures import Tally
from geoseg.calibration.pixel_sample import PixelSample
from geoseg.errors import ConfigError
from geoseg.inference.decision import Decision
from geoseg.models.card import Card
from geoseg.models.card_values import Calibration

__all__ = ["BEFORE", "candidates", "choose", "tally_of"]

log = logging.getLogger(__name__)

BEFORE = "before"
"""The name of what the model had, among the methods."""
FOLDS = 4


def candidates(method: str, sample: PixelSample, card: Card) -> dict[str, Card]:
    """The card under each calibration by name, and as it was under ``BEFORE``.

    Args:
        method: One of ``METHODS``; ``auto`` for all that can be fitted; ``none``.
        sample: Scores before calibration, and labels.
        card: Of the model.

    Raises:
        ConfigError: The labels do not suffice for the method, or for any.
    """
    cards = {BEFORE: card}
    if method == "none":
        return cards
    for name in METHODS if method == "auto" else (method,):
        try:
            found = fit(name, sample, softmax=card.activation == "softmax")
        except ConfigError as error:
            if method != "auto" or name == "temperature":
                raise
            log.warning("%s", error)
            continue
        cards[name] = card.model_copy(update={"calibration": found, "thresholds": _moved(card, found)})
    return cards


def choose(names: Iterable[str], sample: PixelSample, card: Card) -> str:
    """The method under which labels are likeliest that it was not fitted on, by cross-validation within a sample.

    The sample is divided by scene; that of a single scene in the order of reading, so that the parts lie apart. Data that
    the result is measured on has no part in it.

    Args:
        names: The methods that come into question; ``BEFORE`` for none.
        sample: What the method will be fitted to.
        card: Of the model.
    """
    surprise = dict.fromkeys(names, 0.0)
    for fitted_on, held in sample.folds(FOLDS):
        for name in surprise:
            try:
                calibrated = candidates("none" if name == BEFORE else name, fitted_on, card)[name]
            except ConfigError:
                surprise[name] = np.inf
                continue
            tally = tally_of(calibrated)
            tally.add(_probabilities(calibrated, held), held.labels)
            surprise[name] += tally.nll * tally.pixels
    return min(surprise, key=lambda name: surprise[name])


def tally_of(card: Card) -> Tally:
    """An empty tally for a model's probabilities."""
    return Tally(len(card.classes), independent=card.activation == "sigmoid" and card.scores > 1)


def _probabilities(card: Card, sample: PixelSample) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    scores = np.ascontiguousarray(sample.scores.T[:, None, :])
    decision = Decision.of(card)
    return decision.by_class(decision.probabilities(scores))[:, 0]


def _moved(card: Card, found: Calibration) -> tuple[float, ...] | None:
    """Thresholds under which the classes stay, for sigmoids; those of a softmax stand as they are."""
    if card.thresholds is None or card.activation == "softmax":
        return card.thresholds
    scores = np.broadcast_to(np.linspace(-30, 30, 6001, dtype=np.float32), (card.scores, 1, 6001))
    before = Decision.of(card).probabilities(scores)[:, 0]
    after = Decision.of(card.model_copy(update={"calibration": found})).probabilities(scores)[:, 0]
    at = [np.interp(t, old, new) for t, old, new in zip(card.thresholds, before, after, strict=True)]
    return tuple(float(np.clip(value, 1e-6, 1 - 1e-6)) for value in at)
