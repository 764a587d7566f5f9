"""Scenes whose labels are numbers: labelled where these are known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from geoseg.codes import UNLABELLED
from geoseg.errors import ConfigError
from geoseg.training.data.chips import Chip, ChipSource
from geoseg.training.data.labelled import LabelledScene
from geoseg.windows import Window

__all__ = ["ValueStatistics", "ValuedScene", "measure_values"]

SIDE = 1024


class ValuedScene:
    """A scene with a raster of numbers as its labels. Picklable.

    Args:
        scene: The scene, without labels of classes, whose first raster these are.
    """

    def __init__(self, scene: LabelledScene) -> None:
        self._inner = scene
        self.name, self.height, self.width = scene.name, scene.height, scene.width
        self.georeference, self.scene, self.notes = scene.georeference, scene.scene, scene.notes

    def read(self, window: Window) -> Chip:
        """The chip of a window; labels are 0 where a number is known, and UNLABELLED elsewhere."""
        chip = self._inner.read(window)
        assert chip.rasters is not None
        rasters = np.where(chip.valid & np.isfinite(chip.rasters), chip.rasters, np.float32(np.nan))
        labels = np.where(np.isfinite(rasters[0]), np.uint8(0), np.uint8(UNLABELLED))
        return replace(chip, labels=labels, rasters=rasters)


@dataclass(frozen=True, slots=True)
class ValueStatistics:
    """Of the numbers of some scenes."""

    pixels: int
    mean: float
    spread: float
    """Standard deviation, of the population."""
    least: float
    most: float


def measure_values(sources: list[ChipSource]) -> ValueStatistics:
    """Mean, standard deviation and range of the numbers of scenes.

    Raises:
        ConfigError: No number is known, or all are the same.
    """
    count, total, squares, shift = 0, 0.0, 0.0, 0.0
    least, most = np.inf, -np.inf
    for source in sources:
        for part in Window.of((source.height, source.width)).parts(SIDE):
            numbers = _known(source.read(part))
            if not numbers.size:
                continue
            # Near the numbers, so that their squares lose no digits.
            shift = shift if count else float(numbers[0])
            count += numbers.size
            total += float((numbers - shift).sum())
            squares += float(((numbers - shift) ** 2).sum())
            least, most = min(least, float(numbers.min())), max(most, float(numbers.max()))
    if not count:
        raise ConfigError(f"data.labels: none of the {len(sources)} scenes to train on has a number; do they lie on the images?")
    if least == most:
        raise ConfigError(f"data.labels: all {count:,} numbers to train on are {least:g}; nothing can be learned of them")
    return ValueStatistics(count, shift + total / count, (squares / count - (total / count) ** 2) ** 0.5, least, most)


def _known(chip: Chip) -> NDArray[np.float64]:
    assert chip.rasters is not None
    return np.asarray(chip.rasters[0][np.isfinite(chip.rasters[0])], np.float64)
