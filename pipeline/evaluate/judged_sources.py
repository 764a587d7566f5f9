"""Scenes of maps as classical methods see them: the image, and of the truth what the map is judged by."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from geoseg.codes import UNLABELLED
from geoseg.errors import ConfigError
from geoseg.georeference import Georeference
from geoseg.training.data.chips import Chip, ChipSource
from geoseg.windows import Window
from pipeline.evaluate.pairs import Opened

__all__ = ["MapSource", "OneAtATime", "image_of"]


@dataclass(slots=True, eq=False)
class OneAtATime:
    """Keeps one scene open, whatever their number: each has a cache of its own."""

    _which: ChipSource | None = None
    _open: ChipSource | None = None

    def read(self, source: ChipSource, window: Window) -> Chip:
        """The chip of a window of a scene; that which was open before is closed if it is another one."""
        if self._open is None or self._which is not source:
            # A copy comes without open files, as one for another process does.
            self._which, self._open = source, copy.copy(source)
        return self._open.read(window)


@dataclass(slots=True, eq=False)
class MapSource:
    """A scene with the truth of its map; a ``ChipSource``."""

    image: ChipSource
    turn: OneAtATime
    truth: Opened | None = None
    """Labels; None for those that the image comes with."""
    classes: int = 0
    """Number of classes of the truth."""
    as_judged: bool = False
    """Whether what the map has no class for is unlabelled, so that all count the same pixels."""
    name: str = field(init=False)
    height: int = field(init=False)
    width: int = field(init=False)
    georeference: Georeference | None = field(init=False)

    def __post_init__(self) -> None:
        """Take name and place from the image."""
        image = self.image
        self.name, self.height, self.width, self.georeference = image.name, image.height, image.width, image.georeference

    def read(self, window: Window) -> Chip:
        """The chip of a window."""
        chip = self.turn.read(self.image, window)
        inside = window & Window.of((self.height, self.width))
        if self.truth is None or inside is None:
            return chip
        labels = np.full(window.shape, UNLABELLED, np.uint8)
        codes = self.truth.truth.read(inside)[0]
        known = codes < self.classes
        if self.as_judged:
            known &= self.truth.map.classes(inside) < self.classes
        labels[inside.slices_in(window)] = np.where(known, codes, np.uint8(UNLABELLED))
        return replace(chip, labels=labels)


def image_of(opened: Opened, images: Mapping[str, ChipSource]) -> ChipSource:
    """The image of a map, by its name.

    Raises:
        ConfigError: There is none, or it is on another grid.
    """
    name = opened.pair.name
    found = images.get(name) or images.get(Path(name).name)
    if found is None:
        raise ConfigError(f"--baseline: no image is named {name}, as the map is; there are {', '.join(list(images)[:10])}")
    if (found.height, found.width) != (opened.height, opened.width) or not _same_place(found.georeference, opened.georeference):
        raise ConfigError(
            f"--baseline: {found.name}: {found.height} x {found.width} px, and its map has {opened.height} x {opened.width} or "
            "lies elsewhere; classical methods are judged on the pixels of the map: map the image on its own grid"
        )
    return found


def _same_place(image: Georeference | None, of_map: Georeference | None) -> bool:
    """Whether two grids lie on each other to a hundredth of a pixel, as far as both have a place."""
    if image is None or of_map is None or of_map.crs is None:
        return True
    one, other = np.array(image.transform), np.array(of_map.transform)
    return bool(np.abs(one - other).max() <= 0.01 * abs(image.determinant) ** 0.5)
