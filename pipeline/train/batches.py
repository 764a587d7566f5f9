"""Batches of a training and of its checks, by the recipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from geoseg.errors import ConfigError
from geoseg.training.data.chips import ChipSource
from geoseg.windows import Window
from pipeline.train.chips import make_mix, sampler_of, without_radiometry
from pipeline.train.data import TrainingData
from pipeline.train.recipe import Recipe

if TYPE_CHECKING:
    from geoseg.training.data.loaders import ChipSampler, Mix, Preparation
    from geoseg.training.module import Network

__all__ = ["check_batches", "training_batches"]

CONTEXT = 128
"""Pixels seen around a window that is validated."""


def training_batches(
    recipe: Recipe, data: TrainingData, preparation: Preparation, sampler: ChipSampler, resident: Network | None
) -> dict[str, Any]:
    """Return the loaders of labelled chips and, where it learns from them, of the target.

    Args:
        recipe: The recipe.
        data: The scenes.
        preparation: How chips become what the network gets.
        sampler: Which labelled chips.
        resident: What is trained, where all scenes are to stay on its device; None where chips are read.

    Raises:
        ConfigError: Scenes can't stay on several devices.
    """
    sources: tuple[ChipSource, ...] = (*data.training, *data.old)
    loaders = {"labelled": _load(recipe, sources, sampler, preparation, resident, make_mix(recipe))}
    if recipe.adapt.pseudo:
        plain = without_radiometry(preparation)
        loaders["target"] = _load(recipe, data.target, sampler_of(recipe, data.target, 1), plain, resident, None)
    return loaders


def check_batches(recipe: Recipe, data: TrainingData, preparation: Preparation, network: Network, stride: int) -> Any:
    """Return the loader of the windows of held-out scenes."""
    from geoseg.models.networks.deploy import output_margin
    from geoseg.training.data.loaders import check_loader

    sample = recipe.sample
    side = max(stride, sample.chip // stride * stride) if output_margin(network) else max(512, sample.chip)
    windows = [(k, part) for k, area in data.areas for part in _parts(area, -(-side // stride) * stride)]
    return check_loader(data.validation, windows, preparation, context=CONTEXT, stride=stride, workers=min(1, sample.workers))


def _load(
    recipe: Recipe,
    sources: Sequence[ChipSource],
    sampler: ChipSampler,
    preparation: Preparation,
    resident: Network | None,
    mix: Mix | None,
) -> Any:
    from geoseg.training.data.loaders import Reading, training_loader
    from geoseg.training.data.resident import resident_loader, training_device

    loop, size = recipe.loop, recipe.sample.batch
    batches, on_gpu = loop.check * loop.accumulate, _on_gpu(recipe)
    if resident is None:
        reading = Reading(recipe.sample.workers, on_gpu)
        return training_loader(sources, sampler, preparation, batches=batches, size=size, mix=mix, reading=reading)
    if loop.devices > 1:
        raise ConfigError(f"loop.devices: scenes can't stay on {loop.devices} devices; take one")
    device = training_device(resident, gpu=on_gpu)
    return resident_loader(sources, sampler, preparation, device, batches=batches, size=size, mix=mix)


def _parts(area: Window, side: int) -> Iterator[Window]:
    for row in range(area.row_off, area.row_stop, side):
        for col in range(area.col_off, area.col_stop, side):
            yield Window.between(row, min(row + side, area.row_stop), col, min(col + side, area.col_stop))


def _on_gpu(recipe: Recipe) -> bool:
    from geoseg.inference.choice import gpu_count

    return recipe.loop.device in ("auto", "gpu") and gpu_count() > 0
