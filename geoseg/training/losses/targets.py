"""Targets of borders from labels: distances and maps, unknown wherever what is not labelled could change them.

Beyond the labels of a chip, other labels may follow. A value is given only where it is the same whatever they are, so that
a chip's targets are those of its whole scene.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from geoseg.codes import UNLABELLED

__all__ = ["border_distance", "boundary_map", "distance_map"]

Doubles = NDArray[np.float64]
Codes = NDArray[np.uint8]
Segments = NDArray[np.integer[Any]]


def border_distance(segments: Segments, known: NDArray[np.bool_], reach: float) -> Doubles:
    """Distance of every pixel to the nearest one of another segment, in pixels between centres.

    Args:
        segments: (h, w): numbers of classes or objects.
        known: (h, w): where they are known.
        reach: The largest distance that is told; larger ones become it.

    Returns:
        (h, w) in [1, reach], NaN where a pixel that is not known, or lies beyond the array, could make it smaller.
    """
    numbers = np.zeros(segments.shape, np.int32)
    numbers[known] = np.unique(segments[known], return_inverse=True)[1].ravel() + 1
    distance = np.full(segments.shape, reach)
    for number, box in enumerate(ndimage.find_objects(numbers), 1):
        # One pixel around is enough: what lies there is another segment, or not known, and nearer than all beyond.
        here = tuple(slice(max(0, side.start - 1), side.stop + 1) for side in box)
        inside = numbers[here] == number
        other = known[here] & ~inside
        if other.any():
            distance[here][inside] = np.minimum(ndimage.distance_transform_edt(~other)[inside], reach)
    # The frame stands for all that lies beyond the array.
    hidden = ndimage.distance_transform_edt(np.pad(known, 1))[1:-1, 1:-1]
    distance[hidden < distance] = np.nan
    return distance


def boundary_map(labels: Codes, width: float, objects: Segments | None = None) -> Codes:
    """The pixels along the borders between classes, or between objects.

    Args:
        labels: (h, w): class codes, or UNLABELLED.
        width: Of the band in pixels, half of it to each side; 2 marks the pixels that touch a border, also by a corner.
        objects: (h, w): numbers of objects, 0 for none; then the borders are theirs.

    Returns:
        (h, w) uint8: 1 on a boundary, 0 off it, UNLABELLED where that is not known.
    """
    limit = (width + 1) / 2
    distance = border_distance(labels if objects is None else objects, labels != UNLABELLED, math.nextafter(limit, math.inf))
    return np.where(np.isnan(distance), UNLABELLED, distance <= limit).astype(np.uint8)


def distance_map(
    labels: Codes,
    truncate: float,
    *,
    foreground: Collection[int] | None = None,
    signed: bool = True,
    objects: Segments | None = None,
) -> NDArray[np.float32]:
    """Distance to the border of the foreground, or of objects, as a share of the largest distance that is told.

    Distances are those between a pixel's centre and the centres beyond the border, less half a pixel. Truncated, they tell
    shape near the border, where it matters (Audebert et al. 2019, "Distance transform regression for spatially-aware deep
    semantic segmentation", arXiv:1909.01671).

    Args:
        labels: (h, w): class codes, or UNLABELLED.
        truncate: Largest distance that is told, in pixels.
        foreground: Codes that are inside; None for all but 0.
        signed: Negative outside; else all are positive.
        objects: (h, w): numbers of objects, 0 for none; then these are inside, and touching ones have a border between them.

    Returns:
        (h, w) float32 in [-1, 1], NaN where not known.
    """
    known = labels != UNLABELLED
    if objects is None:
        inside = known & (labels != 0 if foreground is None else np.isin(labels, list(foreground)))
        segments: Segments = inside.astype(np.uint8)
    else:
        segments, inside = objects, objects > 0
    distance = (border_distance(segments, known, truncate + 0.5) - 0.5) / truncate
    return np.where(inside | (not signed), distance, -distance).astype(np.float32)
