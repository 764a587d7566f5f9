"""Curves over thresholds: precision against recall, and hits against false alarms, from a histogram of scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.arrays import F64, I64, U8
from geoseg.errors import ConfigError

__all__ = ["LEVELS", "PERCENT", "ScoreHistogram"]

LEVELS = 1001
PERCENT = 101
"""Levels of a raster of percents, which is then exact."""


@dataclass(frozen=True, slots=True, eq=False)
class ScoreHistogram:
    """Pixels by the level of their probability, and by whether they are of the class. Histograms of parts add up.

    Probabilities are rounded to L levels at even distances from 0 to 1: memory and exactness don't depend on the number
    of pixels. Curves are those of the rounded probabilities, exactly.
    """

    counts: I64
    """(K, 2, L): of each class, pixels of other classes and of it, by level."""

    @classmethod
    def zeros(cls, classes: int, levels: int = LEVELS) -> ScoreHistogram:
        """A histogram of no pixel."""
        return cls(np.zeros((classes, 2, levels), np.int64))

    @classmethod
    def tally(cls, truth: U8, probabilities: NDArray[np.floating[Any]], classes: int, levels: int = LEVELS) -> ScoreHistogram:
        """Count pixels.

        Args:
            truth: (...) class codes; those that are no class don't count.
            probabilities: (K, ...) from 0 to 1; NaN where there is none.
            classes: Number of classes K.
            levels: Number of levels L.

        Raises:
            ConfigError: Shapes don't fit.
        """
        if probabilities.shape != (classes, *truth.shape):
            raise ConfigError(f"curves: probabilities of shape {probabilities.shape} for labels of shape {truth.shape}")
        codes = truth.ravel()
        counts = np.zeros((classes, 2, levels), np.int64)
        for k, plane in enumerate(probabilities.reshape(classes, -1)):
            known = (codes < classes) & np.isfinite(plane)
            level = np.rint(np.clip(plane[known], 0, 1).astype(np.float64) * (levels - 1)).astype(np.intp)
            pairs = (codes[known] == k) * levels + level
            counts[k] = np.bincount(pairs, minlength=2 * levels).reshape(2, levels)
        return cls(counts)

    def __add__(self, other: ScoreHistogram) -> ScoreHistogram:
        """Tallies of both together."""
        return ScoreHistogram(self.counts + other.counts)

    def precision_recall(self, k: int) -> tuple[F64, F64, F64]:
        """Thresholds, falling, and precision and recall of "probability >= threshold", where a level has pixels.

        Empty where the class, or every pixel, is missing.
        """
        thresholds, false, true, _, positives = self._cumulated(k)
        if not positives:
            return np.empty(0), np.empty(0), np.empty(0)
        return thresholds, true / (true + false), true / positives

    def average_precision(self, k: int) -> float:
        """Mean precision weighted by the steps of recall, without interpolation; NaN where the class is missing."""
        _, precision, recall = self.precision_recall(k)
        return float(np.sum(np.diff(recall, prepend=0.0) * precision)) if len(recall) else float("nan")

    def hits_and_false_alarms(self, k: int) -> tuple[F64, F64]:
        """The ROC curve from (0, 0) to (1, 1): share of the class, and of the rest, that has at least a probability."""
        _, false, true, negatives, positives = self._cumulated(k)
        if not positives or not negatives:
            return np.empty(0), np.empty(0)
        return np.concatenate([[0], true / positives]), np.concatenate([[0], false / negatives])

    def roc_area(self, k: int) -> float:
        """The area below that curve; NaN where the class, or the rest, is missing."""
        hits, alarms = self.hits_and_false_alarms(k)
        return float(np.trapezoid(hits, alarms)) if len(hits) else float("nan")

    def _cumulated(self, k: int) -> tuple[F64, F64, F64, int, int]:
        levels = self.counts.shape[2]
        rest, of_class = self.counts[k][:, ::-1]
        some = (rest + of_class) > 0
        thresholds = np.linspace(1, 0, levels)[some]
        false, true = np.cumsum(rest)[some].astype(np.float64), np.cumsum(of_class)[some].astype(np.float64)
        return thresholds, false, true, int(rest.sum()), int(of_class.sum())
