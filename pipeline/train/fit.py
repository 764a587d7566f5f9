"""Fit: a recipe and its data in, the weights of the best checkpoint out. What the recipe says in words is built here."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geoseg.errors import ConfigError
from geoseg.models.domain_facts import DomainFacts
from geoseg.models.networks.config import NetworkConfig
from geoseg.training.data.chips import ChipSource
from geoseg.training.data.object_sizes import ObjectSizes, measure_objects
from geoseg.training.data.statistics import Statistics, domain_facts, measure
from geoseg.windows import Window
from pipeline.train.batches import check_batches, training_batches
from pipeline.train.chips import (
    LOOK_CHIPS,
    make_preparation,
    sampler_of,
    styles_of,
    training_sampler,
    without_radiometry,
)
from pipeline.train.data import TrainingData, check_labelled
from pipeline.train.loss import loss_of, loss_terms
from pipeline.train.recipe import LoopRecipe, Recipe

if TYPE_CHECKING:
    from geoseg.training.data.loaders import ChipSampler, Preparation
    from geoseg.training.loop import LoopSettings
    from geoseg.training.module import Loss, Network, TrainingModule

__all__ = ["Fitted", "fit_recipe"]

log = logging.getLogger(__name__)

IMAGENET = ((123.675, 58.395), (116.28, 57.12), (103.53, 57.375))
"""Mean and standard deviation of red, green and blue of ImageNet, for values from 0 to 255."""
PICTURES = 6


@dataclass(frozen=True, slots=True)
class Fitted:
    """A trained network."""

    network: Network
    """With the chosen weights."""
    config: NetworkConfig
    """How it is built."""
    sizes: ObjectSizes | None
    """Of the objects that it was trained on, where it tells them apart."""
    scaling: tuple[tuple[float, float], ...]
    """Mean and standard deviation a band."""
    statistics: Statistics
    """Of the scenes that it was trained on."""
    domain: DomainFacts | None
    """What the card tells of them."""
    notes: tuple[str, ...]
    """What was loaded, what was adapted."""


def fit_recipe(
    recipe: Recipe,
    data: TrainingData,
    folder: Path,
    pictures: Path,
    curve: Path,
    *,
    progress: bool,
    resident: bool = False,
    callbacks: Sequence[Any] = (),
) -> Fitted:
    """Train what a recipe says, or go on from the last checkpoint in ``folder``.

    Args:
        recipe: What to train.
        data: On what.
        folder: For checkpoints.
        pictures: For pictures of predictions.
        curve: The CSV file of the figures at each check.
        progress: Show a bar on standard error.
        resident: Keep all scenes in the memory of the device that trains, and cut and augment chips there.
        callbacks: Further callbacks of the trainer.

    Raises:
        ConfigError: Something of the recipe can't work with the data, or can't be done on the device.
        ModelError: The weights to begin from can't be loaded.
    """
    from geoseg.models.networks.build import build_network
    from geoseg.models.networks.deploy import inference_form
    from geoseg.models.networks.stride import stride_of
    from geoseg.training.curve import Curve, HardExamples
    from geoseg.training.data.resident import as_built
    from geoseg.training.data.samplers import HardSampler
    from geoseg.training.loop import fit, seed_torch

    seen = _look_at(recipe, data)
    config = _config_of(recipe, seen.sizes)
    seed_torch(recipe.loop.seed)
    network = build_network(config)
    notes = _begin(recipe, network, config)
    stride = stride_of(inference_form(network))
    sampler = training_sampler(recipe, data)
    preparation = make_preparation(recipe, seen.scaling, styles_of(recipe, data), seen.statistics)
    module = _module(recipe, data, network, loss_of(recipe, seen.statistics), preparation, sampler)
    batches = training_batches(recipe, data, preparation, sampler, module.network if resident else None)
    watching = [
        Curve(curve, [c.name for c in recipe.classes]),
        _pictures(recipe, data, preparation, stride, pictures),
        *([HardExamples(sampler)] if isinstance(sampler, HardSampler) else []),
        *callbacks,
    ]
    checks = check_batches(recipe, data, preparation, network, stride)
    fit(module, batches, checks, folder, _settings(recipe.loop), callbacks=watching, progress=progress)
    _take_weights(network, config, folder, recipe.loop.choose)
    if resident:
        as_built(network)
    if recipe.adapt.statistics:
        notes.append(_adapt(recipe, data, network, preparation))
    return Fitted(network.eval(), config, seen.sizes, seen.scaling, seen.statistics, seen.domain, tuple(notes))


def _take_weights(network: Network, config: NetworkConfig, folder: Path, choose: str) -> None:
    from geoseg.models.networks.heads import main_weights
    from geoseg.training.loop import BEST, LAST, weights_of

    state = weights_of(folder / (LAST if choose == "last" else BEST))
    network.load_state_dict(state if config.objects else main_weights(state))


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """What the scenes of a training are like; see ``Fitted``."""

    statistics: Statistics
    domain: DomainFacts | None
    sizes: ObjectSizes | None
    scaling: tuple[tuple[float, float], ...]


def _look_at(recipe: Recipe, data: TrainingData) -> _Seen:
    whole = [(k, _whole(source)) for k, source in enumerate(data.training)]
    statistics = measure(data.training, whole, len(recipe.classes))
    check_labelled(data, {c.name: count for c, count in zip(recipe.classes, statistics.counts, strict=True)})
    domain = domain_facts(data.seen, [(k, _whole(source)) for k, source in enumerate(data.seen)], recipe.value_range)
    sizes = measure_objects(data.training, whole, recipe.object_codes) if recipe.object_codes else None
    return _Seen(statistics, domain, sizes, _scaling(recipe, statistics))


def _config_of(recipe: Recipe, sizes: ObjectSizes | None) -> NetworkConfig:
    return NetworkConfig(
        recipe.network.architecture,
        recipe.network.encoder,
        len(recipe.bands),
        len(recipe.classes),
        _parameters(recipe, sizes),
        objects=recipe.instances.kind == "watershed",
    )


def _module(
    recipe: Recipe, data: TrainingData, network: Network, loss: Loss, preparation: Preparation, sampler: ChipSampler
) -> TrainingModule:
    """What is trained: the network with its losses and learning rates."""
    from geoseg.models.networks.deploy import inference_form
    from geoseg.training.detection import DetectionModule
    from geoseg.training.module import Descent, LearningRates, TrainingModule

    loop = recipe.loop
    detects = recipe.instances.kind == "regions"
    trained, terms = (network, []) if detects else loss_terms(recipe, data, network, loss, preparation, sampler)
    kind = partial(DetectionModule, codes=recipe.object_codes, least=recipe.instances.least) if detects else TrainingModule
    rates = LearningRates(loop.rate, loop.steps, loop.schedule, loop.warmup)
    return kind(
        trained,
        inference_form(network),
        classes=len(recipe.classes),
        sigmoid=False,
        loss=loss,
        descent=Descent(_groups(recipe, trained), rates, loop.weight_decay, _unfreezing(recipe, trained)),
        terms=terms,
        follow=recipe.sample.by == "hard",
    )


def _settings(loop: LoopRecipe) -> LoopSettings:
    from geoseg.training.loop import LoopSettings

    return LoopSettings(
        steps=loop.steps,
        epoch=loop.check * loop.accumulate,
        seed=loop.seed,
        figure="loss" if loop.choose == "loss" else "miou",
        accumulate=loop.accumulate,
        clip=loop.clip,
        average=loop.average,
        patience=loop.patience,
        precision=loop.precision,
        device=loop.device,
        devices=loop.devices,
    )


def _parameters(recipe: Recipe, sizes: ObjectSizes | None) -> dict[str, Any]:
    """The network's parameters; the anchors of a detector follow the objects that it learns from unless they are given."""
    parameters = recipe.network.parameters
    if recipe.instances.kind != "regions" or "anchors" in parameters:
        return parameters
    from geoseg.models.networks.detector_parameters import LEVELS, anchor_sizes

    assert sizes is not None
    return {**parameters, "anchors": list(anchor_sizes(np.sqrt(sizes.extents.prod(axis=1)).tolist(), LEVELS))}


def _whole(source: ChipSource) -> Window:
    return Window.of((source.height, source.width))


def _scaling(recipe: Recipe, statistics: Statistics) -> tuple[tuple[float, float], ...]:
    if isinstance(recipe.normalize, tuple):
        return recipe.normalize
    if recipe.normalize == "imagenet":
        if recipe.bands != ("red", "green", "blue") or recipe.data_type != "uint8":
            raise ConfigError("normalize: imagenet is for uint8 images with the bands red, green, blue")
        return IMAGENET
    # A constant band tells nothing; it is passed on as zeros.
    return tuple((float(f"{m:.6g}"), float(f"{s:.6g}") or 1.0) for m, s in zip(statistics.mean, statistics.stddev, strict=True))


def _begin(recipe: Recipe, network: Network, config: NetworkConfig) -> list[str]:
    if recipe.init.weights is None:
        return []
    from geoseg.models.networks.pretrained import load_weights

    loaded = load_weights(
        network, recipe.init.weights, config=config, bands=recipe.bands, classes=[c.name for c in recipe.classes]
    )
    log.info("%s", loaded.note)
    return [loaded.note]


def _groups(recipe: Recipe, network: Network) -> list[dict[str, Any]]:
    from geoseg.training.transfer.finetuning import rate_groups

    return rate_groups(network, encoder_rate=recipe.init.encoder_rate, layer_decay=recipe.init.layer_decay)


def _unfreezing(recipe: Recipe, network: Network) -> Any:
    from geoseg.training.transfer.finetuning import Unfreezing

    if recipe.init.encoder_rate == 0:
        return Unfreezing.never(network)
    if recipe.init.unfreeze:
        return Unfreezing.gradual(network, round(recipe.init.unfreeze * recipe.loop.steps))
    return None


def _pictures(recipe: Recipe, data: TrainingData, preparation: Preparation, stride: int, folder: Path) -> Any:
    from geoseg.training.curve import Pictures
    from geoseg.training.data.loaders import normalized

    side = max(stride, min(256, recipe.sample.chip) // stride * stride)
    chips = []
    for k, area in islice(data.areas, PICTURES):
        row = area.row_off + max(0, (area.height - side) // 2)
        col = area.col_off + max(0, (area.width - side) // 2)
        chips.append(data.validation[k].read(Window.at((row, col), (side, side))))
    colors = np.array([[int(c.color[i : i + 2], 16) for i in (1, 3, 5)] for c in recipe.classes], np.uint8)
    return Pictures(folder, chips, [normalized(chip, preparation.mean, preparation.stddev) for chip in chips], colors)


def _adapt(recipe: Recipe, data: TrainingData, network: Network, preparation: Preparation) -> str:
    from geoseg.training.data.loaders import training_loader
    from geoseg.training.transfer.adaptation import adapt_statistics

    loader = training_loader(
        data.target, sampler_of(recipe, data.target, 5), without_radiometry(preparation), batches=LOOK_CHIPS // 8, size=8
    )
    count = adapt_statistics(network, (batch.image for batch in loader))
    return f"statistics of batch normalization are those of {count} chips of {len(data.target)} scenes without labels"
