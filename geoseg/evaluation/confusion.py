"""The confusion matrix, and what can be said of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geoseg.arrays import F64, I64, U8

__all__ = ["SCALARS", "ConfusionMatrix", "class_figures", "scalar_figures"]

SCALARS = ("miou", "mean_dice", "accuracy", "kappa", "mcc")
"""Names of the figures that are one number."""


@dataclass(frozen=True, slots=True, eq=False)
class ConfusionMatrix:
    """Pixels by their class in truth and in a map. Matrices of parts add up to that of the whole."""

    counts: I64
    """(K, K): rows are the truth, columns the map."""

    @classmethod
    def zeros(cls, classes: int) -> ConfusionMatrix:
        """A matrix of no pixel."""
        return cls(np.zeros((classes, classes), np.int64))

    @classmethod
    def tally(cls, truth: U8, prediction: U8, classes: int) -> ConfusionMatrix:
        """Count pixels.

        Args:
            truth: Class codes of any shape. Codes that are no class don't count: 254 not analysed, 255 no data or no label.
            prediction: The same of the map.
            classes: Number of classes.
        """
        known = (truth < classes) & (prediction < classes)
        pairs = truth[known].astype(np.intp) * classes + prediction[known]
        return cls(np.bincount(pairs, minlength=classes * classes).reshape(classes, classes).astype(np.int64))

    def __add__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        """Tallies of both together."""
        return ConfusionMatrix(self.counts + other.counts)

    @property
    def pixels(self) -> int:
        """Number of pixels that count."""
        return int(self.counts.sum())

    def support(self) -> I64:
        """(K,) pixels of each class in the truth."""
        return np.asarray(self.counts.sum(axis=1))

    def iou(self) -> F64:
        """(K,) intersection over union (Jaccard) of each class; NaN where a class is in neither."""
        return class_figures(self.counts)["iou"]

    def dice(self) -> F64:
        """(K,) Dice coefficient, or F1; NaN where a class is in neither."""
        return class_figures(self.counts)["dice"]

    def precision(self) -> F64:
        """(K,) share of what is mapped as a class that is of it; NaN where it is not mapped."""
        return class_figures(self.counts)["precision"]

    def recall(self) -> F64:
        """(K,) share of a class that is mapped as it; NaN where the truth has none."""
        return class_figures(self.counts)["recall"]

    def miou(self) -> float:
        """Mean IoU over the classes that are in the truth or in the map; NaN where no pixel counts."""
        return self.figures()["miou"]

    def mean_dice(self) -> float:
        """Mean Dice coefficient (macro F1) over the classes that are in the truth or in the map."""
        return self.figures()["mean_dice"]

    def accuracy(self) -> float:
        """Share of pixels that have their class."""
        return self.figures()["accuracy"]

    def kappa(self) -> float:
        """Agreement beyond chance (Cohen 1960, doi:10.1177/001316446002000104); NaN where both are all of one class."""
        return self.figures()["kappa"]

    def mcc(self) -> float:
        """Matthews' correlation, of K classes after Gorodkin 2004, doi:10.1016/j.compbiolchem.2004.09.006.

        NaN where truth or map is all of one class.
        """
        return self.figures()["mcc"]

    def figures(self) -> dict[str, float]:
        """``SCALARS`` by name."""
        return {name: float(value) for name, value in scalar_figures(self.counts).items()}


def class_figures(counts: I64) -> dict[str, F64]:
    """IoU, Dice, precision and recall (..., K) of matrices (..., K, K)."""
    hit = np.diagonal(counts, axis1=-2, axis2=-1).astype(np.float64)
    truth, found = counts.sum(axis=-1).astype(np.float64), counts.sum(axis=-2).astype(np.float64)
    return {
        "iou": _ratio(hit, truth + found - hit),
        "dice": _ratio(2 * hit, truth + found),
        "precision": _ratio(hit, found),
        "recall": _ratio(hit, truth),
    }


def scalar_figures(counts: I64) -> dict[str, F64]:
    """``SCALARS`` (...) of matrices (..., K, K); NaN where one is not defined."""
    by_class = class_figures(counts)
    shares = _ratio(counts.astype(np.float64), counts.sum(axis=(-2, -1), keepdims=True).astype(np.float64))
    hit = np.trace(shares, axis1=-2, axis2=-1)
    truth, found = shares.sum(axis=-1), shares.sum(axis=-2)
    chance = (truth * found).sum(axis=-1)
    spread = (1 - (truth**2).sum(axis=-1)) * (1 - (found**2).sum(axis=-1))
    # Shares add up to 1 only to the last bits; all of one class is a matter of counts.
    mixed_truth = (counts.sum(axis=-1) > 0).sum(axis=-1) > 1
    mixed_found = (counts.sum(axis=-2) > 0).sum(axis=-1) > 1
    agree_by_chance = ~mixed_truth & ~mixed_found & (hit > 0)
    return {
        "miou": _mean(by_class["iou"]),
        "mean_dice": _mean(by_class["dice"]),
        "accuracy": hit,
        "kappa": np.where(agree_by_chance, np.nan, _ratio(hit - chance, 1 - chance)),
        "mcc": np.where(mixed_truth & mixed_found, _ratio(hit - chance, np.sqrt(np.maximum(spread, 0))), np.nan),
    }


def _ratio(above: F64, below: F64) -> F64:
    return np.asarray(np.divide(above, below, out=np.full(np.broadcast(above, below).shape, np.nan), where=below != 0))


def _mean(values: F64) -> F64:
    there = np.isfinite(values)
    return _ratio(np.where(there, values, 0).sum(axis=-1), there.sum(axis=-1).astype(np.float64))
