"""Objects found against objects of the truth: which of them match, and what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.arrays import F64, I64, Bools
from geoseg.instances.masks import Masks

__all__ = ["COCO_IOUS", "Matches", "Overlaps", "PrecisionTally", "match"]

COCO_IOUS = tuple((np.arange(50, 100, 5) / 100).tolist())
"""From which intersection over union on objects match, for the average precision of COCO: 0.5 to 0.95."""


@dataclass(frozen=True, slots=True, eq=False)
class Overlaps:
    """Pairs of an object of a map and one of the truth that have something in common; areas in pixels or in square metres."""

    first: I64
    """(P,) numbers in the map."""
    second: I64
    """(P,) numbers in the truth."""
    common: F64
    """(P,) area in common."""
    found: F64
    """(N,) areas of the objects of the map."""
    truth: F64
    """(M,) areas of those of the truth."""

    @classmethod
    def of_masks(cls, found: Masks, truth: Masks) -> Overlaps:
        """The overlaps of masks of one image."""
        from shapely import STRtree, box

        areas = found.pixels.astype(np.float64), truth.pixels.astype(np.float64)
        if not len(found) or not len(truth):
            return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), *areas)
        boxes = [box(*masks.boxes[:, [2, 0, 3, 1]].astype(np.float64).T) for masks in (found, truth)]
        first, second = STRtree(boxes[1]).query(boxes[0]).astype(np.int64)
        common = Masks.concatenate([found, truth]).common_pixels(first, second + len(found)).astype(np.float64)
        return cls(first, second, common, *areas)

    @property
    def iou(self) -> F64:
        """(P,) intersection over union."""
        union = self.found[self.first] + self.truth[self.second] - self.common
        return self.common / np.maximum(union, np.finfo(np.float64).tiny)

    @property
    def inside(self) -> F64:
        """(P,) share of the object of the map that is in common."""
        return self.common / np.maximum(self.found[self.first], np.finfo(np.float64).tiny)

    @property
    def covered(self) -> F64:
        """(P,) share of the object of the truth that is in common."""
        return self.common / np.maximum(self.truth[self.second], np.finfo(np.float64).tiny)

    def only(self, found: Bools, truth: Bools) -> Overlaps:
        """Those of some objects, which get new numbers, in the same order."""
        keep = found[self.first] & truth[self.second]
        first, second = np.cumsum(found)[self.first[keep]] - 1, np.cumsum(truth)[self.second[keep]] - 1
        return Overlaps(first, second, self.common[keep], self.found[found], self.truth[truth])


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """Objects of a map and of the truth that are the same."""

    found: I64
    """(M,) numbers of matched objects of the map."""
    truth: I64
    """(M,) numbers of the objects of the truth that they match."""
    iou: F64
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

    @property
    def segmentation_quality(self) -> float:
        """SQ of Kirillov et al. (2019, arXiv:1801.00868): mean intersection over union of the matches; NaN without."""
        return float(self.iou.mean()) if len(self.iou) else float("nan")

    @property
    def panoptic_quality(self) -> float:
        """PQ, the product of SQ and the recognition quality RQ, which is F1; NaN where there are no objects at all."""
        return self.f1 * self.segmentation_quality if len(self.iou) else self.f1

    @property
    def figures(self) -> dict[str, float]:
        """All of these by name."""
        return {
            "f1": self.f1,
            "precision": self.precision,
            "recall": self.recall,
            "pq": self.panoptic_quality,
            "sq": self.segmentation_quality,
        }

    @classmethod
    def pooled(cls, parts: Sequence[Matches]) -> Matches:
        """Pool the matches of several maps as of one; numbers go on from map to map."""
        found = np.cumsum([0, *(part.found_count for part in parts)])
        truth = np.cumsum([0, *(part.truth_count for part in parts)])
        none = np.empty(0, np.int64)
        return cls(
            np.concatenate([none, *(part.found + start for part, start in zip(parts, found, strict=False))]),
            np.concatenate([none, *(part.truth + start for part, start in zip(parts, truth, strict=False))]),
            np.concatenate([np.empty(0), *(part.iou for part in parts)]),
            int(found[-1]),
            int(truth[-1]),
        )


def match(overlaps: Overlaps, score: NDArray[np.floating], *, iou: float = 0.5) -> Matches:
    """Match objects one to one: by falling score, each takes the object of the truth not yet taken that it overlaps most.

    Args:
        overlaps: Of the objects of a map and those of the truth.
        score: (N,) how sure each object of the map is.
        iou: Least intersection over union of a match.
    """
    share = overlaps.iou
    enough = share >= iou
    first, second, share = overlaps.first[enough], overlaps.second[enough], share[enough]
    order = np.lexsort((second, -share, first, -score[first]))
    taken_found, taken_truth, matches = set[int](), set[int](), []
    for k in order.tolist():
        a, b = int(first[k]), int(second[k])
        if a not in taken_found and b not in taken_truth:
            taken_found.add(a)
            taken_truth.add(b)
            matches.append(k)
    at = np.array(sorted(matches), np.int64)
    return Matches(first[at], second[at], share[at], len(overlaps.found), len(overlaps.truth))


class PrecisionTally:
    """Average precision and recall of one class over any number of maps, as COCO measures them.

    Precision is the mean of 101 values interpolated over recall (Lin et al. 2014, arXiv:1405.0312, and its evaluation code),
    without a limit to the objects of a map.
    """

    POINTS = np.linspace(0, 1, 101)

    def __init__(self) -> None:
        self._scores: list[NDArray[np.floating]] = []
        self._hits: list[Bools] = []
        self._truth = 0

    def add(self, overlaps: Overlaps, score: NDArray[np.floating]) -> None:
        """Count a map's objects; see ``match``."""
        hits = np.zeros((len(COCO_IOUS), len(score)), np.bool_)
        for k, iou in enumerate(COCO_IOUS):
            hits[k, match(overlaps, score, iou=iou).found] = True
        self._scores.append(score)
        self._hits.append(hits)
        self._truth += len(overlaps.truth)

    def precision(self) -> F64:
        """(T,) average precision by intersection over union; NaN where the truth holds no objects."""
        if not self._truth:
            return np.full(len(COCO_IOUS), np.nan)
        order = np.argsort(-np.concatenate([np.empty(0), *self._scores]), kind="stable")
        hits = np.concatenate([np.empty((len(COCO_IOUS), 0), np.bool_), *self._hits], axis=1)[:, order]
        return np.array([self._average(row) for row in hits])

    def recall(self) -> F64:
        """(T,) share of the truth's objects that are matched, whatever their score."""
        hits = sum((part.sum(axis=1) for part in self._hits), np.zeros(len(COCO_IOUS)))
        return np.asarray(hits / self._truth if self._truth else hits * np.nan, np.float64)

    @property
    def figures(self) -> dict[str, float]:
        """Means of both, and precision at 0.5 and 0.75, by name."""
        by_iou = dict(zip(COCO_IOUS, self.precision().tolist(), strict=True))
        return {
            "ap": float(np.mean([*by_iou.values()])),
            "ap50": by_iou[0.5],
            "ap75": by_iou[0.75],
            "ar": float(self.recall().mean()),
        }

    def _average(self, hits: Bools) -> float:
        right = np.cumsum(hits)
        precision = right / np.arange(1, len(hits) + 1)
        # The best that is reached at this recall or a larger one.
        envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
        return float(envelope[np.searchsorted(right / self._truth, self.POINTS, side="left")].mean())
