"""The warping error: what is wrong with a map's topology, wherever its boundaries lie.

Jain et al. 2010, "Boundary learning by optimization with topological constraints", doi:10.1109/CVPR.2010.5539950. The
truth is warped towards the map by flipping simple points, those whose flip changes no connection (Bertrand and Malandain
1994, doi:10.1016/0167-8655(94)90046-9); what differs then can't be made alike without splitting or merging objects, or
making or filling holes. Which pixels remain depends on the order of the flips; here it is that of reading, in rounds.
"""

from __future__ import annotations

from collections import deque
from functools import cache

import numpy as np
from scipy import ndimage

from geoseg.arrays import Bools

__all__ = ["simple", "warp", "warping_error"]

AROUND = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
FOUR, EIGHT = ndimage.generate_binary_structure(2, 1), ndimage.generate_binary_structure(2, 2)


@cache
def simple() -> bytes:
    """256 flags: whether a pixel with these neighbours is simple; bit i is set where ``AROUND[i]`` is foreground.

    Foreground is 4-connected, background 8-connected: a pixel is simple if its neighbourhood has just one region of
    foreground that touches it by an edge, and just one region of background.
    """
    flags = bytearray(256)
    for code in range(256):
        inside = np.zeros((3, 3), np.bool_)
        for bit, (row, col) in enumerate(AROUND):
            inside[1 + row, 1 + col] = code >> bit & 1
        outside = ~inside
        outside[1, 1] = False
        regions = ndimage.label(inside, FOUR)[0]
        touching = {int(regions[at]) for at in ((0, 1), (1, 0), (1, 2), (2, 1))} - {0}
        flags[code] = len(touching) == 1 and ndimage.label(outside, EIGHT)[1] == 1
    return bytes(flags)


def warp(truth: Bools, found: Bools) -> Bools:
    """(h, w): the truth warped towards the map, until no pixel in which they differ is simple. Beyond the rim is border."""
    height, width = truth.shape
    stride = width + 2
    image = bytearray(np.pad(truth, 1).astype(np.uint8).tobytes())
    wanted = np.pad(found, 1).astype(np.uint8).tobytes()
    offsets = tuple(row * stride + col for row, col in AROUND)
    flags = simple()
    waiting = deque(np.flatnonzero(np.pad(truth != found, 1)).tolist())
    queued = bytearray(len(image))
    for at in waiting:
        queued[at] = 1
    while waiting:
        at = waiting.popleft()
        queued[at] = 0
        if image[at] == wanted[at]:
            continue
        code = 0
        for bit, offset in enumerate(offsets):
            code |= image[at + offset] << bit
        if not flags[code]:
            continue
        image[at] = wanted[at]
        for offset in offsets:
            near = at + offset
            if image[near] != wanted[near] and not queued[near]:
                queued[near] = 1
                waiting.append(near)
    return np.frombuffer(bytes(image), np.uint8).reshape(height + 2, stride)[1:-1, 1:-1].astype(np.bool_)


def warping_error(truth: Bools, found: Bools) -> tuple[float, int, int]:
    """Share of pixels in which the warped truth and the map differ; and how many of these places split or merge objects.

    A place is an 8-connected set of such pixels, all foreground or all border in the truth. Places that only make or fill
    a hole, or remove or add a whole object, are neither splits nor mergers.
    """
    warped = warp(truth, found)
    missing, added = warped & ~found, found & ~warped
    share = float((missing | added).mean()) if truth.size else 0.0
    return share, _joints(missing, warped & ~missing), _joints(added, warped)


def _joints(places: Bools, inside: Bools) -> int:
    """How many connected sets of pixels touch several regions by an edge."""
    numbers, regions = ndimage.label(places, EIGHT)[0], ndimage.label(inside, FOUR)[0]
    count = 0
    for number, (rows, cols) in enumerate(ndimage.find_objects(numbers), 1):
        box = slice(max(0, rows.start - 1), rows.stop + 1), slice(max(0, cols.start - 1), cols.stop + 1)
        near = ndimage.binary_dilation(numbers[box] == number, FOUR) & inside[box]
        count += len(np.unique(regions[box][near])) > 1
    return count
