"""Weights of the losses of several tasks: one objective out of many.

Every weighting is a module that maps the losses of a step, by task, and the number of the step to a scalar. Its state is
saved in checkpoints, so that a resumed training goes on exactly. A task may be missing from a step in which nothing of it
is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from geoseg.errors import ConfigError

__all__ = [
    "MAIN",
    "WEIGHTINGS",
    "DynamicWeights",
    "Kind",
    "ManualWeights",
    "UncertaintyWeights",
    "UniformWeights",
    "make_weighting",
]

MAIN = "segmentation"
"""Name of the main task."""
Kind = Literal["regression", "classification"]
LEAST = 1e-8
"""Losses are taken to be at least this large where they are divided by."""


class UniformWeights(nn.Module):
    """The sum of the losses, or their mean.

    Args:
        reduction: ``sum`` or ``mean``.
    """

    def __init__(self, reduction: Literal["sum", "mean"] = "sum") -> None:
        super().__init__()
        self._reduction = reduction

    def forward(self, losses: Mapping[str, Tensor], step: int) -> Tensor:
        """The loss of a step."""
        del step
        together = torch.stack(list(losses.values()))
        return together.sum() if self._reduction == "sum" else together.mean()


class ManualWeights(nn.Module):
    """The sum of the losses with fixed weights.

    Args:
        weights: By task.

    Raises:
        ConfigError: A weight is negative or not finite, or a task of a step has none.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        for name, weight in weights.items():
            if not 0 <= weight < float("inf"):
                raise ConfigError(f"tasks.{name}: the weight {weight:g} can't be; give 0 or more")
        self._weights = dict(weights)

    def forward(self, losses: Mapping[str, Tensor], step: int) -> Tensor:
        """The loss of a step."""
        del step
        missing = [name for name in losses if name not in self._weights]
        if missing:
            raise ConfigError(f"tasks.{missing[0]}: no weight is given; there are weights for {', '.join(self._weights)}")
        return torch.stack([self._weights[name] * loss for name, loss in losses.items()]).sum()


class DynamicWeights(nn.Module):
    """The main task has weight 1; the others share a budget by how slowly their losses fall.

    Dynamic weight averaging (Liu, Johns and Davison 2019, "End-to-end multi-task learning with attention",
    arXiv:1803.10704): of a task k with mean losses L over the last two periods, r = L(last) / L(before), and the others get
    softmax(r / temperature). A task whose loss falls slowly gets more. The paper has losses of like size; here each is
    brought to that of the main one by its mean over the last period, so that all others together count ``budget`` times as
    much as the main task, whatever their units.

    Args:
        names: All tasks, the main one among them.
        main: Name of the main task.
        period: Steps over which losses are averaged; the paper takes an epoch.
        temperature: Large ones make the shares even; the paper takes 2.
        budget: What the others together weigh.

    Raises:
        ConfigError: The main task is not among the names, or a number can't work.
    """

    sums: Tensor
    counts: Tensor
    means: Tensor
    place: Tensor

    def __init__(
        self, names: tuple[str, ...], main: str = MAIN, *, period: int = 50, temperature: float = 2.0, budget: float = 1.0
    ) -> None:
        super().__init__()
        if main not in names:
            raise ConfigError(f"tasks: the main task {main} is not among {', '.join(names)}")
        if period < 1 or temperature <= 0 or budget < 0:
            raise ConfigError(
                f"tasks: dynamic weights with a period of {period} steps, a temperature of {temperature:g} and a budget of "
                f"{budget:g} can't work; they are to be at least 1, above 0, and at least 0"
            )
        self._names = (main, *(name for name in names if name != main))
        self._period, self._temperature, self._budget = period, temperature, budget
        self.register_buffer("sums", torch.zeros(len(names)))
        self.register_buffer("counts", torch.zeros(len(names)))
        # Of the period before the last and of the last; 0 while there was none.
        self.register_buffer("means", torch.zeros(2, len(names)))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))

    def forward(self, losses: Mapping[str, Tensor], step: int) -> Tensor:
        """The loss of a step; in training, takes note of the losses."""
        if self.training:
            self._note(losses, step)
        weights = self.weights()
        return torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()

    @torch.no_grad()
    def weights(self) -> dict[str, Tensor]:
        """The weight of each task now."""
        before, last = self.means
        running = self.sums / self.counts.clamp(min=1)
        size = torch.where(last > 0, last, running).clamp(min=LEAST)
        rates = torch.where((before > 0) & (last > 0), last / before.clamp(min=LEAST), torch.ones_like(last))
        shares = self._budget * torch.softmax(rates[1:] / self._temperature, 0) * size[0] / size[1:]
        return dict(zip(self._names, torch.cat([torch.ones_like(size[:1]), shares]), strict=True))

    @torch.no_grad()
    def _note(self, losses: Mapping[str, Tensor], step: int) -> None:
        """Add losses to those of their period; a new period makes the one before it the last."""
        place = step // self._period
        if place != int(self.place):
            seen = self.counts > 0
            self.means[0] = torch.where(seen, self.means[1], self.means[0])
            self.means[1] = torch.where(seen, self.sums / self.counts.clamp(min=1), self.means[1])
            self.sums.zero_()
            self.counts.zero_()
            self.place.fill_(place)
        for k, name in enumerate(self._names):
            if name in losses:
                self.sums[k] += losses[name].detach().to(self.sums)
                self.counts[k] += 1


class UncertaintyWeights(nn.Module):
    """Weights by homoscedastic uncertainty: the noise of each task is learned beside the network.

    Kendall, Gal and Cipolla 2018, "Multi-task learning using uncertainty to weigh losses", arXiv:1705.07115: a regression
    of loss L counts L / (2 s^2) + log s, a classification L / s^2 + log s. What is learned is log s^2. Where L is a mean
    squared error, s^2 becomes the variance of the noise. The sum may be negative.

    Args:
        kinds: Of each task.
        speed: log s^2 is ``speed`` times the parameter: AdamW moves any parameter by about the learning rate a step, and
            log variances have several units to go.

    Raises:
        ConfigError: A kind is not known, or a task of a step has none.
    """

    def __init__(self, kinds: Mapping[str, Kind], *, speed: float = 10.0) -> None:
        super().__init__()
        for name, kind in kinds.items():
            if kind not in FACTORS:
                raise ConfigError(f"tasks.{name}: {kind!r} is no kind of task; it is one of {', '.join(FACTORS)}")
        self._kinds, self._speed = dict(kinds), speed
        self.scaled = nn.ParameterDict({name: nn.Parameter(torch.zeros(())) for name in kinds})

    def log_variances(self) -> dict[str, Tensor]:
        """Log s^2 of each task."""
        return {name: self._speed * value for name, value in self.scaled.items()}

    def forward(self, losses: Mapping[str, Tensor], step: int) -> Tensor:
        """The loss of a step."""
        del step
        missing = [name for name in losses if name not in self._kinds]
        if missing:
            raise ConfigError(f"tasks.{missing[0]}: its kind is not given; there are kinds for {', '.join(self._kinds)}")
        log = self.log_variances()
        parts = [FACTORS[self._kinds[name]] * torch.exp(-log[name]) * loss + log[name] / 2 for name, loss in losses.items()]
        return torch.stack(parts).sum()


FACTORS: dict[Kind, float] = {"regression": 0.5, "classification": 1.0}
"""Of the loss divided by the variance."""


def _manual(kinds: Mapping[str, Kind], weights: Mapping[str, float]) -> nn.Module:
    return ManualWeights({name: weights.get(name, 1.0) for name in kinds})


WEIGHTINGS: dict[str, Callable[[Mapping[str, Kind], Mapping[str, float]], nn.Module]] = {
    "uniform": lambda _kinds, _weights: UniformWeights(),
    "manual": _manual,
    "dynamic": lambda kinds, _weights: DynamicWeights(tuple(kinds)),
    "uncertainty": lambda kinds, _weights: UncertaintyWeights(kinds),
}


def make_weighting(name: str, kinds: Mapping[str, Kind], weights: Mapping[str, float] | None = None) -> nn.Module:
    """A weighting by name.

    Args:
        name: One of ``WEIGHTINGS``.
        kinds: Of each task, the main one ("segmentation") among them.
        weights: For ``manual``; 1 for tasks without one.

    Raises:
        ConfigError: It is not known, or its settings can't work.
    """
    if name not in WEIGHTINGS:
        raise ConfigError(f"tasks.weighting: {name!r} is not known; choose one of {', '.join(WEIGHTINGS)}")
    return WEIGHTINGS[name](kinds, weights or {})
