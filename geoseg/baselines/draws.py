"""Training data of baselines: pixels and windows drawn from labelled scenes, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from geoseg.arrays import F32, F64, U8, Bools
from geoseg.codes import NODATA, UNLABELLED
from geoseg.errors import ConfigError
from geoseg.evaluation.confusion import ConfusionMatrix
from geoseg.training.data.chips import Chip, ChipSource
from geoseg.windows import Window

__all__ = ["Baseline", "DrawnPixels", "best_of", "draw_chips", "draw_pixels", "parts", "two_sides"]

PART_PX = 1024
Features = Callable[[F32, Bools], F32]


class Baseline(Protocol):
    """A fitted method."""

    @property
    def margin(self) -> int | None:
        """Pixels around an area that its classes depend on; None where they depend on all of the image."""
        ...

    def predict(self, image: F32, valid: Bools) -> U8:
        """Class codes (h, w) of an image (C, h, w) as chips have it, (h, w) where there is data; 255 where not valid."""
        ...


B = TypeVar("B", bound=Baseline)


@dataclass(frozen=True, slots=True, eq=False)
class DrawnPixels:
    """Labelled pixels of some scenes."""

    values: F32
    """(n, F): features."""
    labels: U8
    """(n,): class codes."""


def parts(source: ChipSource, side: int = PART_PX) -> Iterator[Window]:
    """Windows of at most ``side`` pixels that partition a scene."""
    return Window.of((source.height, source.width)).parts(side)


def two_sides(inside: Bools, code: int, valid: Bools) -> U8:
    """Codes (h, w) of two classes: ``code``, 0 or 1, inside, the other one outside, 255 where not valid."""
    return np.where(valid, np.where(inside, code, 1 - code), NODATA).astype(np.uint8)


def draw_pixels(
    sources: Sequence[ChipSource], features: Features, margin: int, count: int, rng: np.random.Generator
) -> DrawnPixels:
    """Draw labelled pixels, each with the same chance, and compute their features.

    Every pixel gets a random number, and those with the lowest ones are taken: one pass, and memory for one window and
    twice ``count`` pixels.

    Args:
        sources: The scenes.
        features: Maps (C, h, w) pixels and (h, w) validity to (F, h, w) features.
        margin: Pixels around an area that its features depend on.
        count: How many to draw; all where there are fewer.
        rng: Decides which.

    Raises:
        ConfigError: No pixel is labelled.
    """
    keys: F64 = np.empty(0)
    values: F32 | None = None
    labels: U8 = np.empty(0, np.uint8)
    limit = np.inf
    for source in sources:
        for window in parts(source):
            wide = window.grown(margin)
            chip = source.read(wide)
            inner = window.slices_in(wide)
            known = (chip.labels[inner] != UNLABELLED) & chip.valid[inner]
            key = rng.random(window.shape)
            rows, cols = np.nonzero(known & (key < limit))
            if not len(rows):
                continue
            found = features(chip.image, chip.valid)[(slice(None), *inner)][:, rows, cols].T
            values = found if values is None else np.concatenate([values, found])
            keys = np.concatenate([keys, key[rows, cols]])
            labels = np.concatenate([labels, chip.labels[inner][rows, cols]])
            if len(keys) > count:
                keep = np.argpartition(keys, count - 1)[:count]
                keys, values, labels = keys[keep], values[keep], labels[keep]
                limit = float(keys.max())
    if values is None:
        raise ConfigError("baseline: none of the scenes has a labelled pixel; nothing can be fitted")
    order = np.argsort(keys)
    return DrawnPixels(np.ascontiguousarray(values[order]), labels[order])


def draw_chips(sources: Sequence[ChipSource], side: int, count: int, rng: np.random.Generator) -> list[Chip]:
    """Draw labelled windows of at most ``side`` pixels without putting any back.

    Raises:
        ConfigError: No pixel is labelled.
    """
    places = [(source, window) for source in sources for window in parts(source, side)]
    chips: list[Chip] = []
    for number in rng.permutation(len(places)).tolist():
        source, window = places[number]
        chip = source.read(window)
        if (chip.labels != UNLABELLED).any():
            chips.append(chip)
        if len(chips) == count:
            break
    if not chips:
        raise ConfigError("baseline: none of the scenes has a labelled pixel; nothing can be fitted")
    return chips


def best_of(candidates: Sequence[B], chips: Sequence[Chip]) -> B:
    """The candidate whose two classes have the best mean IoU on all chips together; the first of equals."""

    def score(candidate: B) -> float:
        matrix = ConfusionMatrix.zeros(2)
        for chip in chips:
            matrix += ConfusionMatrix.tally(chip.labels, candidate.predict(chip.image, chip.valid), 2)
        return matrix.miou() if matrix.pixels else 0.0

    return max(candidates, key=score)
