"""Combine: of several scenes over a place, the one that each pixel is of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geoseg.arrays import I32, U8, Bools
from geoseg.codes import MAX_CLASS, NODATA, NOT_ANALYSED
from pipeline.config.mosaicking import Combine

__all__ = ["MOST_SCENES", "UNCHOSEN", "Part", "choose", "merged"]

UNCHOSEN = 255
MOST_SCENES = 250
"""Scenes that may lie over one chunk: their numbers there fit into a byte."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What one scene says of a window."""

    bands: U8
    """(bands, h, w): class, confidence, and what follows."""
    depth: I32 | None = None
    """(4, h, w): distances from its edges, where they decide."""
    able: Bools | None = None
    """(h, w), True where it may be chosen; None wherever there is a class."""

    @property
    def classes(self) -> U8:
        """(h, w) class codes."""
        return np.asarray(self.bands[0])

    @property
    def analysed(self) -> Bools:
        """(h, w), True where there is a class."""
        return np.asarray(self.classes <= MAX_CLASS)


def choose(parts: Sequence[Part], combine: Combine) -> U8:
    """(h, w) index of the part that each pixel is taken from; ``UNCHOSEN`` where none was analysed.

    Args:
        parts: In the order in which they are preferred; at least one, no more than ``MOST_SCENES``.
        combine: The rule; where it leaves several, depth decides, where there is one, and then the order.
    """
    shape = parts[0].classes.shape
    chosen = np.full(shape, UNCHOSEN, np.uint8)
    able = [part.analysed if part.able is None else part.able for part in parts]
    if combine == "majority" and len(parts) > 1:
        able = _of_most(parts, able)
    best: list[np.ndarray] = []
    for index, (part, ones) in enumerate(zip(parts, able, strict=True)):
        keys: list[np.ndarray] = [part.bands[1]] if combine == "best" else []
        keys += [] if part.depth is None else list(part.depth)
        if not best:
            best = [key.copy() for key in keys]
        taken = ones & ((chosen == UNCHOSEN) | _above(keys, best, shape))
        chosen[taken] = index
        for old, new in zip(best, keys, strict=True):
            old[taken] = new[taken]
    return chosen


def merged(parts: Sequence[Part], chosen: U8) -> U8:
    """(bands, h, w) of the chosen parts; where none was chosen, of the first that could not be analysed, else no data."""
    out = np.full(parts[0].bands.shape, NODATA, np.uint8)
    for part in reversed(parts):
        # In coverage, that has its reason.
        failed = part.classes == NOT_ANALYSED
        out[:, failed] = part.bands[:, failed]
    for index, part in enumerate(parts):
        taken = chosen == index
        out[:, taken] = part.bands[:, taken]
    return out


def _above(keys: Sequence[np.ndarray], others: Sequence[np.ndarray], shape: tuple[int, ...]) -> Bools:
    """Where keys, compared one after the other, are larger than others."""
    larger, equal = np.zeros(shape, np.bool_), np.ones(shape, np.bool_)
    for key, other in zip(keys, others, strict=True):
        larger |= equal & (key > other)
        equal &= key == other
    return larger


def _of_most(parts: Sequence[Part], able: Sequence[Bools]) -> list[Bools]:
    """Where each part has a class that no other has more votes than."""
    codes = sorted({int(code) for part, ones in zip(parts, able, strict=True) for code in np.unique(part.classes[ones])})
    votes = np.zeros((len(codes), *parts[0].classes.shape), np.uint8)
    for part in parts:
        for k, code in enumerate(codes):
            votes[k] += part.classes == code
    most = votes.max(axis=0, initial=0)
    found = []
    for part in parts:
        own = np.zeros(most.shape, np.bool_)
        for k, code in enumerate(codes):
            own |= (part.classes == code) & (votes[k] == most)
        found.append(own)
    return found
