"""The reports of an output folder, ``run.json`` and the summary beside it, as far as a delivery quotes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from geoseg.addresses import opens_elsewhere
from geoseg.documents import LARGE, read_json
from geoseg.errors import ConfigError
from geoseg.formats.text import clean
from geoseg.redaction import sanitized
from pipeline.files.run_folder import REPORT

__all__ = ["Figures", "Image", "Reports"]


class DateEntry(TypedDict, total=False):
    """A source image in a report."""

    acquired: str | None
    source: str | list[str]


class MemberEntry(TypedDict, total=False):
    """A model of an ensemble in a report, or the only one."""

    path: str


class ModelEntry(TypedDict, total=False):
    """A model in a report."""

    name: str
    version: str
    sha256: str
    members: list[MemberEntry]


class DomainEntry(TypedDict):
    """Distance of the images from the training of a model, in a report."""

    model: str
    distance: float | None
    limit: float
    far: bool


class RegistrationEntry(TypedDict):
    """Offset of a date from the first one, in a report."""

    rows: float
    cols: float
    consistent: bool


class Figures(TypedDict, total=False):
    """Figures of graded buildings, of a run or an evaluation, as far as a delivery quotes them."""

    buildings: int
    labels: int
    folds: int
    accuracy: float
    macro_f1: float
    macro_f1_95: Sequence[float] | None


class EventEntry(TypedDict, total=False):
    """The model of an event in a report."""

    cross_validated: Figures | None


class Report(DateEntry, total=False):
    """A report: ``run.json``, ``changes.json`` or ``damage.json``; fields that are not quoted are left out."""

    dates: list[DateEntry] | None
    changes: dict[str, object] | None
    registration: list[RegistrationEntry] | None
    model: str | ModelEntry | None
    finished: str | None
    produced: str | None
    warnings: list[str] | None
    domain: list[DomainEntry] | None
    event_model: EventEntry | None
    scenes: list[DateEntry] | None
    """Of a mosaic."""


@dataclass(frozen=True, slots=True)
class Image:
    """A source image."""

    path: str
    acquired: str | None
    """ISO 8601."""
    sensor: str | None = None
    """None where it is not known."""
    provider: str | None = None

    def __post_init__(self) -> None:
        """Refuse what a result of a stranger would have opened in its place."""
        if (why := opens_elsewhere(self.path)) is not None and not Path(self.path).is_file():
            raise ConfigError(f"source: {self.path}: {why}; the report of the result was not written by geoseg")

    @property
    def name(self) -> str:
        """Its file's name."""
        return clean(Path(self.path).name)

    @property
    def told(self) -> str:
        """Its name, time, sensor and provider."""
        return ", ".join(filter(None, (self.name, self.acquired or "date unknown", self.sensor, self.provider)))


@dataclass(frozen=True, slots=True)
class Reports:
    """Facts of a folder; where both reports have one, that of the summary counts."""

    summary: Report
    run: Report

    @classmethod
    def read(cls, folder: Path, summary: str) -> Reports:
        """Read both; one that is not there says nothing.

        Raises:
            ConfigError: One can't be read.
        """
        return cls(_read(folder / summary), _read(folder / REPORT))

    @property
    def images(self) -> tuple[Image, ...]:
        """The source images, by date.

        Raises:
            ConfigError: One is an address that would be opened in place of a file.
        """
        for report in (self.summary, self.run):
            sources = [(_paths(entry), entry.get("acquired")) for entry in report.get("dates") or []]
            if any(paths for paths, _ in sources):
                return tuple(Image(paths[0], acquired) for paths, acquired in sources if paths)
        for report in (self.summary, self.run):
            if paths := _paths(report):
                return (Image(paths[0], report.get("acquired")),)
        return ()

    @property
    def offset(self) -> str:
        """How far the last date lies off the first; empty where that is not told."""
        every = self.summary.get("registration") or []
        if not every:
            return ""
        last = every[-1]
        if not last["consistent"]:
            return "offset from the first not measurable"
        return f"{math.hypot(last['rows'], last['cols']):.2f} px off the first"

    @property
    def observed(self) -> tuple[int, ...] | None:
        """Codes of changes; None where the run compared no dates."""
        changes = self.run.get("changes")
        return tuple(sorted(int(code) for code in changes)) if changes else None

    @property
    def model(self) -> str:
        """Name, version and sha256; empty where no report has them."""
        said = self.summary.get("model") or self.run.get("model")
        if not said:
            return ""
        if isinstance(said, str):
            return said
        name = " ".join(str(part) for part in (said.get("name"), said.get("version")) if part)
        return f"{name}, sha256 {said['sha256']}" if said.get("sha256") else name

    @property
    def model_folders(self) -> tuple[Path, ...]:
        """Folders of the models on this machine."""
        said = self.run.get("model") or self.summary.get("model")
        members = said.get("members", []) if isinstance(said, dict) else []
        paths = [str(one.get("path", "")) for one in members]
        return tuple(Path(path) for path in paths if path and opens_elsewhere(path) is None)

    @property
    def finished(self) -> str | None:
        """Time at which the result was made, ISO 8601."""
        return self.run.get("finished") or self.summary.get("finished") or self.summary.get("produced")

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings of both, without the folders of the machine that made them."""
        texts = [str(text) for report in (self.summary, self.run) for text in report.get("warnings") or ()]
        if len(scenes := self.run.get("scenes") or ()) > 1:
            dates = sorted({one.get("acquired") or "date unknown" for one in scenes})
            span = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
            texts.append(
                f"a mosaic of {len(scenes)} scenes ({span}): the sources name one of them; run.json of the map lists all"
            )
        for path, name in {image.path: image.name for image in self.images}.items():
            texts = [text.replace(path, name) for text in texts]
        return tuple(dict.fromkeys(" ".join(sanitized(text).split()) for text in texts))

    @property
    def domain(self) -> str | None:
        """The largest distance from the training of a model, in words; None where it was not measured."""
        checks = [
            (check["far"], distance, check)
            for check in self.run.get("domain") or ()
            if (distance := check.get("distance")) is not None
        ]
        if not checks:
            return None
        far, distance, worst = max(checks, key=lambda check: check[:2])
        return (
            f"{'far from' if far else 'like'} the training of {worst['model']} (distance {distance:g}, up to "
            f"{worst['limit']:g} is usual)"
        )


def _read(path: Path) -> Report:
    if not path.is_file():
        return {}
    try:
        found: Report | list[object] | str | float | None = read_json(path, limit=LARGE)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: can't be read: {error}; run again with --overwrite") from error
    return found if isinstance(found, dict) else {}


def _paths(entry: DateEntry) -> list[str]:
    source = entry.get("source") or []
    return [str(path) for path in ([source] if isinstance(source, str) else source)]
