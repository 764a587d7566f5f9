"""Confidence intervals of figures, from drawing scenes with replacement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from geoseg.evaluation.confusion import ConfusionMatrix, class_figures, scalar_figures
from geoseg.sampling.bootstrap import DRAWS, drawn, interval

__all__ = ["bootstrap"]


def bootstrap(
    matrices: Sequence[ConfusionMatrix], generator: np.random.Generator, *, draws: int = DRAWS
) -> dict[str, tuple[float, float] | None]:
    """95 % intervals of the pooled figures, and of ``iou:0``, ``iou:1``, …, the IoU of each class.

    Pixels of a scene are alike, so that scenes are drawn, not pixels. Under two scenes there is no interval: the result is
    empty. Of few scenes it is too narrow; it says nothing of places that none of the scenes is like.

    Args:
        matrices: One a scene.
        generator: Source of chance.
        draws: Number of draws.
    """
    if len(matrices) < 2:
        return {}
    counts = np.stack([matrix.counts for matrix in matrices])
    totals = np.tensordot(drawn(len(matrices), generator, draws), counts, axes=1)
    found = {name: interval(values) for name, values in scalar_figures(totals).items()}
    by_class = class_figures(totals)["iou"]
    return found | {f"iou:{k}": interval(by_class[:, k]) for k in range(by_class.shape[1])}
