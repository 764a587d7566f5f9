"""The measures of the ISBI 2012 challenge: whether objects behind thin borders are split or merged.

Arganda-Carreras et al. 2015, "Crowdsourcing the creation of image segmentation algorithms for connectomics", Frontiers in
Neuroanatomy 9:142, doi:10.3389/fnana.2015.00142. Objects are the 4-connected regions of a foreground class (cells); what
lies between them is border (membranes), 8-connected.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from skimage.segmentation import watershed

from geoseg.arrays import F64, I32, Bools
from geoseg.evaluation.warping import warping_error

__all__ = ["Agreement", "IsbiFigures", "agreement", "best_threshold", "measure", "pixel_error", "rand_error", "thinned"]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of two divisions into objects."""

    rand: float
    """V_Rand: F-score of pairs of pixels in the same object."""
    rand_split: float
    """Share of the pairs of an object of the truth that stay together: low where objects are split."""
    rand_merge: float
    """Share of the pairs of an object of the map that belong together: low where objects are merged."""
    info: float
    """V_Info: F-score of information."""
    info_split: float
    """Mutual information as a share of the information of the map's objects: low where objects are split."""
    info_merge: float
    """Mutual information as a share of the information of the truth's objects: low where objects are merged."""


@dataclass(frozen=True, slots=True)
class IsbiFigures:
    """All measures of one image."""

    v_rand: float
    """Foreground-restricted Rand score after border thinning; 1 is best."""
    v_rand_split: float
    v_rand_merge: float
    v_info: float
    """Foreground-restricted information score after border thinning; 1 is best."""
    v_info_split: float
    v_info_merge: float
    rand_error: float
    """One minus the foreground-restricted Rand F-score, without thinning; 0 is best."""
    warping_error: float
    """Share of pixels that can't be made alike without a change of topology; 0 is best."""
    splits: int
    """Places where such pixels divide an object of the truth."""
    mergers: int
    """Places where such pixels connect objects of the truth."""
    pixel_error: float
    """One minus the F-score of the foreground's pixels; 0 is best."""

    def to_json(self) -> dict[str, float]:
        """The figures by name."""
        return asdict(self)


def measure(truth: Bools, found: Bools) -> IsbiFigures:
    """All measures.

    Args:
        truth: (h, w) True inside objects.
        found: The same of a map.
    """
    objects = thinned(truth)
    thin = agreement(objects, thinned(found), objects > 0)
    share, splits, mergers = warping_error(truth, found)
    return IsbiFigures(
        thin.rand,
        thin.rand_split,
        thin.rand_merge,
        thin.info,
        thin.info_split,
        thin.info_merge,
        rand_error(truth, found),
        share,
        splits,
        mergers,
        pixel_error(truth, found),
    )


def best_threshold(images: Iterable[tuple[Bools, NDArray[np.floating]]], thresholds: Iterable[float]) -> tuple[float, float]:
    """The threshold of probabilities whose mean V_Rand over images is best, and that mean; the lowest of equals.

    Args:
        images: Truths, and probabilities of the foreground (h, w).
        thresholds: Those to try: foreground is where the probability is at least the threshold.
    """
    tried = sorted(thresholds)
    totals, count = np.zeros(len(tried)), 0
    for truth, probability in images:
        objects = thinned(truth)
        totals += [agreement(objects, thinned(probability >= threshold), objects > 0).rand for threshold in tried]
        count += 1
    best = int(totals.argmax())
    return tried[best], float(totals[best] / max(1, count))


def pixel_error(truth: Bools, found: Bools) -> float:
    """One minus the F-score of the foreground; 0 where both have none."""
    total = int(truth.sum()) + int(found.sum())
    return 1 - 2 * int((truth & found).sum()) / total if total else 0.0


def rand_error(truth: Bools, found: Bools) -> float:
    """One minus the Rand F-score over the foreground of the truth; the map's border counts as one object, as in the challenge."""
    return 1 - agreement(_objects(truth), _objects(found), truth).rand


def thinned(inside: Bools) -> I32:
    """Objects (h, w) int32, 1, 2, …, grown until they are one pixel of border apart, which is 0.

    Borders of any width become alike, so that their width does not count. All 0 where there is no object.
    """
    objects = _objects(inside)
    if not objects.any():
        return objects
    away = ndimage.distance_transform_edt(~inside)
    return np.asarray(watershed(away, objects, connectivity=1, watershed_line=True), np.int32)


def agreement(truth: I32, found: I32, where: Bools) -> Agreement:
    """V_Rand and V_Info, equations 3 and 5 of the paper with alpha = 1/2, and their two parts.

    Args:
        truth: (h, w) numbers of the objects of the truth.
        found: (h, w) numbers of the objects of the map; 0 is a number like any other.
        where: (h, w) pixels that count: the truth's foreground.

    Returns:
        Figures from 0 to 1. All are 1 where no pixel counts; a part with nothing to split or merge is 1, too.
    """
    n = int(where.sum())
    if not n:
        return Agreement(*(1.0,) * 6)
    table = sparse.coo_array((np.ones(n, np.int64), (truth[where], found[where]))).tocsr()
    p, t, s = table.data, np.asarray(table.sum(axis=1)).ravel(), np.asarray(table.sum(axis=0)).ravel()
    pairs, of_truth, of_found = (int((counts**2).sum()) for counts in (p, t, s))
    information_t, information_s = _entropy(t / n), _entropy(s / n)
    # Mutual information can come out as -1e-17.
    mutual = max(0.0, information_t + information_s - _entropy(p / n))
    both = information_t + information_s
    return Agreement(
        2 * pairs / (of_truth + of_found),
        pairs / of_truth,
        pairs / of_found,
        2 * mutual / both if both > 0 else 1.0,
        mutual / information_s if information_s > 0 else 1.0,
        mutual / information_t if information_t > 0 else 1.0,
    )


def _entropy(shares: F64) -> float:
    some = shares[shares > 0]
    return abs(float(-(some * np.log(some)).sum()))


def _objects(inside: Bools) -> I32:
    return np.asarray(ndimage.label(inside)[0], np.int32)
