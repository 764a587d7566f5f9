"""Graded buildings as rows of tables, and the summary of a run as ``damage.json`` has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray

from geoseg.codes import NOT_ANALYSED, UNGRADED
from geoseg.damage.event_model import EventFigures
from geoseg.damage.scale import CLASSES, decided
from geoseg.documents import Json
from geoseg.scenes.remote import shown
from pipeline.damage.buildings import Building
from pipeline.damage.grading import Grade
from pipeline.plan.dates import OpenedDates, undated

__all__ = ["DamageDocument", "GradedBuilding", "columns_of_rows", "counted", "counts_of", "probability_names", "summary_of"]

ROUNDED = 4
"""Digits of probabilities in tables."""


def probability_names() -> list[str]:
    """Columns of the probabilities."""
    return [f"p_{name.replace(' ', '_')}" for name in CLASSES]


def columns_of_rows(*, labelled: bool = False, reviewed: bool = False) -> list[str]:
    """Columns of graded buildings, in their order; those of labels and of reviews where some buildings have them."""
    more = [*(["labelled"] if labelled else []), *(["review"] if reviewed else [])]
    return ["id", "name", "code", "class", "area_m2", "confidence", *probability_names(), "reason", *more]


@dataclass(frozen=True, slots=True)
class GradedBuilding:
    """A building with its grade."""

    building: Building
    area_m2: float
    code: int
    """Of its class, 254 where it is not analysed."""
    reason: str | None
    """Reason why it is not analysed."""
    confidence: float | None
    """Percent; None where it is not analysed."""
    probability: tuple[float, ...] | None
    """(K,) of the classes, rounded; None where it is not analysed."""
    labelled: bool | None = None
    """Whether its class is that of a label; None where the model has not learned from labels of this event."""
    review: str | None = None
    """What people decided on it; None where nobody has."""

    @classmethod
    def of(cls, building: Building, grade: Grade, area_m2: float, *, labelled: bool | None = None) -> GradedBuilding:
        """Decide the class of a building."""
        if grade.probability is None:
            return cls(building, area_m2, NOT_ANALYSED, grade.reason, None, None, labelled)
        code = int(decided(grade.probability[None])[0])
        confidence = round(100 * float(grade.probability[code]), 1)
        p = tuple(round(float(v), ROUNDED) for v in grade.probability)
        return cls(building, area_m2, code, grade.reason, confidence, p, labelled)

    @property
    def title(self) -> str:
        """Name of its class."""
        return UNGRADED if self.code == NOT_ANALYSED else CLASSES[self.code]

    @property
    def destroyed(self) -> float:
        """Probability that it is destroyed; 0 where it is not analysed, and 0 or 1 where people graded it."""
        return float(self.code == len(CLASSES) - 1) if self.probability is None else self.probability[-1]

    def row(self) -> dict[str, str | float | None]:
        """Its cells by ``columns_of_rows``."""
        p = [None] * len(CLASSES) if self.probability is None else self.probability
        return {
            "id": self.building.number,
            "name": self.building.name,
            "code": self.code,
            "class": self.title,
            "area_m2": self.area_m2,
            "confidence": self.confidence,
            **dict(zip(probability_names(), p, strict=True)),
            "reason": self.reason,
            **({} if self.labelled is None else {"labelled": int(self.labelled)}),
            **({} if self.review is None else {"review": self.review}),
        }


class DateEntry(TypedDict):
    """A source image."""

    acquired: str | None
    source: list[str]


class GridEntry(TypedDict):
    """The cells that buildings are counted by."""

    cell_m: float
    cells: int
    crs: str


class AreaEntry(TypedDict):
    """An area of interest."""

    sha256: str
    left_out: int
    """Buildings outside of it."""


class FootprintsEntry(TypedDict):
    """Where footprints were fetched from."""

    source: str
    """A name, or an address."""
    addresses: list[str]
    date: str | None
    """Of the footprints, ISO 8601."""
    licence: str | None
    """SPDX identifier, or what the file says."""
    features: int
    row_groups: list[int]
    """Those that were read, and all."""
    box: list[float]
    """Left, bottom, right and top of the image in its CRS."""


class EventEntry(TypedDict):
    """The model of this event."""

    labels: int
    """Labelled buildings that it has learned from."""
    by_class: dict[str, int]
    unmatched: int
    """Labels that lie on no footprint."""
    label_next: int
    """Buildings in ``label_next.gpkg`` that are to be labelled next."""
    cross_validated: EventFigures | None
    """None where nothing was labelled."""


class DamageDocument(TypedDict):
    """The summary of a run, as ``damage.json`` has it."""

    dates: list[DateEntry]
    footprints: str
    model: dict[str, str]
    registration: list[dict[str, object]]
    warnings: list[str]
    buildings: int
    counts: dict[str, float | None]
    """Buildings by class, and ``share_destroyed``."""
    not_analysed: dict[str, int]
    """Buildings by reason."""
    destroyed_expected: float
    event_model: NotRequired[EventEntry]
    footprints_from: NotRequired[FootprintsEntry]
    area_of_interest: NotRequired[AreaEntry]
    grid: NotRequired[GridEntry]
    zones: NotRequired[list[dict[str, object]]]
    files: NotRequired[list[str]]
    review: NotRequired[Mapping[str, Json]]
    """Of a version with what people decided."""


def counts_of(codes: NDArray[np.int64]) -> dict[str, float | None]:
    """Buildings by class, and the share destroyed among the analysed; None where nothing was analysed."""
    counts = {name: int((codes == k).sum()) for k, name in enumerate(CLASSES)}
    analysed = sum(counts.values())
    share = counts["destroyed"] / analysed if analysed else None
    return {
        **counts,
        UNGRADED: int((codes == NOT_ANALYSED).sum()),
        "share_destroyed": None if share is None else round(share, 4),
    }


def summary_of(
    opened: OpenedDates, footprints: str, model: Mapping[str, str], graded: Sequence[GradedBuilding]
) -> DamageDocument:
    """The summary of graded buildings."""
    found = counted(graded)
    return {
        "dates": [{"acquired": d.acquired, "source": [shown(f.path) for f in d.files]} for d in opened.scene.dates],
        "footprints": shown(footprints),
        "model": {**model},
        "registration": [
            {"rows": r.rows, "cols": r.cols, "residual": r.residual, "consistent": r.consistent} for r in opened.registrations
        ],
        "warnings": [*opened.scene.warnings, *opened.notes, *undated([(d.path, d.acquired) for d in opened.scene.dates])],
        "buildings": found["buildings"],
        "counts": found["counts"],
        "not_analysed": found["not_analysed"],
        "destroyed_expected": found["destroyed_expected"],
    }


class Counted(TypedDict):
    """What graded buildings add up to."""

    buildings: int
    counts: dict[str, float | None]
    """Buildings by class, and ``share_destroyed``."""
    not_analysed: dict[str, int]
    """Buildings by reason."""
    destroyed_expected: float


def counted(graded: Sequence[GradedBuilding]) -> Counted:
    """Count graded buildings by class, and those that were not analysed by reason."""
    reasons: dict[str, int] = {}
    for one in graded:
        if one.reason:
            reasons[one.reason] = reasons.get(one.reason, 0) + 1
    return {
        "buildings": len(graded),
        "counts": counts_of(np.array([one.code for one in graded], np.int64)),
        "not_analysed": reasons,
        "destroyed_expected": round(float(sum(one.destroyed for one in graded)), 1),
    }
