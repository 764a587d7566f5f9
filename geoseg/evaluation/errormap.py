"""Map of errors: a small picture of a raster of any size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geoseg.arrays import I64, U8
from geoseg.grid import ceil_div
from geoseg.windows import Window

__all__ = ["ErrorMap"]

PICTURE_PX = 480
"""Largest side of a picture."""
RIGHT, OTHER, FALSE_ALARM, MISSED, UNKNOWN = (
    np.array(color, np.float64)
    for color in ((0.16, 0.35, 0.22), (0.93, 0.93, 0.90), (0.85, 0.37, 0.0), (0.46, 0.16, 0.62), (0.72, 0.72, 0.72))
)


@dataclass(frozen=True, slots=True, eq=False)
class ErrorMap:
    """Pixels by cell of a coarse grid: how many count, are of a class but 0 and found, are missed, or found wrongly."""

    step: int
    """Pixels along the side of a cell."""
    counts: I64
    """(4, R, C): compared, right and not class 0, false alarms, missed."""

    @classmethod
    def of(cls, height: int, width: int) -> ErrorMap:
        """Empty, for a raster of a size."""
        step = max(1, ceil_div(max(height, width), PICTURE_PX))
        return cls(step, np.zeros((4, ceil_div(height, step), ceil_div(width, step)), np.int64))

    def aligned(self, side: int) -> int:
        """The largest side of windows, up to a given one, that no cell lies across; a cell's if it is larger."""
        return max(1, side // self.step) * self.step

    def add(self, window: Window, truth: U8, found: U8, classes: int) -> None:
        """Count a window that begins at a cell: in other classes but 0, a pixel of a wrong class is a false alarm."""
        known = (truth < classes) & (found < classes)
        right = truth == found
        masks = (known, known & right & (truth > 0), known & ~right & (found > 0), known & ~right & (found == 0))
        rows, cols = ceil_div(window.height, self.step), ceil_div(window.width, self.step)
        at = window.row_off // self.step, window.col_off // self.step
        pad = (0, rows * self.step - window.height), (0, cols * self.step - window.width)
        for layer, mask in zip(self.counts, masks, strict=True):
            cells = np.pad(mask, pad).reshape(rows, self.step, cols, self.step).sum(axis=(1, 3))
            layer[at[0] : at[0] + rows, at[1] : at[1] + cols] += cells

    def picture(self) -> U8:
        """(R, C, 3): green where a class but 0 is right, light where 0 is, orange false alarms, violet misses, grey unknown."""
        known = self.counts[0].astype(np.float64)
        shares = self.counts[1:] / np.maximum(known, 1)
        # What is rare is to be seen: errors count more than their area.
        wrong = np.sqrt(shares[1:])
        wrong /= np.maximum(wrong.sum(axis=0), 1)
        rest = 1 - wrong.sum(axis=0)
        inside = shares[0] / np.maximum(1 - shares[1:].sum(axis=0), 1e-9)
        color = (
            (rest * inside)[..., None] * RIGHT
            + (rest * (1 - inside))[..., None] * OTHER
            + wrong[0][..., None] * FALSE_ALARM
            + wrong[1][..., None] * MISSED
        )
        color = np.where((known > 0)[..., None], color, UNKNOWN)
        return np.asarray(np.rint(np.clip(color, 0, 1) * 255), np.uint8)
