"""Geometric augmentation: shift, rotation, scale, mirror images, elastic deformation, as one displacement applied once.

Labels move with their image: both are sampled at the same places, and where quarter turns and mirror images are all that
happens, nothing is interpolated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.codes import UNLABELLED
from geoseg.inference.symmetries import turn
from geoseg.training.data.chips import Chip

__all__ = ["Bend", "Geometry", "Moves", "Pose", "between_nodes", "warp"]

Floats = NDArray[np.float32]
ELASTIC_GRID = 3
"""Rows and columns of the grid of random displacements, as in the U-Net paper."""
LARGEST = 2.5
"""Standard deviations to which elastic displacements are limited, so that what is read around a chip is limited, too."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """Ranges of the random displacements of chips."""

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

    def sized(self, size: int) -> Moves:
        """The augmentation that makes chips of ``size`` from chips read with ``required_margin``; picklable."""
        return Moves(self, size)

    def field(self, shape: tuple[int, int], size: int, rng: np.random.Generator) -> Floats:
        """(size, size, 2) float32: the row and col, in a chip of ``shape``, that each pixel of the result is taken from."""
        return self.bend(rng).field(shape, size)

    def draw(self, rng: np.random.Generator) -> Pose:
        """Draw the displacement of one chip."""
        turns, mirror = (int(rng.integers(4)), bool(rng.random() < 0.5)) if self.turn else (0, False)
        return Pose(turns, mirror, self.bend(rng) if self.interpolates else None)

    def bend(self, rng: np.random.Generator) -> Bend:
        """Draw scale, rotation, shift and deformation of one chip."""
        scale = math.exp(rng.uniform(-self.scale, self.scale))
        angle = math.radians(rng.uniform(-self.rotate, self.rotate))
        shift = rng.uniform(-self.shift, self.shift, 2)
        nodes = rng.normal(0, self.elastic, (2, ELASTIC_GRID, ELASTIC_GRID)) if self.elastic else None
        return Bend(scale, angle, shift, nodes, LARGEST * self.elastic)


@dataclass(frozen=True, slots=True, eq=False)
class Bend:
    """Scale, rotation, shift and deformation of one chip, as drawn."""

    scale: float
    """Factor by which it is enlarged."""
    angle: float
    """By which it is rotated, in radians."""
    shift: NDArray[np.float64]
    """(2,): pixels along rows and cols."""
    nodes: NDArray[np.float64] | None
    """(2, 3, 3): elastic displacements of rows and cols on a grid of 3 x 3."""
    limit: float
    """Pixels to which elastic displacements are limited."""

    def field(self, shape: tuple[int, int], size: int) -> Floats:
        """(size, size, 2) float32: the row and col, in a chip of ``shape``, that each pixel of the result is taken from."""
        middle = self.shift + (np.asarray(shape) - 1) / 2
        # A chip enlarged by `scale` shows less of the scene.
        at = (np.arange(size) - (size - 1) / 2) / self.scale
        sin, cos = at * math.sin(self.angle), at * math.cos(self.angle)
        place = np.empty((size, size, 2))
        np.subtract.outer(cos + middle[0], sin, out=place[..., 0])
        np.add.outer(sin + middle[1], cos, out=place[..., 1])
        if self.nodes is not None:
            between = between_nodes(size)
            for axis, nodes in enumerate(self.nodes):
                place[..., axis] += np.clip(between @ nodes @ between.T, -self.limit, self.limit)
        return place.astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Pose:
    """Displacement of one chip, as drawn."""

    turns: int
    """Quarter turns."""
    mirror: bool
    """Whether it is mirrored afterwards."""
    bend: Bend | None
    """Applied before both; None where nothing falls between pixels."""


@dataclass(frozen=True, slots=True)
class Moves:
    """The geometric augmentation of chips of one size; picklable."""

    geometry: Geometry
    """Ranges of what is drawn."""
    size: int
    """Rows and columns of the chips that are made."""

    def __call__(self, chip: Chip, rng: np.random.Generator) -> Chip:
        """Move and bend a chip."""
        pose = self.geometry.draw(rng)
        if pose.bend is None:
            parts = (chip.image, chip.valid, chip.labels, chip.objects, chip.rasters)
            turned = [None if part is None else turn(part, pose.turns, pose.mirror) for part in parts]
            return Chip(*turned)  # type: ignore[arg-type]  # in the order of its fields
        field = pose.bend.field(chip.valid.shape, self.size)
        return warp(chip, turn(field.transpose(2, 0, 1), pose.turns, pose.mirror).transpose(1, 2, 0))


@cache
def between_nodes(size: int) -> NDArray[np.float64]:
    """(size, 3): weights of the nodes of a coarse grid that spans a chip, along one axis, bicubic in between."""
    import torch

    nodes = torch.eye(ELASTIC_GRID, dtype=torch.float64)[:, None, :, None]
    found = torch.nn.functional.interpolate(nodes, size=(size, 1), mode="bicubic", align_corners=True)
    weights: NDArray[np.float64] = found[:, 0, :, 0].T.numpy()
    return weights


def warp(chip: Chip, field: Floats) -> Chip:
    """A chip sampled at other places: the image bicubic, rasters bilinear, labels and objects at the nearest pixel.

    What is not there never shines in: a pixel of which any of the four nearest pixels has no data, or lies outside, has no
    data; and where all four have data, but not all the sixteen that the cubic looks at, it is bilinear. Rasters are NaN
    where one of four is. The cubic's overshoot is cut off at the least and largest value of each band.

    Args:
        chip: The chip.
        field: (h, w, 2) float32: row and col that each pixel of the result is taken from.
    """
    import torch

    height, width = chip.valid.shape
    places = _Places.of(field, chip.valid.shape)
    # Coordinates in which the image is 2 wide, x before y.
    unit = 2 / np.array([width, height], np.float32)
    grid = torch.from_numpy((field[..., ::-1] + np.float32(0.5)) * unit - 1)[None]

    def sampled(values: Floats, mode: str) -> Floats:
        given = torch.from_numpy(np.ascontiguousarray(values, np.float32))[None]
        found: Floats = torch.nn.functional.grid_sample(given, grid, mode, "border", align_corners=False)[0].numpy()
        return found

    whole = bool(chip.valid.all())
    seen = True if whole else chip.valid
    least = chip.image.min(axis=(1, 2), keepdims=True, where=seen, initial=np.inf)
    largest = chip.image.max(axis=(1, 2), keepdims=True, where=seen, initial=-np.inf)
    image = np.clip(sampled(chip.image, "bicubic"), least, largest)
    valid = places.inside
    if not whole:
        valid = places.all_four(chip.valid)
        near = valid & ~places.all_sixteen(chip.valid)
        image[:, near] = sampled(chip.image, "bilinear")[:, near]
    image[:, ~valid] = 0
    labels = np.where(valid, places.nearest(chip.labels), np.uint8(UNLABELLED))
    objects = None
    if chip.objects is not None:
        objects = np.where(labels != UNLABELLED, places.nearest(chip.objects), np.int32(0))
    rasters = None
    if chip.rasters is not None:
        known = np.isfinite(chip.rasters)
        kept = np.stack([places.all_four(part) for part in known])
        rasters = np.where(kept, sampled(np.where(known, chip.rasters, 0), "bilinear"), np.float32(np.nan))
    return Chip(image, valid, labels, objects, rasters)


@dataclass(frozen=True, slots=True, eq=False)
class _Places:
    """Places in a chip that a field points to; those outside are moved to its edge, and known not to be ``inside``."""

    rows: Floats
    cols: Floats
    shape: tuple[int, int]
    inside: NDArray[np.bool_]
    """Whether the four pixels around each place are in the chip."""

    @classmethod
    def of(cls, field: Floats, shape: tuple[int, int]) -> _Places:
        rows, cols = field[..., 0], field[..., 1]
        last_row, last_col = shape[0] - 1, shape[1] - 1
        inside = (rows >= 0) & (rows <= last_row) & (cols >= 0) & (cols <= last_col)
        return cls(np.clip(rows, 0, last_row), np.clip(cols, 0, last_col), shape, inside)

    def nearest(self, values: NDArray[Any]) -> NDArray[Any]:
        """The value of the pixel whose centre is nearest."""
        return self._take(values, np.rint(self.rows), np.rint(self.cols))

    def all_four(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whether all four pixels around are set; on a pixel's very centre, only that row or column counts."""
        if mask.all():
            return self.inside
        found = self.inside.copy()
        for rows in (np.floor(self.rows), np.ceil(self.rows)):
            for cols in (np.floor(self.cols), np.ceil(self.cols)):
                found &= self._take(mask, rows, cols)
        return found

    def all_sixteen(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whether all 4 x 4 pixels around are set; beyond the chip, its edge counts on."""
        from scipy import ndimage

        # From the row and column before a place's floor to two after it.
        around = ndimage.minimum_filter(mask, size=4, origin=-1, mode="nearest")
        return self._take(around, np.floor(self.rows), np.floor(self.cols))

    def _take(self, values: NDArray[Any], rows: Floats, cols: Floats) -> NDArray[Any]:
        return values.ravel().take(rows.astype(np.intp) * self.shape[1] + cols.astype(np.intp))
