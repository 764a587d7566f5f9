"""Objects found against objects of the truth: which of them match, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.instances.masks import Masks

__all__ = ["Matches", "match_masks"]

Longs = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """Objects of a map and of the truth that are the same."""

    found: Longs
    """(M,) numbers of matched objects of the map."""
    truth: Longs
    """(M,) numbers of the objects of the truth that they match."""
    iou: NDArray[np.float64]
    """(M,) intersection over union of each match."""
    found_count: int
    """Objects of the map that count."""
    truth_count: int
    """Objects of the truth that count."""

    @property
    def precision(self) -> float:
        """Share of the map's objects that match; NaN where there are none."""
        return len(self.found) / self.found_count if self.found_count else float("nan")

    @property
    def recall(self) -> float:
        """Share of the truth's objects that are matched; NaN where there are none."""
        return len(self.found) / self.truth_count if self.truth_count else float("nan")

    @property
    def f1(self) -> float:
        """Harmonic mean of both, as SpaceNet scores buildings (Van Etten et al. 2018, arXiv:1807.01232)."""
        both = self.found_count + self.truth_count
        return 2 * len(self.found) / both if both else float("nan")


def match_masks(found: Masks, truth: Masks, score: NDArray[np.floating], *, iou: float = 0.5) -> Matches:
    """Match objects one to one: by falling score, each takes the object of the truth not yet taken that it overlaps most.

    Args:
        found: Objects of the map.
        truth: Objects of the truth.
        score: (N,) how sure each object of the map is.
        iou: Least intersection over union of a match.
    """
    first, second, share = _overlaps(found, truth)
    enough = share >= iou
    first, second, share = first[enough], second[enough], share[enough]
    order = np.lexsort((second, -share, first, -score[first]))
    taken_found, taken_truth, matches = set[int](), set[int](), []
    for k in order.tolist():
        a, b = int(first[k]), int(second[k])
        if a not in taken_found and b not in taken_truth:
            taken_found.add(a)
            taken_truth.add(b)
            matches.append(k)
    at = np.array(sorted(matches), np.int64)
    return Matches(first[at], second[at], share[at], len(found), len(truth))


def _overlaps(found: Masks, truth: Masks) -> tuple[Longs, Longs, NDArray[np.float64]]:
    """Pairs that overlap: numbers in both sets, and intersection over union."""
    from shapely import STRtree, box

    if not len(found) or not len(truth):
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    boxes = [box(*masks.boxes[:, [2, 0, 3, 1]].astype(np.float64).T) for masks in (found, truth)]
    first, second = STRtree(boxes[1]).query(boxes[0]).astype(np.int64)
    both = Masks.concatenate([found, truth])
    common = both.common_pixels(first, second + len(found))
    share = common / np.maximum(found.pixels[first] + truth.pixels[second] - common, 1)
    return first, second, share
