"""Import: what people decided in a work file becomes lines of the log: only what is new, and conflicts are told."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyproj
import shapely

from geoseg.codes import MAX_CLASS
from geoseg.crs import between
from geoseg.documents import Json, parse_json
from geoseg.errors import ConfigError
from geoseg.vectors.opening import connect_read_only
from geoseg.vectors.polygon_file import PolygonFile
from geoseg.vectors.reprojecting import reprojected
from pipeline.review.decisions import Decision, check_reviewer, shape_of
from pipeline.review.place import place_of
from pipeline.review.qgis.qgis_form import DECISIONS
from pipeline.review.qgis.work_file import FACTS, LAYER
from pipeline.review.replay import LONLAT
from pipeline.review.review_log import ReviewLog
from pipeline.review.standing import Standing, standing_of
from pipeline.review.subject import Subject, polygons_in

__all__ = ["Imported", "import_work"]

COLUMNS = ("id", "part", "code", "decision", "class", "rest", "reason", "comment", "reviewer")
ACTIONS = {text: action for action, text in DECISIONS.items()}
MOVED_SHARE = 1e-6
"""Of a polygon's area: what differs by more was redrawn."""
DECIMALS = 9
"""Of degrees: a tenth of a millimetre."""


@dataclass(slots=True)
class Imported:
    """What came of an import."""

    recorded: int = 0
    same: int = 0
    """Polygons of which the log says the same already."""
    undecided: int = 0
    conflicts: list[str] = field(default_factory=list)
    """Sentences on polygons that somebody has decided otherwise since the file was written, and on which this file counts now."""
    emptied: list[int] = field(default_factory=list)
    """Ids of polygons that have no outline any more and are not rejected: an emptied outline decides nothing."""
    deleted: int = 0
    """Polygons of the map that the file does not hold: a deleted row decides nothing."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A feature of a work file."""

    shape: shapely.Geometry | None
    values: Mapping[str, object]
    number: int

    def text(self, name: str) -> str | None:
        value = self.values.get(name)
        text = "" if value is None or (isinstance(value, float) and math.isnan(value)) else str(value).strip()
        return text or None

    def whole(self, name: str) -> int | None:
        text = self.text(name)
        return None if text is None else int(float(text))


def import_work(path: Path, folder: Path, name: str) -> Imported:
    """Add the decisions of a work file to the log of the map that it was made of.

    Args:
        path: The work file.
        folder: The folder of the scene.
        name: Who reviewed, where the file does not say.

    Raises:
        ConfigError: It is no work file of this map, or a row says what can't be; nothing is recorded then.
        OutputError: The log can't be written.
    """
    facts = _facts(path)
    subject = Subject.open(folder)
    if facts.get("run") != subject.document().get("digest"):
        raise ConfigError(
            f"{path}: was made of another map (scene {facts.get('scene')}) than {subject.scene} holds; import into the folder "
            "that it was exported from"
        )
    version, known_then = int(str(facts["version"])), int(str(facts["decisions"]))
    subject = Subject(subject.scene, version, subject.record, subject.units)
    log = ReviewLog.read(subject.log, subject.run_id)
    standing, then = standing_of(log.entries), standing_of(log.entries[:known_then])
    own, place = subject.own_codes, place_of(subject)
    found, waiting = Imported(), dict[str, list[Decision]]()
    for row, original in _changed_rows(path, subject, found):
        decision = _decision(row, original, version, path, facts)
        number = row.whole("id")
        if number is not None and _is_empty(row.shape) and (decision is None or decision.action != "reject"):
            found.emptied.append(number)
        if decision is None:
            found.undecided += 1
            continue
        try:
            subject.units.check_class(decision, own)
            if place is not None:
                place.check(decision)
        except ConfigError as error:
            raise ConfigError(f"{path}: feature {row.number}: {error}") from error
        by = check_reviewer(row.text("reviewer") or name)
        if _says_so(then, decision) or _says_so(standing, decision):
            found.same += 1
            continue
        if (conflict := _conflict(standing, then, decision)) is not None:
            found.conflicts.append(conflict)
        waiting.setdefault(by, []).append(decision)
    for by, decisions in sorted(waiting.items()):
        found.recorded += len(log.append(decisions, by, via=path.name))
    return found


def _facts(path: Path) -> dict[str, Json]:
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    try:
        with closing(connect_read_only(path)) as connection:
            told = connection.execute(f"SELECT key, value FROM {FACTS}")  # noqa: S608 - a name of ours
            facts: dict[str, Json] = {key: parse_json(value, f"{path}: {key}") for key, value in told}
    except (sqlite3.DatabaseError, ValueError) as error:
        raise ConfigError(f"{path}: is no file of geoseg review export: it has no table {FACTS}") from error
    if not {"run", "version", "decisions", "classes"} <= facts.keys():
        raise ConfigError(f"{path}: its table {FACTS} was changed; export again, and copy the columns over")
    return facts


def _changed_rows(path: Path, subject: Subject, found: Imported) -> Iterator[tuple[_Row, shapely.Geometry | None]]:
    """The features of a work file in the CRS of the polygons, each with the polygon that it was, if its border is another now.

    What somebody has added has no id, and is its own.
    """
    file, origin = PolygonFile.open(path, layer=LAYER), subject.polygons()
    if missing := [name for name in COLUMNS if name not in file.fields]:
        raise ConfigError(f"{path}: has no column {missing[0]!r} any more; export again, and copy the others over")
    assert origin.crs is not None
    rows: dict[tuple[int, int], _Row] = {}
    count = 0
    for geometries, values in file.batches(COLUMNS):
        shapes = reprojected(geometries, file.crs, origin.crs)
        for i, shape in enumerate(shapes):
            count += 1
            row = _Row(shape, {key: column[i] for key, column in values.items()}, count)
            number = row.whole("id")
            if number is None:
                yield row, shape
                continue
            key = number, row.whole("part") or 0
            if key in rows:
                raise ConfigError(f"{path}: polygon {number} is there twice; of a split one, leave out the id of the new part")
            rows[key] = row
    for geometries, polygons in polygons_in(origin):
        for shape, one in zip(geometries, polygons, strict=True):
            known = rows.pop((one.id, one.part), None)
            if known is None:
                found.deleted += 1
            else:
                yield known, shape if _moved(shape, known.shape) else None
    if rows:
        raise ConfigError(f"{path}: polygon {next(iter(rows))[0]} is none of the map; leave out the id of what you have added")


def _is_empty(shape: shapely.Geometry | None) -> bool:
    return shape is None or bool(shape.is_empty)


def _moved(before: shapely.Geometry, after: shapely.Geometry | None) -> bool:
    if after is None or after.is_empty:
        return False
    if shapely.equals_exact(shapely.normalize(shapely.multipolygons([before])), shapely.normalize(after), 1e-9):
        return False
    return bool(shapely.symmetric_difference(before, shapely.make_valid(after)).area > MOVED_SHARE * before.area)


def _decision(
    row: _Row, original: shapely.Geometry | None, version: int, path: Path, facts: Mapping[str, Json]
) -> Decision | None:
    number = row.whole("id")
    said, redrawn = row.text("decision"), original is not None
    action = ACTIONS.get(said or "")
    where = f"{path}: feature {row.number}{'' if number is None else f', polygon {number}'}"
    if said is not None and action is None:
        raise ConfigError(f"{where}: decision {said!r} is none of {', '.join(ACTIONS)}")
    comment = row.text("comment")
    if redrawn and action not in (None, "redraw", "class", "accept"):
        raise ConfigError(f"{where}: has another border, and the decision {said!r}; undo one of the two")
    if redrawn:
        action = "redraw"
    if action is None:
        action = None if comment is None else "comment"
    if action is None:
        return None
    document: dict[str, object] = {"action": action, "version": version, "comment": comment}
    document |= {"polygon": number, "part": row.whole("part") or 0}
    if action in ("class", "reject", "redraw"):
        document["class"] = _code(row.text("class"), facts, where)
    if action == "redraw":
        if document["class"] is None:
            document["class"] = row.whole("code")
        document["rest"] = _code(row.text("rest"), facts, where)
        document["geometry"] = _lonlat(row.shape, path) if redrawn else None
    if action == "reject":
        document["reason"] = row.text("reason")
    try:
        return Decision.parse({key: value for key, value in document.items() if value is not None})
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _code(name: str | None, facts: Mapping[str, Json], where: str) -> int | None:
    if name is None:
        return None
    classes = facts["classes"]
    assert isinstance(classes, Mapping)
    for code, known in classes.items():
        if known == name and int(code) <= MAX_CLASS:
            return int(code)
    raise ConfigError(f"{where}: class {name!r} is none of {', '.join(map(str, classes.values()))}")


def _lonlat(shape: shapely.Geometry, path: Path) -> Mapping[str, object]:
    crs = PolygonFile.open(path, layer=LAYER).crs
    assert isinstance(crs, pyproj.CRS)
    move = between(crs, LONLAT)
    moved = shapely.transform(shape, lambda xy: np.stack(move.transform(xy[:, 0], xy[:, 1]), axis=1).round(DECIMALS))
    parts = [part for part in shapely.get_parts(moved) if not part.is_empty]
    one = shapely.orient_polygons(parts[0] if len(parts) == 1 else shapely.MultiPolygon(parts))
    found: Mapping[str, object] = parse_json(shapely.to_geojson(one), str(path))
    return found


def _says_so(standing: Standing, decision: Decision) -> bool:
    """Whether that stands already."""
    key = decision.key
    if key is None:
        return any(_alike(entry, decision) for _, entry in standing.added)
    stood = standing.polygons.get(key)
    if stood is None:
        return False
    heard = decision.comment is None or any(entry.comment == decision.comment for entry in stood.comments)
    if decision.action == "comment":
        return heard
    if decision.action == "second":
        return heard and stood.asked_by is not None
    return heard and stood.asked_by is None and stood.decided is not None and _alike(stood.decided, decision)


def _alike(one: Decision, other: Decision) -> bool:
    if (one.action, one.code, one.rest) != (other.action, other.code, other.rest):
        return False
    if one.geometry is None or other.geometry is None:
        return one.geometry is other.geometry
    first, second = shape_of(one.geometry), shape_of(other.geometry)
    return bool(shapely.symmetric_difference(first, second).area <= MOVED_SHARE * first.area)


def _conflict(standing: Standing, then: Standing, decision: Decision) -> str | None:
    """A sentence, where somebody has decided since the file was written."""
    key = decision.key
    now = None if key is None else standing.polygons.get(key)
    if key is None or now is None or now.decided is None or not decision.decides:
        return None
    before = then.polygons.get(key)
    if before is not None and before.number == now.number:
        return None
    by, action = now.decided.by, now.decided.action
    return f"polygon {key[1]}: {by} has decided {action} since the file was written; {decision.action} counts now"
