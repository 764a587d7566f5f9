"""All that a training does, as values: each is a section of a recipe, and what stands here by default stands nowhere else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from geoseg.models.networks.config import NetworkConfig
    from geoseg.training.data.loaders import Mix, Preparation
    from geoseg.training.losses.value_losses import ValueLoss
    from geoseg.training.module import Loss

__all__ = [
    "Device",
    "Figure",
    "Keeping",
    "LearningRates",
    "LoopSettings",
    "ObjectHeads",
    "Precision",
    "SamplerName",
    "Sampling",
    "Schedule",
    "Start",
    "Style",
    "StyleName",
    "Sureness",
    "Tasks",
    "Teaching",
    "TrainingPlan",
    "WeightingName",
]

Device = Literal["auto", "cpu", "gpu", "mps"]
Figure = Literal["miou", "loss", "consistency"]
"""By which a checkpoint is chosen: mean IoU over the classes that are there, or the loss, both on validation data; or how steady
the classes of the target, which has no labels, are in another light."""
Precision = Literal["32", "bf16", "16"]
SamplerName = Literal["area", "grid", "class", "hard"]
Schedule = Literal["one-cycle", "cosine", "constant"]
StyleName = Literal["none", "histogram", "fourier"]
WeightingName = Literal["manual", "uniform", "dynamic", "uncertainty"]
STEPS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Weights to begin from, and the layers that learn at a rate of their own."""

    weights: str | None = None
    """A tag of the encoder on the hub, a model folder, or a checkpoint file; None for random ones."""
    encoder_rate: float = 1.0
    """Learning rate of the encoder relative to the rest; 0 keeps it frozen."""
    layer_decay: float = 1.0
    """Factor of the learning rate from each layer of the encoder to the one before."""
    unfreeze: float = 0.0
    """Share of the steps over which the encoder is unfrozen layer by layer, from the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Draws of chips, and their batches."""

    chip: int = 256
    """Side of a chip in pixels."""
    by: SamplerName = "area"
    """By labelled area, in a grid, by rare classes, by loss."""
    batch: int = 8
    """Chips a batch and device."""
    workers: int = 0
    """Processes that read chips."""


@dataclass(frozen=True, slots=True)
class LearningRates:
    """Learning rates over the steps."""

    rate: float = 1e-3
    """The largest learning rate of the decoder and the heads."""
    steps: int = STEPS
    """Steps of the whole training."""
    schedule: Schedule = "one-cycle"
    """One-cycle rises for ``warmup`` of the steps, then falls by a cosine (Smith and Topin 2018, arXiv:1708.07120)."""
    warmup: float = 0.15
    """Share of the steps over which the rate rises from a 25th of the largest."""

    def factor(self, step: int) -> float:
        """The rate of a step relative to the largest."""
        rising = max(1, round(self.warmup * self.steps))
        if step < rising:
            return 1 / 25 + (1 - 1 / 25) * 0.5 * (1 - math.cos(math.pi * step / rising))
        if self.schedule == "constant":
            return 1.0
        along = min(1.0, (step - rising) / max(1, self.steps - rising))
        last = 1e-5 if self.schedule == "one-cycle" else 1e-2
        return last + (1 - last) * 0.5 * (1 + math.cos(math.pi * along))


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSettings:
    """Length of a training, its precision, and the device that it runs on."""

    steps: int = STEPS
    """Steps of the optimizer."""
    epoch: int = 100
    """Batches between two checks."""
    seed: int = 0
    """For dropout and the like."""
    figure: Figure = "miou"
    """By which the best checkpoint is chosen."""
    accumulate: int = 1
    """Batches whose gradients are added up for a step."""
    clip: float = 5.0
    """Largest norm of the gradients; 0 clips nothing."""
    average: float = 0.99
    """Decay of the moving average of the weights; 0 for none."""
    patience: int = 0
    """Checks without an improvement after which it ends; 0 goes through all steps."""
    precision: Precision = "32"
    """``32``, or ``bf16`` or ``16`` for automatic mixed precision."""
    device: Device = "auto"
    """``auto``, ``cpu``, ``gpu``, ``mps``."""
    devices: int = 1
    """GPUs that train together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """Style transfer from the target's chips to labelled ones."""

    kind: StyleName = "none"
    """``histogram`` or ``fourier``."""
    share: float = 0.5
    """Share of the chips that get it."""
    beta: float = 0.01
    """Share of the spectrum that ``fourier`` exchanges."""


@dataclass(frozen=True, slots=True)
class Sureness:
    """Labels of a teacher that count."""

    confidence: float = 0.9
    """Least probability of a label."""
    share: float | None = None
    """If given, the thresholds of the classes keep this share of the pixels of each instead, and those above
    ``confidence`` in any case."""
    classes: int = 2
    """Number of classes; needed for ``share``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Teaching:
    """Self-training on the target's chips with the labels of a mean teacher."""

    weight: float = 0.0
    """Of the term in the loss; 0 for none."""
    sureness: Sureness = Sureness()
    """Labels that count."""
    light: float = 0.0
    """Standard deviation of the change of light of the chips that the student gets."""
    start: float = 0.3
    """Share of the steps after which they count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """Terms of the loss, and chips, by which a network does not forget the region that it knew."""

    distill: float = 0.0
    """Weight of the distance to the old model's probabilities (LwF)."""
    temperature: float = 2.0
    """By which scores are divided before they are compared."""
    ewc: float = 0.0
    """Weight of the distance to the old weights by their importance (EWC)."""
    rehearse: float = 0.0
    """Share of the chips that come from old data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectHeads:
    """Targets of the two heads by which watershed distinguishes objects."""

    boundary: float = 3.0
    """Width in pixels of the boundaries that are learned."""
    distance: float = 16.0
    """Largest distance to a border in pixels that is learned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tasks:
    """Tasks beside segmentation."""

    weights: Mapping[str, float] = field(default_factory=dict)
    """By name, above 0: boundary, distance, scene_class, scene_classes, regression."""
    weighting: WeightingName = "uncertainty"
    """Of ``geoseg.training.losses.balancing``."""
    objects: ObjectHeads | None = None
    """Heads that the network has from the start; there are then no other tasks."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingPlan:
    """A whole training, but for the scenes that it reads and the folder that it writes."""

    network: NetworkConfig
    """The network by name."""
    bands: tuple[str, ...]
    """Names of its input bands."""
    classes: tuple[str, ...]
    """Names of its classes, by code."""
    colors: tuple[tuple[int, int, int], ...]
    """Red, green and blue by class, for pictures."""
    start: Start
    """Weights to begin from."""
    sampling: Sampling
    """Draws of chips."""
    preparation: Preparation
    """Augmentation and normalization of chips; style transfer comes before it."""
    mix: Mix | None
    """Augmentation of whole batches."""
    loss: Loss
    """Of scores against labels."""
    tasks: Tasks
    """Further tasks, which have heads of their own."""
    keeping: Keeping
    """Against forgetting."""
    style: Style
    """Style transfer to the target."""
    value_range: tuple[float, float] | None
    """Least and largest value of the sensor, which style transfer keeps to."""
    teaching: Teaching
    """Self-training on the target."""
    adapt_statistics: bool
    """Recompute the statistics of batch normalization on the target at the end."""
    least_px: int
    """Pixels of the smallest object that a detector learns."""
    rates: LearningRates
    """Over the steps."""
    weight_decay: float
    """Of AdamW."""
    loop: LoopSettings
    """Length, precision and device."""
    keep_last: bool
    """Take the weights of the last checkpoint, not those of the best."""
    values: ValueLoss | None = None
    """Of a network that regresses one quantity; None where it learns classes."""

    @property
    def detects(self) -> bool:
        """Whether the network is a detector, which has losses of its own."""
        from geoseg.models.networks.config import DETECTOR_NAMES

        return self.network.architecture.lower() in DETECTOR_NAMES
