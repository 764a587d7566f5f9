"""Verbs that make models: train, calibrate, quantize and adopt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import fields
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.api.given import call, check_names, config_of, paths, text
from pipeline.api.keywords import AdoptSettings, CalibrateSettings, QuantizeSettings, TrainSettings

if TYPE_CHECKING:
    from typing import Unpack

    from geoseg.models.model_folder import Model
    from pipeline.adopt.run import Adopted
    from pipeline.calibrate.run import Calibrated

    type_of_path = str | PathLike[str]

__all__ = ["adopt", "calibrate", "quantize", "train"]


def train(
    recipe: type_of_path | Mapping[str, object],
    *,
    out: type_of_path,
    progress: bool | None = None,
    **settings: Unpack[TrainSettings],
) -> Model:
    """Train a network from labelled scenes; called again after an interruption, it goes on from its last checkpoint.

    Args:
        recipe: A TOML file, or its tables as a dictionary; then paths are taken from here.
        out: The model folder to make.
        progress: True for a bar on standard error.
        settings: Those of ``geoseg train --help``; ``set`` changes values of the recipe: ``{"loop.steps": 500}``, None takes out.

    Raises:
        ConfigError: A setting or the recipe can't work.
        SceneError: A scene or its labels can't be read.
        OutputError: The folder holds another model.
    """
    check_names(TrainSettings, settings)
    from pipeline.config.document import put, read_toml
    from pipeline.train.recipe import Recipe

    if isinstance(recipe, Mapping):
        document, folder = deepcopy(dict(recipe)), Path()
    else:
        document, folder = read_toml(Path(recipe)), Path(recipe).parent
    for path, value in (settings.get("set") or {}).items():
        put(document, path, value)
    wanted = Recipe.parse(document).beside(folder)
    from pipeline.train.run import train as fit

    return call(fit, wanted, Path(out), overwrite=settings.get("overwrite"), progress=progress is True)


def calibrate(
    model: type_of_path,
    *,
    images: type_of_path | Sequence[type_of_path],
    labels: type_of_path | Sequence[type_of_path],
    out: type_of_path | None = None,
    **settings: Unpack[CalibrateSettings],
) -> Calibrated:
    """Make a model's probabilities frequencies: fit on some labelled scenes, measure on others, write the model anew.

    Args:
        model: A model folder, the name of a shipped model, or owner/name on the Hugging Face hub.
        images: Scenes: files, folders or globs.
        labels: Class rasters or vector files with the stems of the scenes, or a folder of them; one may serve all scenes.
        out: The model folder to make; by default the name of the model with ``-calibrated``, in this folder.
        settings: Those of ``geoseg calibrate --help``, by the same names, units and defaults.

    Returns:
        The new model, the method that was taken, and what each method was worth.

    Raises:
        ConfigError: A setting is unknown or can't work, or too few pixels are labelled.
        SceneError: A scene or its labels can't be read.
        OutputError: The folder is there already.
    """
    config = config_of(CalibrateSettings, settings, ("scene", "grid", "infer"))
    from geoseg.models.model_folder import load_model
    from pipeline.calibrate.calibrate_settings import CalibrationSettings
    from pipeline.calibrate.run import calibrate as fit

    own = call(CalibrationSettings, **{key: settings.get(key) for key in ("method", "column", "holdout", "seed")})
    target = None if out is None else Path(out)
    return call(
        fit, load_model(text(model)), paths(images), paths(labels), target, config, own, overwrite=settings.get("overwrite")
    )


def quantize(
    model: type_of_path,
    *,
    images: type_of_path | Sequence[type_of_path],
    labels: type_of_path | Sequence[type_of_path] = (),
    out: type_of_path | None = None,
    **settings: Unpack[QuantizeSettings],
) -> Model:
    """Make a model compute in 8-bit integers, and measure on further parts of the images what that costs.

    Args:
        model: A model folder, the name of a shipped model, or owner/name on the Hugging Face hub.
        images: Scenes like those that are to be mapped: files, folders or globs.
        labels: Class rasters or vector files with the stems of the scenes, or a folder of them; one may serve all scenes.
        out: The model folder to make; by default the name of the model with ``-int8``, in this folder.
        settings: Those of ``geoseg quantize --help``, by the same names, units and defaults.

    Returns:
        The new model; ``card.quantization`` says what it costs.

    Raises:
        ConfigError: A setting is unknown or can't work, or the images are too few.
        SceneError: A scene or its labels can't be read.
        ModelError: The network can't be quantized, or would give other scores in tiles.
        OutputError: The folder is there already.
    """
    config = config_of(QuantizeSettings, settings, ("scene", "grid", "infer"))
    from geoseg.models.model_folder import load_model
    from pipeline.calibrate.calibrate_settings import QuantizationSettings
    from pipeline.calibrate.integer_model import quantize as make

    own = call(QuantizationSettings, **{key: settings.get(key) for key in ("crops", "column", "seed")})
    target = None if out is None else Path(out)
    return call(
        make,
        load_model(text(model)),
        paths(images),
        target,
        config,
        own,
        labels=paths(labels),
        overwrite=settings.get("overwrite"),
    )


def adopt(
    source: type_of_path,
    *,
    images: type_of_path | Sequence[type_of_path] = (),
    labels: type_of_path | Sequence[type_of_path] = (),
    out: type_of_path | None = None,
    **settings: Unpack[AdoptSettings],
) -> Adopted:
    """Make a model folder of a network that others have trained, measure it, and compare it with its original.

    Args:
        source: An ONNX or safetensors file, a folder with one, or owner/name on the Hugging Face hub.
        images: Scenes on which the two are compared, in place of noise: files, folders or globs.
        labels: Of these scenes: its probabilities are calibrated on them.
        out: The model folder to make; by default the name of the model, in this folder.
        settings: Those of ``geoseg adopt --help``, by the same names and units: what the file does not tell.

    Returns:
        The model, and what was found.

    Raises:
        ConfigError: Something is not known of the network, or does not fit it.
        ModelError: It is no network that geoseg can run exactly, or a pickle.
        SceneError: A scene or its labels can't be read.
        OutputError: The folder is there already.
    """
    config = config_of(AdoptSettings, settings, ("scene", "grid", "infer"))
    from pipeline.adopt.run import adopt as make
    from pipeline.adopt.settings import AdoptSettings as Own

    names = {field.name for field in fields(Own)}
    own = call(Own, **{key: value for key, value in settings.items() if key in names})
    target = None if out is None else Path(out)
    return call(
        make, text(source), target, config, own, images=paths(images), labels=paths(labels), overwrite=settings.get("overwrite")
    )
