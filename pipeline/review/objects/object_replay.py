"""What people decided, played on the objects of a map: masks in the order of the log, of which no two share a pixel."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from geoseg.arrays import I32, U8
from geoseg.codes import NODATA, NOT_ANALYSED
from geoseg.instances.masks import Masks
from geoseg.windows import Window
from pipeline.files.class_rasters import RasterFile
from pipeline.review.decisions import Entry, Key, shape_of
from pipeline.review.objects.object_masks import ObjectFacts, ObjectMasks, drawn_mask, facts_of, outline_in_pixels
from pipeline.review.replay import Reviewed
from pipeline.review.standing import Standing
from pipeline.review.subject import ReviewedPolygon, Subject, polygons_in

__all__ = ["Cut", "Edits", "ReplayedObjects", "replay_objects"]

NOTHING = -1
"""In a window of codes to write, where there is none."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A drawn object that did not become what was drawn."""

    id: int
    pixels: int
    """Pixels of the outline that it did not get."""
    others: tuple[int, ...]
    """Ids of the objects that keep some of them; the rest lay apart from its largest part."""
    empty: bool
    """Whether nothing was left of it."""


@dataclass(slots=True)
class Edits:
    """Masks that get a code, later ones over earlier ones."""

    masks: list[I32] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    drawn: list[bool] = field(default_factory=list)
    """Whether people have seen what the map had not analysed."""

    def add(self, runs: I32, code: int, *, drawn: bool = False) -> None:
        """Add a mask."""
        if len(runs):
            self.masks.append(runs)
            self.codes.append(code)
            self.drawn.append(drawn)

    def on(self, classes: U8, window: Window) -> U8:
        """Codes of a window with the edits; what was not analysed stays so until somebody has drawn over it."""
        every, drawn = Masks.of_runs(self.masks), np.array(self.drawn, np.bool_)
        boxes, free = every.boxes, (classes != NODATA) & (classes != NOT_ANALYSED)
        near = (boxes[:, 0] < window.row_stop) & (boxes[:, 1] > window.row_off)
        near &= (boxes[:, 2] < window.col_stop) & (boxes[:, 3] > window.col_off)
        which, found = np.flatnonzero(near), classes.copy()
        values = np.array(self.codes, np.int32)
        # Those in a row that may change the same pixels are painted together.
        for group in np.split(which, np.flatnonzero(np.diff(drawn[which])) + 1) if len(which) else ():
            codes = np.full(window.shape, NOTHING, np.int32)
            every.take(group).paint(codes, values[group], window.row_off, window.col_off)
            there = (codes != NOTHING) & (classes != NODATA)
            if drawn[group[0]]:
                free |= there
            there &= free
            found[there] = codes[there]
        return found


@dataclass(slots=True)
class ReplayedObjects:
    """The objects of a version, and what people changed."""

    masks: ObjectMasks
    facts: dict[int, ObjectFacts]
    """By number; objects of classes without polygons have none."""
    reviewed: Reviewed
    change: Edits = field(default_factory=Edits)
    said: Edits = field(default_factory=Edits)
    """Of what people said, also where the map said the same."""
    decided: set[int] = field(default_factory=set)
    """Numbers of the objects whose class or border is another one now."""
    removed: list[int] = field(default_factory=list)
    """Ids of those that are gone."""
    cuts: list[Cut] = field(default_factory=list)


def replay_objects(subject: Subject, standing: Standing, raster: RasterFile) -> ReplayedObjects:
    """Play what stands of a log on the objects of a run.

    Numbers and ids live on. What is drawn takes no pixel of another object: who is there keeps it, and that is told.

    Args:
        subject: The map.
        standing: What stands of its log.
        raster: Its classes.

    Raises:
        ConfigError: The log speaks of an object or a version that is not there.
    """
    masks = ObjectMasks.read(subject.scene / subject.units.known_by)
    now = ReplayedObjects(masks, facts_of(subject.polygons(0)), Reviewed.of(standing))
    last, ids = max(masks.runs, default=0), _ids_of(subject, standing)
    stood = [(one.number, one.decided, ids[key]) for key, one in standing.polygons.items() if one.decided is not None]
    added = [(number, entry, (last + place, None)) for place, (number, entry) in enumerate(standing.added, 1)]
    for _, entry, (number, polygon) in sorted([*stood, *added], key=lambda one: one[0]):
        if polygon is not None:
            now.reviewed.of_class(polygon.code).add(polygon, entry)
        if entry.geometry is not None:
            _draw(now, number, polygon, entry, raster)
        elif polygon is not None and number in now.masks.runs:
            _decide(now, number, polygon, entry)
    return now


def _ids_of(subject: Subject, standing: Standing) -> dict[Key, tuple[int, ReviewedPolygon | None]]:
    """Number and polygon of each object that was decided on, as the version has them of which was spoken."""
    found: dict[Key, tuple[int, ReviewedPolygon | None]] = {}
    wanted = set(standing.decided)
    for version in sorted({key[0] for key in wanted}):
        numbers = {facts.id: number for number, facts in facts_of(subject.polygons(version)).items()}
        for _, polygons in polygons_in(subject.polygons(version)):
            found |= {key: (numbers[one.id], one) for one in polygons if (key := (version, one.id, one.part)) in wanted}
    if lacking := wanted - set(found):
        raise subject.gone(lacking)
    return found


def _decide(now: ReplayedObjects, number: int, polygon: ReviewedPolygon, entry: Entry) -> None:
    runs, facts = now.masks.runs[number], now.facts[number]
    if entry.action == "reject":
        code = NOT_ANALYSED if entry.code is None else entry.code
        now.change.add(runs, code)
        now.said.add(runs, code, drawn=True)
        del now.masks.runs[number]
        now.removed.append(polygon.id)
        return
    if entry.action == "class" and entry.code not in (None, facts.code):
        assert entry.code is not None
        now.facts[number] = replace(facts, code=entry.code, score=None)
        now.decided.add(number)
        now.change.add(runs, entry.code)
    now.said.add(runs, now.facts[number].code, drawn=True)


def _draw(now: ReplayedObjects, number: int, polygon: ReviewedPolygon | None, entry: Entry, raster: RasterFile) -> None:
    """Give an object the pixels of an outline that no other one has."""
    assert entry.geometry is not None
    assert entry.code is not None
    wanted = drawn_mask(outline_in_pixels(shape_of(entry.geometry), raster.georeference), raster)
    others = now.masks.others_in(wanted, number) if len(wanted) else {}
    left, keep = wanted, []
    for other, runs in others.items():
        fewer = Masks.difference(left, runs)
        if _pixels(fewer) < _pixels(left):
            keep.append(other)
        left = fewer
    runs = Masks.of_runs([left]).largest_parts()[0]
    # Beyond all pixels of the scene, so that it is no other object's first one.
    height, width = raster.shape
    known = height * width + number if polygon is None else polygon.id
    if _pixels(runs) < _pixels(wanted) or not len(runs):
        ids = tuple(now.facts[other].id if other in now.facts else other for other in keep)
        now.cuts.append(Cut(known, _pixels(wanted) - _pixels(runs), ids, not len(runs)))
    before = now.masks.runs.pop(number, None)
    if before is not None:
        now.change.add(before, NOT_ANALYSED if entry.rest is None else entry.rest)
        now.said.add(before, NOT_ANALYSED if entry.rest is None else entry.rest, drawn=True)
    if not len(runs):
        now.removed.append(known)
        return
    now.masks.runs[number] = runs
    now.facts[number] = ObjectFacts(known, entry.code)
    now.decided.add(number)
    now.change.add(runs, entry.code, drawn=True)
    now.said.add(runs, entry.code, drawn=True)


def _pixels(runs: I32) -> int:
    return int((runs[:, 2] - runs[:, 1]).sum())
