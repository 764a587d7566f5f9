"""Layers of a chunk result, and the thumbnail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from geoseg.windows import Window

__all__ = ["LAYERS", "LayerName", "Layers", "Thumbnail"]

LayerName = Literal["classes", "confidence", "probabilities", "uncertainty", "instances", "panoptic"]


Layers = tuple[tuple[LayerName, int], ...]
"""Layers with their number of bands, in the order in which they are stored."""


LAYERS: Layers = (("classes", 1), ("confidence", 1))
"""What every chunk has."""


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """Every ``stride``-th pixel of the scene, for its preview."""

    stride: int
    """Pixels between two that are taken, along rows and cols."""
    bands: tuple[int, ...]
    """Which of the model's bands stand for red, green and blue, or one for grey, of each picture."""
    pictures: int = 1
    """How many there are: that of the preview, and for several dates those of the first and of the last one."""

    def picture(self, data: NDArray[np.generic], number: int) -> NDArray[np.generic]:
        """(3 or 1, h, w) of one picture, of what ``take`` gave."""
        size = len(self.bands) // self.pictures
        return data[number * size : (number + 1) * size]

    def take(self, data: NDArray[np.generic], window: Window, core: Window) -> NDArray[np.generic]:
        """(bands, h, w) of the pixels of ``core`` that are on the lattice; ``data`` is that of ``window``."""
        rows, cols = core.slices_in(window)
        row, col = -core.row_off % self.stride, -core.col_off % self.stride
        picked = data[list(self.bands), rows, cols][:, row :: self.stride, col :: self.stride]
        return np.ascontiguousarray(picked)
