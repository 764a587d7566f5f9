"""A model whose network computes in 8-bit integers: ranges found on some images, the loss measured on others."""

from __future__ import annotations

import itertools
import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from geoseg.arrays import U8
from geoseg.calibration.quantization import equal_in_tiles, quantize_convolutions
from geoseg.codes import MAX_CLASS
from geoseg.errors import ConfigError, ModelError
from geoseg.evaluation.confusion import ConfusionMatrix
from geoseg.inference.choice import open_engine
from geoseg.inference.decision import Decision
from geoseg.inference.engine import Engine, TileBatch
from geoseg.models.card_values import Quantization
from geoseg.models.model_folder import CARD, CONFIG, ONNX, Model, file_hash, load_model
from pipeline.calibrate.calibrate_settings import QuantizationSettings
from pipeline.calibrate.drawn_parts import CROP, Crop, drawn, opened
from pipeline.calibrate.model_folder import target_of, write_readme
from pipeline.config.sections import Config
from pipeline.files.outputs import atomic_folder
from pipeline.plan.value_settings import refuse_values

__all__ = ["loss_of", "quantize"]

log = logging.getLogger(__name__)


def quantize(
    model: Model,
    images: Sequence[str],
    out: Path | None,
    config: Config,
    settings: QuantizationSettings,
    *,
    labels: Sequence[str] = (),
    overwrite: bool = False,
) -> Model:
    """Write a model whose convolutions compute in 8-bit integers, with what that costs in its card.

    Parts of the images are drawn at random. On half of them the ranges of activations are found, on the others the classes
    are compared with those of the network in 32 bits, and both with labels where there are any.

    Args:
        model: The model.
        images: Files, folders and globs of scenes like those that are to be mapped.
        out: The model folder to make; by default the name of the model with ``-int8``, here.
        config: Sections scene and grid: opening of scenes.
        settings: How many parts are drawn, and the column of labels.
        labels: A file for each scene, by the same stem, or a folder of them; or one file for all.
        overwrite: Replace a folder that is there.

    Raises:
        ConfigError: Images or labels are missing or too small.
        SceneError: A scene or its labels can't be read.
        ModelError: The model can't be quantized, or would not give the same in tiles.
        OutputError: The folder is there.
    """
    refuse_values(model.card, "quantize", "8 bits hold classes well, and values badly; run it as it is")
    out = target_of(model, out, "-int8", overwrite=overwrite)
    if model.onnx is None:
        raise ModelError(f"{model.path}: has no model.onnx; only networks for ONNX Runtime are quantized")
    if model.card.quantization is not None:
        raise ModelError(f"{model.path}: computes in integers already; give the model that it was made of")
    if model.card.tile is not None:
        raise ModelError(
            f"{model.path}: takes images of {model.card.tile} px only; networks that take all sizes are quantized, whose parts "
            "can be compared with the whole"
        )
    crops = list(drawn(opened(model, images, labels, config, settings.column), model.card.stride, settings.crops, settings.seed))
    if len(crops) < 2:
        raise ConfigError(
            f"images: {len(crops)} part of {CROP} px with enough data was found, and at least 2 are needed, one to find ranges "
            "and one to measure on; give more or larger images"
        )
    seen, measured = crops[::2], crops[1::2]
    with atomic_folder(out, replace=overwrite) as folder:
        if (model.path / CONFIG).is_file():
            shutil.copyfile(model.path / CONFIG, folder / CONFIG)
        count = quantize_convolutions(model.onnx, folder / ONNX, (crop.image() for crop in seen))
        _check_tiles(model, folder / ONNX)
        log.info("%d convolutions in integers, ranges of %d parts; measuring on %d others", count, len(seen), len(measured))
        facts = _measured(model, folder / ONNX, measured, Quantization(convolutions=count, crops=len(seen), agreement=0), config)
        _describe(model, facts, folder)
        # What can't be loaded is not published.
        load_model(str(folder))
    return load_model(str(out))


def _describe(model: Model, facts: Quantization, folder: Path) -> None:
    """Write the card and the README."""
    card = model.card.model_copy(
        update={
            "name": f"{model.card.name}-int8",
            "quantization": facts,
            "files": {name: file_hash(folder / name) for name in (CONFIG, ONNX) if (folder / name).is_file()},
        }
    )
    card.write(folder / CARD)
    write_readme(model, card, folder, "## In integers", f"{loss_of(facts)}.\n")


def _check_tiles(model: Model, path: Path) -> None:
    card = model.card
    if card.exact_halo is not None and not equal_in_tiles(path, len(card.bands), card.stride, card.exact_halo):
        raise ModelError(
            f"{model.path}: in integers this network gives other scores for a tile than for the whole image, so that maps would "
            "show where tiles lie; run it in 32 bits"
        )


def _measured(model: Model, path: Path, crops: Sequence[Crop], facts: Quantization, config: Config) -> Quantization:
    """Compare the classes of both networks with each other, and with labels."""
    integers = replace(model, path=path.parent)
    decision, size = Decision.of(model.card), len(model.card.classes)
    matrices = [ConfusionMatrix.zeros(size), ConfusionMatrix.zeros(size)]
    equal = pixels = 0
    for normalization, alike in itertools.groupby(crops, lambda crop: crop.normalization):
        engines = [open_engine("onnx", one, normalization, threads=config.infer.threads, batch=1) for one in (model, integers)]
        for crop in alike:
            both = [_classes(engine, decision, crop) for engine in engines]
            valid = both[0] <= MAX_CLASS
            equal += int((both[0] == both[1])[valid].sum())
            pixels += int(valid.sum())
            if crop.labels is not None:
                matrices = [m + ConfusionMatrix.tally(crop.labels, found, size) for m, found in zip(matrices, both, strict=True)]
    first, second = matrices
    update: dict[str, object] = {"agreement": equal / max(pixels, 1)}
    if first.pixels:
        update |= {"accuracy": (first.accuracy(), second.accuracy()), "miou": (first.miou(), second.miou())}
    return facts.model_copy(update=update)


def _classes(engine: Engine, decision: Decision, crop: Crop) -> U8:
    shape = crop.pixels.valid.shape
    batch = TileBatch([crop.pixels.data], [crop.pixels.valid], (shape[0], shape[1]), [(slice(shape[0]), slice(shape[1]))])
    return next(iter(engine.classify([batch], decision)))[0].classes


def loss_of(facts: Quantization) -> str:
    """What computing in integers costs, in words."""
    text = (
        f"{facts.convolutions} convolutions compute in 8-bit integers, with ranges of {facts.crops} parts of images; on others "
        f"{facts.agreement:.2%} of the pixels have the class of the network in 32 bits"
    )
    if facts.accuracy is not None and facts.miou is not None:
        text += (
            f"; of labelled pixels {facts.accuracy[1]:.2%} are right ({facts.accuracy[0]:.2%} in 32 bits), and the mean "
            f"intersection over union is {facts.miou[1]:.3f} ({facts.miou[0]:.3f})"
        )
    return text
