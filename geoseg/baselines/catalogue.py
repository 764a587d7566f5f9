"""The baselines by name: fitted on labelled scenes, run over scenes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from geoseg.arrays import U8
from geoseg.baselines.contours import fit_contour
from geoseg.baselines.draws import Baseline, parts
from geoseg.baselines.edges import fit_edges
from geoseg.baselines.pixelwise import fit_logistic, fit_random_forest
from geoseg.baselines.thresholds import fit_histogram, fit_otsu, fit_scene_otsu
from geoseg.errors import ConfigError
from geoseg.training.data.chips import ChipSource
from geoseg.windows import Window

__all__ = ["BASELINES", "TWO_CLASSES", "fit_baseline", "predict_scene"]

Sources = Sequence[ChipSource]
PART_PX, WHOLE_PX = 1024, 4096

TWO_CLASSES: Mapping[str, Callable[[Sources, Sequence[str], np.random.Generator, str | None], Baseline]] = {
    "otsu": fit_otsu,
    "scene-otsu": fit_scene_otsu,
    "histogram": fit_histogram,
    "canny": fit_edges,
    "chan-vese": fit_contour,
}
"""Methods that tell classes 0 and 1 apart by an index of the bands."""
BASELINES = (*TWO_CLASSES, "logistic", "random-forest")
"""All names."""


def fit_baseline(
    name: str, sources: Sources, bands: Sequence[str], rng: np.random.Generator, *, classes: int = 2, index: str | None = None
) -> Baseline:
    """Fit a baseline to labelled scenes.

    Args:
        name: One of ``BASELINES``.
        sources: The scenes.
        bands: Names of their bands, which say which indices there are.
        rng: Draws pixels and windows.
        classes: Number of classes.
        index: An index of the bands for methods that use one; None takes the one that serves best on the scenes, and
            brightness for edges.

    Raises:
        ConfigError: There is no such baseline, it can't distinguish so many classes, or the labels can't be learned from.
    """
    if name in TWO_CLASSES:
        if classes != 2:
            raise ConfigError(f"baseline {name}: it tells 2 classes apart, not {classes}; use logistic or random-forest")
        return TWO_CLASSES[name](sources, bands, rng, index)
    if name == "logistic":
        return fit_logistic(sources, rng)
    if name == "random-forest":
        return fit_random_forest(sources, rng)
    raise ConfigError(f"baseline {name!r}: not one of {', '.join(BASELINES)}")


def predict_scene(baseline: Baseline, source: ChipSource) -> Iterator[tuple[Window, U8]]:
    """Class codes of a scene, window by window; 255 where there is no data.

    Methods that look at all of an image take scenes in squares of 4096 pixels; the others give the same in any windows.
    """
    whole = baseline.margin is None
    margin = baseline.margin or 0
    for window in parts(source, WHOLE_PX if whole else PART_PX):
        wide = window.grown(margin)
        chip = source.read(wide)
        yield window, baseline.predict(chip.image, chip.valid)[window.slices_in(wide)]
