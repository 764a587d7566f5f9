"""Facts that the scan hands to the flow of a scene beside its parameters: signed addresses are for nobody to see."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import Event

from geoseg.scenes.stac.told import Told

__all__ = ["HANDED", "Handed"]


@dataclass(frozen=True, slots=True)
class Handed:
    """A scene that a scan has found."""

    paths: tuple[str, ...]
    """Its files and addresses, of which the flow's parameters show what is no secret."""
    told: Told | None = None
    """What its catalogue says of it."""
    stops: list[Event] = field(default_factory=list)
    """Of the scenes of the scan that are under way, what stops them; the scan sets them when its time is up."""


HANDED: ContextVar[Handed | None] = ContextVar("handed", default=None)
"""Set in the thread that runs the flow of a scene for a scan."""
