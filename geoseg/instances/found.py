"""Facts of the objects of a tile, from a raster of their numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geoseg.arrays import F32, I32, U8
from geoseg.instances.objects import QUANTILES
from geoseg.models.card_values import InstanceFacts

__all__ = ["Found", "measured"]

Found = tuple[I32, U8, F32, U8]
"""Labels (h, w) from 1, then for each object its class code (N,), its score (N,) from 0 to 1, and quantiles (N, 3) of the
confidence of its pixels in percent."""


def measured(
    labels: I32,
    confidence: F32,
    by_class: F32,
    codes: U8,
    facts: InstanceFacts,
    score: F32 | None = None,
) -> Found:
    """Class, score and confidence of labelled objects; small and doubtful ones are left out.

    Args:
        labels: (h, w) numbers of objects, 0 for none.
        confidence: (h, w) of each pixel, 0 to 1.
        by_class: (C, h, w) probabilities of the classes of objects.
        codes: (C,) their codes.
        facts: Thresholds.
        score: (h, w) how sure the detector is of the object that a pixel belongs to; by default the mean of ``by_class``.
    """
    order = np.flatnonzero(labels)
    order = order[np.argsort(labels.ravel()[order], kind="stable")]
    label = labels.ravel()[order]
    numbers, begins, pixels = np.unique(label, return_index=True, return_counts=True)
    if not len(numbers):
        return labels, np.empty(0, np.uint8), np.empty(0, np.float32), np.empty((0, len(QUANTILES)), np.uint8)
    sums = np.stack([np.add.reduceat(band.ravel()[order].astype(np.float64), begins) for band in by_class])
    code = codes[sums.argmax(axis=0)]
    sure = (sums.sum(axis=0) / pixels).astype(np.float32) if score is None else score.ravel()[order][begins]
    quantiles = _quantiles(confidence.ravel()[order], label, begins, pixels)
    keep = (pixels >= facts.least_px) & (sure >= facts.score)
    number = np.zeros(int(numbers[-1]) + 1, np.int32)
    number[numbers[keep]] = np.arange(1, int(keep.sum()) + 1)
    return number[labels], code[keep], sure[keep], quantiles[keep]


def _quantiles(values: F32, label: I32, begins: NDArray[np.integer], pixels: NDArray[np.integer]) -> U8:
    """(N, 3) quantiles in percent of the values of each object, which follow one another."""
    ordered = values[np.lexsort((values, label))]
    at = begins[:, None] + np.floor(np.array(QUANTILES) * (pixels - 1)[:, None]).astype(np.int64)
    return np.asarray(np.rint(100 * np.clip(ordered[at], 0, 1)), np.uint8)
