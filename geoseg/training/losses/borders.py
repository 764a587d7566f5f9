"""Borders of whole batches on the device where the labels are: the maps of ``targets`` for many chips at once.

On a CPU scipy is faster, chip by chip; on a GPU a chip's way there and back would cost more than the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch uses
from numpy.typing import NDArray
from torch import Tensor

from geoseg.codes import UNLABELLED
from geoseg.training.losses.targets import boundary_map, distance_map

__all__ = ["border_distances", "boundary_maps", "distance_maps"]

FAR = 1 << 30
"""A squared distance that is none."""


def boundary_maps(labels: Tensor, width: float, objects: Tensor | None = None) -> Tensor:
    """(N, H, W) int64: ``targets.boundary_map`` of each chip, on the device of the labels."""
    if labels.device.type == "cpu":
        return _by_chip(lambda codes, numbers: boundary_map(codes, width, numbers), labels, objects).long()
    return near_borders(labels, width, objects)


def distance_maps(
    labels: Tensor,
    truncate: float,
    *,
    foreground: Collection[int] | None = None,
    signed: bool = True,
    objects: Tensor | None = None,
) -> Tensor:
    """(N, 1, H, W) float32: ``targets.distance_map`` of each chip, on the device of the labels."""
    if labels.device.type == "cpu":

        def one(codes: NDArray[np.uint8], numbers: NDArray[np.int32] | None) -> NDArray[np.float32]:
            return distance_map(codes, truncate, foreground=foreground, signed=signed, objects=numbers)[None]

        return _by_chip(one, labels, objects)
    return signed_distances(labels, truncate, foreground=foreground, signed=signed, objects=objects)


def near_borders(labels: Tensor, width: float, objects: Tensor | None = None) -> Tensor:
    """``boundary_maps`` by shifted comparisons."""
    limit = (width + 1) / 2
    segments = labels if objects is None else objects
    distance = border_distances(segments, labels != UNLABELLED, math.nextafter(limit, math.inf))
    return torch.where(distance.isnan(), UNLABELLED, (distance <= limit).long())


def signed_distances(
    labels: Tensor,
    truncate: float,
    *,
    foreground: Collection[int] | None = None,
    signed: bool = True,
    objects: Tensor | None = None,
) -> Tensor:
    """``distance_maps`` by shifted comparisons."""
    known = labels != UNLABELLED
    if objects is None:
        named = labels != 0 if foreground is None else torch.isin(labels, labels.new_tensor(list(foreground)))
        inside = known & named
        segments = inside.int()
    else:
        segments, inside = objects, objects > 0
    distance = (border_distances(segments, known, truncate + 0.5) - 0.5) / truncate
    return (torch.where(inside, distance, -distance) if signed else distance).float()[:, None]


def border_distances(segments: Tensor, known: Tensor, reach: float) -> Tensor:
    """``targets.border_distance`` of each chip, by comparing chips with themselves shifted by all that is within reach.

    Args:
        segments: (N, h, w): numbers of classes or objects.
        known: (N, h, w) bool: where they are known.
        reach: The largest distance that is told, in pixels. Work grows with its square.

    Returns:
        (N, h, w) float64, as there.
    """
    height, width = segments.shape[1:]
    side = math.ceil(reach)
    around = F.pad(segments, (side,) * 4)
    seen = F.pad(known, (side,) * 4)
    squared = torch.full(segments.shape, FAR, dtype=torch.int32, device=segments.device)
    hidden = squared.clone()
    shifts = [
        (r * r + c * c, r, c) for r in range(-side, side + 1) for c in range(-side, side + 1) if 0 < r * r + c * c < reach**2
    ]
    # The nearest comes last, and stays.
    for square, row, col in sorted(shifts, reverse=True):
        here = (slice(None), slice(side + row, side + row + height), slice(side + col, side + col + width))
        there = seen[here]
        squared.masked_fill_(there & (around[here] != segments), square)
        hidden.masked_fill_(~there, square)
    hidden.masked_fill_(~known, 0)
    # Roots by table: torch's may be off by the last bit, which decides at limits.
    count = math.ceil(reach**2) + 1
    roots = torch.tensor([min(math.sqrt(k), reach) for k in range(count)], dtype=torch.float64, device=segments.device)
    distance, nearest_hidden = (roots[found.clamp(max=count - 1)] for found in (squared, hidden))
    return distance.masked_fill(nearest_hidden < distance, math.nan)


def _by_chip(
    function: Callable[[NDArray[np.uint8], NDArray[np.int32] | None], NDArray[np.generic]], labels: Tensor, objects: Tensor | None
) -> Tensor:
    """Results of a function of arrays for the labels, and the objects, of each chip."""
    arrays = labels.to(torch.uint8).numpy()
    numbers: Sequence[NDArray[np.int32] | None] = [None] * len(arrays) if objects is None else list(objects.numpy())
    return torch.from_numpy(np.stack([function(a, n) for a, n in zip(arrays, numbers, strict=True)]))
