"""A mapped scene as its report has it, and the summary of changes that is made of it, ``changes.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

from geoseg.digits import figure
from pipeline.changes.rates import Change, Interval, intervals_of

__all__ = ["ChangesDocument", "ClassArea", "MappedScene", "ZoneEntry", "summary_of"]


class ClassEntry(TypedDict):
    """A class in the report of a scene."""

    code: int
    name: str
    pixels: int
    area_m2: float | None


class ClassArea(TypedDict):
    """A class of the map with its area."""

    code: int
    name: str
    pixels: int
    area_ha: float | None
    """None where it is not known: of no data, and of maps without a place on Earth."""


class ZoneEntry(TypedDict):
    """A zone with the areas of the classes in it."""

    zone: int
    area_ha: dict[str, float]
    intervals: NotRequired[list[Interval]]


class ChangesDocument(TypedDict):
    """The summary of changes, as ``changes.json`` has it."""

    scene: str
    status: str
    model: object
    dates: list[object]
    registration: list[object]
    warnings: list[str]
    classes: list[ClassArea]
    card: object
    intervals: NotRequired[list[Interval]]
    zones: NotRequired[list[ZoneEntry]]


@dataclass(frozen=True, slots=True)
class MappedScene:
    """The report of a scene, ``run.json``, as far as it is read here."""

    scene: str
    status: str
    model: object
    dates: list[object]
    registration: list[object]
    warnings: list[str]
    classes: list[ClassEntry]
    changes: Mapping[str, Change]
    """By class code as text; none of networks that compare dates, whose maps do not have the area at first."""

    @classmethod
    def of(cls, run: Mapping[str, Any]) -> MappedScene:
        """Read a report."""
        return cls(
            scene=run["scene"],
            status=run["status"],
            model=run["model"],
            dates=run.get("dates", []),
            registration=run.get("registration", []),
            warnings=run["warnings"],
            classes=run["classes"],
            changes=(run.get("changes") or {}) if run.get("series") else {},
        )


def summary_of(scene: MappedScene, card: Mapping[str, object]) -> ChangesDocument:
    """Areas by class, and rates by interval where areas are known.

    Args:
        scene: The scene.
        card: Of the model.
    """
    document: ChangesDocument = {
        "scene": scene.scene,
        "status": scene.status,
        "model": scene.model,
        "dates": scene.dates,
        "registration": scene.registration,
        "warnings": scene.warnings,
        "classes": [
            {
                "code": entry["code"],
                "name": entry["name"],
                "pixels": entry["pixels"],
                "area_ha": None if entry["area_m2"] is None else figure(entry["area_m2"] / 1e4, 4),
            }
            for entry in scene.classes
        ],
        "card": card.get("name") or card.get("mlm:name"),
    }
    hectares = {entry["code"]: entry["area_m2"] / 1e4 for entry in scene.classes if entry["area_m2"] is not None}
    if scene.changes and hectares:
        document["intervals"] = intervals_of(scene.changes, hectares)
    return document
