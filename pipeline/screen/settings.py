"""Settings of screening."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CELL", "ScreenOptions"]

CELL = "64px"
"""Side of a cell where none is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScreenOptions:
    """Cells that are written."""

    at_least: float = 0.0
    """Cells with a lower score are left out."""
    top: int | None = None
    """Most cells that are written; None for all."""
