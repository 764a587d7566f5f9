"""Settings of a calibration and of a quantization; the command line takes its defaults from here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["CalibrationSettings", "Method", "QuantizationSettings"]

Method = Literal["auto", "temperature", "vector", "isotonic", "cubic"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationSettings:
    """The method, and the division of the labelled scenes."""

    method: Method = "auto"
    """Map from scores to frequencies; ``auto`` takes the one under which held-out labels are likeliest."""
    column: str | None = None
    """Of vector labels, the column that names the class."""
    holdout: float = 0.5
    """Share of the scenes, or of the blocks of one scene, that is measured on."""
    seed: int = 0
    """Of the division, of the sample, and of the intervals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizationSettings:
    """What a network in integers is made and judged on."""

    crops: int = 64
    """Parts of the images that are drawn: half to find ranges, half to measure the loss."""
    column: str | None = None
    """Of vector labels, the column that names the class."""
    seed: int = 0
    """Of the draw."""
