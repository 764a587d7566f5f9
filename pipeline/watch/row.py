"""The row of a scene in the ledger, and what it is made from where the ledger is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from geoseg.documents import parse_json
from pipeline.files.index import IndexEntry
from pipeline.files.reports import reports_below

__all__ = ["COLUMNS", "Row", "entries_of", "is_row", "rows_of_reports"]


@dataclass(frozen=True, slots=True)
class Row:
    """The state of a scene."""

    name: str
    version: str
    """State of its files at the source: sizes and times, or ETags."""
    key: str
    """sha256 of the model and the settings that it is mapped with."""
    seen: float
    """When it was first seen in this version, in seconds since 1970."""
    status: str
    """``seen``, ``started``, ``done``, ``partial``, ``failed``, ``waiting`` (for what may pass) or ``quarantined``."""
    attempts: int = 0
    """Times that it was begun since it last succeeded or changed, and failed by its own fault."""
    entry: str | None = None
    """Its entry of ``index.json``."""
    delays: int = 0
    """Times in a row that it failed by what may pass."""
    retry_at: float | None = None
    """When it is tried again, or may be repaired again, in seconds since 1970."""
    files: str | None = None
    """Sizes and times of its published files when it was done, as JSON."""
    repairs: int = 0
    """Times in a short while that published files were made anew."""
    holder: str | None = None
    """The process that began it."""

    @property
    def facts(self) -> IndexEntry:
        """Its entry of ``index.json``, empty where there is none that can be read."""
        entry: IndexEntry = _object(self.entry)
        return entry

    @property
    def noted(self) -> Mapping[str, object] | None:
        """Size and time of change in nanoseconds of its published files by name; None where they were not noted."""
        return None if self.files is None else _object(self.files)


COLUMNS = tuple(field.name for field in fields(Row))
TYPES: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("name", "version", "key", "status"), (str,)),
    **dict.fromkeys(("entry", "files", "holder"), (str, type(None))),
    "seen": (float, int),
    "retry_at": (float, int, type(None)),
    **dict.fromkeys(("attempts", "delays", "repairs"), (int,)),
}


def is_row(values: Sequence[object]) -> bool:
    """Whether values are those of a row, by their types."""
    return all(isinstance(value, TYPES[name]) for name, value in zip(COLUMNS, values, strict=True))


def entries_of(rows: Mapping[str, Row]) -> Iterator[IndexEntry]:
    """The entries of ``index.json``, in the order of their names."""
    for name in sorted(rows):
        if facts := rows[name].facts:
            yield facts


def rows_of_reports(folder: Path) -> Iterator[Row]:
    """A row for each scene that has a report. What state of the source it is of stands in none, so that each is compared."""
    for name, record in reports_below(folder):
        if not record.status:
            continue
        entry: IndexEntry = {
            "scene": name,
            "status": record.status,
            "reason": record.reason,
            "outputs": [f"{name}/{output}" for output in record.outputs],
            "seconds": round(record.whole_s, 3),
            "warnings": list(record.warnings),
        }
        yield Row(name, "", "", 0.0, "seen", entry=json.dumps(entry, ensure_ascii=False))


def _object(text: str | None) -> Any:
    """A JSON object; empty where a text is none."""
    if text is None:
        return {}
    try:
        found = parse_json(text, "a row")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
