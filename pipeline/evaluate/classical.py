"""Classical methods beside maps: fitted on scenes that are not the judged one, judged on the maps' own pixels."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from geoseg.dialect import number_of
from geoseg.errors import ConfigError
from geoseg.evaluation.confusion import ConfusionMatrix
from geoseg.evaluation.intervals import bootstrap
from geoseg.training.data.chips import ChipSource
from geoseg.training.data.splits import LeakError, check_leaks
from pipeline.evaluate.classical_table import BaselineRow, BaselineTable, row_of, verdict
from pipeline.evaluate.judged_sources import MapSource, OneAtATime, image_of
from pipeline.evaluate.pairs import Classes, open_pair
from pipeline.evaluate.run import Evaluation
from pipeline.evaluate.settings import BaselineOptions, TruthOptions
from pipeline.evaluate.training_scenes import opened_scenes

if TYPE_CHECKING:
    from geoseg.baselines.judgement import Judgement

__all__ = ["with_baselines"]

log = logging.getLogger(__name__)

FOLDS = 5
"""Groups of scenes that are judged by what was fitted on the other groups; fewer scenes are groups of their own."""
Fold = tuple[Sequence[ChipSource], Sequence[int]]
"""Scenes to fit on, and numbers of those to judge."""


@dataclass(frozen=True, slots=True, eq=False)
class _Comparison:
    """All that methods are fitted and judged on."""

    bands: tuple[str, ...]
    judged: tuple[ChipSource, ...]
    folds: tuple[Fold, ...]
    fitted_on: str
    """In words."""


def with_baselines(found: Evaluation, options: BaselineOptions, reading: TruthOptions | None = None) -> Evaluation:
    """Fit classical methods, judge them on the pixels that the maps were judged on, and put all into one table.

    A method is never judged on a scene that it was fitted on. With scenes to fit on, those; else the scenes of the maps are
    divided into five groups, or as many as there are scenes, and each is judged by what was fitted on the others. Memory is that
    of windows and of sampled pixels.

    Args:
        found: The maps against their truths.
        options: The images, and what to fit on.
        reading: How truths were read.

    Returns:
        The evaluation, with ``baselines`` in its document.

    Raises:
        ConfigError: An image is missing or on another grid, or methods would be judged on what they were fitted on.
        SceneError: A scene can't be read.
    """
    methods = _methods(options)
    compared = _comparison(found, options, reading or TruthOptions())
    classes, skipped = found.classes, dict[str, str]()
    rows = [_row("the maps", None, [scene.matrix for scene in found.scenes], classes, options.seed, is_map=True)]
    for method in methods:
        try:
            indices, matrices = _judged(method, compared, len(classes.names), options.seed)
        except ConfigError as error:
            skipped[method] = str(error)
            log.warning("%s", error)
            continue
        rows.append(_row(method, indices, matrices, classes, options.seed))
        log.info("baseline %s: mIoU %.4f", method, sum(matrices[1:], matrices[0]).miou())
    # Of equals the map comes last: it has to be better to be called so.
    rows.sort(key=lambda row: (-1.0 if row["miou"] is None else row["miou"], not row["is_map"]), reverse=True)
    table: BaselineTable = {
        "fitted_on": compared.fitted_on,
        "bands": list(compared.bands),
        "verdict": verdict(rows),
        "rows": rows,
        "skipped": skipped,
    }
    return replace(found, document={**found.document, "baselines": table})


def _methods(options: BaselineOptions) -> tuple[str, ...]:
    """The methods asked for.

    Raises:
        ConfigError: One is not known, or needs a package that is not there.
    """
    from geoseg.baselines.catalogue import BASELINES, TWO_CLASSES

    wanted = tuple(options.methods or BASELINES)
    unknown = next((name for name in wanted if name not in BASELINES), None)
    if unknown is not None:
        raise ConfigError(f"--baseline-methods: {unknown!r} is not one of {', '.join(BASELINES)}")
    if not {*wanted} <= {*TWO_CLASSES} and importlib.util.find_spec("sklearn") is None:
        raise ConfigError(
            "--baseline: logistic and random-forest need scikit-learn; pip install 'geoseg[train]', or leave them out with "
            f"--baseline-methods {','.join(TWO_CLASSES)}"
        )
    return wanted


def _comparison(found: Evaluation, options: BaselineOptions, reading: TruthOptions) -> _Comparison:
    classes, turn = found.classes, OneAtATime()
    scenes = opened_scenes(options, classes, reading)
    opened = [open_pair(scene.pair, classes, reading) for scene in found.scenes]
    images = {source.name: source for source in scenes.judged}
    sources = [image_of(one, images) for one in opened]
    count = len(classes.names)
    judged = tuple(MapSource(s, turn, one, count, as_judged=True) for s, one in zip(sources, opened, strict=True))
    if scenes.training:
        try:
            check_leaks(scenes.training, sources)
        except LeakError as error:
            raise ConfigError(f"--baseline-train: {error}") from error
        training = tuple(MapSource(source, turn) for source in scenes.training)
        words = (
            f"{len(training)} other scenes: {', '.join(scene.name for scene in training[:5])}{', …' if len(training) > 5 else ''}"
        )
        return _Comparison(scenes.bands, judged, ((training, range(len(judged))),), words)
    labelled = [MapSource(s, turn, one, count) for s, one in zip(sources, opened, strict=True)]
    folds = tuple(_folds(labelled))
    groups = number_of(len(folds), "group")
    words = f"the other scenes of the maps, in {groups} in turn; no method is judged on a scene that it was fitted on"
    return _Comparison(scenes.bands, judged, folds, words)


def _folds(scenes: Sequence[ChipSource]) -> Iterator[Fold]:
    """Groups of scenes, each with the scenes of the others that show no ground of it.

    Raises:
        ConfigError: Nothing is left to fit on.
    """
    count = min(FOLDS, len(scenes))
    for fold in range(count):
        held = range(fold, len(scenes), count)
        others = [scene for k, scene in enumerate(scenes) if k not in held and not _overlap(scene, [scenes[h] for h in held])]
        if not others:
            raise ConfigError(
                f"--baseline: besides {scenes[fold].name} there is no scene elsewhere to fit on, and no method is judged on "
                "what it was fitted on; give labelled scenes by --baseline-train IMAGES=LABELS"
            )
        yield others, held


def _overlap(one: ChipSource, others: Sequence[ChipSource]) -> bool:
    try:
        check_leaks([one], others)
    except LeakError:
        return True
    return False


def _judged(method: str, compared: _Comparison, classes: int, seed: int) -> tuple[list[str], list[ConfusionMatrix]]:
    """The indices that a method has chosen, and its counts by scene."""
    from geoseg.baselines.judgement import judge_baseline

    matrices = [ConfusionMatrix.zeros(classes)] * len(compared.judged)
    indices: dict[str, None] = {}
    for training, held in compared.folds:
        scenes = [compared.judged[k] for k in held]
        found: Judgement = judge_baseline(method, training, scenes, compared.bands, classes=classes, seed=seed)
        indices |= {} if found.index is None else {found.index: None}
        for k, matrix in zip(held, found.scenes, strict=True):
            matrices[k] = matrix
    return list(indices), matrices


def _row(
    method: str,
    indices: Sequence[str] | None,
    scenes: Sequence[ConfusionMatrix],
    classes: Classes,
    seed: int,
    *,
    is_map: bool = False,
) -> BaselineRow:
    counted = [matrix for matrix in scenes if matrix.pixels]
    intervals = bootstrap(counted, np.random.default_rng(seed))
    total = sum(scenes[1:], scenes[0])
    return row_of(method, indices or (), total, intervals.get("miou"), classes.names, is_map=is_map)
