"""Labels of some buildings of an event: points or polygons with a class, matched to footprints."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.damage.crops import pixel_shapes
from geoseg.damage.scale import CLASSES, LABELS
from geoseg.dialect import setting
from geoseg.errors import ConfigError
from geoseg.georeference import Georeference
from geoseg.scenes.remote import shown
from geoseg.vectors.polygon_file import Geometries, PolygonFile
from pipeline.damage.buildings import Building

__all__ = ["EventLabels", "class_named", "read_labels"]

AREA_TYPES = (3, 6)
"""Polygons, as GEOS numbers types."""


@dataclass(frozen=True, slots=True)
class EventLabels:
    """Classes of some buildings."""

    by_number: Mapping[int, int]
    """By the number of the building."""
    unmatched: int
    """Labels that lie on no footprint."""

    def digest(self) -> str:
        """sha256 of the labels, whatever their order."""
        return hashlib.sha256(repr(sorted(self.by_number.items())).encode()).hexdigest()

    def of(self, buildings: Sequence[Building]) -> NDArray[np.int64]:
        """Classes of buildings; -1 where there is no label."""
        return np.array([self.by_number.get(building.number, -1) for building in buildings], np.int64)


def read_labels(
    paths: Sequence[str], column: str, buildings: Sequence[Building], place: Georeference, assume_crs: str | None
) -> EventLabels:
    """Read labels. A point counts for the footprint that it lies in, a polygon for that with which it shares most area.

    Rows without a class are passed over: they are what is still to be labelled.

    Raises:
        ConfigError: A file can't be read or has no such column, a class is none of the scale, a building has two of them, or no
            label lies on a footprint.
    """
    shapes: Geometries = np.array([building.shape for building in buildings], object)
    tree = shapely.STRtree(shapes)
    found: dict[int, int] = {}
    given = unmatched = 0
    for path in paths:
        file = PolygonFile.open(Path(path), assume_crs).checked()
        if column not in file.fields:
            raise ConfigError(f"{shown(path)}: no column {column!r}; it has {', '.join(file.fields) or 'none'}")
        if (file.crs is None) != (place.crs is None):
            raise ConfigError(
                f"{shown(path)}: only one of labels and image has a CRS, so they can't be laid over each other; give "
                f"{setting('assume_crs', 'EPSG:xxxx')}"
            )
        row = 0
        for geometries, values in file.batches((column,)):
            there = ~shapely.is_missing(geometries)
            moved = pixel_shapes(np.where(there, geometries, shapely.Point()), file.crs, place)
            for shape, text in zip(moved, values[column], strict=True):
                row += 1
                code = class_named(text, f"{shown(path)}: row {row}")
                if code is None:
                    continue
                given += 1
                position = _footprint_of(shape, shapes, tree)
                if position is None:
                    unmatched += 1
                    continue
                building = buildings[position]
                if found.setdefault(building.number, code) != code:
                    raise ConfigError(
                        f"{shown(path)}: building {building.name} is labelled both {CLASSES[found[building.number]]!r} and "
                        f"{CLASSES[code]!r}; leave one of them out"
                    )
    if given and not found:
        raise ConfigError(f"{shown(paths[0])}: none of its {given} labels lies on a footprint; check its CRS and place")
    return EventLabels(found, unmatched)


def class_named(text: object, where: str) -> int | None:
    """The class that a label names; None where it is empty.

    Raises:
        ConfigError: It is none of the scale.
    """
    plain = "" if text is None else str(text).strip().lower()
    if plain in ("", "nan"):
        return None
    if plain not in LABELS:
        raise ConfigError(f"{where}: {str(text)!r} is no class of the scale; write {', '.join(CLASSES)}, or nothing")
    return LABELS[plain]


def _footprint_of(shape: shapely.Geometry, shapes: Geometries, tree: shapely.STRtree) -> int | None:
    """The position of the footprint that a label means; the first of the file among equals."""
    near = np.sort(tree.query(shape, predicate="intersects"))
    if not len(near):
        return None
    if shapely.get_type_id(shape) not in AREA_TYPES:
        return int(near[0])
    shared = shapely.area(shapely.intersection(shapes[near], shapely.make_valid(shape)))
    return int(near[int(np.argmax(shared))])
