"""Batches of chips as tensors on any device, and the augmentations of ``augmentation`` and ``radiometry`` applied to them.

What is drawn for a chip is drawn there, chip by chip, so that a chip gets the same changes here as one by one. Noise alone
differs: it has the same spread, but is drawn on the device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch uses
from numpy.typing import NDArray
from torch import Tensor

from geoseg.codes import UNLABELLED
from geoseg.inference.symmetries import SYMMETRIES, turn
from geoseg.training.augment.geometry import Bend, Pose, between_nodes
from geoseg.training.augment.intensity import HAZY, MOST_BRIGHT, Exposure, Radiometry

__all__ = ["ChipTensors", "bent_fields", "expose", "move", "warp_chips"]

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class ChipTensors:
    """Chips of one size, as ``Chip`` has them one by one; all tensors on one device."""

    image: Tensor
    """(N, C, h, w) float32: before normalization; 0 where not valid."""
    valid: Tensor
    """(N, h, w) bool: True where there is data."""
    labels: Tensor
    """(N, h, w) uint8: class codes, or UNLABELLED."""
    objects: Tensor | None = None
    """(N, h, w) int32: numbers of labelled objects, 0 for none."""


def move(chips: ChipTensors, poses: Sequence[Pose], size: int) -> ChipTensors:
    """Move and bend chips as ``Moves`` does; poses are those of one ``Geometry``."""
    bends = [pose.bend for pose in poses if pose.bend is not None]
    if bends:
        field = bent_fields(bends, (chips.valid.shape[1], chips.valid.shape[2]), size, chips.valid.device)
        return warp_chips(chips, _turned(field.movedim(-1, 1), poses).movedim(1, -1))
    return ChipTensors(
        _turned(chips.image, poses),
        _turned(chips.valid[:, None], poses)[:, 0],
        _turned(chips.labels[:, None], poses)[:, 0],
        None if chips.objects is None else _turned(chips.objects[:, None], poses)[:, 0],
    )


def _turned(values: Tensor, poses: Sequence[Pose]) -> Tensor:
    """Square (N, C, s, s), each turned and mirrored by its pose."""
    count, bands, side, _ = values.shape
    which = torch.tensor([SYMMETRIES.index((pose.turns, pose.mirror)) for pose in poses], device=values.device)
    order = _turns(side, values.device)[which]
    return values.flatten(2).gather(2, order[:, None].expand(count, bands, -1)).view(values.shape)


@cache
def _turns(side: int, device: torch.device) -> Tensor:
    """(8, side * side): the pixel that each pixel of a turned chip is taken from, in the order of ``SYMMETRIES``."""
    pixels = np.arange(side * side).reshape(side, side)
    return torch.from_numpy(np.stack([turn(pixels, turns, mirror).ravel() for turns, mirror in SYMMETRIES])).to(device)


def bent_fields(bends: Sequence[Bend], shape: tuple[int, int], size: int, device: torch.device) -> Tensor:
    """(N, size, size, 2) float32: what ``Bend.field`` gives, one by one."""

    def sent(values: object) -> Tensor:
        return torch.from_numpy(np.asarray(values, np.float64)).to(device)

    at = (torch.arange(size, device=device, dtype=torch.float64) - (size - 1) / 2) / sent([b.scale for b in bends])[:, None]
    sin = at * sent([math.sin(b.angle) for b in bends])[:, None]
    cos = at * sent([math.cos(b.angle) for b in bends])[:, None]
    middle = sent([b.shift for b in bends]) + (sent(shape) - 1) / 2
    rows = (cos + middle[:, :1])[:, :, None] - sin[:, None, :]
    cols = (sin + middle[:, 1:])[:, :, None] + cos[:, None, :]
    place = torch.stack([rows, cols], dim=-1)
    nodes = [b.nodes for b in bends if b.nodes is not None]
    if nodes:
        between, limit = sent(between_nodes(size)), bends[0].limit
        place += (between @ sent(nodes) @ between.T).clamp(-limit, limit).movedim(1, -1)
    return place.float()


def warp_chips(chips: ChipTensors, field: Tensor) -> ChipTensors:
    """Chips sampled at other places, by the rules of ``augmentation.warp``.

    Args:
        chips: The chips.
        field: (N, h, w, 2) float32: row and col that each pixel of the results is taken from.
    """
    height, width = chips.valid.shape[1:]
    places = _Places.of(field, (height, width))
    # Coordinates in which the image is 2 wide, x before y.
    grid = (field.flip(-1) + 0.5) * field.new_tensor([2 / width, 2 / height]) - 1
    hidden = ~chips.valid[:, None]
    least = chips.image.masked_fill(hidden, math.inf).amin((2, 3), keepdim=True)
    largest = chips.image.masked_fill(hidden, -math.inf).amax((2, 3), keepdim=True)

    def sampled(mode: str) -> Tensor:
        return F.grid_sample(chips.image, grid, mode, "border", align_corners=False)

    valid = places.all_four(chips.valid)
    whole = places.all_sixteen(chips.valid)
    image = torch.where(whole[:, None], sampled("bicubic").clamp(least, largest), sampled("bilinear"))
    labels = places.nearest(chips.labels).masked_fill(~valid, UNLABELLED)
    objects = None
    if chips.objects is not None:
        objects = places.nearest(chips.objects).masked_fill(labels == UNLABELLED, 0)
    return ChipTensors(image.masked_fill(~valid[:, None], 0), valid, labels, objects)


@dataclass(frozen=True, slots=True, eq=False)
class _Places:
    """Places in chips that fields point to; those outside are moved to the edge, and known not to be ``inside``."""

    rows: Tensor
    cols: Tensor
    shape: tuple[int, int]
    inside: Tensor
    """Whether the four pixels around each place are in the chip."""

    @classmethod
    def of(cls, field: Tensor, shape: tuple[int, int]) -> _Places:
        rows, cols = field[..., 0], field[..., 1]
        last_row, last_col = shape[0] - 1, shape[1] - 1
        inside = (rows >= 0) & (rows <= last_row) & (cols >= 0) & (cols <= last_col)
        return cls(rows.clamp(0, last_row), cols.clamp(0, last_col), shape, inside)

    def nearest(self, values: Tensor) -> Tensor:
        """The value of the pixel whose centre is nearest."""
        return self._take(values, self.rows.round(), self.cols.round())

    def all_four(self, mask: Tensor) -> Tensor:
        """Whether all four pixels around are set; on a pixel's very centre, only that row or column counts."""
        found = self.inside
        for rows in (self.rows.floor(), self.rows.ceil()):
            for cols in (self.cols.floor(), self.cols.ceil()):
                found = found & self._take(mask, rows, cols)
        return found

    def all_sixteen(self, mask: Tensor) -> Tensor:
        """Whether all 4 x 4 pixels around are set; beyond the chip, its edge counts on."""
        # From the row and column before a place's floor to two after it.
        gaps = F.pad((~mask)[:, None].float(), (1, 2, 1, 2), mode="replicate")
        around = F.max_pool2d(gaps, 4, stride=1)[:, 0] == 0
        return self._take(around, self.rows.floor(), self.cols.floor())

    def _take(self, values: Tensor, rows: Tensor, cols: Tensor) -> Tensor:
        index = rows.long() * self.shape[1] + cols.long()
        return values.flatten(1).gather(1, index.flatten(1)).view(index.shape)


def expose(
    chips: ChipTensors,
    drawn: Sequence[Exposure | None],
    levels: Sequence[Floats | None],
    change: Radiometry,
    generator: torch.Generator,
) -> ChipTensors:
    """Change the values of chips as ``Radiometry`` does.

    Args:
        chips: The chips.
        drawn: For each; None for those that stay as they are.
        levels: Standard deviation of the noise by band (C,) for each chip that has some; else None.
        change: What it was drawn by.
        generator: For the noise, on the device of the chips.
    """
    image, bands = chips.image, chips.image.shape[1]

    def sent(values: Sequence[object]) -> Tensor:
        """(N, bands or 1) float64."""
        return torch.from_numpy(np.array(values, np.float64).reshape(len(chips.image), -1)).to(image.device)

    still = np.zeros(bands)
    clear = sent([1.0 if d is None else d.clear for d in drawn])
    shift = sent([still if d is None else d.shift for d in drawn])
    colour = sent([still if d is None or d.colour is None else d.colour for d in drawn])
    air = (_bright(chips) if change.air is None else image.new_tensor(change.air)).double() + colour
    # Nothing is hazy where all of its own colour is left; nor is there a colour of the air where nothing is valid.
    shift = shift * clear + torch.where(clear < 1, air * (1 - clear), 0.0)
    gain = sent([still + 1 if d is None else d.gain for d in drawn])
    changed = _bent(image, sent([1.0 if d is None else d.power for d in drawn]), change) * _column(gain) * _column(clear)
    changed += _column(shift)
    if any(level is not None for level in levels):
        level = sent([still if one is None else one for one in levels])
        changed += torch.randn(image.shape, generator=generator, device=image.device) * _column(level)
    if change.value_range is not None:
        changed = changed.clamp(*change.value_range)
    alters = torch.tensor([d is not None for d in drawn], device=image.device)
    image = torch.where(alters.view(-1, 1, 1, 1) & chips.valid[:, None], changed, image)
    return ChipTensors(image, chips.valid, chips.labels, chips.objects)


def _bent(image: Tensor, power: Tensor, change: Radiometry) -> Tensor:
    """Values raised to the power (N, 1) of their chip as shares of the range."""
    if not change.gamma or change.value_range is None:
        return image
    low, high = change.value_range
    share = ((image - low) / (high - low)).clamp(0, 1)
    return torch.where(_column(power) == 1, image, share ** _column(power) * (high - low) + low)


def _column(values: Tensor) -> Tensor:
    return values.float()[:, :, None, None]


def _bright(chips: ChipTensors) -> Tensor:
    """(N, C): the colour of the air, by the same pixels as one by one; NaN where nothing is valid."""
    rank = chips.valid.flatten(1).cumsum(1)
    total = rank[:, -1:].contiguous()
    wanted = torch.arange(2 * MOST_BRIGHT, device=rank.device) * (total // MOST_BRIGHT).clamp(min=1) + 1
    place = torch.searchsorted(rank, wanted).clamp(max=rank.shape[1] - 1)
    pixels = chips.image.flatten(2).gather(2, place[:, None].expand(-1, chips.image.shape[1], -1))
    return pixels.masked_fill((wanted > total)[:, None], math.nan).nanquantile(HAZY, dim=2)
