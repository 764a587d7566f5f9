"""Measures of boundaries: boundary IoU and boundary F1 at given distances, added up piece by piece."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from geoseg.arrays import F64, I64, U8, Bools

__all__ = ["BoundaryTally"]


@dataclass(frozen=True, slots=True, eq=False)
class BoundaryTally:
    """Pixels near the boundaries of classes. Tallies of parts add up to that of the whole.

    A pixel of a class is on its boundary if one of its four neighbours is of another class. Where truth or map has no class
    (no data, not analysed, no label) there is no boundary, nor at the rim of the raster: what lies beyond is not known.
    Distances are Euclidean, between the centres of pixels.
    """

    both: I64
    """(D, K): pixels that lie at most a distance within the class in truth and in map."""
    either: I64
    """(D, K): in one of them."""
    found_near: I64
    """(D, K): boundary pixels of the map at most a distance from one of the truth."""
    true_near: I64
    """(D, K): boundary pixels of the truth at most a distance from one of the map."""
    found: I64
    """(K,): boundary pixels of the map."""
    true: I64
    """(K,): boundary pixels of the truth."""

    @classmethod
    def zeros(cls, classes: int, distances: Sequence[float]) -> BoundaryTally:
        """A tally of no pixel."""
        wide = (len(distances), classes)
        both, either, found_near, true_near = (np.zeros(wide, np.int64) for _ in range(4))
        return cls(both, either, found_near, true_near, np.zeros(classes, np.int64), np.zeros(classes, np.int64))

    @staticmethod
    def margin(distances: Sequence[float]) -> int:
        """Pixels around a core that its tally depends on."""
        return math.ceil(max(distances, default=0)) + 1

    @classmethod
    def tally(
        cls,
        truth: U8,
        prediction: U8,
        classes: int,
        distances: Sequence[float],
        core: tuple[slice, slice] = (slice(None), slice(None)),
    ) -> BoundaryTally:
        """Count the pixels of a core.

        Args:
            truth: (h, w) class codes of the core and at least ``margin`` pixels around it, as far as there are any.
            prediction: The same of the map.
            classes: Number of classes.
            distances: D distances in pixels.
            core: Where in the arrays the pixels are that count.
        """
        total = cls.zeros(classes, distances)
        known = (truth < classes) & (prediction < classes)
        for k in range(classes):
            true, found = known & (truth == k), known & (prediction == k)
            if not true.any() and not found.any():
                continue
            depth_true, depth_found = _depth(true, known), _depth(found, known)
            edge_true, edge_found = depth_true == 1, depth_found == 1
            to_true, to_found = _distance(edge_true), _distance(edge_found)
            total.true[k], total.found[k] = edge_true[core].sum(), edge_found[core].sum()
            for d, distance in enumerate(distances):
                inner_true, inner_found = depth_true[core] <= distance, depth_found[core] <= distance
                total.both[d, k] = (inner_true & inner_found).sum()
                total.either[d, k] = (inner_true | inner_found).sum()
                total.found_near[d, k] = (edge_found[core] & (to_true[core] <= distance)).sum()
                total.true_near[d, k] = (edge_true[core] & (to_found[core] <= distance)).sum()
        return total

    def __add__(self, other: BoundaryTally) -> BoundaryTally:
        """Tallies of both together."""
        return BoundaryTally(
            self.both + other.both,
            self.either + other.either,
            self.found_near + other.found_near,
            self.true_near + other.true_near,
            self.found + other.found,
            self.true + other.true,
        )

    def iou(self) -> F64:
        """(D, K): boundary IoU (Cheng et al. 2021, arXiv:2103.16562): IoU of the pixels near the boundary within a class.

        The paper counts the image's rim as boundary; here it is none. NaN where a class has no boundary.
        """
        return _share(self.both, self.either)

    def f1(self) -> F64:
        """(D, K): boundary F1 (Csurka et al. 2013, doi:10.5244/C.27.32), of all boundary pixels together.

        The harmonic mean of the shares of boundary pixels of the map near one of the truth, and the other way round. NaN
        where neither has a boundary, 0 where one has none.
        """
        precision, recall = _share(self.found_near, self.found), _share(self.true_near, self.true)
        total = precision + recall
        score = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
        return np.where((self.found == 0) & (self.true == 0), np.nan, np.where(np.isnan(total), 0.0, score))


def _depth(inside: Bools, known: Bools) -> F64:
    """Distance of pixels of a class to the nearest pixel of another class; infinite outside, and where there is none."""
    depth = _distance(known & ~inside)
    return np.where(inside, depth, np.inf)


def _distance(targets: Bools) -> F64:
    """Distance to the nearest target; infinite where there is none."""
    if not targets.any():
        return np.full(targets.shape, np.inf)
    return np.asarray(ndimage.distance_transform_edt(~targets))


def _share(part: I64, whole: I64) -> F64:
    below = np.broadcast_to(whole, part.shape).astype(np.float64)
    return np.asarray(np.divide(part, below, out=np.full(part.shape, np.nan), where=below > 0))
