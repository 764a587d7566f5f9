"""What is labelled where: pixels by class of each scene, and in how many places of a chip's size a class is met."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from geoseg.arrays import I64
from geoseg.codes import UNLABELLED
from geoseg.georeference import Georeference
from geoseg.training.data.chips import Chip, ChipSource
from geoseg.windows import Window

__all__ = ["Counting", "Place", "survey"]

SIDE = 1024
"""Rows and columns that are read at once."""


@dataclass(slots=True, eq=False)
class Place:
    """Counts of one scene, or of one area of it."""

    name: str
    """Of the scene."""
    classes: int
    chip: int
    """Side of a cell, in pixels."""
    valid: int = 0
    """Pixels with data."""
    counts: I64 = field(init=False)
    """(K,): labelled pixels by class."""
    cells: int = 0
    """Cells of a chip's size with a labelled pixel; those at the ends of what is read at once may be smaller."""
    holding: I64 = field(init=False)
    """(K,): cells with a pixel of a class."""

    def __post_init__(self) -> None:
        """Begin with nothing."""
        self.counts, self.holding = np.zeros(self.classes, np.int64), np.zeros(self.classes, np.int64)

    def add(self, chip: Chip) -> None:
        """Count what was read; each pixel is to be read once."""
        self.valid += int(chip.valid.sum())
        for cell in Window.of(chip.labels.shape).parts(self.chip):
            found = np.bincount(chip.labels[cell.slices].ravel(), minlength=UNLABELLED + 1)[: self.classes]
            self.counts += found
            self.holding += found > 0
            self.cells += bool(found.any())


@dataclass(slots=True, eq=False)
class Counting:
    """A scene that counts what is read of it; a ``ChipSource``."""

    source: ChipSource
    place: Place
    name: str = field(init=False)
    height: int = field(init=False)
    width: int = field(init=False)
    georeference: Georeference | None = field(init=False)

    def __post_init__(self) -> None:
        """Take name and place from the scene."""
        source = self.source
        self.name, self.height, self.width, self.georeference = source.name, source.height, source.width, source.georeference

    def read(self, window: Window) -> Chip:
        """The chip of a window."""
        chip = self.source.read(window)
        self.place.add(chip)
        return chip


def survey(sources: Sequence[ChipSource], areas: Iterable[tuple[int, Window]], classes: int, chip: int) -> tuple[Place, ...]:
    """Read areas of scenes once, in parts, and count each.

    Args:
        sources: The scenes.
        areas: Number of a scene, and a window of it.
        classes: Number of classes.
        chip: Side of a cell in pixels.
    """
    places = []
    for k, area in areas:
        place = Place(sources[k].name, classes, chip)
        for part in area.parts(SIDE):
            place.add(sources[k].read(part))
        places.append(place)
    return tuple(places)
