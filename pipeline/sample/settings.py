"""Settings of samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from geoseg.sampling.design import Allocation

__all__ = ["SampleSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSettings:
    """Drawing of a sample."""

    size: int | None = None
    """Units; None for what the target asks."""
    target_se: float = 0.01
    """Standard error of the overall accuracy, where no size is given."""
    expected: Mapping[str, float] | None = None
    """Expected user's accuracy by name of class; 0.8 for the others."""
    allocation: Allocation = "proportional"
    """Allocation of units to strata."""
    least: int = 50
    """Units that each stratum has at least."""
    around: tuple[str, ...] = ()
    """Classes around which there is a stratum of its own."""
    buffer_m: float = 0.0
    """Distance that it reaches, in metres; pixels without a CRS."""
    block: int = 1
    """Side of a unit in pixels: above 1, blocks are drawn."""
    sure: float = 80.0
    """Of buildings, confidence in percent from which a grade is sure."""
    seed: int = 0
    """Another one draws another sample."""
    images: tuple[str, ...] = ()
    """Images that are named on each unit."""
