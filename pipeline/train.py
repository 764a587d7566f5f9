"""Train: labelled scenes and a recipe in, a model folder that ``geoseg segment`` runs out."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from geoseg.documents import read_json
from geoseg.errors import OutputError
from geoseg.models.folder import CARD, CONFIG, ONNX, README, WEIGHTS, Model, load_model
from pipeline.atomic import sync_folder, write_json
from pipeline.fit import Fitted, fit_recipe
from pipeline.judge import judge_model, readme
from pipeline.lock import exclusive
from pipeline.recipe import Recipe
from pipeline.training_data import TrainingData, open_data

__all__ = ["CURVE", "RECIPE", "VALIDATION", "describe", "train"]

log = logging.getLogger(__name__)

TRAINING = "training"
"""Folder inside the model's for everything that is not the model."""
RECIPE, STATE = f"{TRAINING}/recipe.json", f"{TRAINING}/state.json"
CURVE, VALIDATION = f"{TRAINING}/curve.csv", f"{TRAINING}/validation.json"
CHECKPOINTS, PICTURES = f"{TRAINING}/checkpoints", f"{TRAINING}/pictures"
WORK, LOCK = f"{TRAINING}/model", ".train.lock"
MODEL_FILES = (CONFIG, WEIGHTS, ONNX, README, CARD)
"""In the order in which they are published: a folder with a card is a whole model."""


def describe(recipe: Recipe) -> dict[str, str]:
    """What would be trained on, in words."""
    data = open_data(recipe)
    return data.describe()


def train(recipe: Recipe, out: Path, *, overwrite: bool = False, progress: bool = True) -> Model:
    """Train a model, or go on where an interrupted training of the same recipe and data was.

    Args:
        recipe: What to train, on what.
        out: The model folder.
        overwrite: Replace what was made from another recipe or other data.
        progress: Show a bar on standard error.

    Returns:
        The model; a finished one is returned as it is.

    Raises:
        ConfigError: The recipe can't work with this data.
        OutputError: The folder holds something else.
        SceneError: A scene or its labels can't be read.
    """
    with exclusive(out / LOCK):
        data = open_data(recipe)
        state = {"recipe": recipe.result_hash(), "data": data.fingerprint}
        found = _state(out)
        if found is not None and found != state:
            what = "another recipe" if found.get("recipe") != state["recipe"] else "other data"
            if not overwrite:
                raise OutputError(f"{out}: holds a training of {what}; choose another --out, or replace it with --overwrite")
            found = None
        if found is None:
            _clear(out, overwrite=overwrite)
            (out / TRAINING).mkdir(parents=True, exist_ok=True)
            write_json(out / RECIPE, recipe.model_dump(mode="json"))
            write_json(out / STATE, state)
        if (out / CARD).is_file() and (out / VALIDATION).is_file():
            log.info("%s: finished before", out)
            return load_model(str(out))
        for note in data.notes:
            log.warning("%s", note)
        fitted = fit_recipe(recipe, data, out / CHECKPOINTS, out / PICTURES, out / CURVE, progress=progress)
        return _publish(recipe, data, fitted, out)


def _state(out: Path) -> dict[str, Any] | None:
    """What the training in a folder was made from; None where there is none that got as far as a checkpoint."""
    if not (out / CHECKPOINTS).is_dir() and not (out / CARD).is_file():
        return None
    try:
        found = read_json(out / STATE)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _clear(out: Path, *, overwrite: bool) -> None:
    """Make room in a folder that may hold another training, or another model."""
    models = [path for name in MODEL_FILES if (path := out / name).exists()]
    there = [path for path in (out / TRAINING, *models) if path.exists()]
    if (models or (out / CHECKPOINTS).is_dir()) and not overwrite:
        raise OutputError(f"{out}: holds a model already; choose another --out, or replace it with --overwrite")
    for path in there:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _publish(recipe: Recipe, data: TrainingData, fitted: Fitted, out: Path) -> Model:
    """Save the network as a model folder, check and judge it there, and move its files to their place, the card last."""
    from geoseg.models.saving import save_model
    from geoseg.training.judging import compare_engines

    work = out / WORK
    shutil.rmtree(work, ignore_errors=True)
    facts = _facts(recipe, data, fitted)
    model = save_model(fitted.network, fitted.config, work, facts)
    difference = compare_engines(model, data.validation) if model.onnx is not None else None
    if difference is None:
        log.warning("%s: the network can't be exported; torch runs it", recipe.name)
    model, validation = judge_model(model, recipe, data)
    validation |= {
        "torch_onnx_difference": difference, "notes": list(fitted.notes),
        "statistics": {"mean": fitted.statistics.mean, "stddev": fitted.statistics.stddev, "pixels": fitted.statistics.counts},
    }  # fmt: skip
    (work / README).write_text(readme(recipe, model, validation), encoding="utf-8")
    write_json(out / VALIDATION, validation)
    for name in MODEL_FILES:
        if (work / name).is_file():
            (work / name).replace(out / name)
    shutil.rmtree(work)
    sync_folder(out)
    return load_model(str(out))


def _facts(recipe: Recipe, data: TrainingData, fitted: Fitted) -> dict[str, Any]:
    """What the card says of the model beside what is measured when it is saved."""
    return {
        "name": recipe.name, "description": recipe.description, "license": recipe.license,
        "data": [dict(source) for source in recipe.sources], "bands": recipe.bands,
        "scaling": [{"mean": mean, "stddev": stddev} for mean, stddev in fitted.scaling],
        "classes": [
            {"value": k, **entry.model_dump(include={"name", "color", "description", "background"})}
            for k, entry in enumerate(recipe.classes)
        ],
        "data_type": recipe.data_type, "value_range": recipe.value_range, "physical": recipe.physical, "gsd_m": data.gsd_m,
        "instances": (
            {"kind": recipe.instances.kind, "largest_px": fitted.sizes.largest, "least_px": recipe.instances.least}
            if fitted.sizes is not None
            else None
        ),
    }  # fmt: skip
