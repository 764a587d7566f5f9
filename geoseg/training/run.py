"""A plan and its scenes in, a trained network out: the way that a training takes, step by step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from geoseg.dialect import number_of
from geoseg.models.networks.build import build_network
from geoseg.models.networks.config import NetworkConfig
from geoseg.models.networks.deploy import inference_form
from geoseg.models.networks.heads import main_weights
from geoseg.models.networks.pretrained import Loaded, load_weights
from geoseg.models.networks.stride import refuse_one_size, stride_of
from geoseg.training.curve import Curve, HardExamples, Pictures
from geoseg.training.data.loaders import normalized
from geoseg.training.data.samplers import HardSampler
from geoseg.training.detection import DetectionModule
from geoseg.training.feed import Feed, Scenes
from geoseg.training.loop import BEST, LAST, Watching, fit, weights_of
from geoseg.training.loss_terms import add_terms
from geoseg.training.module import Descent, TrainingModule
from geoseg.training.pace import Pace, Paced
from geoseg.training.training_plan import TrainingPlan
from geoseg.training.transfer.adaptation import adapt_statistics
from geoseg.training.transfer.consistency import CONSISTENCY, Consistency
from geoseg.training.transfer.finetuning import Unfreezing, rate_groups
from geoseg.training.value_module import VALUE_FIGURES, ValueModule
from geoseg.windows import Window

__all__ = ["Begun", "Places", "Trained", "begin_network", "rehearse", "run_plan"]

log = logging.getLogger(__name__)

PICTURES, PICTURE_SIDE = 6, 256
"""Chips that are drawn at each check, and their largest side in pixels."""


@dataclass(frozen=True, slots=True)
class Places:
    """Files that a training writes."""

    checkpoints: Path
    """Folder of checkpoints; a training goes on from the last one in it."""
    pictures: Path
    """Folder of pictures of predictions."""
    curve: Path
    """CSV file of the figures at each check."""


@dataclass(frozen=True, slots=True, eq=False)
class Begun:
    """A network before its first step."""

    config: NetworkConfig
    """By which it was built."""
    network: nn.Module
    loaded: Loaded | None
    """The weights that it begins with; None where they are random."""
    random_state: torch.Tensor
    """State of torch's random numbers once it was made: a training draws those that follow."""


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A trained network."""

    network: nn.Module
    """With the chosen weights, in evaluation."""
    notes: tuple[str, ...]
    """Weights that were loaded, and statistics that were adapted."""


def run_plan(
    plan: TrainingPlan,
    scenes: Scenes,
    places: Places,
    watching: Watching,
    *,
    begun: Begun | None = None,
    resident: bool = False,
) -> Trained:
    """Train by a plan, or go on from the last checkpoint.

    Args:
        plan: What to train.
        scenes: What it learns from, and what it is validated on.
        places: What it writes.
        watching: Further callbacks, and the bar.
        begun: The network that ``begin_network`` has made for it, which is trained itself; without it one is made.
        resident: Keep all scenes in the memory of the device that trains, and cut and augment chips there.

    Raises:
        ConfigError: Something of the plan can't work with the scenes, or can't be done on the device.
        ModelError: The weights to begin from can't be loaded.
    """
    network, notes = _begin(plan, begun)
    stride = stride_of(inference_form(network))
    feed = Feed.of(plan, scenes)
    module = _module(plan, network, feed)
    loaders = feed.loaders(network, stride, resident=resident)
    watched = (*_watched(feed, stride, places), *watching.callbacks)
    fit(module, loaders, places.checkpoints, plan.loop, replace(watching, callbacks=watched))
    state = weights_of(places.checkpoints / (LAST if plan.keep_last else BEST))
    network.load_state_dict(state if plan.network.objects else main_weights(state))
    network.to(memory_format=torch.contiguous_format)
    if plan.adapt_statistics:
        count = adapt_statistics(network, feed.images(scenes.target, 5, 8))
        notes.append(
            f"statistics of batch normalization are those of {number_of(count, 'chip')} of "
            f"{number_of(len(scenes.target), 'scene')} without labels"
        )
    return Trained(network.eval(), tuple(notes))


def rehearse(plan: TrainingPlan, scenes: Scenes, begun: Begun | None = None) -> Paced:
    """Train by a plan of a few steps, in a folder that is thrown away, for what it takes; arguments as of ``run_plan``.

    Raises:
        ConfigError: Something of the plan can't work with the scenes.
        ModelError: The weights to begin from can't be loaded.
    """
    found: list[Paced] = []
    with TemporaryDirectory(prefix="geoseg-rehearsal-") as folder:
        network, _ = _begin(plan, begun)
        feed = Feed.of(plan, scenes)
        loaders = feed.loaders(network, stride_of(inference_form(network)))
        fit(_module(plan, network, feed), loaders, Path(folder), plan.loop, Watching([Pace(found.append)], progress=False))
    return found[-1]


def _begin(plan: TrainingPlan, begun: Begun | None) -> tuple[nn.Module, list[str]]:
    """The network that a training begins with; the weights that were loaded, in words.

    A training is the same whenever its network was made: random numbers go on from there.

    Its weights, and with them all that its convolutions give, lie channels last: convolutions of CPUs and GPUs are made for
    that order, and else copy what they get and give.
    """
    if begun is None:
        begun = begin_network(plan.network, plan.start.weights, plan.bands, plan.classes, plan.loop.seed)
    assert begun.config == plan.network
    torch.manual_seed(plan.loop.seed)
    torch.set_rng_state(begun.random_state)
    begun.network.to(memory_format=torch.channels_last)
    if begun.loaded is None:
        return begun.network, []
    log.info("%s", begun.loaded.note)
    return begun.network, [begun.loaded.note]


def begin_network(config: NetworkConfig, weights: str | None, bands: Sequence[str], classes: Sequence[str], seed: int) -> Begun:
    """Build a network and load the weights to begin from.

    Args:
        config: The network.
        weights: What ``load_weights`` takes; None for random ones.
        bands: Names of its bands.
        classes: Names of its classes.
        seed: Of random weights.

    Raises:
        ModelError: The network is not known or takes one size only, or the weights can't be loaded.
    """
    torch.manual_seed(seed)
    network = build_network(config)
    refuse_one_size(inference_form(network), config)
    loaded = None if weights is None else load_weights(network, weights, config=config, bands=bands, classes=classes)
    return Begun(config, network, loaded, torch.get_rng_state())


def _module(plan: TrainingPlan, network: nn.Module, feed: Feed) -> TrainingModule:
    """The network with its loss and its learning rates."""
    trained, terms = (network, []) if plan.detects or plan.values is not None else add_terms(plan, network, feed)
    start = plan.start
    groups = rate_groups(trained, encoder_rate=start.encoder_rate, layer_decay=start.layer_decay)
    descent = Descent(groups, plan.rates, plan.weight_decay, _unfreezing(plan, trained))
    if plan.values is not None:
        return ValueModule(trained, inference_form(network), loss=plan.values, descent=descent)
    if plan.detects:
        return DetectionModule(
            trained,
            inference_form(network),
            codes=plan.preparation.objects,
            least=plan.least_px,
            classes=len(plan.classes),
            loss=plan.loss,
            descent=descent,
        )
    return TrainingModule(
        trained,
        inference_form(network),
        classes=len(plan.classes),
        sigmoid=False,
        loss=plan.loss,
        descent=descent,
        terms=terms,
        follow=plan.sampling.by == "hard",
    )


def _unfreezing(plan: TrainingPlan, network: nn.Module) -> Callable[[nn.Module, int], None] | None:
    if plan.start.encoder_rate == 0:
        return Unfreezing.never(network)
    if plan.start.unfreeze:
        return Unfreezing.gradual(network, round(plan.start.unfreeze * plan.loop.steps))
    return None


def _watched(feed: Feed, stride: int, places: Places) -> list[Callback]:
    """The curve, pictures of some windows of validation, and the losses of chips where samplers ask for them."""
    plan, scenes = feed.plan, feed.scenes
    if plan.values is not None:
        return [Curve(places.curve, (), VALUE_FIGURES)]
    side = max(stride, min(PICTURE_SIDE, plan.sampling.chip) // stride * stride)
    chips = []
    for k, area in islice(scenes.areas, PICTURES):
        row = area.row_off + max(0, (area.height - side) // 2)
        col = area.col_off + max(0, (area.width - side) // 2)
        chips.append(scenes.validation[k].read(Window.at((row, col), (side, side))))
    inputs = [normalized(chip, plan.preparation.mean, plan.preparation.stddev) for chip in chips]
    pictures = Pictures(places.pictures, chips, inputs, np.array(plan.colors, np.uint8))
    hard = [HardExamples(feed.sampler)] if isinstance(feed.sampler, HardSampler) else []
    if plan.loop.figure != "consistency":
        return [Curve(places.curve, plan.classes), pictures, *hard]
    steady = Consistency(list(feed.images(scenes.target, 6, 8)), plan.teaching.light)
    return [steady, Curve(places.curve, plan.classes, [CONSISTENCY]), pictures, *hard]
