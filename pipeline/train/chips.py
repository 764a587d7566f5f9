"""Chips for training, by the recipe: samplers, augmentation, mixing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from geoseg.errors import ConfigError
from geoseg.training.data.chips import Chip, ChipSource
from geoseg.training.data.statistics import Statistics
from pipeline.train.data import TrainingData
from pipeline.train.recipe import Recipe
from pipeline.train.weights import class_weights_of

if TYPE_CHECKING:
    from geoseg.training.data.loaders import ChipSampler, Preparation

__all__ = ["LOOK_CHIPS", "make_mix", "make_preparation", "sampler_of", "styles_of", "training_sampler", "without_radiometry"]

LOOK_CHIPS = 64
"""Chips by which the look of the target is measured."""


def sampler_of(recipe: Recipe, sources: Sequence[ChipSource], salt: int) -> ChipSampler:
    """Return the sampler that the recipe asks for."""
    from geoseg.training.data.samplers import make_sampler

    sampler: ChipSampler = make_sampler(
        recipe.sample.by, sources, recipe.sample.chip, recipe.loop.seed + 1000 * salt, len(recipe.classes)
    )
    return sampler


def training_sampler(recipe: Recipe, data: TrainingData) -> ChipSampler:
    """Return the sampler of the training, with chips of earlier data where they are rehearsed."""
    sampler = sampler_of(recipe, data.training, 0)
    if not recipe.keep.rehearse:
        return sampler
    from dataclasses import replace

    from geoseg.training.transfer.forgetting import Rehearsal

    first = len(data.training)
    memory = [replace(ref, source=ref.source + first) for ref in sampler_of(recipe, data.old, 2).epoch(0, LOOK_CHIPS)]
    return Rehearsal(sampler, memory, recipe.keep.rehearse, recipe.loop.seed)


def chips_of(recipe: Recipe, sources: Sequence[ChipSource]) -> Iterator[Chip]:
    """Yield chips of the sources."""
    for ref in sampler_of(
        recipe.model_copy(update={"sample": recipe.sample.model_copy(update={"by": "area"})}), sources, 3
    ).epoch(0, LOOK_CHIPS):
        yield sources[ref.source].read(ref.window)


def styles_of(recipe: Recipe, data: TrainingData) -> tuple[Any, ...]:
    """Return the styles of unlabelled scenes that chips are changed to."""
    from geoseg.training.augment.style import FourierLook, HistogramLook, measure_values

    adapt = recipe.adapt
    if adapt.style == "histogram":
        there = measure_values(chips_of(recipe, data.target))
        return (HistogramLook(there, measure_values(chips_of(recipe, data.training)), adapt.style_share),)
    if adapt.style == "fourier":
        chips = chips_of(recipe, data.target)
        return (FourierLook.of(chips, adapt.fourier_beta, share=adapt.style_share, limits=recipe.value_range),)
    return ()


def make_preparation(
    recipe: Recipe, scaling: Sequence[tuple[float, float]], looks: tuple[Any, ...], statistics: Statistics
) -> Preparation:
    """Return what is done to each chip."""
    from geoseg.training.augment.geometry import Geometry
    from geoseg.training.augment.intensity import Radiometry
    from geoseg.training.data.loaders import Preparation

    a = recipe.augment
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
    )
    return Preparation(
        mean=tuple(m for m, _ in scaling),
        stddev=tuple(s for _, s in scaling),
        size=recipe.sample.chip,
        margin=geometry.required_margin(recipe.sample.chip),
        changes=(*looks, geometry.sized(recipe.sample.chip), radiometry),
        weigh=weight_chips(recipe, statistics),
        objects=recipe.object_codes,
    )


def without_radiometry(preparation: Preparation) -> Preparation:
    """For chips without labels: turned and moved like others, but with the values that they have."""
    from dataclasses import replace

    return replace(preparation, weigh=None, changes=preparation.changes[-2:-1])


def weight_chips(recipe: Recipe, statistics: Statistics) -> Any:
    """Return the weights of pixels; None where all are alike."""
    if not recipe.loss.border:
        return None
    from geoseg.training.losses.weights import BorderWeights

    names = [c.name for c in recipe.classes]
    wanted = recipe.loss.objects or names[1]
    if wanted not in names:
        raise ConfigError(f"loss.objects: {wanted!r} is not a class: {', '.join(names)}")
    return BorderWeights(names.index(wanted), recipe.loss.border, recipe.loss.border_sigma, class_weights_of(recipe, statistics))


def make_mix(recipe: Recipe) -> Any:
    """Return how chips of a batch are mixed; None where they are not."""
    if not recipe.augment.cutmix:
        return None
    from geoseg.training.augment.intensity import CutMix

    return CutMix(recipe.augment.cutmix)
