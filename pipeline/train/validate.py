"""Judge: a finished model on held-out data, through the engine that will run it; and the calibration of its probabilities."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.calibration.pixel_sample import PixelSample
from geoseg.calibration.selection import BEFORE, candidates, choose, tally_of
from geoseg.errors import ConfigError
from geoseg.evaluation.confusion import ConfusionMatrix, class_figures
from geoseg.inference.decision import Decision
from geoseg.models.model_folder import CARD, Model, load_model
from geoseg.training.validation import Judged, judge, open_for_chips
from pipeline.train.data import TrainingData
from pipeline.train.object_thresholds import judge_objects
from pipeline.train.recipe import Recipe

__all__ = ["judge_model", "readme"]

log = logging.getLogger(__name__)

SIDE = 1024
BLOCK = 128
"""Where a single scene is held out, these blocks are dealt to fitting and measuring in turn."""


def judge_model(model: Model, recipe: Recipe, data: TrainingData, engine: str = "auto") -> tuple[Model, dict[str, Any]]:
    """Run a model over the validation data; calibrate it on one half, and measure on the other.

    The halves are scenes in turn, or blocks of a single scene. IoU is that of the uncalibrated network over all validation
    data, so that nothing was fitted to what it is measured on, beside the choice of the checkpoint.

    Args:
        model: The model.
        recipe: What it was trained by.
        data: What it is judged on.
        engine: ``onnx``, ``torch``, or ``auto`` for the one that will run it here.

    Returns:
        The model with its calibration, and the validation report.
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
    report = _report(model, data, matrices)
    if card.instances is not None:
        model, report["objects"] = judge_objects(model, data, areas, engine)
    if recipe.calibrate.method != "none":
        model, report["calibration"] = _calibrated(model, data, areas, sample, recipe.calibrate.method, engine)
    return model, report


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
    model: Model, data: TrainingData, areas: Sequence[Any], sample: PixelSample, method: str, engine: str
) -> tuple[Model, dict[str, Any]]:
    """Fit calibrations to a sample, choose one within it, measure all on the other half, and write the chosen one's card."""
    card = model.card
    try:
        cards = candidates(method, sample, card)
    except ConfigError as error:
        log.warning("calibrate: %s", error)
        return model, {"method": "none", "reason": str(error)}
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
        return model, {"method": "none", "reason": "nothing is held out to measure it on"}
    chosen = choose(cards, sample, card) if method == "auto" else method
    figures: dict[str, dict[str, Any]] = {
        name: {**tally.summary(), "miou": _number(matrices[name].miou())} for name, tally in tallies.items()
    }
    if chosen != BEFORE:
        cards[chosen].write(model.path / CARD)
        model = load_model(str(model.path))
    return model, {
        "method": chosen,
        "measures": figures,
        "reliability": {n: tallies[n].diagram().to_json() for n in (BEFORE, chosen)},
    }


def _report(model: Model, data: TrainingData, matrices: dict[int, ConfusionMatrix]) -> dict[str, Any]:
    """The figures of the uncalibrated network."""
    if not matrices:
        raise ConfigError("data: the validation data holds no labelled pixel")
    total = sum(matrices.values(), ConfusionMatrix.zeros(len(model.card.classes)))
    by_class = class_figures(total.counts) | {"pixels": total.support()}
    return {
        "model": model.card.name,
        "data": data.fingerprint,
        "pixels": total.pixels,
        **{name: _number(value) for name, value in total.figures().items()},
        "classes": [
            {"class": entry.name, "code": entry.value, **{name: _number(values[k]) for name, values in by_class.items()}}
            for k, entry in enumerate(model.card.classes)
        ],
        "confusion": total.counts.tolist(),
        "scenes": [
            {"scene": data.validation[k].name, "miou": _number(m.miou()), "pixels": m.pixels, "confusion": m.counts.tolist()}
            for k, m in sorted(matrices.items())
        ],
        "trained_on": [source.name for source in data.training],
    }


def _number(value: float | np.number[Any]) -> float | int | None:
    """For JSON: None where it is not defined."""
    if isinstance(value, np.integer):
        return int(value)
    return round(float(value), 6) if np.isfinite(value) else None


def readme(recipe: Recipe, model: Model, validation: dict[str, Any]) -> str:
    """The text of a model's README: what it is, what it learned from, how good it is on held-out data, what it is for."""
    card = model.card
    field = card.receptive_field
    sources = (
        "; ".join(f"{s.name} ({s.license}){f'. {s.attribution}' if s.attribution else ''}" for s in card.data) or "not stated"
    )
    lines = [
        f"# {card.name}",
        "",
        f"{card.description}",
        "",
        "| | |",
        "|---|---|",
        f"| Network | {card.architecture}, {card.total_parameters / 1e6:.1f} M parameters |",
        f"| Data | {sources} |",
        f"| Trained on | {len(validation['trained_on'])} scenes |",
        (
            f"| Held out | {len(validation['scenes'])} scenes, {validation['pixels']:,} labelled pixels, which chose the "
            f"checkpoint: mean IoU **{validation['miou']:.3f}**, accuracy {validation['accuracy']:.3f} |"
        ),
        f"| Receptive field | {'the whole tile' if field is None or card.global_context else f'{field.reach} px to each side'} |",
        f"| Licence of the weights | {card.license} |",
        "",
        "| Class | IoU | precision | recall | pixels |",
        "|---|---|---|---|---|",
    ]
    for row in validation["classes"]:
        cells = (("-" if row[key] is None else f"{row[key]:.3f}") for key in ("iou", "precision", "recall"))
        lines.append(f"| {row['class']} | {' | '.join(cells)} | {row['pixels']:,} |")
    objects = validation.get("objects")
    if objects:
        lines += [
            "",
            (
                f"Objects, matched at an intersection over union of {objects['iou']:g}: F1 **{objects['f1']:.3f}**, precision "
                f"{objects['precision']:.3f}, recall {objects['recall']:.3f}, {objects['truth']} in the truth; "
                + (
                    "thresholds were those chosen on the other windows."
                    if objects["cross_fitted"]
                    else "this chose the thresholds."
                )
            ),
        ]
    calibration = validation.get("calibration")
    if calibration and "measures" in calibration:
        before, after = (calibration["measures"][name] for name in (BEFORE, calibration["method"]))
        text = (
            f"Calibration ({calibration['method']}), on data that it was not fitted on: expected calibration error "
            f"{before['ece']:.4f} before, {after['ece']:.4f} after; negative log-likelihood {before['nll']:.4f}, "
            f"{after['nll']:.4f}."
        )
        lines += ["", text]
    lines += ["", f"Made by `geoseg train` from `{recipe.name}`; see `training/` for the recipe, the curve and the report."]
    return "\n".join(lines) + "\n"
