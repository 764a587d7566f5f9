"""Baselines fitted on some scenes and judged on others: one confusion matrix a scene, as networks have it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geoseg.baselines.catalogue import fit_baseline, predict_scene
from geoseg.evaluation.confusion import ConfusionMatrix
from geoseg.training.data.chips import ChipSource

__all__ = ["Judgement", "judge_baseline"]


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """A method on scenes that it was not fitted on."""

    method: str
    """Its name in the catalogue."""
    index: str | None
    """The index of the bands that it has chosen; None where it takes all bands."""
    scenes: tuple[ConfusionMatrix, ...]
    """Labelled pixels by true and by found class, of each scene."""
    fit_s: float
    """Seconds to fit it."""
    predict_s: float
    """Seconds to run it over the scenes, reading them included."""

    @property
    def matrix(self) -> ConfusionMatrix:
        """All scenes together."""
        return sum(self.scenes[1:], self.scenes[0])


def judge_baseline(
    method: str,
    training: Sequence[ChipSource],
    judged: Sequence[ChipSource],
    bands: Sequence[str],
    *,
    classes: int,
    seed: int = 0,
) -> Judgement:
    """Fit a method on labelled scenes, and count what it gives on others; memory is that of a window.

    Args:
        method: One of ``BASELINES``.
        training: The scenes to fit it on.
        judged: The scenes to judge it on; what is unlabelled there does not count.
        bands: Names of the bands of all scenes.
        classes: Number of classes.
        seed: Of what is drawn.

    Raises:
        ConfigError: There is no such method, it can't distinguish so many classes, or the labels can't be learned from.
    """
    start = time.perf_counter()
    baseline = fit_baseline(method, training, bands, np.random.default_rng(seed), classes=classes)
    fitted = time.perf_counter()
    matrices = []
    for source in judged:
        matrix = ConfusionMatrix.zeros(classes)
        for window, codes in predict_scene(baseline, source):
            matrix += ConfusionMatrix.tally(source.read(window).labels, codes, classes)
        matrices.append(matrix)
    index = getattr(baseline, "index", None)
    return Judgement(method, index, tuple(matrices), fitted - start, time.perf_counter() - fitted)
