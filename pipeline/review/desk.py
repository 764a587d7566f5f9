"""What a reviewer works at: the polygons in order of value, what stands of each, and the log behind it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely

from geoseg.arrays import I64, Bools
from geoseg.crs import between
from geoseg.documents import Json
from geoseg.errors import ConfigError
from geoseg.tiles.polygon_store import WORLD, PolygonStore
from geoseg.tiles.web_mercator import CRS, HALF
from pipeline.review.decisions import Decision, Entry, Key
from pipeline.review.place import Place, place_of
from pipeline.review.replay import LONLAT
from pipeline.review.review_log import ReviewLog
from pipeline.review.reviewed_units import Units
from pipeline.review.standing import Standing
from pipeline.review.subject import Subject
from pipeline.view.first import Figures, order_of
from pipeline.view.opened import OpenedMap
from pipeline.view.polygons import PolygonLayer

__all__ = ["Desk", "Task"]

LISTED = 200
DECIMALS = 8
"""Of degrees: a millimetre."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is decided on at a desk, and the log that it goes into."""

    folder: Path
    log: Path
    run_id: str
    """What the log speaks of."""
    version: int
    units: Units
    own_codes: Sequence[int]
    """Classes that a unit can be of."""
    place: Place | None = None
    """Where what is drawn has to lie; None where that is not asked."""
    ids: str = "id"
    """The column of the units' numbers."""

    @classmethod
    def of(cls, subject: Subject) -> Task:
        """The review of a map or of buildings."""
        return cls(
            subject.folder, subject.log, subject.run_id, subject.version, subject.units, subject.own_codes, place_of(subject)
        )


class Desk:
    """One person's work on one map; asked by several threads."""

    def __init__(self, task: Task, opened: OpenedMap, name: str) -> None:
        """Read the log.

        Raises:
            ConfigError: It was changed, or the map has no polygons.
        """
        if opened.polygons is None:
            raise ConfigError(f"{task.folder}: holds no {task.units.name} to review; map with --formats gpkg")
        self._task, self._opened, self._layer, self.name = task, opened, opened.polygons, name
        self._log, self._standing, self._lock = ReviewLog(task.log, task.run_id), Standing(), threading.Lock()
        self._keys: list[Key] = []
        self._rows: dict[Key, int] = {}
        self._order: I64 | None = None
        self._done: Bools = np.zeros(0, np.bool_)
        self._catch_up()

    def _catch_up(self) -> None:
        """Take what was added to the log, by whomever."""
        self._log.catch_up()
        new = self._log.entries[self._standing.count :]
        self._take(new)

    def _take(self, entries: Sequence[Entry]) -> None:
        self._standing.take(entries)
        for entry in entries:
            row = self._rows.get(entry.key) if entry.key is not None else None
            if row is not None and entry.key is not None:
                self._done[row] = self._is_done(entry.key)

    def _is_done(self, key: Key) -> bool:
        """Whether this reviewer has nothing to do there; who has asked for another opinion waits for it."""
        stood = self._standing.polygons.get(key)
        return stood is not None and (stood.done or stood.asked_by == self.name)

    def _ready(self) -> PolygonLayer | None:
        """The polygons, ordered; None until they are read."""
        layer = self._layer
        layer.start()
        tiles, figures = layer.tiles, layer.figures
        if tiles is None or figures is None:
            return None
        if self._order is None:
            version = self._task.version
            ids, parts = (_whole(tiles.store, name, needed=name != "part") for name in (self._task.ids, "part"))
            keys = [(version, number, part) for number, part in zip(ids.tolist(), parts.tolist(), strict=True)]
            self._keys, self._rows = keys, {key: row for row, key in enumerate(keys)}
            self._done = np.array([self._is_done(key) for key in keys], np.bool_)
            self._order = self._rows_to_do(figures)
        return layer

    def _rows_to_do(self, figures: Figures) -> I64:
        """Numbers of the polygons to decide, those first that are worth most."""
        return order_of(figures, self._task.units.order)

    def state(self) -> dict[str, Json]:
        """Who reviews what, with which classes and reasons."""
        return {
            "by": self.name,
            "version": self._task.version,
            "units": self._task.units.name,
            "ground": self._task.units.has_ground,
            "reasons": list(self._task.units.reasons),
            "classes": [{"code": s.code, "name": s.name, "color": s.color} for s in self._opened.styles if s.code < 254],
            "own": list(self._task.own_codes),
        }

    def queue(self) -> dict[str, Json]:
        """The polygons to decide, those first that are worth most, and how far the work is."""
        with self._lock:
            self._catch_up()
            layer = self._ready()
            if layer is None or self._order is None:
                return {"state": "reading"}
            left = self._order[~self._done[self._order]]
            asked = np.isin(left, self._asked())
            rows = np.concatenate([left[asked], left[~asked]])[:LISTED]
            return {"state": "ready", "entries": list(layer.listed(rows)), **self._counts(len(self._done))}

    def _asked(self) -> list[int]:
        """Rows on which somebody else waits for an opinion, which come first."""
        stood = self._standing.polygons.items()
        waiting = [key for key, one in stood if one.asked_by not in (None, self.name)]
        return [self._rows[key] for key in waiting if key in self._rows]

    def _counts(self, total: int) -> dict[str, Json]:
        stood = self._standing.polygons.values()
        return {
            "total": total,
            "done": int(self._done.sum()),
            "asked": sum(one.asked_by is not None for one in stood),
            "conflicts": sum(one.conflict for one in stood),
            "added": len(self._standing.added),
        }

    def polygon(self, row: int) -> dict[str, Json]:
        """A polygon with its outline in longitude and latitude, and what the log says of it.

        Raises:
            ConfigError: There is none.
        """
        with self._lock:
            layer = self._ready()
            tiles = None if layer is None else layer.tiles
            if tiles is None or not 0 <= row < len(tiles.store):
                raise ConfigError(f"polygon {row}: is not there")
            key = self._keys[row]
            history = [entry for entry in self._log.entries if entry.key == key]
            return {
                "polygon": key[1],
                "part": key[2],
                "version": key[0],
                "geometry": _outline(tiles.store, row),
                "history": [{**_line(entry)} for entry in history],
            }

    def decide(self, document: object) -> Mapping[str, Json]:
        """Record a decision; it is on the disk when this returns.

        Raises:
            ConfigError: It is none, or on a polygon that is not there.
            OutputError: It can't be written.
        """
        decision = Decision.parse(document)
        with self._lock:
            if self._ready() is None:
                raise ConfigError("the polygons are still being read; try again")
            self._check(decision)
            # One's own line comes first; others may have written behind it.
            line = self._log.append([decision], self.name)[0]
            self._catch_up()
            self._recorded()
            return {"recorded": _line(line), **self._counts(len(self._done))}

    def _check(self, decision: Decision) -> None:
        """Refuse what can't be said of a polygon.

        Raises:
            ConfigError: It is not there, or a class is none of the map.
        """
        codes = [style.code for style in self._opened.styles]
        self._task.units.check(decision, self._task.version, self._rows, codes, self._task.own_codes)
        if self._task.place is not None:
            self._task.place.check(decision)

    def _recorded(self) -> None:
        """Do what follows of a decision that is in the log."""


def _line(entry: Entry) -> dict[str, Json]:
    facts: dict[str, Json] = entry.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"previous", "geometry"})
    return facts


def _whole(store: PolygonStore, name: str, *, needed: bool) -> I64:
    """(F,) numbers of a column; zeros where the file has none and needs none."""
    column = store.columns.get(name)
    if column is None or column.texts is not None:
        if needed:
            raise ConfigError(f"the polygons have no column {name}; reviews need them as geoseg wrote them")
        return np.zeros(len(store), np.int64)
    return np.nan_to_num(column.numbers).astype(np.int64)


def _outline(store: PolygonStore, row: int) -> dict[str, Json]:
    """GeoJSON of a polygon."""
    scale, polygons = 2 * HALF / WORLD, dict[int, list[list[list[float]]]]()
    move = between(CRS, LONLAT)
    for ring in range(int(store.features[row]), int(store.features[row + 1])):
        points = store.xy[store.rings[ring] : store.rings[ring + 1]].astype(np.float64)
        lon, lat = move.transform(points[:, 0] * scale - HALF, HALF - points[:, 1] * scale)
        line = np.stack([lon, lat], axis=1).round(DECIMALS).tolist()
        polygons.setdefault(int(store.outer[ring]), []).append([*line, line[0]])
    oriented = shapely.orient_polygons(shapely.MultiPolygon([(rings[0], rings[1:]) for rings in polygons.values()]))
    parts: list[Json] = [
        [[list(xy) for xy in ring.coords] for ring in (part.exterior, *part.interiors)] for part in oriented.geoms
    ]
    return {"type": "Polygon", "coordinates": parts[0]} if len(parts) == 1 else {"type": "MultiPolygon", "coordinates": parts}
