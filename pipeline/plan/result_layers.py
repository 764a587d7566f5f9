"""Layers of a chunk result, and the thumbnail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from geoseg.grid import ceil_div
from geoseg.windows import Window

__all__ = ["LAYERS", "LayerName", "Layers", "Thumbnail"]

LayerName = Literal["classes", "confidence", "probabilities", "uncertainty", "instances", "panoptic", "source"]


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
    """Which of the model's bands stand for red, green and blue; one for grey."""
    phase: tuple[int, int] = (0, 0)
    """Row and column of the scene's first pixel on the lattice of pixels that are taken."""

    def take(self, data: NDArray[np.generic], window: Window, core: Window) -> NDArray[np.generic]:
        """(bands, h, w) of the pixels of ``core`` that are on the lattice; ``data`` is that of ``window``."""
        rows, cols = core.slices_in(window)
        row, col = -(self.phase[0] + core.row_off) % self.stride, -(self.phase[1] + core.col_off) % self.stride
        picked = data[list(self.bands), rows, cols][:, row :: self.stride, col :: self.stride]
        return np.ascontiguousarray(picked)

    def place(self, row: int, col: int) -> tuple[int, int]:
        """Where the first pixel that is taken at or behind a place of the scene stands in its preview."""
        top, left = self.phase
        return (
            ceil_div(top + row, self.stride) - ceil_div(top, self.stride),
            ceil_div(left + col, self.stride) - ceil_div(left, self.stride),
        )
