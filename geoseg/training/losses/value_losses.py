"""Losses of values, over what is known alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch uses
from torch import Tensor

from geoseg.errors import ConfigError

__all__ = ["VALUE_TERMS", "ValueLoss"]

VALUE_TERMS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": F.l1_loss,
    "l2": F.mse_loss,
    # Quadratic up to one standard deviation of the values, linear beyond (Huber 1964, doi:10.1214/aoms/1177703732).
    "huber": F.huber_loss,
}
"""Losses by name, of values in units of their standard deviation."""


@dataclass(frozen=True, slots=True)
class ValueLoss:
    """A weighted sum of losses of values against those that are known."""

    weights: Mapping[str, float]
    """By name of ``VALUE_TERMS``."""
    mean: float
    """Of the values that are learned from."""
    spread: float
    """Their standard deviation: the network gives values less the mean, in units of it."""

    def __post_init__(self) -> None:
        """Check the weights.

        Raises:
            ConfigError: A name is not known, or no weight is above 0.
        """
        unknown = [name for name in self.weights if name not in VALUE_TERMS]
        if unknown:
            raise ConfigError(f"loss.terms: {', '.join(unknown)} is no loss of values; choose of {', '.join(VALUE_TERMS)}")
        if not all(0 <= weight < math.inf for weight in self.weights.values()) or not any(self.weights.values()):
            raise ConfigError(f"loss.terms: the weights have to be numbers above 0, not {dict(self.weights)}")

    def __call__(self, output: Tensor, values: Tensor) -> Tensor:
        """A scalar of outputs and values of one shape; NaN values are not known, and 0 is the loss where none is."""
        known = ~values.isnan()
        found, wanted = output.float()[known], ((values - self.mean) / self.spread)[known]
        if not wanted.numel():
            # The sum of nothing, not a constant: backward passes through it.
            return found.sum()
        return torch.stack([weight * VALUE_TERMS[name](found, wanted) for name, weight in self.weights.items()]).sum()

    def values(self, output: Tensor) -> Tensor:
        """Outputs in the unit of the values."""
        return output.float() * self.spread + self.mean
