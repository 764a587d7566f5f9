"""A version of graded buildings: all that people decided, in the files that a run writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from geoseg.damage.scale import STYLES
from geoseg.documents import LARGE, Json, read_json
from geoseg.errors import ConfigError
from geoseg.formats.text import write_table
from geoseg.vectors.polygon_file import PolygonFile
from pipeline.damage.document import DamageDocument, counted, counts_of
from pipeline.damage.files import write_buildings
from pipeline.damage.sums import summed_up
from pipeline.damage.zones import ZONE_FILES, count_by_zone
from pipeline.files.atomic import atomic_path, write_json
from pipeline.files.maps import first_file
from pipeline.files.version import code_version
from pipeline.publish.run_facts import PAGE
from pipeline.review.buildings.building_page import write_building_page
from pipeline.review.buildings.graded_file import GradedFile
from pipeline.review.buildings.regrading import Overlap, Regraded, regrade
from pipeline.review.review_log import ReviewLog
from pipeline.review.standing import standing_of
from pipeline.review.subject import Subject
from pipeline.review.version_record import NOT_AT_RANDOM, review_facts

__all__ = ["make_building_version"]

SUMMARY, DECISIONS = "damage.json", "decisions.csv"
OF_THE_RUN = ("scene", "dates", "model")
MEASURED = ("event_model", "files")
"""Of the summary of a run: what was measured of its own grades."""
TOLD = 20
"""Pairs that a warning and the record name."""


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """What a version is made of, and what came of it."""

    subject: Subject
    run: GradedFile
    now: Regraded

    @property
    def warnings(self) -> list[str]:
        """What a reader of the version is to mind, beside what the run says."""
        told = [NOT_AT_RANDOM]
        if pairs := self.now.overlaps:
            some = "; ".join(_told(one) for one in pairs[:TOLD])
            told.append(f"{len(pairs):,} pairs of buildings share ground since people drew one of them: {some}")
        return told


def make_building_version(
    subject: Subject, entries: ReviewLog, parent: int, identity: Mapping[str, object], folder: Path
) -> Mapping[str, object]:
    """Make all files of a version in a folder; returns its record but for the files.

    Args:
        subject: The result.
        entries: The log.
        parent: The version before.
        identity: What the files depend on.
        folder: Where to.

    Raises:
        ConfigError: The log speaks of a building that is not there, or the run's files can't be read.
    """
    run = GradedFile.read(subject.scene)
    made = Made(subject, run, regrade(subject, run, standing_of(entries.entries)))
    write_buildings(folder, made.now.buildings, run.crs, run.common)
    _write_decisions(folder / DECISIONS, made)
    review = _review(made, entries, parent)
    summary = _summary(made, folder, review)
    write_json(folder / SUMMARY, summary)
    write_building_page(folder, subject.record.scene, parent + 1, run, made.now, summary)
    record = subject.document()
    return {
        "geoseg": code_version(),
        **{key: record[key] for key in OF_THE_RUN if key in record},
        "status": record.get("status", "done"),
        "identity": dict(identity),
        "warnings": list(summary["warnings"]),
        "review": review,
        # Of the log, not of the clock: the same decisions make the same bytes.
        "finished": entries.last or record.get("finished"),
    }


def _summary(made: Made, folder: Path, review: dict[str, Json]) -> DamageDocument:
    """``damage.json`` of the version; counts by cell and zone are written on the way."""
    try:
        before: DamageDocument = read_json(made.subject.scene / SUMMARY, ConfigError, limit=LARGE)
    except OSError as error:
        raise ConfigError(
            f"{made.subject.scene / SUMMARY}: can't be read: {error.strerror}; grade the buildings again"
        ) from error
    kept = {key: value for key, value in before.items() if key not in MEASURED}
    summary = cast("DamageDocument", {**kept, **counted(made.now.buildings), "review": review})
    summary["warnings"] = [*before["warnings"], *made.warnings]
    if not made.now.buildings:
        # Cells and density are of buildings: where people have left none, there are none.
        summary.pop("grid", None)
    elif "grid" in before:
        summary["grid"] = summed_up(folder, before["grid"]["cell_m"])
    if (zones := first_file(made.subject.scene, ZONE_FILES[1:])) is not None:
        summary["zones"] = count_by_zone(folder, _as_given(zones), made.now.buildings, made.run.crs)
    summary["files"] = sorted([*(path.name for path in folder.iterdir()), SUMMARY, PAGE])
    return summary


def _as_given(path: Path) -> PolygonFile:
    """The zones of a run with the columns that they came with."""
    file = PolygonFile.open(path)
    ours = {"zone", *("_".join(name.split()) for name in counts_of(np.empty(0, np.int64)))}
    return replace(file, fields=tuple(name for name in file.fields if name not in ours))


def _review(made: Made, entries: ReviewLog, parent: int) -> dict[str, Json]:
    """The table ``review`` of the record."""
    now, names = made.now, {style.code: style.name for style in STYLES}
    total, changed = len(made.run.buildings), [one for one in now.decided if one.before != one.after]
    share = now.reviewed.polygons / total if total else 0.0
    before = Counter(one.code for one in made.run.buildings)
    after = Counter(one.code for one in now.buildings)
    return {
        **review_facts(made.subject, entries, parent, now.reviewed, names, share),
        "unit": "buildings",
        "changed_buildings": len({one.number for one in changed}),
        "removed": list(now.removed),
        "overlaps": [{"id": one.drawn, "with": one.other, "area_m2": one.area_m2} for one in now.overlaps],
        "differences": [
            {"code": code, "name": name, "buildings_before": before.get(code, 0), "buildings_after": after.get(code, 0)}
            for code, name in names.items()
        ],
    }


def _write_decisions(path: Path, made: Made) -> None:
    """A row for each decision that stands, in the order of the log."""
    names = {style.code: style.name for style in STYLES}
    rows: list[dict[str, str | float | None]] = [
        {
            "id": one.number,
            "version": one.entry.version,
            "decision": "add" if one.before is None else one.entry.action,
            "before": None if one.before is None else names[one.before],
            "after": "none" if one.after is None else names[one.after],
            "reason": one.entry.reason,
            "comment": one.entry.comment,
            "by": one.entry.by,
            "at": one.entry.at,
        }
        for one in made.now.decided
    ]
    with atomic_path(path) as part:
        write_table(part, ["id", "version", "decision", "before", "after", "reason", "comment", "by", "at"], rows)


def _told(one: Overlap) -> str:
    return f"{one.drawn} and {one.other} ({one.area_m2:g} m²)"
