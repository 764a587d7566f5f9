"""A recipe to a plan: the one place where its words become the values by which the library trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from geoseg.errors import ConfigError
from geoseg.models.networks.config import NetworkConfig
from geoseg.models.weights.weight_facts import IMAGENET, weight_facts
from geoseg.training.augment.geometry import Geometry
from geoseg.training.augment.intensity import CutMix, Radiometry
from geoseg.training.data.statistics import Statistics
from geoseg.training.training_plan import (
    Keeping,
    LearningRates,
    LoopSettings,
    ObjectHeads,
    Sampling,
    Start,
    Style,
    Sureness,
    Tasks,
    Teaching,
    TrainingPlan,
)
from pipeline.train.measured import Measured
from pipeline.train.recipe import Recipe

if TYPE_CHECKING:
    from geoseg.training.data.loaders import Preparation
    from geoseg.training.losses.losses import CombinedLoss
    from geoseg.training.losses.value_losses import ValueLoss
    from geoseg.training.run import Begun

__all__ = ["begin", "loss_of", "plan_training", "planned"]


def plan_training(recipe: Recipe, measured: Measured) -> TrainingPlan:
    """The plan of a recipe for scenes that are measured.

    Raises:
        ConfigError: Something of the recipe can't work.
    """
    loop, adapt, cutmix = recipe.loop, recipe.adapt, recipe.augment.cutmix
    return TrainingPlan(
        network=_network(recipe, measured),
        bands=recipe.bands,
        classes=tuple(c.name for c in recipe.classes),
        colors=tuple((int(c.color[1:3], 16), int(c.color[3:5], 16), int(c.color[5:7], 16)) for c in recipe.classes),
        start=Start(**recipe.init.model_dump()),
        sampling=Sampling(**recipe.sample.model_dump()),
        preparation=_preparation(recipe, measured.statistics),
        mix=CutMix(cutmix) if cutmix else None,
        loss=loss_of(recipe, measured.statistics),
        values=_values(recipe, measured),
        tasks=_tasks(recipe),
        keeping=Keeping(**recipe.keep.model_dump(exclude={"old"})),
        style=Style(kind=adapt.style, share=adapt.style_share, beta=adapt.fourier_beta),
        value_range=recipe.value_range,
        teaching=_teaching(recipe),
        adapt_statistics=adapt.statistics,
        least_px=recipe.instances.least,
        rates=LearningRates(loop.rate, loop.steps, loop.schedule, loop.warmup),
        weight_decay=loop.weight_decay,
        loop=_loop(recipe),
        keep_last=loop.choose == "last",
    )


def begin(recipe: Recipe) -> Begun:
    """Build the network and load the weights that it is to begin with, so that a wrong name is told before scenes are read.

    Raises:
        ModelError: There is no such network, or no such weights, or they are of another one.
    """
    return _begun(recipe, _network(recipe, None))


def planned(recipe: Recipe, measured: Measured, begun: Begun) -> tuple[TrainingPlan, Begun]:
    """The plan of a recipe, and its network: the one that was begun with, unless what was measured has changed it."""
    plan = plan_training(recipe, measured)
    return plan, begun if begun.config == plan.network else _begun(recipe, plan.network)


def _begun(recipe: Recipe, network: NetworkConfig) -> Begun:
    from geoseg.training.run import begin_network

    return begin_network(network, recipe.init.weights, recipe.bands, [c.name for c in recipe.classes], recipe.loop.seed)


def _network(recipe: Recipe, measured: Measured | None) -> NetworkConfig:
    """The network; the anchors of a detector follow the objects that it learns from, once measured, unless they are given."""
    parameters = recipe.network.parameters
    if measured is not None and recipe.instances.kind == "regions" and "anchors" not in parameters:
        from geoseg.models.networks.detector_parameters import LEVELS, anchor_sizes

        assert measured.sizes is not None
        sides = np.sqrt(measured.sizes.extents.prod(axis=1)).tolist()
        parameters = {**parameters, "anchors": list(anchor_sizes(sides, LEVELS))}
    return NetworkConfig(
        recipe.network.architecture,
        recipe.network.encoder,
        len(recipe.bands),
        len(recipe.classes),
        parameters,
        objects=recipe.instances.kind == "watershed",
    )


def _preparation(recipe: Recipe, statistics: Statistics) -> Preparation:
    """Augmentation of chips, their normalization, and the weights of their pixels."""
    from geoseg.training.data.loaders import Preparation
    from geoseg.training.losses.weights import BorderWeights

    a, chip, loss = recipe.augment, recipe.sample.chip, recipe.loss
    geometry = Geometry(turn=a.turn, scale=a.scale, rotate=a.rotate, shift=a.shift, elastic=a.elastic)
    radiometry = Radiometry(
        stddev=statistics.stddev,
        gain=a.gain,
        band_gain=a.band_gain,
        offset=a.offset,
        band_offset=a.band_offset,
        haze=a.haze,
        noise=a.noise,
        probability=a.probability,
        value_range=recipe.value_range,
        gamma=a.gamma,
    )
    weigh = None
    if loss.border:
        names = [c.name for c in recipe.classes]
        wanted = loss.objects or names[1]
        if wanted not in names:
            raise ConfigError(f"loss.objects: {wanted!r} is not a class: {', '.join(names)}")
        weigh = BorderWeights(names.index(wanted), loss.border, loss.border_sigma, _class_weights(recipe, statistics))
    scaling = _scaling(recipe, statistics)
    return Preparation(
        mean=tuple(mean for mean, _ in scaling),
        stddev=tuple(stddev for _, stddev in scaling),
        size=chip,
        margin=geometry.required_margin(chip),
        changes=(geometry.sized(chip), radiometry),
        weigh=weigh,
        objects=recipe.object_codes,
    )


def _scaling(recipe: Recipe, statistics: Statistics) -> tuple[tuple[float, float], ...]:
    """Mean and standard deviation by band."""
    if isinstance(recipe.normalize, tuple):
        return recipe.normalize
    if recipe.normalize == "imagenet":
        if recipe.bands != ("red", "green", "blue") or recipe.data_type != "uint8":
            raise ConfigError("normalize: imagenet is for uint8 images with the bands red, green, blue")
        return tuple(IMAGENET.values())
    # A constant band tells nothing; it is passed on as zeros.
    measured = tuple(
        (float(f"{m:.6g}"), float(f"{s:.6g}") or 1.0) for m, s in zip(statistics.mean, statistics.stddev, strict=True)
    )
    return measured if recipe.normalize == "data" else _of_weights(recipe, measured)


def _of_weights(recipe: Recipe, measured: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    """Mean and standard deviation by band that the weights were trained with; those of the data for bands that are new to them.

    Raises:
        ConfigError: They do not say any for such images.
    """
    assert recipe.init.weights is not None
    facts = weight_facts(recipe.init.weights, recipe.network.encoder, recipe.data_type, physical=recipe.physical)
    bands = [band.partition("@")[0] for band in recipe.bands]
    if not any(band in facts.scaling for band in bands):
        raise ConfigError(
            f"normalize: weights: {recipe.init.weights} does not say how images of the type {recipe.data_type} with the bands "
            f"{', '.join(bands)} were normalized; give data_type or physical = true as they were trained, or normalize = "
            '"data", or a pair for each band'
        )
    return tuple(facts.scaling.get(band, pair) for band, pair in zip(bands, measured, strict=True))


def loss_of(recipe: Recipe, statistics: Statistics) -> CombinedLoss:
    """The loss of a recipe, with classes balanced by their labelled pixels."""
    from geoseg.training.losses.losses import build_loss

    return build_loss(
        # A quantity has a loss of its own, see ``_values``.
        {"cross-entropy": 1.0} if recipe.regresses else recipe.loss.terms,
        classes=len(recipe.classes),
        class_weights=_class_weights(recipe, statistics),
        smoothing=recipe.loss.smoothing,
    )


def _values(recipe: Recipe, measured: Measured) -> ValueLoss | None:
    """The loss of a quantity, in units of the spread of its labels; None of classes."""
    from geoseg.training.losses.value_losses import ValueLoss

    if measured.values is None:
        return None
    terms = {name: weight for name, weight in recipe.loss.terms.items() if weight}
    return ValueLoss(terms, measured.values.mean, measured.values.spread)


def _class_weights(recipe: Recipe, statistics: Statistics) -> tuple[float, ...] | None:
    """Weights of classes: those of the balance, times the factors."""
    from geoseg.training.losses.weights import class_weights

    given = recipe.loss
    weights = None if given.balance == "none" else class_weights(given.balance, statistics.counts)
    if not given.factors:
        return weights
    return tuple(
        weight * given.factors.get(c.name, 1.0)
        for c, weight in zip(recipe.classes, weights or (1.0,) * len(recipe.classes), strict=True)
    )


def _tasks(recipe: Recipe) -> Tasks:
    """Tasks that weigh anything, or the two heads of watershed."""
    given = recipe.tasks
    if recipe.instances.kind == "watershed":
        heads = ObjectHeads(boundary=recipe.instances.boundary, distance=recipe.instances.distance)
        return Tasks(weighting=given.weighting, objects=heads)
    weights: dict[str, float] = given.model_dump(exclude={"weighting"})
    return Tasks(weights={name: weight for name, weight in weights.items() if weight > 0}, weighting=given.weighting)


def _teaching(recipe: Recipe) -> Teaching:
    """Self-training; with a share, that alone decides which labels count."""
    adapt = recipe.adapt
    sureness = Sureness(1.0 if adapt.share else adapt.confidence, adapt.share or None, len(recipe.classes))
    return Teaching(weight=adapt.pseudo, sureness=sureness, light=adapt.light, start=adapt.start)


def _loop(recipe: Recipe) -> LoopSettings:
    """The loop; an epoch of the trainer ends with each check."""
    loop = recipe.loop
    return LoopSettings(
        steps=loop.steps,
        epoch=loop.check * loop.accumulate,
        seed=loop.seed,
        figure="loss" if recipe.regresses else "miou" if loop.choose == "last" else loop.choose,
        accumulate=loop.accumulate,
        clip=loop.clip,
        average=loop.average,
        patience=loop.patience,
        precision=loop.precision,
        device=loop.device,
        devices=loop.devices,
    )
