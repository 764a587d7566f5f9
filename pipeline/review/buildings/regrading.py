"""What people decided, played on graded buildings: in the order of the log, the last decision on a building counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import shapely

from geoseg.codes import NOT_ANALYSED
from geoseg.crs import between
from pipeline.damage.buildings import Building
from pipeline.damage.document import GradedBuilding
from pipeline.review.buildings.graded_file import GradedFile
from pipeline.review.decisions import Entry, Key, shape_of
from pipeline.review.replay import LONLAT, Reviewed
from pipeline.review.reviewed_units import DRAWN_TWICE, NO_BUILDING
from pipeline.review.standing import Standing
from pipeline.review.subject import ReviewedPolygon, Subject

__all__ = ["Decided", "Overlap", "Regraded", "regrade"]

GONE = (NO_BUILDING, DRAWN_TWICE)
OVERLAP_SHARE = 1e-6
"""Of the smaller of two buildings: what they have in common beyond it is told."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two buildings that share ground since one of them was drawn."""

    drawn: int
    other: int
    area_m2: float


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision, and what it made of a building."""

    entry: Entry
    number: int
    """The id of the building."""
    before: int | None
    """Class that the version had of which was spoken; None of what was added."""
    after: int | None
    """None of what is no building."""


@dataclass(frozen=True, slots=True, eq=False)
class Regraded:
    """The buildings of a version."""

    buildings: list[GradedBuilding]
    """By id."""
    reviewed: Reviewed
    decided: tuple[Decided, ...]
    """In the order of the log."""
    removed: tuple[int, ...]
    """Ids of what is no building."""
    overlaps: tuple[Overlap, ...]


def regrade(subject: Subject, run: GradedFile, standing: Standing) -> Regraded:
    """Play what stands of a log on the buildings of a run.

    Ids live on; what was added is numbered on from the last id of the run, in the order of the log.

    Args:
        subject: The result.
        run: Its buildings.
        standing: What stands of its log.

    Raises:
        ConfigError: The log speaks of a building or a version that is not there.
    """
    found = Reviewed.of(standing)
    now: dict[int, GradedBuilding] = {one.building.number: one for one in run.buildings}
    last, gone, decided, drawn = max(now, default=0), set[int](), list[Decided](), set[int]()
    spoken = _spoken_of(subject, run, standing)
    for _, number, entry in _in_order(standing, last):
        before = None if entry.key is None else spoken[entry.key]
        after = _decided(before, number, entry, run)
        gone.discard(number)
        drawn.discard(number)
        if after is None:
            gone.add(number)
        else:
            now[number] = after
            drawn |= {number} if entry.geometry is not None else set()
        decided.append(Decided(entry, number, None if before is None else before.code, None if after is None else after.code))
        if before is not None:
            about = ReviewedPolygon(number, 0, before.code, before.title, before.area_m2, before.confidence)
            found.of_class(before.code).add(about, entry, gone=after is None)
    kept = [now[number] for number in sorted(now) if number not in gone]
    return Regraded(kept, found, tuple(decided), tuple(sorted(gone)), tuple(_overlaps(kept, drawn, run)))


def _in_order(standing: Standing, last: int) -> list[tuple[int, int, Entry]]:
    """Place in the log, id and decision of all that stands."""
    stood = [(one.number, key[1], one.decided) for key, one in standing.polygons.items() if one.decided is not None]
    added = [(number, last + place, entry) for place, (number, entry) in enumerate(standing.added, 1)]
    return sorted([*stood, *added], key=lambda one: one[0])


def _spoken_of(subject: Subject, run: GradedFile, standing: Standing) -> dict[Key, GradedBuilding]:
    """The buildings that were decided on, as the version has them of which was spoken."""
    found: dict[Key, GradedBuilding] = {}
    wanted = set(standing.decided)
    for version in sorted({key[0] for key in wanted}):
        file = run if version == 0 else GradedFile.read(subject.polygons(version).path.parent)
        rows = ((version, one.building.number, 0) for one in file.buildings)
        found |= {key: one for key, one in zip(rows, file.buildings, strict=True) if key in wanted}
    if lacking := wanted - set(found):
        raise subject.gone(lacking)
    return found


def _decided(before: GradedBuilding | None, number: int, entry: Entry, run: GradedFile) -> GradedBuilding | None:
    """What a decision makes of a building; None where it is none."""
    if entry.geometry is not None:
        assert entry.code is not None
        shape = _drawn(entry, run)
        name = str(number) if before is None else before.building.name
        labelled = None if not run.buildings or run.buildings[0].labelled is None else False
        building = Building(number, name, shape, shape, {})
        word = "add" if before is None else "redraw"
        return GradedBuilding(building, run.area_of(shape), entry.code, None, None, None, labelled, word)
    assert before is not None
    if entry.action == "reject":
        if (entry.reason or "").strip() in GONE:
            return None
        return replace(before, code=NOT_ANALYSED, reason=entry.reason, confidence=None, probability=None, review="reject")
    if entry.action == "class" and entry.code not in (None, before.code):
        assert entry.code is not None
        return replace(before, code=entry.code, reason=None, confidence=None, probability=None, review="class")
    return replace(before, review="accept")


def _drawn(entry: Entry, run: GradedFile) -> shapely.Geometry:
    assert entry.geometry is not None
    move = between(LONLAT, run.crs)
    return shapely.transform(shape_of(entry.geometry), lambda xy: np.stack(move.transform(xy[:, 0], xy[:, 1]), axis=1))


def _overlaps(kept: list[GradedBuilding], drawn: set[int], run: GradedFile) -> Iterator[Overlap]:
    """Pairs of a drawn building and another one that share ground."""
    shapes = np.array([one.building.geometry for one in kept], object)
    which = np.array([k for k, one in enumerate(kept) if one.building.number in drawn], np.int64)
    if not len(which):
        return
    mine, other = shapely.STRtree(shapes).query(shapes[which], predicate="intersects")
    pairs = {(min(a, b), max(a, b)): (a, b) for a, b in zip(which[mine].tolist(), other.tolist(), strict=True) if a != b}
    for a, b in sorted(pairs.values()):
        common = shapely.intersection(shapely.make_valid(shapes[a]), shapely.make_valid(shapes[b]))
        if common.area > OVERLAP_SHARE * min(shapes[a].area, shapes[b].area):
            yield Overlap(kept[a].building.number, kept[b].building.number, run.area_of(common))
