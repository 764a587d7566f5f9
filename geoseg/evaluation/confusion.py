"""The confusion matrix, and what can be said of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geoseg.arrays import F64, I64, U8

__all__ = ["SCALARS", "ConfusionMatrix", "class_figures", "image_means", "scalar_figures"]

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

    def weighted_iou(self) -> float:
        """Mean IoU weighted by the share of each class in the truth (frequency-weighted IoU, weighted Jaccard)."""
        return self._weighted("iou")

    def weighted_dice(self) -> float:
        """Mean Dice coefficient weighted by the share of each class in the truth (weighted F1)."""
        return self._weighted("dice")

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

    def _weighted(self, figure: str) -> float:
        support, values = self.support(), class_figures(self.counts)[figure]
        there = support > 0
        return float(values[there] @ support[there] / self.pixels) if self.pixels else float("nan")


def image_means(matrices: Sequence[ConfusionMatrix]) -> dict[str, float]:
    """Accuracy, weighted F1 and weighted Jaccard of each image, and the means over the images.

    Papers on small scenes print these (Bragagnolo et al. 2021, doi:10.1016/j.ecoinf.2021.101454; John and Zhang 2022,
    doi:10.1016/j.jag.2022.102685). They are higher than pooled figures: a scene that is nearly all of one class counts as a
    whole, and its rare class hardly at all.

    Args:
        matrices: One an image; those of no pixel don't count.

    Returns:
        ``accuracy``, ``weighted_dice`` and ``weighted_iou``; NaN where nothing counts.
    """
    some = [matrix for matrix in matrices if matrix.pixels]
    found = [(matrix.accuracy(), matrix.weighted_dice(), matrix.weighted_iou()) for matrix in some]
    means = np.mean(found, axis=0).tolist() if found else [float("nan")] * 3
    return dict(zip(("accuracy", "weighted_dice", "weighted_iou"), means, strict=True))


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
