"""Judgement of a finished model on held-out data, through the engine that will run it, and calibration of its probabilities."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from geoseg.calibration.pixel_sample import PixelSample
from geoseg.calibration.selection import BEFORE, candidates, choose, tally_of
from geoseg.errors import ConfigError
from geoseg.evaluation.confusion import ConfusionMatrix
from geoseg.inference.decision import Decision
from geoseg.models.model_folder import CARD, Model, load_model
from geoseg.training.validation import Judged, judge, open_for_chips
from pipeline.train.data import Area, TrainingData
from pipeline.train.object_thresholds import judge_objects
from pipeline.train.recipe import Recipe
from pipeline.train.report import CalibrationFigures, Validation, rounded

__all__ = ["judge_model"]

log = logging.getLogger(__name__)

SIDE = 1024
BLOCK = 128
"""Side of the blocks of a single held-out scene that are dealt to fitting and measuring in turn."""


def judge_model(model: Model, recipe: Recipe, data: TrainingData, engine: str) -> tuple[Model, Validation]:
    """Run a model over the validation data; calibrate it on one half, and measure on the other.

    The halves are scenes in turn, or blocks of a single scene. IoU is that of the uncalibrated network over all validation
    data, so that nothing was fitted to what it is measured on, beside the choice of the checkpoint.

    Args:
        model: The model.
        recipe: What it was trained by.
        data: What it is judged on.
        engine: ``onnx``, ``torch``, or ``auto`` for the one that will run it here.

    Returns:
        The model with its calibration, and its figures.

    Raises:
        ConfigError: No pixel is labelled.
    """
    card = model.card
    classes = len(card.classes)
    running = open_for_chips(model, engine)
    plain = Decision.of(card)
    matrices: dict[int, ConfusionMatrix] = {}
    sample = PixelSample(card.scores, classes, np.random.default_rng(recipe.loop.seed))
    areas = [(k, part) for k, area in data.areas for part in area.parts(SIDE)]
    for found in judge(running, card, data.validation, areas=areas):
        matrices[found.source] = matrices.get(found.source, ConfusionMatrix.zeros(classes)) + _counted(found, plain, classes)
        for half, labels in _halves(found, len(data.validation)):
            if half == 0:
                sample.add(found.scores, labels, found.source)
    if not matrices:
        raise ConfigError("data: the validation data holds no labelled pixel")
    total, objects, calibration = sum(matrices.values(), ConfusionMatrix.zeros(classes)), None, None
    if recipe.calibrate.method != "none":
        model, calibration = _calibrated(model, data, areas, sample, recipe.calibrate.method, engine)
    if card.instances is not None:
        # After calibration: thresholds are of the probabilities that maps will have.
        model, objects = judge_objects(model, data, areas, engine)
    by_scene = tuple((data.validation[k].name, matrix) for k, matrix in sorted(matrices.items()))
    trained_on = tuple(source.name for source in data.training)
    return model, Validation(data.fingerprint, total, by_scene, trained_on, objects, calibration)


def _counted(found: Judged, decision: Decision, classes: int) -> ConfusionMatrix:
    return ConfusionMatrix.tally(found.labels, found.classes(decision), classes)


def _halves(found: Judged, scenes: int) -> list[tuple[int, NDArray[np.uint8]]]:
    """The labels of a window that are for fitting (0) and for measuring (1)."""
    if scenes > 1:
        return [(found.source % 2, found.labels)]
    rows = (np.arange(found.window.row_off, found.window.row_stop) // BLOCK)[:, None]
    cols = (np.arange(found.window.col_off, found.window.col_stop) // BLOCK)[None, :]
    return [(half, np.where((rows + cols) % 2 == half, found.labels, np.uint8(255))) for half in (0, 1)]


def _calibrated(
    model: Model, data: TrainingData, areas: Sequence[Area], sample: PixelSample, method: str, engine: str
) -> tuple[Model, CalibrationFigures]:
    """Fit calibrations to a sample, choose one within it, measure all on the other half, and write the chosen one's card."""
    card = model.card
    try:
        cards = candidates(method, sample, card)
    except ConfigError as error:
        log.warning("calibrate: %s", error)
        return model, CalibrationFigures("none", str(error))
    decisions = {name: Decision.of(with_) for name, with_ in cards.items()}
    tallies = {name: tally_of(with_) for name, with_ in cards.items()}
    matrices = {name: ConfusionMatrix.zeros(len(card.classes)) for name in cards}
    for found in judge(open_for_chips(model, engine), card, data.validation, areas=areas):
        for half, labels in _halves(found, len(data.validation)):
            if half != 1:
                continue
            part = replace(found, labels=labels)
            for name, decision in decisions.items():
                tallies[name].add(part.probabilities(decision), labels)
                matrices[name] += _counted(part, decision, len(card.classes))
    if tallies[BEFORE].pixels == 0:
        return model, CalibrationFigures("none", "nothing is held out to measure it on")
    chosen = choose(cards, sample, card) if method == "auto" else method
    figures = {name: {**tally.summary(), "miou": rounded(matrices[name].miou())} for name, tally in tallies.items()}
    if chosen != BEFORE:
        cards[chosen].write(model.path / CARD)
        model = load_model(str(model.path))
    reliability = {name: tallies[name].diagram().to_json() for name in (BEFORE, chosen)}
    return model, CalibrationFigures(chosen, measures=figures, reliability=reliability)
