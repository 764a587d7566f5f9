"""Layers of a chunk result, and the thumbnail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from geoseg.grid import ceil_div
from geoseg.windows import Window

__all__ = ["LAYERS", "VALUE_LAYERS", "LayerName", "Layers", "Thumbnail"]

LayerName = Literal[
    "classes", "confidence", "probabilities", "uncertainty", "shares", "coverage", "instances", "panoptic", "source", "values"
]


Layers = tuple[tuple[LayerName, int], ...]
"""Layers with their number of bands, in the order in which they are stored."""


LAYERS: Layers = (("classes", 1), ("confidence", 1))
"""What every chunk has."""
VALUE_LAYERS: Layers = (("classes", 1), ("values", 2))
"""What every chunk of a model that regresses has: where there are values, and high and low bytes of their codes."""


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """Every ``stride``-th pixel of the scene, for its preview."""

    stride: int
    """Pixels between two that are taken, along rows and cols."""
    bands: tuple[int, ...]
    """Which of the model's bands stand for red, green and blue, or one for grey, of each picture."""
    window: Window
    """What it shows: the scene, or what holds the area of interest; it begins at pixels that are taken."""
    pictures: int = 1
    """How many there are: that of the preview, and for several dates those of the first and of the last one."""

    phase: tuple[int, int] = (0, 0)
    """Row and column of the scene's first pixel on the lattice of pixels that are taken."""

    @classmethod
    def of(cls, window: Window, side: int, bands: tuple[int, ...], pictures: int = 1) -> Thumbnail:
        """A thumbnail of a window, of at most so many pixels a side and one more."""
        stride = max(1, ceil_div(max(window.shape), side))
        row, col = (off // stride * stride for off in (window.row_off, window.col_off))
        return cls(stride, bands, Window.between(row, window.row_stop, col, window.col_stop), pictures)

    @property
    def shape(self) -> tuple[int, int]:
        """Its rows and columns."""
        return self._place(self.window.row_stop, self.window.col_stop)

    def _place(self, row: int, col: int) -> tuple[int, int]:
        """Where the first pixel that is taken at or behind a place of the scene stands in the picture."""
        rows, cols = (
            ceil_div(phase + at, self.stride) - ceil_div(phase + first, self.stride)
            for phase, at, first in ((self.phase[0], row, self.window.row_off), (self.phase[1], col, self.window.col_off))
        )
        return rows, cols

    def picture(self, data: NDArray[np.generic], number: int) -> NDArray[np.generic]:
        """(3 or 1, h, w) of one picture, of what ``take`` gave."""
        size = len(self.bands) // self.pictures
        return data[number * size : (number + 1) * size]

    def take(self, data: NDArray[np.generic], window: Window, core: Window) -> NDArray[np.generic]:
        """(bands, h, w) of the pixels of ``core`` that are taken; ``data`` is that of ``window``."""
        shown = core & self.window
        if shown is None:
            return np.zeros((len(self.bands), 0, 0), data.dtype)
        rows, cols = shown.slices_in(window)
        row, col = -(self.phase[0] + shown.row_off) % self.stride, -(self.phase[1] + shown.col_off) % self.stride
        # Band by band: a list of bands as an index copies all pixels before some are picked.
        return np.stack([data[band, rows, cols][row :: self.stride, col :: self.stride] for band in self.bands])

    def put(self, picture: NDArray[np.generic], part: NDArray[np.generic], core: Window) -> None:
        """Lay what ``take`` gave of a core into the picture (bands, h, w)."""
        shown = core & self.window
        assert shown is not None
        row, col = self._place(shown.row_off, shown.col_off)
        picture[:, row : row + part.shape[1], col : col + part.shape[2]] = part
