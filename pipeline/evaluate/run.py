"""Evaluate: maps and truths in, figures with intervals and a report out; window by window, whatever their size."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoseg.calibration.measures import Tally
from geoseg.codes import NODATA, NOT_ANALYSED
from geoseg.errors import ConfigError
from geoseg.evaluation.boundary import BoundaryTally
from geoseg.evaluation.confusion import ConfusionMatrix
from geoseg.evaluation.curves import PERCENT, ScoreHistogram
from geoseg.evaluation.errormap import ErrorMap
from geoseg.windows import Window
from pipeline.config.units import parse_distance
from pipeline.evaluate.document import Document, Intervals, Measured, document_of
from pipeline.evaluate.pairs import Classes, Opened, find_pairs, known_classes, open_pair
from pipeline.evaluate.settings import MeasureOptions, TruthOptions
from pipeline.files.reports import review_note

__all__ = ["Evaluation", "evaluate"]

log = logging.getLogger(__name__)

LARGEST_PX = 512
"""Distances above this would make windows mostly margin."""


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Figures of maps against their truths."""

    classes: Classes
    scenes: tuple[Measured, ...]
    distances: tuple[str, ...]
    """As they were asked for."""
    document: Document
    """All figures, as ``evaluation.json`` has them."""
    intervals: Intervals
    """Intervals of the figures, at 95 %."""


def evaluate(
    predictions: Sequence[str],
    truth: str,
    *,
    truth_options: TruthOptions | None = None,
    options: MeasureOptions | None = None,
    names: Mapping[int, str] | None = None,
    rename: tuple[str, str] | None = None,
    allow_unpaired: bool = False,
) -> Evaluation:
    """Compare class rasters with their truth.

    The map's grid decides: truths on other grids are brought onto it by nearest neighbour, vectors are burnt. Only pixels
    count that have a class in both; those that the map has not analysed are counted apart. Memory does not depend on the size
    of the rasters.

    Args:
        predictions: Class rasters, globs, folders, or what ``segment`` wrote; then its confidence or its probabilities
            give curves and reliability, too.
        truth: A class raster, a vector file, or a folder of them by the names of the maps.
        truth_options: How truths are read.
        options: Measures beside the confusion matrix.
        names: Names of the classes by code, where the maps don't have them.
        rename: Text in the name of a map, and what stands for it in that of its truth.
        allow_unpaired: Leave out what has no partner.

    Raises:
        ConfigError: Something has no partner, or a class is not known.
        SceneError: A raster can't be read, or has no place on Earth.
    """
    reading, options = truth_options or TruthOptions(), options or MeasureOptions()
    pairs, alone = find_pairs(predictions, truth, rename=rename, allow_unpaired=allow_unpaired)
    for path in alone:
        log.warning("%s: no partner; left out", path)
    for pair in pairs:
        if (note := review_note(Path(pair.files.classes))) is not None:
            log.warning("%s", note)
    classes = known_classes(pairs, names or {}, reading)
    scenes = []
    for pair in pairs:
        scenes.append(_measure(open_pair(pair, classes, reading), classes, options))
        log.info("%s: mIoU %.4f", pair.name, scenes[-1].matrix.miou())
    if not any(scene.matrix.pixels for scene in scenes):
        raise ConfigError("evaluate: no pixel has a class in the map and in the truth; do they cover the same place?")
    document, intervals = document_of(scenes, classes, options.boundary, alone, options.seed)
    return Evaluation(classes, tuple(scenes), tuple(options.boundary), document, intervals)


def _measure(opened: Opened, classes: Classes, options: MeasureOptions) -> Measured:
    count = len(classes.names)
    distances = tuple(_pixels(text, opened) for text in options.boundary)
    found = Measured(opened.pair, ConfusionMatrix.zeros(count), BoundaryTally.zeros(count, distances), distances)
    found.errors = ErrorMap.of(opened.height, opened.width)
    margin = BoundaryTally.margin(distances)
    side = found.errors.aligned(options.side)
    whole = Window.of((opened.height, opened.width))
    for core in whole.parts(side):
        _add(found, opened, core, core.grown(margin) & whole or core, count)
    if options.isbi is not None:
        found.isbi = _isbi(opened, classes, options.isbi)
    return found


def _add(found: Measured, opened: Opened, core: Window, wide: Window, classes: int) -> None:
    truth = opened.truth.read(wide)[0]
    inner = core.slices_in(wide)
    labels = truth[inner]
    found.pixels += labels.size
    labelled = labels < classes
    if not labelled.any():
        return
    prediction = opened.map.classes(wide)
    codes = prediction[inner]
    odd = codes[labelled & (codes >= classes) & (codes < NOT_ANALYSED)]
    if odd.size:
        raise ConfigError(
            f"{opened.pair.prediction}: code {odd[0]} is no class; there are {classes}, from 0; name it with --names {odd[0]}=…"
        )
    found.labelled += int(labelled.sum())
    found.not_analysed += int((labelled & (codes == NOT_ANALYSED)).sum())
    found.no_data += int((labelled & (codes == NODATA)).sum())
    found.matrix += ConfusionMatrix.tally(labels, codes, classes)
    if found.distances:
        found.boundary += BoundaryTally.tally(truth, prediction, classes, found.distances, inner)
    assert found.errors is not None
    found.errors.add(core, labels, codes, classes)
    _add_scores(found, opened, core, labels, codes, classes)


def _add_scores(
    found: Measured, opened: Opened, core: Window, labels: NDArray[np.uint8], codes: NDArray[np.uint8], classes: int
) -> None:
    """Curves and reliability from probabilities; from the confidence, what it gives."""
    percents = opened.pair.files.percents(core, (opened.height, opened.width))
    if percents is None:
        return
    known = np.where(codes < classes, labels, np.uint8(NODATA))
    full = len(percents) == classes
    if not full:
        percents = _of_confidence(percents[0], codes, classes)
    known = np.where(np.isfinite(percents).all(axis=0), known, np.uint8(NODATA))
    if full or classes == 2:
        curves = found.curves or ScoreHistogram.zeros(classes, PERCENT)
        found.curves = curves + ScoreHistogram.tally(known, percents, classes, PERCENT)
    found.reliability = found.reliability or Tally(classes)
    found.reliability.add(np.nan_to_num(percents), known)


def _of_confidence(confidence: NDArray[np.float32], codes: NDArray[np.uint8], classes: int) -> NDArray[np.float32]:
    """(K, h, w): the confidence for the class of a pixel, the rest in even parts for the others."""
    p = np.repeat(((1 - confidence) / max(1, classes - 1))[None], classes, axis=0).astype(np.float32)
    np.put_along_axis(p, np.minimum(codes, classes - 1)[None].astype(np.intp), confidence[None], axis=0)
    return p


def _pixels(text: str, opened: Opened) -> float:
    """A distance in pixels."""
    try:
        distance, unit = parse_distance(text)
    except ValueError as error:
        raise ConfigError(f"--boundary: {error}") from None
    if unit == "m":
        size = opened.georeference.pixel_size(opened.height, opened.width) if opened.georeference is not None else None
        if size is None:
            raise ConfigError(f"--boundary: {text}: pixels of {opened.pair.prediction} have no size in metres; give pixels")
        distance /= size
    if not 1 <= distance <= LARGEST_PX:
        raise ConfigError(f"--boundary: {text} is {distance:.3g} px of {opened.pair.prediction}; from 1 to {LARGEST_PX} px work")
    return distance


def _isbi(opened: Opened, classes: Classes, objects: str) -> Mapping[str, float]:
    from geoseg.evaluation.isbi import measure

    if objects not in classes.names:
        raise ConfigError(f"--isbi: {objects!r} is no class: {', '.join(classes.names)}")
    code = classes.names.index(objects)
    whole = Window.of((opened.height, opened.width))
    truth, found = opened.truth.read(whole)[0], opened.map.classes(whole)
    if (truth >= len(classes.names)).any():
        log.warning("%s: what is not labelled counts as border in the measures of ISBI 2012", opened.pair.truth)
    return measure(truth == code, found == code).to_json()
