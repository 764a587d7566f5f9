"""The Joint Damage Scale of xBD (Gupta et al. 2019, arXiv:1911.09296), and figures of how well it is told.

Classes are ordered: to take a destroyed building for one with minor damage is worse than for one with major damage.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.arrays import F64, I64
from geoseg.formats.styles import ClassStyle, class_styles

__all__ = ["CLASSES", "LABELS", "STYLES", "building_figures", "chances", "class_f1", "decided", "xview2_score"]

CLASSES = ("no damage", "minor damage", "major damage", "destroyed")
COLORS = ("#3a9d5d", "#f2d43d", "#f08a24", "#c8102e")
STYLES: tuple[ClassStyle, ...] = class_styles(
    [(k, name, color) for k, (name, color) in enumerate(zip(CLASSES, COLORS, strict=True))]
)
"""The classes and *not analysed* as they are shown."""
LABELS = {
    "none": 0,
    "no-damage": 0,
    "no damage": 0,
    "minor": 1,
    "minor-damage": 1,
    "minor damage": 1,
    "major": 2,
    "major-damage": 2,
    "major damage": 2,
    "destroyed": 3,
}
"""How data sets write the classes; others are taken as not known."""
HARMONIC_SHIFT = 1e-6
"""Added to each F1 in the harmonic mean, as the challenge did."""


def decided(probability: NDArray[np.floating[Any]]) -> I64:
    """The class (N,) of probabilities (N, K): the median, than which worse and better are less likely than not.

    It makes the expected number of steps off least, where the most probable class would pass over those in the middle.
    """
    worse = 1 - np.cumsum(probability, axis=1)[:, :-1]
    return np.asarray((worse > 0.5).sum(axis=1), np.int64)


def chances(label: I64) -> F64:
    """Weights of buildings (N,), 1 together: by the root of the number of their class.

    Rare classes count more than they are, yet not as much as the others.
    """
    count = np.bincount(label)
    chance = 1 / np.sqrt(count[label])
    return np.asarray(chance / chance.sum(), np.float64)


def class_f1(found: I64, truth: I64, classes: int = len(CLASSES)) -> F64:
    """F1 (classes,) of labels (N,); NaN for a class that neither has."""
    both = np.array([((found == k) & (truth == k)).sum() for k in range(classes)], np.float64)
    total = np.bincount(found[found >= 0], minlength=classes)[:classes] + np.bincount(truth, minlength=classes)[:classes]
    return np.asarray(np.divide(2 * both, total, out=np.full(classes, np.nan), where=total > 0))


def building_figures(found: I64, truth: I64) -> dict[str, Any]:
    """Figures by building: F1 by class and their mean, accuracy, mean steps of the scale off, and weighted kappa (Cohen 1968).

    Args:
        found: (N,) classes; -1 where not analysed, which is wrong.
        truth: (N,) classes.
    """
    f1 = class_f1(found, truth)
    known = found >= 0
    steps = np.abs(found[known] - truth[known])
    count = len(CLASSES)
    table = np.zeros((count, count))
    np.add.at(table, (truth[known], found[known]), 1)
    weight = (np.arange(count)[:, None] - np.arange(count)) ** 2
    expected = table.sum(1)[:, None] * table.sum(0) / max(1.0, table.sum())
    kappa = 1 - (weight * table).sum() / (weight * expected).sum() if (weight * expected).sum() else float("nan")
    return {
        "buildings": len(truth),
        "not_analysed": int((~known).sum()),
        "macro_f1": float(np.nanmean(f1)),
        "f1": {name: None if np.isnan(value) else float(value) for name, value in zip(CLASSES, f1, strict=True)},
        "accuracy": float((found == truth).mean()),
        "steps_off": float(steps.mean()) if len(steps) else None,
        "kappa": float(kappa),
        "confusion": table.astype(int).tolist(),
    }


def xview2_score(counts: I64, label: I64, outside: int) -> dict[str, float]:
    """The score of the xView2 challenge: 0.3 F1 of buildings + 0.7 harmonic mean of the F1 of the four classes, by pixels.

    Damage counts where the truth has buildings, and what is found there only where a building is found, too; pixels of all
    images are counted together.

    Args:
        counts: (N, 5) pixels of each building of the truth that were found to be no building, and each of the four classes.
        label: (N,) classes of the buildings.
        outside: Pixels that were found to be a building where the truth has none.
    """
    both = counts[:, 1:].sum()
    localization = 2 * both / max(1, both + outside + counts.sum())
    right = np.array([counts[label == k, k + 1].sum() for k in range(len(CLASSES))], np.float64)
    there = np.array([counts[label == k].sum() for k in range(len(CLASSES))], np.float64)
    f1 = 2 * right / np.maximum(1.0, counts[:, 1:].sum(axis=0) + there)
    damage = len(f1) / (1 / (f1 + HARMONIC_SHIFT)).sum()
    return {
        "score": float(0.3 * localization + 0.7 * damage),
        "localization_f1": float(localization),
        "damage_f1": float(damage),
        **{f"f1 {name}": float(value) for name, value in zip(CLASSES, f1, strict=True)},
    }
