"""What lies around a result, from vector files of the user: roads, places, and borders for the locator."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyproj
import shapely

from geoseg.arrays import F64, I64
from geoseg.crs import between
from geoseg.dialect import setting
from geoseg.errors import ConfigError
from geoseg.formats.sheet.content import Surroundings
from geoseg.vectors.polygon_file import Geometries, PolygonFile
from geoseg.vectors.texts import text_of
from pipeline.config.delivering import DeliveryConfig
from pipeline.deliver.extents import Extents
from pipeline.deliver.result import Result

__all__ = ["surroundings_of"]

log = logging.getLogger(__name__)

MOST_ROADS, MOST_LETTERS = 20_000, 60
BORDER_DEGREES = 0.05
"""Borders are drawn on a globe of a few centimetres, so that finer bends are left out."""
ALL_AROUND = 1.0
"""Roads and places are read as far from the area of interest as it is large."""
LINES, POLYGONS, POINTS = (1, 2, 5), (3, 6), (0, 4)
"""Types of geometries, as GEOS numbers them."""


def surroundings_of(given: DeliveryConfig, result: Result, extents: Extents) -> Surroundings:
    """Read the files that are named, in the CRS of the result; nothing where none is.

    Raises:
        ConfigError: One can't be read, has no CRS or not what is expected of it.
    """
    left, bottom, right, top = shapely.bounds(extents.aoi).tolist()
    reach = ALL_AROUND * max(right - left, top - bottom)
    window = shapely.box(left - reach, bottom - reach, right + reach, top + reach)
    return Surroundings(
        () if given.roads is None else _roads(given.roads, result.crs, window),
        () if given.places is None else _places(given.places, given.place_column, result.crs, window),
        () if given.borders is None else tuple(_borders(given.borders)),
    )


def _opened(path: str, name: str) -> tuple[PolygonFile, pyproj.CRS]:
    file = PolygonFile.open(Path(path))
    if file.crs is None:
        raise ConfigError(f"{setting(name)}: {path} has no CRS, so that it can't be laid over the map; write one into the file")
    return file, file.crs


def _moved(shapes: Geometries, source: pyproj.CRS, target: pyproj.CRS | str) -> Geometries:
    move = between(source, target)
    return np.asarray(shapely.transform(shapes, lambda xy: np.stack(move.transform(xy[:, 0], xy[:, 1]), axis=1)))


def _near(shapes: Geometries, window: shapely.Geometry) -> I64:
    """Positions of the shapes that meet a window; what has no place in its CRS does not."""
    placed = np.isfinite(shapely.bounds(shapes)).all(axis=1)
    return np.flatnonzero(placed & shapely.intersects(np.where(placed, shapes, shapely.Point()), window))


def _roads(path: str, crs: pyproj.CRS, window: shapely.Geometry) -> list[shapely.Geometry]:
    file, source = _opened(path, "roads")
    found: list[shapely.Geometry] = []
    seen = 0
    for shapes, _ in file.batches(()):
        lines = shapely.force_2d(shapes[np.isin(shapely.get_type_id(shapes), LINES)])
        seen += len(lines)
        moved = _moved(lines, source, crs)
        found += moved[_near(moved, window)].tolist()
    if not seen:
        raise ConfigError(f"{setting('roads')}: {path} holds no lines; give a layer of lines, as FILE|layername=NAME")
    if len(found) > MOST_ROADS:
        raise ConfigError(
            f"{setting('roads')}: {len(found):,} of {path} lie around the area, and {MOST_ROADS:,} are drawn; choose"
        )
    return found


def _places(path: str, column: str, crs: pyproj.CRS, window: shapely.Geometry) -> list[tuple[str, tuple[float, float]]]:
    file, source = _opened(path, "places")
    if column not in file.fields:
        raise ConfigError(f"{setting('place_column')}: {path} has no column {column!r}; it has {', '.join(file.fields)}")
    found: list[tuple[str, tuple[float, float]]] = []
    others = 0
    for shapes, columns in file.batches((column,)):
        there = np.flatnonzero(~(shapely.is_missing(shapes) | shapely.is_empty(shapes)))
        points = _moved(shapely.force_2d(shapely.point_on_surface(shapes[there])), source, crs)
        inside = _near(points, window)
        others += int((~np.isin(shapely.get_type_id(shapes[there]), POINTS)).sum())
        names = [columns[column][row] for row in there[inside].tolist()]
        told = ["" if name is None else _in_line(text_of(name)) for name in names]
        places = shapely.get_coordinates(points[inside]).tolist()
        found += [(name, (x, y)) for name, (x, y) in zip(told, places, strict=True) if name]
    if others:
        log.warning(
            "%s: %s of %s are no points; the name of each stands at a point within it", setting("places"), f"{others:,}", path
        )
    return found


def _in_line(text: str) -> str:
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())[:MOST_LETTERS]


def _borders(path: str) -> Iterator[F64]:
    file, source = _opened(path, "borders")
    for shapes, _ in file.batches(()):
        areas = np.isin(shapely.get_type_id(shapes), POLYGONS)
        lines = shapely.force_2d(np.where(areas, shapely.boundary(shapes), shapes))
        moved = shapely.simplify(_moved(lines, source, "OGC:CRS84"), BORDER_DEGREES)
        for line in shapely.get_parts(shapely.get_parts(moved)):
            if line.geom_type in ("LineString", "LinearRing"):
                yield shapely.get_coordinates(line)
