"""Settings of damage maps."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FINDER", "SUGGESTIONS", "TRUTH_COLUMN", "CountOptions", "EventOptions"]

FINDER = "buildings"
"""The shipped model that finds footprints where none are given."""
TRUTH_COLUMN = "damage"
"""The column of classes of labelled footprints."""
SUGGESTIONS = 20
"""Buildings that are named to label next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CountOptions:
    """Pixels that count to a building, and areas that buildings are counted by."""

    zones: str | None = None
    """A file of polygons by which buildings are counted."""
    cell_m: float = 250.0
    """Side of the cells by which they are counted."""
    tolerance_m: float = 1.0
    """For a model that maps pixels: those so near to a footprint count to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventOptions:
    """A model of this event, from labels of some of its buildings."""

    labels: tuple[str, ...] = ()
    """Files of points or polygons with a class each."""
    label_column: str = TRUTH_COLUMN
    """Their column of classes."""
    label_next: int | None = None
    """How many buildings are named that are to be labelled next."""
    weights: str | None = None
    """A file of weights of an encoder, in the place of the model's."""

    @property
    def wanted(self) -> bool:
        """Whether buildings are graded by a model of this event."""
        return bool(self.labels) or self.label_next is not None

    @property
    def suggestions(self) -> int:
        """How many buildings are named to label next."""
        return SUGGESTIONS if self.label_next is None else self.label_next
