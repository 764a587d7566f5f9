"""Settings of damage maps."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FINDER", "TRUTH_COLUMN", "CountOptions"]

FINDER = "buildings"
"""The shipped model that finds footprints where none are given."""
TRUTH_COLUMN = "damage"
"""The column of classes of labelled footprints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CountOptions:
    """Pixels that count to a building, and areas that buildings are counted by."""

    zones: str | None = None
    """A file of polygons by which buildings are counted."""
    cell_m: float = 250.0
    """Side of the cells by which they are counted."""
    tolerance_m: float = 1.0
    """For a model that maps pixels: those so near to a footprint count to it."""
