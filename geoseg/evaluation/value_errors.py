"""Errors of values against a truth: root mean square, mean absolute, bias, and the share of the variance that is explained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from geoseg.arrays import F64
from geoseg.sampling.bootstrap import DRAWS, drawn, interval

__all__ = ["FIGURES", "VALUE_TITLES", "ErrorSums", "bootstrap_errors", "value_text"]

FIGURES = ("rmse", "mae", "bias", "r2")
"""Names of the figures."""
VALUE_TITLES = {"rmse": "RMSE", "mae": "MAE", "bias": "bias", "r2": "R2"}
"""As people write them."""


def value_text(name: str, value: float | None, unit: str) -> str:
    """A figure with its unit; R2 has none."""
    if value is None or not np.isfinite(value):
        return "-"
    return f"{value:.4g}" + ("" if name == "r2" or unit in ("", "1") else f" {unit}")


@dataclass(frozen=True, slots=True, eq=False)
class ErrorSums:
    """Sums over the pixels that have a value and a truth; those of parts add up to those of the whole."""

    sums: F64
    """(6,): pixels; errors, their sizes and squares; truths and their squares, less ``shift``."""
    shift: float
    """Near the truths, so that their squares lose no digits."""

    @classmethod
    def zeros(cls, shift: float = 0.0) -> ErrorSums:
        """Of no pixel."""
        return cls(np.zeros(6), shift)

    @classmethod
    def tally(cls, truth: F64, found: F64, shift: float = 0.0) -> ErrorSums:
        """Of values (h, w) and truths (h, w); pixels where one is NaN don't count."""
        known = np.isfinite(truth) & np.isfinite(found)
        error, level = found[known] - truth[known], truth[known] - shift
        parts = (error, np.abs(error), error**2, level, level**2)
        return cls(np.array([known.sum(), *(part.sum() for part in parts)], np.float64), shift)

    def __add__(self, other: ErrorSums) -> ErrorSums:
        """Of both."""
        assert self.shift == other.shift, "sums over the same level"
        return ErrorSums(self.sums + other.sums, self.shift)

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return int(self.sums[0])

    def figures(self) -> dict[str, float]:
        """``FIGURES`` by name; NaN where one is not defined."""
        return {name: float(values[0]) for name, values in figures_of(self.sums[None]).items()}


def figures_of(sums: F64) -> dict[str, F64]:
    """``FIGURES`` (N,) of sums (N, 6).

    The bias is the mean of value less truth. R2 is 1 less the squared errors over the squared deviations of the truth from its
    mean; it is below 0 where that mean would be the better map.
    """
    count, error, size, square, level, level_square = sums.T
    with np.errstate(divide="ignore", invalid="ignore"):
        deviation = level_square - level**2 / count
        found = {
            "rmse": np.sqrt(square / count),
            "mae": size / count,
            "bias": error / count,
            "r2": np.where(deviation > 0, 1 - square / deviation, np.nan),
        }
    return {name: np.asarray(values, np.float64) for name, values in found.items()}


def bootstrap_errors(
    scenes: Sequence[ErrorSums], generator: np.random.Generator, *, draws: int = DRAWS
) -> Mapping[str, tuple[float, float] | None]:
    """95 % intervals of the pooled figures, from drawing scenes with replacement; of under two scenes there is none.

    Args:
        scenes: Sums of each.
        generator: Source of chance.
        draws: Number of draws.
    """
    if len(scenes) < 2:
        return {}
    totals = drawn(len(scenes), generator, draws).astype(np.float64) @ np.stack([scene.sums for scene in scenes])
    return {name: interval(values) for name, values in figures_of(totals).items()}
