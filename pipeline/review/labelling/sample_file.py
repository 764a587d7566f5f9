"""A sample of buildings whose units are labelled in the browser: each label goes into the sample's own file."""

from __future__ import annotations

import shlex
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from geoseg.damage.scale import CLASSES
from geoseg.documents import Json
from geoseg.errors import ConfigError, OutputError
from pipeline.review.decisions import Entry
from pipeline.review.labelling.label_desk import Labels
from pipeline.review.review_log import ReviewLog
from pipeline.review.subject import Subject
from pipeline.sample.building_sample import is_of_buildings, read_building_sample
from pipeline.sample.buildings_frame import open_buildings
from pipeline.sample.file import LAYER, UNSURE
from pipeline.sample.unit_tables import fill_in

__all__ = ["SampleFile"]


@dataclass(frozen=True, slots=True, eq=False)
class SampleFile:
    """A sample of the buildings of a result."""

    subject: Subject
    path: Path
    digest: str
    """Of its design."""
    units: tuple[int, ...]
    """In their order, which is random."""
    given: Labels
    """What was filled in when it was opened."""
    written: Labels
    """What is filled in as far as is known here: others stay as somebody may have changed them meanwhile."""
    noted: dict[int, str]
    """Comments of the log that have been notes of the file."""

    @classmethod
    def of(cls, subject: Subject, path: Path) -> SampleFile:
        """Read a sample.

        Raises:
            ConfigError: It is none of these buildings, or was changed beyond its labels.
        """
        if not is_of_buildings(path):
            raise ConfigError(
                f"{path}: is a sample of pixels or blocks; in the browser those of buildings are labelled: use QGIS"
            )
        design, columns = read_building_sample(path)
        frame = open_buildings(subject.folder / subject.units.known_by)
        if frame.frame_sha256 != design.facts["frame_sha256"]:
            raise ConfigError(
                f"{path}: was drawn from {design.facts['map']}, and {subject.folder} has graded other buildings; give the result "
                "that it was drawn from"
            )
        codes = {name: code for code, name in enumerate(CLASSES)} | {UNSURE: None}
        told = [str(text).strip() for text in columns["reference"]]
        units = tuple(range(1, len(told) + 1))
        given = {unit: codes[text] for unit, text in zip(units, told, strict=True) if text in codes}
        filled = {unit for unit, note in zip(units, columns.get("note", ()), strict=False) if note is not None}
        comments = _comments(ReviewLog.read(_log_of(path), design.digest).entries)
        noted = {unit: text for unit, text in comments.items() if unit in filled}
        return cls(subject, path, design.digest, units, given, dict(given), noted)

    @property
    def log(self) -> Path:
        """Who labelled what, beside the sample."""
        return _log_of(self.path)

    @property
    def asked(self) -> Sequence[int] | None:
        """All units in their order."""
        return self.units

    @property
    def outranks_log(self) -> bool:
        """Yes: what somebody has changed in QGIS stays."""
        return True

    def known(self) -> Labels:
        """What is filled in already, in QGIS or earlier."""
        return dict(self.given)

    def write(self, labels: Labels, entries: Sequence[Entry]) -> None:
        """Fill in the labels and comments that are new; of several comments on a unit the last one is its note."""
        new = {unit: code for unit, code in labels.items() if (unit, code) not in self.written.items()}
        told = _comments(entries)
        notes = {unit: text for unit, text in told.items() if unit in new or (unit, text) not in self.noted.items()}
        rows = [
            (None if unit not in new else UNSURE if (code := new[unit]) is None else CLASSES[code], notes.get(unit), unit)
            for unit in sorted(new.keys() | notes.keys())
        ]
        try:
            fill_in(self.path, LAYER, rows)
        except sqlite3.Error as error:
            raise OutputError(f"{self.path}: can't be written: {error}; the label is in {self.log.name}") from error
        self.written.update(new)
        self.noted.update(notes)

    def told(self) -> dict[str, Json]:
        """The sample and the command that estimates from it."""
        command = ["geoseg", "area", "--map", str(self.subject.folder), "--sample", str(self.path)]
        return {"file": str(self.path), "suggested": True, "command": shlex.join(command), "next": "when all are labelled:"}


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.log.jsonl")


def _comments(entries: Sequence[Entry]) -> dict[int, str]:
    """The last comment on each unit."""
    return {entry.polygon: entry.comment for entry in entries if entry.polygon is not None and entry.comment}
