"""The decisions of a log as polygons to burn, and as figures on what was reviewed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pyproj
import shapely

from geoseg.codes import NOT_ANALYSED
from geoseg.crs import between
from geoseg.vectors.reprojecting import reprojected
from pipeline.review.burned import Burn, BurnStore
from pipeline.review.decisions import Entry, Key, shape_of
from pipeline.review.standing import Standing, Stood
from pipeline.review.subject import ReviewedPolygon, Subject, polygons_in

__all__ = ["LONLAT", "ClassReviews", "Reviewed", "replay"]

LONLAT = "OGC:CRS84"


@dataclass(slots=True)
class ClassReviews:
    """What reviewers say of the polygons of one class of the map."""

    polygons: int = 0
    """Reviewed ones."""
    area_m2: float = 0.0
    agreed: int = 0
    """Polygons whose class the reviewers left as it was."""
    agreed_m2: float = 0.0
    redrawn: int = 0
    """Of those that were agreed on, how many have another border now."""
    rejected: int = 0
    became: dict[int, int] = field(default_factory=dict)
    """Polygons by the class that they became; 254 is *not analysed*."""

    def add(self, polygon: ReviewedPolygon, entry: Entry, *, gone: bool = False) -> None:
        """Count a decision; ``gone`` where nothing is left that could have become another class."""
        self.polygons += 1
        self.area_m2 += polygon.area_m2
        code = polygon.code if entry.action == "accept" else entry.code if entry.code is not None else NOT_ANALYSED
        self.rejected += entry.action == "reject"
        if code == polygon.code and entry.action != "reject":
            self.agreed += 1
            self.agreed_m2 += polygon.area_m2
            self.redrawn += entry.action == "redraw"
        elif not gone:
            self.became[code] = self.became.get(code, 0) + 1


@dataclass(slots=True)
class Reviewed:
    """What was reviewed of a map."""

    classes: dict[int, ClassReviews] = field(default_factory=dict)
    """By the code that the map gave."""
    added: int = 0
    conflicts: int = 0
    """Polygons on which reviewers differ; the last decision counts."""
    open: int = 0
    """Polygons that wait for a second opinion."""

    @classmethod
    def of(cls, standing: Standing) -> Reviewed:
        """What stands of a log, before the polygons are looked at."""
        stood = standing.polygons.values()
        conflicts, waiting = sum(one.conflict for one in stood), sum(one.asked_by is not None for one in stood)
        return cls(added=len(standing.added), conflicts=conflicts, open=waiting)

    def of_class(self, code: int) -> ClassReviews:
        """What was said of one class of the map."""
        return self.classes.setdefault(code, ClassReviews())

    @property
    def polygons(self) -> int:
        """How many were decided on."""
        return sum(one.polygons for one in self.classes.values())

    @property
    def area_m2(self) -> float:
        """Their area."""
        return sum(one.area_m2 for one in self.classes.values())


def replay(subject: Subject, standing: Standing, store: BurnStore, labels: BurnStore) -> Reviewed:
    """Put what people decided into stores, in the order of the log.

    Args:
        subject: The map.
        standing: What stands of its log.
        store: Gets what changes the map.
        labels: Gets what people say, whether the map said the same or not;
            254 where they only say what it is not.

    Raises:
        ConfigError: The log speaks of a polygon or a version that is not there.
    """
    found = Reviewed.of(standing)
    numbered: list[tuple[int, list[Burn], list[Burn]]] = []
    for number, entry in standing.added:
        drawn = [_drawn(entry, store)]
        numbered.append((number, drawn, drawn))
    decided, crs = standing.decided, pyproj.CRS.from_user_input(str(store.georeference.crs))
    for version in sorted({key[0] for key in decided}):
        wanted = {key: stood for key, stood in decided.items() if key[0] == version}
        for shape, polygon, entry, number in _matched(subject, version, wanted, crs):
            found.of_class(polygon.code).add(polygon, entry)
            burns = _burns(shape, polygon, entry, store)
            agreed = [Burn(shape, polygon.code)] if entry.action in ("accept", "class") else []
            numbered.append((number, burns, [replace(burn, drawn=True) for burn in burns or agreed]))
    for _, burns, said in sorted(numbered, key=lambda entry: entry[0]):
        store.add(burns)
        labels.add(said)
    return found


def _matched(
    subject: Subject, version: int, wanted: dict[Key, Stood], crs: pyproj.CRS
) -> Iterator[tuple[shapely.Geometry, ReviewedPolygon, Entry, int]]:
    """The polygons of a version that were decided on, in the CRS of the raster, each with what stands."""
    file, left = subject.polygons(version), set(wanted)
    for geometries, polygons in polygons_in(file):
        for i, polygon in enumerate(polygons):
            key = (version, polygon.id, polygon.part)
            if key not in left:
                continue
            left.discard(key)
            stood = wanted[key]
            assert stood.decided is not None
            (shape,) = reprojected(geometries[i : i + 1], file.crs, crs)
            yield shape, polygon, stood.decided, stood.number
    if left:
        raise subject.gone(left)


def _burns(shape: shapely.Geometry, polygon: ReviewedPolygon, entry: Entry, store: BurnStore) -> list[Burn]:
    if entry.action == "reject":
        return [Burn(shape, NOT_ANALYSED if entry.code is None else entry.code)]
    if entry.action == "class" and entry.code is not None and entry.code != polygon.code:
        return [Burn(shape, entry.code)]
    if entry.action == "redraw":
        return [Burn(shape, NOT_ANALYSED if entry.rest is None else entry.rest), _drawn(entry, store)]
    return []


def _drawn(entry: Entry, store: BurnStore) -> Burn:
    assert entry.geometry is not None
    assert entry.code is not None
    shape = shape_of(entry.geometry)
    move = between(LONLAT, str(store.georeference.crs))
    return Burn(shapely.transform(shape, lambda xy: np.stack(move.transform(xy[:, 0], xy[:, 1]), axis=1)), entry.code, drawn=True)
