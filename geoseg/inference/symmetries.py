"""The eight symmetries of the square, applied to images and taken back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.arrays import F32

__all__ = ["SYMMETRIES", "extended", "turn", "turn_back"]

SYMMETRIES = tuple((turns, flip) for turns in range(4) for flip in (False, True))
"""Quarter turns, and whether it is mirrored afterwards."""


def extended(image: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """(..., h, w) to (..., H, W), repeating the edge below and on the right."""
    height, width = shape[0] - image.shape[-2], shape[1] - image.shape[-1]
    if not height and not width:
        return image
    return np.pad(image, [(0, 0)] * (image.ndim - 2) + [(0, height), (0, width)], mode="edge")


def turn(image: NDArray[Any], turns: int, flip: bool) -> NDArray[Any]:
    """(..., h, w) turned, then mirrored."""
    turned = np.rot90(image, turns, axes=(-2, -1))
    return np.ascontiguousarray(turned[..., ::-1] if flip else turned)


def turn_back(image: F32, turns: int, flip: bool) -> F32:
    """Undo ``turn``."""
    return np.rot90(image[..., ::-1] if flip else image, -turns, axes=(-2, -1))
