"""Panoptic quality: segments of a map against those of the truth, objects and regions of classes alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.arrays import F64, I64, Bools

__all__ = ["PanopticTally"]

Codes = NDArray[np.integer]
IOU = 0.5
"""Segments match above this intersection over union; no segment can match two."""


@dataclass(frozen=True, slots=True)
class PanopticTally:
    """Counts by class; those of maps add up.

    PQ, SQ and RQ are those of Kirillov et al. (2019, arXiv:1801.00868). Pixels without truth are left out of the union, and
    segments of the map that lie there for more than half don't count.
    """

    iou: F64
    """(K,) sum of the intersections over unions of the matches."""
    matches: I64
    """(K,) pairs of segments that match."""
    found: I64
    """(K,) segments of the map that count."""
    truth: I64
    """(K,) segments of the truth."""

    @classmethod
    def zeros(cls, classes: int) -> PanopticTally:
        """Nothing counted yet."""
        return cls(np.zeros(classes), *(np.zeros(classes, np.int64) for _ in range(3)))

    @classmethod
    def of(cls, classes: int, found: tuple[Codes, Codes], truth: tuple[Codes, Codes], known: Bools) -> PanopticTally:
        """Count a map.

        Args:
            classes: Number of classes, whose codes are 0 to K - 1; others are void.
            found: Class codes (h, w) and numbers of objects (h, w) of the map; the numbers are 0 for regions of classes, of
                which all pixels of a class are one segment.
            truth: The same of the truth.
            known: (h, w) where there is truth.
        """
        tally = cls.zeros(classes)
        a_class, a_size, a = _segments(*found, classes)
        b_class, b_size, b = _segments(truth[0], truth[1], classes, known)
        pairs, common = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1, return_counts=True)
        first, second = pairs
        in_void = np.zeros(len(a_class), np.int64)
        in_void[first[second == 0]] = common[second == 0]
        same = (first > 0) & (second > 0) & (a_class[first] == b_class[second])
        first, second, common = first[same], second[same], common[same]
        share = common / (a_size[first] - in_void[first] + b_size[second] - common)
        hit = share > IOU
        np.add.at(tally.iou, a_class[first[hit]], share[hit])
        np.add.at(tally.matches, a_class[first[hit]], 1)
        counts = np.ones(len(a_class), np.bool_)
        counts[first[hit]] = False
        counts = ~counts | (in_void <= a_size / 2)
        np.add.at(tally.found, a_class[1:][counts[1:]], 1)
        np.add.at(tally.truth, b_class[1:], 1)
        return tally

    def __add__(self, other: PanopticTally) -> PanopticTally:
        """Tallies of both together."""
        return PanopticTally(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))

    @property
    def segmentation(self) -> F64:
        """(K,) SQ; NaN where nothing matches."""
        with np.errstate(invalid="ignore"):
            return self.iou / self.matches

    @property
    def recognition(self) -> F64:
        """(K,) RQ, the F1 of the segments; NaN for classes that occur in neither."""
        with np.errstate(invalid="ignore"):
            return 2 * self.matches / (self.found + self.truth)

    @property
    def quality(self) -> F64:
        """(K,) PQ = SQ x RQ; NaN for classes that occur in neither."""
        with np.errstate(invalid="ignore"):
            return 2 * self.iou / (self.found + self.truth)


def _segments(codes: Codes, numbers: Codes, classes: int, known: Bools | None = None) -> tuple[I64, I64, I64]:
    """Class and size of each segment, void first, and the segment of each pixel, 0 for void."""
    void = codes >= classes
    if known is not None:
        void = void | ~known
    name = np.where(void, -1, codes.astype(np.int64) + np.where(void, 0, numbers.astype(np.int64)) * classes)
    names, index, size = np.unique(np.append(name.ravel(), -1), return_inverse=True, return_counts=True)
    size[0] -= 1
    return names % classes, size, index[:-1].reshape(codes.shape)
