"""Training: labelled scenes and a recipe in, a model folder that ``geoseg segment`` runs out."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from geoseg.errors import OutputError
from geoseg.models.model_folder import README, Model, load_model
from geoseg.redaction import redact
from pipeline.files.atomic import write_json
from pipeline.files.manifest import Manifest
from pipeline.files.run_folder import MADE, WORK, RunFolder
from pipeline.files.version import code_version
from pipeline.train.data import TrainingData, open_data
from pipeline.train.forecast import Forecast, plan_lines, rehearsed
from pipeline.train.measured import Measured, measure_data
from pipeline.train.planning import begin, planned
from pipeline.train.quantity import storage_of, value_lines
from pipeline.train.recipe import Recipe
from pipeline.train.report import Validation, readme
from pipeline.train.training_page import write_training_page
from pipeline.train.validate import judge_model
from pipeline.train.value_judging import ValueValidation, judge_values

if TYPE_CHECKING:
    from lightning.pytorch.callbacks import Callback

    from geoseg.training.pace import Pace
    from geoseg.training.run import Begun, Trained
    from geoseg.training.training_plan import TrainingPlan

__all__ = ["CHECKPOINTS", "CURVE", "RECIPE", "VALIDATION", "describe", "train"]

log = logging.getLogger(__name__)

TRAINING = "training"
"""Folder inside the model's for everything that is not the model."""
RECIPE, STATE = f"{TRAINING}/recipe.json", f"{TRAINING}/state.json"
CURVE, VALIDATION = f"{TRAINING}/curve.csv", f"{TRAINING}/validation.json"
PACE = f"{TRAINING}/pace.json"
CHECKPOINTS, PICTURES = f"{TRAINING}/checkpoints", f"{TRAINING}/pictures"
SHOWN = f"{WORK}/{TRAINING}"
"""Its place while it is under way."""


@dataclass(frozen=True, slots=True, eq=False)
class _Fitted:
    """A network with all that it was made by."""

    recipe: Recipe
    data: TrainingData
    measured: Measured
    plan: TrainingPlan
    trained: Trained


def describe(recipe: Recipe) -> tuple[dict[str, str], tuple[str, ...]]:
    """Open the data of a recipe, and measure a few steps on a copy of the network: what it takes, and what is to be minded."""
    data = open_data(recipe)
    begun = begin(recipe)
    measured = measure_data(recipe, data)
    plan, begun = planned(recipe, measured, begun)
    lines = data.describe() | value_lines(recipe.quantity, measured.values) | plan_lines(plan, data, begun)
    return lines | Forecast.of(plan.loop).lines(rehearsed(plan, data, begun)), measured.warnings


def train(
    recipe: Recipe,
    out: Path,
    *,
    overwrite: bool = False,
    progress: bool = True,
    data: TrainingData | None = None,
    resident: bool = False,
    engine: str = "auto",
    callbacks: Sequence[Callback] = (),
) -> Model:
    """Train a model, or go on where an interrupted training of the same recipe and data was.

    Args:
        recipe: What to train, on what.
        out: The model folder.
        overwrite: Replace what was made from another recipe or other data.
        progress: Show a bar on standard error.
        data: The data of the recipe, where they are open already.
        resident: Keep all scenes in the memory of the device that trains, and cut and augment chips there.
        engine: What judges the model: ``onnx``, ``torch``, or ``auto`` for the one that will run it here.
        callbacks: Further callbacks of the trainer.

    Returns:
        The model; a finished one is returned as it is.

    Raises:
        ConfigError: The recipe can't work with this data.
        OutputError: The folder holds something else.
        SceneError: A scene or its labels can't be read.
    """
    place = RunFolder(out, MADE)
    try:
        with place.held():
            data = open_data(recipe) if data is None else data
            state = {"recipe": recipe.result_hash(), "data": data.fingerprint}
            if place.finished(state) is not None:
                log.info("%s: finished before", out)
                place.prune()
                return load_model(str(out))
            _refuse_other(place, state, overwrite=overwrite)
            begun = begin(recipe)
            _begin(place, recipe, state)
            _show(place)
            for note in data.notes:
                log.warning("%s", note)
            # After what is refused, or finished, without torch.
            from geoseg.training.loop import Watching
            from geoseg.training.run import Places, run_plan

            measured = measure_data(recipe, data)
            plan, begun = planned(recipe, measured, begun)
            pace = _announced(plan, data, measured, begun, place)
            files = Places(place / CHECKPOINTS, place / PICTURES, place / CURVE)
            trained = run_plan(plan, data, files, Watching((pace, *callbacks), progress), begun=begun, resident=resident)
            model = _publish(_Fitted(recipe, data, measured, plan, trained), place, state, engine)
            place.prune()
            return model
    finally:
        place.leave()


def _announced(plan: TrainingPlan, data: TrainingData, measured: Measured, begun: Begun, place: RunFolder) -> Pace:
    """Say what is likely to go wrong, and what is trained; what it takes is said by what is given back."""
    from geoseg.training.pace import Pace

    for warning in measured.warnings:
        log.warning("%s", warning)
    for key, value in plan_lines(plan, data, begun).items():
        log.info("%-12s %s", key, value)
    return Pace(Forecast.of(plan.loop).teller(place / PACE, log.info))


def _refuse_other(place: RunFolder, state: dict[str, str], *, overwrite: bool) -> None:
    """Refuse to replace what was not asked for.

    Raises:
        OutputError: The folder has a training of something else, or another model.
    """
    begun, record = Manifest.read_identity(place.manifest), place.record()
    earlier = begun if begun is not None or record is None else record.document.get("identity", {})
    if earlier is not None and earlier != state and not overwrite:
        what = "a model already"
        if earlier:
            what = "a training of another recipe" if earlier.get("recipe") != state["recipe"] else "a training of other data"
        raise OutputError(f"{place.folder}: holds {what}; choose another --out, or replace it with --overwrite")


def _begin(place: RunFolder, recipe: Recipe, state: dict[str, str]) -> None:
    """Note what is trained, or find that it is what an interrupted training was about."""
    if Manifest.read_identity(place.manifest) == state:
        return
    place.prune()
    (place / TRAINING).mkdir(parents=True, exist_ok=True)
    write_json(place / RECIPE, recipe.document())
    write_json(place / STATE, state)
    Manifest.open(place.manifest, state)


def _show(place: RunFolder) -> None:
    """Link the training that is under way under the name that it will have."""
    with suppress(OSError):  # what is there already stays; not all file systems have links
        (place.folder / TRAINING).symlink_to(SHOWN)


def _hide(place: RunFolder) -> None:
    link = place.folder / TRAINING
    if link.is_symlink() and os.readlink(link) == SHOWN:
        link.unlink()


def _publish(fitted: _Fitted, place: RunFolder, state: dict[str, str], engine: str) -> Model:
    """Save the network as a model folder, check and judge it there, and publish it with all that the training has left."""
    from geoseg.models.saving import save_model
    from geoseg.training.validation import compare_engines

    work, recipe, data = place.clear_stage(), fitted.recipe, fitted.data
    model = save_model(fitted.trained.network, fitted.plan.network, work, _facts(fitted))
    difference = compare_engines(model, data.validation) if model.onnx is not None else None
    if difference is None:
        log.warning("%s: the network can't be exported; torch runs it", recipe.name)
    judged: Validation | ValueValidation
    if recipe.regresses:
        judged = judge_values(model, data, engine)
    else:
        model, judged = judge_model(model, recipe, data, engine)
    statistics = fitted.measured.statistics
    report = judged.to_json(model.card) | {
        "torch_onnx_difference": difference,
        "notes": list(fitted.trained.notes),
        "statistics": {"mean": statistics.mean, "stddev": statistics.stddev, "pixels": statistics.counts},
    }
    (work / README).write_text(redact(readme(model.card, judged, recipe.name)), encoding="utf-8")
    # What was trained stays until it is published, so that a training which is killed here goes on from its last step.
    shutil.copytree(place / TRAINING, work / TRAINING, copy_function=_link)
    write_json(work / VALIDATION, report)
    write_training_page(work / TRAINING, model.card, judged, fitted.trained.notes, difference)
    _hide(place)
    place.publish({"geoseg": code_version(), "status": "done", "identity": state})
    return load_model(str(place.folder))


def _link(source: str, target: str) -> None:
    """Give a file a second name, or copy it where the file system knows none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _facts(fitted: _Fitted) -> dict[str, object]:
    """Facts of the card, beside those that are measured when the model is saved."""
    recipe, preparation, sizes = fitted.recipe, fitted.plan.preparation, fitted.measured.sizes
    return {
        "name": recipe.name,
        "description": recipe.description,
        "license": recipe.license,
        "data": [*(source.model_dump() for source in recipe.sources), *_of_weights(recipe)],
        "bands": recipe.bands,
        "scaling": [{"mean": mean, "stddev": stddev} for mean, stddev in zip(preparation.mean, preparation.stddev, strict=True)],
        "classes": [
            {"value": k, **entry.model_dump(include={"name", "color", "description", "background"})}
            for k, entry in enumerate(recipe.classes)
        ],
        "data_type": recipe.data_type,
        "value_range": recipe.value_range,
        "physical": recipe.physical,
        "gsd_m": fitted.data.gsd_m,
        "domain": fitted.measured.domain,
        "instances": (
            {"kind": recipe.instances.kind, "largest_px": sizes.largest, "least_px": recipe.instances.least}
            if sizes is not None
            else None
        ),
        **_of_quantity(fitted),
    }


def _of_weights(recipe: Recipe) -> list[dict[str, str]]:
    """Source and licence of the weights that the network began with, where they are told."""
    if recipe.init.weights is None:
        return []
    from geoseg.models.weights.weight_facts import weight_facts

    facts = weight_facts(recipe.init.weights, recipe.network.encoder, recipe.data_type, physical=recipe.physical)
    return [] if facts.source is None else [{"name": facts.source, "license": facts.license}]


def _of_quantity(fitted: _Fitted) -> dict[str, object]:
    """What the card says of a quantity: the network gives it less the mean, in units of its spread."""
    recipe, found = fitted.recipe.quantity, fitted.measured.values
    if found is None:
        return {}
    scale, offset = storage_of(recipe, found)
    stored = {"name": recipe.name, "unit": recipe.unit, "scale": scale, "offset": offset}
    # 16 bits have three digits: too few for values.
    return {
        "activation": "identity",
        "half_precision": False,
        "quantity": {**stored, "slope": found.spread, "intercept": found.mean},
    }
