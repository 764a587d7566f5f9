"""Tasks beside segmentation: targets made from a batch, and losses against them.

Pixels that are not labelled, or not known, take part in no target and no loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch uses
from torch import Tensor, nn

from geoseg.codes import UNLABELLED
from geoseg.errors import ConfigError
from geoseg.models.networks.heads import Head
from geoseg.training.data.chips import Batch
from geoseg.training.losses.balancing import MAIN, Kind
from geoseg.training.losses.borders import boundary_maps, distance_maps
from geoseg.training.losses.masked import balanced_cross_entropy, cell_means, smooth_l1, spread_of

if TYPE_CHECKING:
    from geoseg.training.module import Loss, Step

__all__ = [
    "Boundary",
    "Distance",
    "MultiTask",
    "Regression",
    "SceneClass",
    "SceneClasses",
    "Task",
    "kinds_of",
    "spread_of",
    "task_losses",
]

LEAST_KNOWN = 0.5


class Task(Protocol):
    """A task with a head of its own."""

    @property
    def name(self) -> str:
        """Of its head, its loss, its weight."""
        ...

    @property
    def kind(self) -> Kind:
        """Relation of its loss to its noise, for weights by uncertainty."""
        ...

    @property
    def head(self) -> Head:
        """The head that it needs."""
        ...

    def target(self, batch: Batch) -> Tensor:
        """Target of the head."""
        ...

    def loss(self, output: Tensor, target: Tensor) -> Tensor | None:
        """A scalar; None where nothing of the target is known."""
        ...


@dataclass(frozen=True, slots=True)
class Boundary:
    """Borders between classes or objects, with side outputs that are each supervised (Xie and Tu 2015, arXiv:1504.06375)."""

    width: float = 2.0
    """Of the boundary in pixels, half of it to each side of a border."""
    objects: bool = False
    """Whether the borders are those of objects."""
    name: str = "boundary"
    kind: Kind = "classification"

    @property
    def head(self) -> Head:
        """Fused and side outputs."""
        return Head(self.name, "boundary")

    def target(self, batch: Batch) -> Tensor:
        """(N, H, W) int64: 1 on a boundary, 0 off it, UNLABELLED."""
        return boundary_maps(batch.labels, self.width, _objects(batch) if self.objects else None)

    def loss(self, output: Tensor, target: Tensor) -> Tensor | None:
        """Class-balanced cross-entropy, the mean over the fused and the side outputs."""
        return balanced_cross_entropy(output, target)


@dataclass(frozen=True, slots=True)
class Distance:
    """Truncated distance to the border of the foreground, or of objects, as a share of the largest that is told."""

    truncate: float = 16.0
    """Largest distance that is told, in pixels."""
    signed: bool = True
    """Whether it is negative outside the foreground."""
    foreground: tuple[int, ...] | None = None
    """Codes of the classes inside; None for all but 0."""
    objects: bool = False
    """Whether the borders are those of objects, also between two that touch."""
    beta: float = 0.1
    """Difference from which on the loss grows linearly, not as the square."""
    name: str = "distance"
    kind: Kind = "regression"

    @property
    def head(self) -> Head:
        """One raster."""
        return Head(self.name, "raster")

    def target(self, batch: Batch) -> Tensor:
        """(N, 1, H, W) float32 in [-1, 1], NaN where not known."""
        objects = _objects(batch) if self.objects else None
        return distance_maps(batch.labels, self.truncate, foreground=self.foreground, signed=self.signed, objects=objects)

    def loss(self, output: Tensor, target: Tensor) -> Tensor | None:
        """Smooth L1 over known pixels."""
        return smooth_l1(output, target, self.beta)


@dataclass(frozen=True, slots=True)
class SceneClass:
    """The class that covers most of a chip."""

    classes: int
    """Number of classes."""
    least_known: float = LEAST_KNOWN
    """Share of a chip that has to be labelled for it to count."""
    name: str = "scene_class"
    kind: Kind = "classification"

    @property
    def head(self) -> Head:
        """A score a class."""
        return Head(self.name, "scene", self.classes)

    def target(self, batch: Batch) -> Tensor:
        """(N,) int64: the class with the most labelled pixels, the lowest code of equals, or UNLABELLED."""
        counts = _counts(batch.labels, self.classes)
        return torch.where(_enough(batch.labels, self.least_known), counts.argmax(1), UNLABELLED)

    def loss(self, output: Tensor, target: Tensor) -> Tensor | None:
        """Cross-entropy over chips that are known."""
        if not (target != UNLABELLED).any():
            return None
        return F.cross_entropy(output.float(), target, ignore_index=UNLABELLED)


@dataclass(frozen=True, slots=True)
class SceneClasses:
    """The classes that a chip holds, any number of them."""

    classes: int
    """Number of classes."""
    share: float = 0.05
    """Share of the labelled pixels above which a class is held."""
    least_known: float = LEAST_KNOWN
    """Share of a chip that has to be labelled for it to count."""
    name: str = "scene_classes"
    kind: Kind = "classification"

    @property
    def head(self) -> Head:
        """A score a class, each against 0."""
        return Head(self.name, "scene", self.classes)

    def target(self, batch: Batch) -> Tensor:
        """(N, K) float32: 1 for classes that are held, 0 for others, NaN for chips that are not known."""
        known = (batch.labels != UNLABELLED).flatten(1).sum(1)
        held = (_counts(batch.labels, self.classes) > self.share * known[:, None]).float()
        return torch.where(_enough(batch.labels, self.least_known)[:, None], held, torch.nan)

    def loss(self, output: Tensor, target: Tensor) -> Tensor | None:
        """Binary cross-entropy over chips that are known, the mean over the classes."""
        known = ~target.isnan()
        if not known.any():
            return None
        return F.binary_cross_entropy_with_logits(output.float()[known], target[known])


@dataclass(frozen=True, slots=True)
class Regression:
    """Values of rasters: height, depth, cover fraction; in units of their spread, so that losses are of like size."""

    offsets: tuple[float, ...] = (0.0,)
    """Mean of each raster, which is subtracted."""
    scales: tuple[float, ...] = (1.0,)
    """Standard deviation of each, by which it is then divided."""
    stride: int = 1
    """Pixels along a side of the cells that values are given for; targets are means over their known pixels."""
    least_known: float = LEAST_KNOWN
    """Share of a cell that has to be known for it to count."""
    beta: float = 1.0
    """Difference, in units of the spread, from which on the loss grows linearly, not as the square."""
    name: str = "regression"
    kind: Kind = "regression"

    def __post_init__(self) -> None:
        """Check the values."""
        if len(self.offsets) != len(self.scales) or not all(scale > 0 for scale in self.scales):
            raise ConfigError(
                f"tasks.{self.name}: offsets {self.offsets} and scales {self.scales} have to be as many, and scales above 0"
            )

    @property
    def head(self) -> Head:
        """As many rasters."""
        return Head(self.name, "raster", len(self.offsets), self.stride)

    def target(self, batch: Batch) -> Tensor:
        """(N, R, H / stride, W / stride) float32, in units of the spread, NaN where not known.

        Raises:
            ConfigError: The batch has no rasters, or another number of them.
        """
        count = 0 if batch.rasters is None else batch.rasters.shape[1]
        if batch.rasters is None or count != len(self.offsets):
            raise ConfigError(
                f"tasks.{self.name}: the data have {count} rasters to regress, not {len(self.offsets)}; "
                "name them in data.rasters, or leave the task out"
            )
        mean = cell_means(batch.rasters, self.stride, self.least_known)
        return (mean - _column(self.offsets, mean)) / _column(self.scales, mean)

    def values(self, output: Tensor) -> Tensor:
        """Output of the head in the units of the rasters."""
        return output.float() * _column(self.scales, output) + _column(self.offsets, output)

    def loss(self, output: Tensor, target: Tensor) -> Tensor | None:
        """Smooth L1 over known cells."""
        return smooth_l1(output, target, self.beta)


class MultiTask(nn.Module):
    """The term of the loss that turns training for segmentation into training for all tasks.

    Args:
        tasks: Those beside segmentation; the network is a ``MultiTaskNetwork`` with their heads.
        weighting: Of ``geoseg.training.losses.balancing``, for "segmentation" and the names of the tasks.
        main: The loss of segmentation.
    """

    def __init__(self, tasks: Sequence[Task], weighting: nn.Module, main: Loss) -> None:
        super().__init__()
        self._tasks, self._main = tuple(tasks), (main,)
        self.weighting = weighting

    def forward(self, step: Step) -> Mapping[str, Tensor]:
        """The difference between the weighted loss of all tasks and that of segmentation."""
        assert isinstance(step.output, Mapping)
        main = self._main[0](step.output["scores"], step.batch.labels, step.batch.weights)
        losses = {MAIN: main, **task_losses(self._tasks, step.output, step.batch)}
        total: Tensor = self.weighting(losses, step.number)
        return {"tasks": total - main}


def task_losses(tasks: Sequence[Task], outputs: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
    """The loss of each task by name; tasks of which nothing is known in this batch are left out."""
    found = {task.name: task.loss(outputs[task.name], task.target(batch)) for task in tasks}
    return {name: loss for name, loss in found.items() if loss is not None}


def kinds_of(tasks: Sequence[Task]) -> dict[str, Kind]:
    """The kind of each task by name, segmentation first."""
    return {MAIN: "classification", **{task.name: task.kind for task in tasks}}


def _objects(batch: Batch) -> Tensor:
    """Numbers of objects (N, H, W).

    Raises:
        ConfigError: The batch has none.
    """
    if batch.objects is None:
        raise ConfigError("tasks: the borders of objects are wanted, but the chips come without objects; name their classes")
    return batch.objects


def _counts(labels: Tensor, classes: int) -> Tensor:
    """(N, K) labelled pixels by class."""
    return torch.stack([(labels == k).flatten(1).sum(1) for k in range(classes)], 1)


def _enough(labels: Tensor, share: float) -> Tensor:
    """(N,): whether a share of each chip is labelled, one pixel at least."""
    known = (labels != UNLABELLED).flatten(1).float().mean(1)
    return (known > 0) & (known >= share)


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device).view(1, -1, 1, 1)
