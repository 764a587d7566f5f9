"""Geometric augmentation: shift, rotation, scale, mirror images, elastic deformation, as one displacement applied once.

Labels move with their image: both are sampled at the same places, and where quarter turns and mirror images are all that
happens, nothing is interpolated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.training.chips import UNLABELLED, Chip

__all__ = ["Geometry", "warp"]

Floats = NDArray[np.float32]
ELASTIC_GRID = 3
"""Rows and columns of the grid of random displacements, as in the U-Net paper."""
LARGEST = 2.5
"""Standard deviations to which displacements are limited, so that what is read around a chip is limited, too."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """How far chips are moved and bent."""

    turn: bool = True
    """Quarter turns and mirror images, all eight alike."""
    scale: float = 0.0
    """Enlarged by exp(u), u even between -scale and scale."""
    rotate: float = 0.0
    """Rotated by degrees, even between -rotate and rotate."""
    shift: float = 0.0
    """Shifted along both axes by pixels, even between -shift and shift."""
    elastic: float = 0.0
    """Standard deviation in pixels of random displacements on a grid of 3 x 3, cubic in between (Ronneberger et al. 2015)."""

    @property
    def interpolates(self) -> bool:
        """Whether pixels fall between pixels."""
        return any((self.scale, self.rotate, self.shift, self.elastic))

    def required_margin(self, size: int) -> int:
        """Pixels around a chip of ``size`` that have to be read, so that only the edge of the scene leaves gaps."""
        if not self.interpolates:
            return 0
        angle = math.radians(min(self.rotate, 45.0))
        reach = size / 2 * math.exp(self.scale) * (math.cos(angle) + math.sin(angle))
        return math.ceil(reach - size / 2 + self.shift + LARGEST * self.elastic) + 2

    def sized(self, size: int) -> Callable[[Chip, np.random.Generator], Chip]:
        """The augmentation that makes chips of ``size`` from chips read with ``required_margin``; picklable."""
        return partial(_apply, self, size)

    def field(self, shape: tuple[int, int], size: int, rng: np.random.Generator) -> Floats:
        """(size, size, 2) float32: the row and col, in a chip of ``shape``, that each pixel of the result is taken from."""
        scale = math.exp(rng.uniform(-self.scale, self.scale))
        angle = math.radians(rng.uniform(-self.rotate, self.rotate))
        shift = rng.uniform(-self.shift, self.shift, 2)
        at = np.arange(size, dtype=np.float64) - (size - 1) / 2
        rows, cols = at[:, None] * np.ones(size), at[None, :] * np.ones((size, 1))
        # A chip enlarged by `scale` shows less of the scene.
        place = np.stack([rows * math.cos(angle) - cols * math.sin(angle), rows * math.sin(angle) + cols * math.cos(angle)], -1)
        place = place / scale + shift + (np.asarray(shape) - 1) / 2
        if self.elastic:
            nodes = np.clip(rng.normal(0, 1, (2, ELASTIC_GRID, ELASTIC_GRID)), -LARGEST, LARGEST) * self.elastic
            place += np.stack([_bicubic(node, size) for node in nodes], -1)
        return place.astype(np.float32)


def _bicubic(nodes: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """(size, size): values at the nodes of a coarse grid that spans the chip, bicubic in between."""
    import torch

    given = torch.from_numpy(nodes)[None, None]
    found = torch.nn.functional.interpolate(given, size=(size, size), mode="bicubic", align_corners=True)
    smooth: NDArray[np.float64] = found[0, 0].numpy()
    return smooth


def _apply(geometry: Geometry, size: int, chip: Chip, rng: np.random.Generator) -> Chip:
    turns, mirror = (int(rng.integers(4)), bool(rng.random() < 0.5)) if geometry.turn else (0, False)
    if geometry.interpolates:
        chip = warp(chip, geometry.field(chip.valid.shape, size, rng))
    return _turned(chip, turns, mirror=mirror)


def _turned(chip: Chip, turns: int, *, mirror: bool) -> Chip:
    def turn(values: NDArray[Any]) -> NDArray[Any]:
        turned = np.rot90(values, turns, (-2, -1))
        return np.ascontiguousarray(turned[..., ::-1] if mirror else turned)

    return Chip(
        turn(chip.image), turn(chip.valid), turn(chip.labels), turn(chip.objects) if chip.objects is not None else None,
        turn(chip.rasters) if chip.rasters is not None else None,
    )  # fmt: skip


def warp(chip: Chip, field: Floats) -> Chip:
    """A chip sampled at other places: the image bicubic, labels and objects at the nearest pixel.

    A pixel of which any of the four nearest pixels has no data, or lies outside, has no data; the others of the 16 that
    the cubic looks at count as the mean of the chip there, so that what is not there does not shine in.

    Args:
        chip: The chip.
        field: (h, w, 2) float32: row and col that each pixel of the result is taken from.
    """
    import torch
    from torchvision.transforms.v2 import functional

    height, width = chip.valid.shape
    rows, cols = field[..., 0], field[..., 1]
    nearest_row, nearest_col = np.rint(rows).astype(np.intp), np.rint(cols).astype(np.intp)
    inside = (nearest_row >= 0) & (nearest_row < height) & (nearest_col >= 0) & (nearest_col < width)
    at = np.clip(nearest_row, 0, height - 1), np.clip(nearest_col, 0, width - 1)

    # torchvision wants displacements of a grid of the image's own size, in units in which the image is 2 wide.
    full = np.zeros((1, height, width, 2), np.float32)
    out_rows, out_cols = rows.shape
    full[0, :out_rows, :out_cols, 0] = 2 * (cols - np.arange(out_cols, dtype=np.float32)[None, :]) / width
    full[0, :out_rows, :out_cols, 1] = 2 * (rows - np.arange(out_rows, dtype=np.float32)[:, None]) / height
    displacement = torch.from_numpy(full)

    def smooth(values: Floats) -> Floats:
        moved = functional.elastic(
            torch.from_numpy(np.ascontiguousarray(values)), displacement, functional.InterpolationMode.BICUBIC
        )
        result: Floats = moved[:, :out_rows, :out_cols].numpy()
        return result

    complete = _all_four(chip.valid, rows, cols)
    image = chip.image
    if not chip.valid.all():
        means = image[:, chip.valid].mean(axis=1) if chip.valid.any() else np.zeros(len(image), np.float32)
        image = np.where(chip.valid, image, means[:, None, None].astype(np.float32))
    # Zeros lie beyond the chip: the mean is taken off before, and put back after.
    level = image.mean(axis=(1, 2), keepdims=True, dtype=np.float64).astype(np.float32)
    moved = smooth(image - level) + level
    moved[:, ~complete] = 0
    labels = np.where(inside & complete, chip.labels[at], np.uint8(UNLABELLED))
    objects = np.where(labels != UNLABELLED, chip.objects[at], 0).astype(np.int32) if chip.objects is not None else None
    rasters = None
    if chip.rasters is not None:
        known = np.isfinite(chip.rasters)
        filled = np.where(known, chip.rasters, 0).astype(np.float32)
        kept = np.stack([_all_four(part, rows, cols) for part in known])
        rasters = np.where(kept, smooth(filled), np.float32(np.nan)).astype(np.float32)
    return Chip(np.ascontiguousarray(moved, np.float32), complete, labels.astype(np.uint8), objects, rasters)


def _all_four(mask: NDArray[np.bool_], rows: Floats, cols: Floats) -> NDArray[np.bool_]:
    """Whether the four pixels around each place are inside and set."""
    height, width = mask.shape
    top, left = np.floor(rows).astype(np.intp), np.floor(cols).astype(np.intp)
    # On a pixel's very centre, only that row or column counts.
    bottom, right = np.ceil(rows).astype(np.intp), np.ceil(cols).astype(np.intp)
    inside = (top >= 0) & (left >= 0) & (bottom < height) & (right < width)
    if mask.all():
        return np.asarray(inside)
    t, b = np.clip(top, 0, height - 1), np.clip(bottom, 0, height - 1)
    le, r = np.clip(left, 0, width - 1), np.clip(right, 0, width - 1)
    return np.asarray(inside & mask[t, le] & mask[t, r] & mask[b, le] & mask[b, r])
