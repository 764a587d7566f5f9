"""Labels of some buildings of an event as the file that ``geoseg damage --labels`` takes, beside the reviews of its result."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely

from geoseg.damage.scale import CLASSES
from geoseg.documents import LARGE, Json, read_json
from geoseg.errors import ConfigError
from geoseg.vectors.polygon_file import PolygonFile
from pipeline.damage.document import DamageDocument
from pipeline.damage.event import LABEL_NEXT
from pipeline.damage.event_labels import class_named
from pipeline.damage.files import write_labels
from pipeline.damage.settings import SUGGESTIONS, TRUTH_COLUMN
from pipeline.review.buildings.graded_file import GradedFile
from pipeline.review.decisions import Entry
from pipeline.review.labelling.label_desk import Labels
from pipeline.review.subject import Subject

__all__ = ["EventFile"]

LABELS_FILE = "labels.gpkg"
OTHERS = ("name", "rank", "guess")
"""Columns of what is to be labelled next, beside that of the classes."""


@dataclass(frozen=True, slots=True, eq=False)
class EventFile:
    """The labels of an event in a file of their own, with those that its result was made with."""

    subject: Subject
    graded: GradedFile
    column: str
    """That of the classes."""
    suggested: tuple[int, ...] | None
    """Buildings to label next by id; None where the result names none."""
    given: Mapping[int, int]
    """Labels that the result was made with, by id."""

    @classmethod
    def of(cls, subject: Subject) -> EventFile:
        """Of a result, with what it says of labels.

        Raises:
            ConfigError: Its files can't be read, or a label is no class of the scale.
        """
        graded, path = GradedFile.read(subject.scene), subject.scene / LABEL_NEXT
        if not path.is_file():
            return cls(subject, graded, TRUTH_COLUMN, None, {})
        file = PolygonFile.open(path)
        column = next((name for name in file.fields if name not in OTHERS), TRUTH_COLUMN)
        if missing := {"name", "rank", column} - {*file.fields}:
            raise ConfigError(f"{path}: has no column {min(missing)!r}; put it back, or grade again")
        ids = {_key(one.building.name, one.building.geometry): one.building.number for one in graded.buildings}
        ranks: list[tuple[int, int]] = []
        given: dict[int, int] = {}
        row = 0
        for geometries, values in file.batches(file.fields):
            for k, shape in enumerate(geometries):
                number = ids.get(_key(str(values["name"][k]), shape))
                if number is None:
                    raise ConfigError(f"{path}: building {values['name'][k]} is none of the result beside it; grade again")
                row += 1
                code = class_named(values[column][k], f"{path}: row {row}, building {values['name'][k]}")
                if code is not None:
                    given[number] = code
                elif rank := _rank(values["rank"][k], path):
                    ranks.append((rank, number))
        return cls(subject, graded, column, tuple(number for _, number in sorted(ranks)), given)

    @property
    def path(self) -> Path:
        """The file."""
        return self.subject.reviews / LABELS_FILE

    @property
    def asked(self) -> Sequence[int] | None:
        """What the result suggests to label next."""
        return self.suggested

    @property
    def outranks_log(self) -> bool:
        """No: what the result was made with is older."""
        return False

    def known(self) -> Labels:
        """Labels that the result was made with."""
        return dict(self.given)

    def write(self, labels: Labels, entries: Sequence[Entry]) -> None:
        """Write all labels, with who gave them; what can't be told is left out."""
        buildings = {one.building.number: one.building for one in self.graded.buildings}
        said = {entry.polygon: entry for entry in entries if entry.decides}
        numbers = sorted(number for number, code in labels.items() if code is not None)
        columns = {
            "id": np.array(numbers, np.int64),
            "name": np.array([buildings[number].name for number in numbers], object),
            self.column: np.array([CLASSES[labels[number] or 0] for number in numbers], object),
            "labelled_by": np.array([said[number].by if number in said else None for number in numbers], object),
            "labelled_at": np.array([said[number].at if number in said else None for number in numbers], object),
        }
        write_labels(self.path, "labels", [buildings[number] for number in numbers], columns, self.graded.crs)

    def told(self) -> dict[str, Json]:
        """The file and the command that learns from it."""
        return {
            "file": str(self.path),
            "suggested": self.suggested is not None,
            "command": self.command(),
            "next": "then learn from them; other options of the first run go with it:",
        }

    def command(self) -> str:
        """The command that grades again, with these labels."""
        summary: DamageDocument = read_json(self.subject.scene / "damage.json", ConfigError, limit=LARGE)
        fetched = summary.get("footprints_from")
        given = ["--footprints", summary["footprints"] if fetched is None else fetched["source"], "--labels", str(self.path)]
        given += [] if self.column == TRUTH_COLUMN else ["--label-column", self.column]
        if self.suggested is not None and len(self.suggested) != SUGGESTIONS:
            given += ["--label-next", str(len(self.suggested))]
        images = [",".join(date["source"]) for date in summary["dates"]]
        return shlex.join(["geoseg", "damage", *images, *given, "--out", str(self.subject.scene.parent)])


def _rank(value: object, path: Path) -> int:
    """A place among what is to be labelled; 0 for none."""
    try:
        return 0 if value is None or value != value else int(float(str(value)))  # noqa: PLR0124 - not a number
    except ValueError as error:
        raise ConfigError(f"{path}: rank {value!r} is no whole number; put it back, or grade again") from error


def _key(name: str, shape: shapely.Geometry | None) -> tuple[str, bytes]:
    """What a building is known by in both files, of which one may hold polygons and the other collections of one."""
    parts = [] if shape is None else shapely.get_parts(shape).tolist()
    return name, shapely.to_wkb(shapely.MultiPolygon(parts))
