"""Scenes to batches by a plan: samplers, style transfer, loaders, windows of validation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import nn
from torch.utils.data import DataLoader

from geoseg.errors import ConfigError
from geoseg.inference.choice import gpu_count
from geoseg.models.networks.deploy import output_margin
from geoseg.training.augment.style import FourierStyle, HistogramStyle, measure_values
from geoseg.training.data.check_windows import Check, Loaders, check_loader
from geoseg.training.data.chips import Batch, Chip, ChipSource
from geoseg.training.data.loaders import Change, Mix, Preparation, Reading, training_loader
from geoseg.training.data.resident import resident_loader, training_device
from geoseg.training.data.samplers import ChipSampler, make_sampler
from geoseg.training.training_plan import SamplerName, TrainingPlan
from geoseg.training.transfer.forgetting import Rehearsal
from geoseg.windows import Window

__all__ = ["STYLE_CHIPS", "Feed", "Scenes"]

STYLE_CHIPS = 64
"""Chips by which the style of the target, the spread of rasters and the importance of weights are measured."""
CONTEXT = 128
"""Pixels seen around a window that is validated."""
LEAST_SIDE = 512
"""Rows and columns of windows of validation, where the network takes any."""


class Scenes(Protocol):
    """The scenes of a training by role."""

    @property
    def training(self) -> tuple[ChipSource, ...]:
        """Scenes to train on."""
        ...

    @property
    def validation(self) -> tuple[ChipSource, ...]:
        """Scenes to validate on."""
        ...

    @property
    def areas(self) -> tuple[tuple[int, Window], ...]:
        """Windows of validation: number of the scene, window."""
        ...

    @property
    def target(self) -> tuple[ChipSource, ...]:
        """Scenes without labels, to adapt to."""
        ...

    @property
    def old(self) -> tuple[ChipSource, ...]:
        """Scenes of the region that the network is not to forget."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Feed:
    """Chips of the scenes of a training."""

    plan: TrainingPlan
    """Settings of draws and changes."""
    scenes: Scenes
    """Sources of the chips."""
    sampler: ChipSampler
    """Draws labelled chips, those of old scenes among them where they are rehearsed."""
    preparation: Preparation
    """Of labelled chips."""

    @classmethod
    def of(cls, plan: TrainingPlan, scenes: Scenes) -> Feed:
        """Count the labels of the scenes, for the sampler, and measure the style of the target."""
        sampler = _sampler(plan, scenes.training, 0)
        if plan.keeping.rehearse:
            first = len(scenes.training)
            memory = [replace(ref, source=ref.source + first) for ref in _sampler(plan, scenes.old, 2).epoch(0, STYLE_CHIPS)]
            sampler = Rehearsal(sampler, memory, plan.keeping.rehearse, plan.loop.seed)
        given = plan.preparation
        return cls(plan, scenes, sampler, replace(given, changes=(*_style(plan, scenes), *given.changes)))

    def loaders(self, network: nn.Module, stride: int, *, resident: bool = False) -> Loaders:
        """Loaders of labelled chips, of the target's where it is learned from, and of the windows of validation.

        Args:
            network: For the size of its windows.
            stride: The network's.
            resident: Keep all scenes on the device that trains, instead of reading chips.

        Raises:
            ConfigError: Scenes can't stay on several devices.
        """
        training = {"labelled": self._loader((*self.scenes.training, *self.scenes.old), self, self.plan.mix, resident=resident)}
        if self.plan.teaching.weight:
            target = replace(self, sampler=_sampler(self.plan, self.scenes.target, 1), preparation=self._unlabelled)
            training["target"] = self._loader(self.scenes.target, target, None, resident=resident)
        return Loaders(training, self._checks(network, stride))

    def images(self, sources: Sequence[ChipSource], salt: int, size: int) -> Iterator[torch.Tensor]:
        """Batches (N, C, H, W) of chips whose labels are not asked for; 64 chips in all."""
        sampler = _sampler(self.plan, sources, salt)
        loader = training_loader(sources, sampler, self._unlabelled, batches=STYLE_CHIPS // size, size=size)
        return (batch.image for batch in loader)

    def rasters(self) -> Iterator[torch.Tensor | None]:
        """Rasters (N, R, H, W) of 64 labelled chips."""
        loader = training_loader(self.scenes.training, self.sampler, self.preparation, batches=STYLE_CHIPS // 4, size=4)
        return (batch.rasters for batch in loader)

    @property
    def _unlabelled(self) -> Preparation:
        """For chips without labels: turned and moved like others, but with the values that they have."""
        return replace(self.preparation, weigh=None, changes=self.preparation.changes[-2:-1])

    def _loader(self, sources: Sequence[ChipSource], by: Feed, mix: Mix | None, *, resident: bool) -> DataLoader[Batch]:
        loop, sampling = self.plan.loop, self.plan.sampling
        on_gpu = loop.device in ("auto", "gpu") and gpu_count() > 0
        if not resident:
            reading = Reading(sampling.workers, on_gpu)
            return training_loader(
                sources, by.sampler, by.preparation, batches=loop.epoch, size=sampling.batch, mix=mix, reading=reading
            )
        if loop.devices > 1:
            raise ConfigError(f"loop.devices: scenes can't stay on {loop.devices} devices; take one")
        device = training_device(gpu=on_gpu)
        return resident_loader(sources, by.sampler, by.preparation, device, batches=loop.epoch, size=sampling.batch, mix=mix)

    def _checks(self, network: nn.Module, stride: int) -> DataLoader[Check]:
        chip, workers = self.plan.sampling.chip, self.plan.sampling.workers
        side = max(stride, chip // stride * stride) if output_margin(network) else max(LEAST_SIDE, chip)
        windows = [(k, part) for k, area in self.scenes.areas for part in area.parts(-(-side // stride) * stride)]
        return check_loader(
            self.scenes.validation, windows, self.preparation, context=CONTEXT, stride=stride, workers=min(1, workers)
        )


def _sampler(plan: TrainingPlan, sources: Sequence[ChipSource], salt: int, by: SamplerName | None = None) -> ChipSampler:
    """A sampler of the plan's kind, or another; chips of other purposes get another salt."""
    seed = plan.loop.seed + 1000 * salt
    return make_sampler(by or plan.sampling.by, sources, plan.sampling.chip, seed, len(plan.classes))


def _style(plan: TrainingPlan, scenes: Scenes) -> tuple[Change, ...]:
    """The change of labelled chips to the style of the target."""

    def chips(sources: Sequence[ChipSource]) -> Iterator[Chip]:
        return (sources[ref.source].read(ref.window) for ref in _sampler(plan, sources, 3, "area").epoch(0, STYLE_CHIPS))

    style = plan.style
    if style.kind == "histogram":
        there = measure_values(chips(scenes.target))
        return (HistogramStyle(there, measure_values(chips(scenes.training)), style.share),)
    if style.kind == "fourier":
        return (FourierStyle.of(chips(scenes.target), style.beta, share=style.share, limits=plan.value_range),)
    return ()
