"""Quality of a delivery: what was measured of the model and the map, and what its run warned of."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from geoseg.documents import LARGE, read_json
from geoseg.errors import ConfigError
from geoseg.formats.page.minding import ranked
from geoseg.formats.text import write_table
from pipeline.deliver.document import Figures, Reports

if TYPE_CHECKING:
    from pipeline.deliver.result import Result
    from pipeline.deliver.terms import Terms

__all__ = ["Measured", "measured_in", "statement", "unstated", "write_quality"]

EVALUATION = "evaluation.json"
"""What ``damage --truth`` leaves beside the buildings."""
FIELDS = ("topic", "text", "value", "low_95", "high_95", "n")


@dataclass(frozen=True, slots=True)
class Measured:
    """A measured figure, with its interval and how many it comes from."""

    name: str
    value: float
    interval: tuple[float, float] | None
    """At 95 %; None where none is known."""
    count: int
    of: str
    """What was counted."""

    @property
    def text(self) -> str:
        """The figure as a sheet says it."""
        low_high = "" if self.interval is None else f" (95 % {self.interval[0]:.2f} to {self.interval[1]:.2f})"
        return f"{self.name} {self.value:.2f}{low_high}, n = {self.count:,} {self.of}"


def measured_in(folder: Path, reports: Reports) -> tuple[Measured, ...]:
    """Figures that a run measured of its own buildings: against a truth, and by its labels.

    Raises:
        ConfigError: A file with figures can't be read.
    """
    found = [*_of_figures(_read(folder / EVALUATION), "buildings", "buildings of a truth")]
    event = reports.summary.get("event_model") or {}
    figures: Figures = event.get("cross_validated") or {}
    folds = f" in {figures['folds']} folds" if figures.get("folds") else ""
    return (*found, *_of_figures(figures, "labels", f"buildings of this event, cross-validated{folds}"))


def _read(path: Path) -> Figures:
    if not path.is_file():
        return {}
    try:
        found: Figures | list[object] = read_json(path, limit=LARGE)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: can't be read: {error}; measure again with geoseg damage --truth") from error
    return found if isinstance(found, dict) else {}


def _of_figures(figures: Figures, counted: str, of: str) -> Iterator[Measured]:
    count = int(str(figures.get(counted) or 0))
    for name, key in (("Macro F1", "macro_f1"), ("Accuracy", "accuracy")):
        value, low_high = figures.get(key), figures.get(f"{key}_95")
        if count and isinstance(value, float) and math.isfinite(value):
            interval = (low_high[0], low_high[1]) if isinstance(low_high, list) and len(low_high) > 1 else None
            yield Measured(name, value, interval, count, of)


def unstated(result: Result) -> str:
    """What is said where nothing was measured."""
    return "" if result.quality or result.measured else "not stated: no figures beside the result or in the README of its model"


def statement(result: Result) -> tuple[str, ...]:
    """Lines of the quality statement: figures of this map, likeness, warnings, gravest first; the model's README last."""
    # Of each source its first figure; quality.csv has them all.
    first = {one.of: one for one in reversed(result.measured)}
    figures = [one.text for one in result.measured if first[one.of] is one]
    missing = unstated(result)
    return (
        *(figures or ([f"Accuracy {missing}"] if missing else [])),
        *([] if result.domain is None else [f"The images are {result.domain}"]),
        *(f"Warning: {one.text}" for one in ranked(result.warnings)),
        *([] if figures else [f"{entry.name}: {entry.text}" for entry in result.quality]),
    )


def write_quality(path: Path, result: Result, terms: Terms, produced: str) -> None:
    """Write status, version, contact, figures and warnings as a table of one fact a row (CSV)."""
    given = terms.given
    facts = [
        ("status", given.status),
        ("version", terms.version),
        ("produced", produced),
        ("producer", terms.producer),
        *(("contact", line) for line in given.contact or ()),
        ("event", terms.event),
        ("event time", given.event_time),
        ("model", result.model),
        *(("accuracy of the model", f"{entry.name}: {entry.text}") for entry in result.quality),
        ("accuracy", unstated(result)),
        ("images", result.domain and f"The images are {result.domain}"),
        *(("warning", text) for text in result.warnings),
    ]
    rows: list[dict[str, object]] = [{"topic": topic, "text": text} for topic, text in facts if text]
    for one in result.measured:
        low, high = one.interval or (None, None)
        text = f"{one.name}, {one.of}"
        rows.append({"topic": "accuracy", "text": text, "value": one.value, "low_95": low, "high_95": high, "n": one.count})
    write_table(path, FIELDS, [{name: row.get(name, "") for name in FIELDS} for row in rows])
