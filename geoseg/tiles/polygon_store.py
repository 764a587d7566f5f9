"""Polygons of a file in memory, in whole units of the world in web Mercator, ready to be cut into tiles."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyproj
import shapely

from geoseg.arrays import F64, I32, I64, Bools
from geoseg.crs import between
from geoseg.errors import GeoreferenceError
from geoseg.tiles.clipping import following, offsets_of
from geoseg.tiles.mvt import Value
from geoseg.tiles.web_mercator import CRS, HALF, Box, lonlat_box
from geoseg.vectors.polygon_file import Geometries, PolygonFile

__all__ = ["WORLD", "Column", "PolygonStore", "polygons_of", "read_polygons"]

WORLD = 1 << 30
"""Units of the world's side: one is 3.7 cm at the equator, and less elsewhere."""
POLYGON, MULTI = 3, 6
"""Numbers of types of geometry, of GEOS."""


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """An attribute of all features: numbers, or numbers of texts."""

    numbers: F64 | I64
    """What is not finite, or is -1 where they are those of texts, stands for none."""
    texts: tuple[str, ...] | None = None

    def values(self, rows: I64) -> list[Value]:
        """The values of some features; None where one has none."""
        found = self.numbers[rows]
        if self.texts is not None:
            return [None if number < 0 else self.texts[number] for number in found.astype(np.int64).tolist()]
        return [number if math.isfinite(number) else None for number in found.tolist()]

    @property
    def constant(self) -> Value:
        """The value that all features have; None where they differ."""
        first = self.numbers[:1]
        return self.values(np.zeros(1, np.int64))[0] if len(first) and (self.numbers == first).all() else None


@dataclass(frozen=True, slots=True, eq=False)
class PolygonStore:
    """F features of P polygons of R rings."""

    xy: I32
    """(N, 2) columns from the west and rows from the north, of ``WORLD``; a ring's first point is not repeated."""
    rings: I64
    """(R + 1,) where each ring begins in ``xy``; outer ones run clockwise on the screen, holes against it."""
    outer: I64
    """(R,) number of the outer ring of each."""
    features: I64
    """(F + 1,) where each feature begins in ``rings``."""
    boxes: I32
    """(F, 4) least column and row, greatest column and row."""
    columns: Mapping[str, Column]
    """Attributes by name, in the order of the file."""
    left_out: int
    """Features of the file that are no polygons, and are not here."""

    def __len__(self) -> int:
        """Number of features."""
        return len(self.boxes)

    @property
    def box(self) -> Box:
        """In metres of the projection."""
        low, high = self.boxes[:, :2].min(axis=0).tolist(), self.boxes[:, 2:].max(axis=0).tolist()
        scale = 2 * HALF / WORLD
        return low[0] * scale - HALF, HALF - high[1] * scale, high[0] * scale - HALF, HALF - low[1] * scale

    def places(self, rows: I64) -> list[Box]:
        """West, south, east and north of some features, in degrees."""
        scale = 2 * HALF / WORLD
        return [
            lonlat_box((left * scale - HALF, HALF - bottom * scale, right * scale - HALF, HALF - top * scale))
            for left, top, right, bottom in self.boxes[rows].tolist()
        ]

    def areas(self) -> F64:
        """(F,) areas in square metres on the sphere: what a file without areas is ordered by."""
        if not len(self):
            return np.zeros(0)
        x, y = (self.xy.astype(np.float64) * (2 * HALF / WORLD)).T
        after = following(self.rings)
        twice = np.add.reduceat(x * y[after] - x[after] * y, self.rings[:-1])
        planar = np.abs(np.add.reduceat(twice, self.features[:-1])) / 2
        middle = HALF - (self.boxes[:, 1] + self.boxes[:, 3]) / 2 * (2 * HALF / WORLD)
        return np.asarray(planar / np.cosh(middle / HALF * np.pi) ** 2)


@dataclass(slots=True)
class _Growing:
    """What was read so far."""

    xy: list[I32] = field(default_factory=list)
    points: list[I64] = field(default_factory=list)
    """Points of each ring."""
    polygons: list[I64] = field(default_factory=list)
    """Rings of each polygon."""
    features: list[I64] = field(default_factory=list)
    """Rings of each feature."""
    columns: dict[str, list[object]] = field(default_factory=dict)
    seen: int = 0
    kept: int = 0


def read_polygons(file: PolygonFile, leave_out: Sequence[str] = ()) -> PolygonStore:
    """Read all polygons of a file.

    Args:
        file: The file.
        leave_out: Names of attributes that are not kept.

    Raises:
        GeoreferenceError: It has no CRS, or none that has a relation to web Mercator.
        ConfigError: It can't be read.
    """
    if file.crs is None:
        raise GeoreferenceError(f"{file.path}: has no CRS, so its polygons are on no map")
    names = tuple(name for name in file.fields if name not in leave_out)
    return polygons_of(file.batches(names), names, file.crs)


def polygons_of(
    batches: Iterable[tuple[Geometries, Mapping[str, Sequence[object]]]], names: Sequence[str], crs: pyproj.CRS
) -> PolygonStore:
    """Keep polygons that are given some at a time.

    Args:
        batches: Geometries, and their attributes by name.
        names: Of the attributes that are kept.
        crs: Of the geometries.

    Raises:
        GeoreferenceError: It has no relation to web Mercator.
    """
    grown = _Growing(columns={name: [] for name in names})
    for geometries, values in batches:
        grown.seen += len(geometries)
        keep = np.isin(shapely.get_type_id(geometries), (POLYGON, MULTI)) & ~shapely.is_empty(geometries)
        _add(grown, geometries[keep], crs)
        for name in names:
            grown.columns[name] += [value for value, there in zip(values[name], keep.tolist(), strict=True) if there]
    return _assembled(grown)


def _add(grown: _Growing, geometries: Geometries, crs: pyproj.CRS) -> None:
    if not len(geometries):
        return
    shapes = shapely.orient_polygons(shapely.force_2d(geometries), exterior_cw=True)
    _, xy, offsets = shapely.to_ragged_array(shapes)
    rings, polygons = (np.asarray(part, np.int64) for part in offsets[:2])
    features = polygons if len(offsets) == 2 else polygons[np.asarray(offsets[2], np.int64)]
    owner = np.repeat(np.arange(len(features) - 1), rings[features[1:]] - rings[features[:-1]])
    world = _in_world(xy, owner, crs)
    keep = np.ones(len(xy), np.bool_)
    keep[rings[1:] - 1] = False
    grown.xy.append(world[keep])
    grown.points.append(np.diff(rings) - 1)
    grown.polygons.append(np.diff(polygons))
    grown.features.append(np.diff(features))
    grown.kept += len(features) - 1


def _in_world(xy: F64, owner: I64, crs: pyproj.CRS) -> I32:
    """(N, 2) units of the world; what crosses the 180th meridian goes on beyond its eastern edge."""
    x, y = between(crs, CRS).transform(xy[:, 0], xy[:, 1])
    # The poles are infinitely far; the map ends at 85 degrees.
    y = np.clip(np.nan_to_num(y, posinf=HALF, neginf=-HALF), -HALF, HALF)
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    wide = np.maximum.reduceat(x, first) - np.minimum.reduceat(x, first) > HALF
    around: Bools = np.repeat(wide, np.diff(np.append(first, len(owner)))) & (x < 0)
    x = np.where(around, x + 2 * HALF, x)
    return np.asarray((np.stack([x + HALF, HALF - y], axis=1) * (WORLD / 2 / HALF)).round().astype(np.int32))


def _assembled(grown: _Growing) -> PolygonStore:
    xy = np.concatenate(grown.xy) if grown.xy else np.zeros((0, 2), np.int32)
    rings, polygons, features = (
        offsets_of(np.concatenate(parts) if parts else np.zeros(0, np.int64))
        for parts in (grown.points, grown.polygons, grown.features)
    )
    boxes = np.zeros((grown.kept, 4), np.int32)
    if grown.kept:
        begin = rings[features[:-1]]
        boxes[:, :2], boxes[:, 2:] = np.minimum.reduceat(xy, begin), np.maximum.reduceat(xy, begin)
    columns = {name: _column(values) for name, values in grown.columns.items()}
    return PolygonStore(xy, rings, np.repeat(polygons[:-1], np.diff(polygons)), features, boxes, columns, grown.seen - grown.kept)


def _column(values: list[object]) -> Column:
    """Numbers where all are; texts else."""
    known = [value for value in values if value is not None]
    if all(isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 53 for value in known):
        if len(known) == len(values):
            return Column(np.array(values, np.int64))
        return Column(np.array([np.nan if value is None else value for value in values], np.float64))
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        return Column(np.array([np.nan if value is None else value for value in values], np.float64))
    texts: dict[str, int] = {}
    numbers = np.fromiter((-1 if v is None else texts.setdefault(str(v), len(texts)) for v in values), np.int64, len(values))
    return Column(numbers, tuple(texts))
