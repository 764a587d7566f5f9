"""Growing of what hides the ground: clouds have thin edges that no mask holds."""

from __future__ import annotations

import math

import numpy as np

from geoseg.arrays import Bools
from geoseg.clouds.hidden import Hidden
from geoseg.georeference import Georeference
from geoseg.windows import Window

__all__ = ["MOST_PX", "Grown", "grown", "pixel_sides"]

MOST_PX = 1000.0
"""Pixels that a mask can grow at most: around each block so many more are read."""
BLOCK_PX = 1024
"""Distances are measured in blocks of this side, which bounds their memory."""


class Grown:
    """A mask of which all pixels grow within the scene: the same whatever window is read.

    Args:
        inner: The mask.
        shape: Rows and cols of the scene.
        reach: How far it grows along rows and along cols, in pixels; both more than 0.
    """

    def __init__(self, inner: Hidden, shape: tuple[int, int], reach: tuple[float, float]) -> None:
        self._inner, self._shape, self._reach = inner, shape, reach

    def read(self, window: Window) -> Bools:
        """(h, w), True where the centre of a pixel lies no further than the reach from that of a hidden one."""
        down, across = (math.ceil(reach) for reach in self._reach)
        whole = Window.of(self._shape)
        seen = window.grown(down, across) & whole
        assert seen is not None
        hidden = self._inner.read(seen)
        out = hidden[window.slices_in(seen)].copy()
        if not hidden.any():
            return out
        for block in window.parts(BLOCK_PX):
            near = block.grown(down, across) & whole
            assert near is not None
            out[block.slices_in(window)] = grown(hidden[near.slices_in(seen)], self._reach)[block.slices_in(near)]
        return out


def grown(hidden: Bools, reach: tuple[float, float]) -> Bools:
    """(h, w), True within an ellipse with these half axes in pixels around the centre of each hidden pixel."""
    from scipy import ndimage

    if hidden.all() or not hidden.any():
        return hidden.copy()
    # One pixel along an axis is so large a part of the reach along it; rounding must not lose what lies right at its end.
    distance = ndimage.distance_transform_edt(~hidden, sampling=(1 / reach[0], 1 / reach[1]))
    return np.asarray(distance <= 1 + 1e-9)


def pixel_sides(place: Georeference, shape: tuple[int, int]) -> tuple[float, float]:
    """Metres from row to row and from col to col: those of the map; of degrees, those in the middle of an image with a CRS."""
    a, b, _, d, e, _ = place.transform
    if place.is_projected:
        unit = place.nominal_pixel_m / math.sqrt(abs(place.determinant))
        return math.hypot(b, e) * unit, math.hypot(a, d) * unit
    metres = place.jacobian(np.array([shape[0] / 2]), np.array([shape[1] / 2]))[:, :, 0]
    return float(np.hypot(*metres[:, 0])), float(np.hypot(*metres[:, 1]))
