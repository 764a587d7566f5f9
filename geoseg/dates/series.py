"""Dates of loss and gain of a class from its probability at each date: a hidden Markov chain of two states.

At each date a pixel has the class or not; between two dates it changes with a fixed probability. The network's calibrated
probability at a date is how well what was seen fits the class. What is mapped is the *first* change: lost between the second
and the third date, whatever came later, or gained, or none. Its probability sums over all that may have followed
(Rabiner 1989, doi:10.1109/5.18626; for land cover, Abercrombie and Friedl 2016, doi:10.1109/TGRS.2015.2463689), so that one
date that looks odd makes no change. Of two dates with a probability of 0.5 of change it is post-classification comparison:
the probabilities of both dates, multiplied.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geoseg.arrays import F32, U8
from geoseg.codes import MAX_CLASS
from geoseg.dates.stack import at_date
from geoseg.errors import ConfigError
from geoseg.models.card import Card
from geoseg.models.card_values import ModelClass, Scaling
from geoseg.polygons.features import Change

__all__ = ["ABSENT", "PRESENT", "SeriesFacts", "first_changes", "how_probable", "series_card", "series_classes"]

ABSENT, PRESENT = 0, 1
"""Codes of what has not changed: without the class at all dates, and with it."""
LEAST_DOUBT = 1e-6
"""No probability of a date is nearer to 0 or 1: a single date never rules anything out."""
LOST, GAINED = ((255, 210, 60), (200, 0, 40)), ((150, 200, 255), (20, 80, 200))
"""Colours of the first and of the last interval."""


@dataclass(frozen=True, slots=True)
class SeriesFacts:
    """Settings with which a model of single dates is run over several."""

    dates: tuple[str, ...]
    """How the dates are named: ISO 8601, or their number."""
    code: int
    """The class whose changes are mapped."""
    rate: float
    """Probability that a pixel changes between two dates that follow each other, over 0 and up to 0.5."""

    @property
    def classes(self) -> int:
        """Classes of change."""
        return 2 * len(self.dates)


def first_changes(probability: F32, rate: float) -> F32:
    """Logarithms of the probabilities of first changes.

    Args:
        probability: (T, ...) of the class at each date; 0.5 where nothing is known.
        rate: Probability of a change between two dates.

    Returns:
        (2T, ...): absent at all dates, present at all, lost between the dates 1 and 2, 2 and 3, …, then gained between them.
    """
    count = len(probability)
    present = np.clip(probability, LEAST_DOUBT, 1 - LEAST_DOUBT).astype(np.float32)
    absent = 1 - present
    stay, change = np.float32(1 - rate), np.float32(rate)
    # What follows a state at a date, over all that may come; as shares of both states and the logarithm of what was divided
    # by, because products over many dates are too small for a number.
    ones, zeros = np.ones_like(present[0]), np.zeros_like(present[0])
    after_present, after_absent, scale = [ones] * count, [ones] * count, [zeros] * count
    for t in range(count - 2, -1, -1):
        next_present, next_absent = present[t + 1] * after_present[t + 1], absent[t + 1] * after_absent[t + 1]
        if_present = stay * next_present + change * next_absent
        if_absent = stay * next_absent + change * next_present
        most = np.maximum(if_present, if_absent)
        after_present[t], after_absent[t], scale[t] = if_present / most, if_absent / most, scale[t + 1] + np.log(most)
    result = np.empty((2 * count, *probability.shape[1:]), np.float32)
    log_present, log_absent, log_stay, log_change = np.log(present), np.log(absent), np.log(stay), np.log(change)
    until_present, until_absent = log_present[0].copy(), log_absent[0].copy()
    for t in range(count - 1):
        later = scale[t + 1] + log_change
        result[2 + t] = until_present + log_absent[t + 1] + np.log(after_absent[t + 1]) + later
        result[1 + count + t] = until_absent + log_present[t + 1] + np.log(after_present[t + 1]) + later
        until_present += log_stay + log_present[t + 1]
        until_absent += log_stay + log_absent[t + 1]
    result[ABSENT], result[PRESENT] = until_absent, until_present
    return result


def how_probable(changes: U8, probability: F32, rate: float) -> F32:
    """How probable first changes are that are mapped already, among all that there may be.

    Of two dates at a rate of 0.5, it is the product of how probable the state of each date is.

    Args:
        changes: (...) which is mapped, as the first axis of ``first_changes`` has them.
        probability: (T, ...) of the class at each date; 0.5 where nothing is known.
        rate: Probability of a change between two dates.

    Returns:
        (...), from 0 to 1.
    """
    found = first_changes(probability, rate)
    taken = np.take_along_axis(found, changes[None].astype(np.intp), axis=0)[0]
    most = found.max(axis=0)
    result: F32 = np.exp(taken - most) / np.exp(found - most).sum(axis=0)
    return result


def series_classes(name: str, dates: Sequence[str]) -> tuple[tuple[ModelClass, ...], dict[int, Change]]:
    """The classes of a map of first changes of a class, and what they say.

    Args:
        name: Of the class.
        dates: How the dates are named.

    Raises:
        ConfigError: There are too many dates for the codes of a class raster.
    """
    count = len(dates)
    if 2 * count > MAX_CLASS + 1:
        raise ConfigError(f"{count} dates make {2 * count} classes; a class raster has {MAX_CLASS + 1}; give fewer dates")
    other = f"non-{name}"
    steps = list(itertools.pairwise(dates))
    tail = [""] if count == 2 else [f" {since} to {until}" for since, until in steps]
    classes = [
        ModelClass(value=ABSENT, name=f"stable {other}", color="#e8e2d4", background=True),
        ModelClass(value=PRESENT, name=f"stable {name}", color="#2f6b3a", background=True),
    ]
    changes: dict[int, Change] = {}
    for word, (first, last), states in (("loss", LOST, (name, other)), ("gain", GAINED, (other, name))):
        for step, (since, until) in enumerate(steps):
            code = len(classes)
            share = step / max(1, count - 2) if count > 2 else 1.0
            color = "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(first, last, strict=True))
            classes.append(ModelClass(value=code, name=f"{name} {word}{tail[step]}", color=color))
            changes[code] = Change(since, until, *states)
    return tuple(classes), changes


def series_card(card: Card, facts: SeriesFacts) -> tuple[Card, dict[int, Change]]:
    """The card of a model that maps changes by running another one on each date; and what its classes say.

    Raises:
        ConfigError: There are too many dates for the codes of a class raster.
    """
    dates, count = facts.dates, len(facts.dates)
    name = next(c.name for c in card.classes if c.value == facts.code)
    classes, changes = series_classes(name, dates)
    return card.model_copy(
        update={
            "description": f"First change of {name} between {', '.join(dates)}, by {card.name} on each date.",
            "bands": tuple(at_date(band, t) for t in range(count) for band in card.bands),
            "scaling": tuple(Scaling(mean=s.mean, stddev=s.stddev) for _ in dates for s in card.scaling),
            "classes": classes,
            "activation": "softmax",
            "thresholds": None,
            "calibration": None,
            "instances": None,
            "bytes_per_pixel": card.bytes_per_pixel + 16.0 * facts.classes,
            "files": {},
        }
    ), changes
