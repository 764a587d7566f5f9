"""An area of interest as it is given: a vector file, a bounding box, or WKT."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyproj

from geoseg.addresses import split_layer
from geoseg.crs import between, check_crs, not_a_map
from geoseg.dialect import setting
from geoseg.errors import ConfigError
from geoseg.polygons.geometries import not_finite
from geoseg.vectors.polygon_file import Geometries, PolygonFile
from geoseg.vectors.texts import text_of

__all__ = ["GivenArea", "areas_by_value", "check_area", "file_of_area", "read_area"]

LONLAT = "OGC:CRS84"
NUMBER = r"\s*[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|nan|inf(?:inity)?)\s*"
BOX = re.compile(rf"(?:(?P<crs>\S.*?)\s*:)?(?P<numbers>{NUMBER}(?:,{NUMBER}){{3}})", re.IGNORECASE | re.DOTALL)
KINDS = "POINT|LINESTRING|POLYGON|MULTIPOINT|MULTILINESTRING|MULTIPOLYGON|GEOMETRYCOLLECTION"
WKT = re.compile(rf"\s*(?:SRID\s*=\s*(?P<srid>\d{{1,8}})\s*;)?\s*(?P<wkt>(?:{KINDS})\b.*)", re.IGNORECASE | re.DOTALL)
LIKE_A_FILE = re.compile(r"^[^(]*[./\\|]|\)[^)\s]*[./\\|]\w+$")
"""Names of files may begin with the word for a polygon, too."""
HALF_TURN = 180.0
MOST_BOXES = 64
"""Polygons of an area up to which each has a box."""
NOTHING, FACES = -1, (3, 6)
"""Kinds of geometries, as shapely numbers them: none; polygons and multipolygons."""
SHOWN = 60
"""Characters of WKT in messages."""


@dataclass(frozen=True, slots=True, eq=False)
class GivenArea:
    """Polygons whose union is an area of interest."""

    label: str
    """What it is called in messages."""
    shapes: Geometries
    """(N,) polygons and multipolygons."""
    crs: pyproj.CRS | None
    """None where a file has none."""

    @property
    def digest(self) -> str:
        """sha256 of the polygons and their CRS, wherever they were read from."""
        import shapely

        crs = "" if self.crs is None else self.crs.to_wkt()
        # A feature may have no geometry.
        shapes = [one or b"" for one in shapely.to_wkb(shapely.normalize(self.shapes))]
        return hashlib.sha256(b"".join([crs.encode(), *shapes])).hexdigest()

    def boxes(self) -> list[tuple[float, float, float, float]]:
        """Boxes around the polygons, west, south, east, north in degrees: one a polygon, or one around many.

        West is larger than east where a box lies over the 180th meridian. Without a CRS it is all of the Earth.
        """
        import shapely

        if self.crs is None:
            return [(-HALF_TURN, -HALF_TURN / 2, HALF_TURN, HALF_TURN / 2)]
        each = shapely.bounds(self.shapes) if len(self.shapes) <= MOST_BOXES else shapely.total_bounds(self.shapes)[None]
        lonlat = between(self.crs, pyproj.CRS.from_user_input(LONLAT))
        found = []
        for left, bottom, right, top in each[np.isfinite(each).all(axis=1)].tolist():
            west, south, east, north = lonlat.transform_bounds(left, bottom, right, top, densify_pts=21)
            found.append((west, south, east, north))
        return found


def check_area(text: str) -> str:
    """The text, if it is a box or WKT that can be understood, or else stands for a file.

    Raises:
        ValueError: It is a box or WKT that can't work.
    """
    if not text.strip():
        raise ValueError("is empty; give a file of polygons, W,S,E,N in longitude and latitude, or WKT")
    _written(text)
    return text


def file_of_area(text: str) -> Path | None:
    """The file that a text stands for; None for a box or WKT."""
    return split_layer(text)[0] if _written(text) is None else None


def read_area(text: str, assume_crs: str | None = None, column: str | None = None, value: str | None = None) -> GivenArea:
    """Read an area of interest.

    Args:
        text: A vector file of polygons, or ``FILE|layername=NAME``; ``W,S,E,N`` in longitude and latitude, over the 180th
            meridian where W is larger than E; ``CRS:xmin,ymin,xmax,ymax``; or WKT in longitude and latitude, with
            ``SRID=CODE;`` in another CRS.
        assume_crs: The CRS of files that have none.
        column: A column of the file.
        value: Take the feature with this value there, alone.

    Raises:
        ConfigError: It can't be read, holds something else than polygons, or nothing.
    """
    try:
        written = _written(text)
    except ValueError as error:
        raise ConfigError(f"{setting('aoi')}: {error}") from error
    if written is not None:
        if column is not None:
            raise ConfigError(f"{setting('aoi_column')}: {column}: a box or WKT has no columns; give a file")
        return written
    file = PolygonFile.open(Path(text), assume_crs)
    if column is None:
        return GivenArea(str(file.path), _polygons(file)[0], file.crs)
    shapes, values = _polygons(file, column)
    which = [i for i, found in enumerate(values) if found == value]
    if len(which) != 1:
        raise ConfigError(f"{file.path}: {len(which)} features have {column} = {value}; one is wanted")
    return GivenArea(_label(file, column, str(value)), shapes[which], file.crs)


def areas_by_value(text: str, column: str, assume_crs: str | None = None) -> dict[str, GivenArea]:
    """The features of a file of areas by their values of a column, in the order of the file.

    Raises:
        ConfigError: There is no such column, or its values are empty or repeat.
    """
    path = file_of_area(text)
    if path is None:
        raise ConfigError(f"{setting('aoi_column')}: {column}: a box or WKT has no columns; give a file")
    file = PolygonFile.open(Path(text), assume_crs)
    shapes, values = _polygons(file, column)
    areas: dict[str, GivenArea] = {}
    for number, found in enumerate(values, start=1):
        if not found.strip():
            raise ConfigError(f"{path}: feature {number} has no {column}, by which its map would be named; fill it in")
        if found in areas:
            raise ConfigError(f"{path}: {column} = {found} stands at several features; each map needs a name of its own")
        areas[found] = GivenArea(_label(file, column, found), shapes[number - 1 : number], file.crs)
    return areas


def _label(file: PolygonFile, column: str, value: str) -> str:
    return f"{file.path} ({column} = {value})"


def _polygons(file: PolygonFile, column: str | None = None) -> tuple[Geometries, list[str]]:
    """Polygons of a file, and their values of a column as text."""
    if column is not None and column not in file.fields:
        raise ConfigError(f"{file.path}: no column {column!r}; it has {', '.join(file.fields) or 'none'}")
    sets: list[Geometries] = [np.empty(0, object)]
    values: list[str] = []
    count = 0
    for geometries, found in file.batches(() if column is None else (column,)):
        shapes = _faces(geometries, f"{file.path}: feature", count)
        sets.append(shapes)
        count += len(shapes)
        if column is not None:
            values += ["" if value is None else str(text_of(value)) for value in found[column]]
    shapes = np.concatenate(sets)
    _refuse_nothing(shapes, str(file.path))
    return shapes, values


def _faces(geometries: Geometries, what: str, before: int = 0) -> Geometries:
    """The geometries without heights; refuses lines and points.

    Raises:
        ConfigError: One is something else.
    """
    import shapely

    kinds = shapely.get_type_id(geometries)
    odd = np.flatnonzero(~np.isin(kinds, (NOTHING, *FACES)))
    if len(odd):
        kind = geometries[odd[0]].geom_type
        raise ConfigError(f"{what} {before + int(odd[0]) + 1} is a {kind}; an area of interest is made of polygons")
    return np.asarray(shapely.force_2d(geometries), object)


def _refuse_nothing(shapes: Geometries, label: str) -> None:
    import shapely

    if not len(shapes) or bool((shapely.is_missing(shapes) | shapely.is_empty(shapes)).all()):
        raise ConfigError(f"{label}: holds no polygons, so there is no area of interest")


def _written(text: str) -> GivenArea | None:
    """A box or WKT; None where the text is neither.

    Raises:
        ValueError: It is one that can't work.
    """
    if (match := BOX.fullmatch(text.strip())) is not None:
        return _box(text.strip(), match["crs"], [float(number) for number in match["numbers"].split(",")])
    match = WKT.fullmatch(text)
    if match is None or LIKE_A_FILE.search(text) is not None:
        return None
    return _from_wkt(match["wkt"], match["srid"])


def _box(text: str, crs: str | None, numbers: Sequence[float]) -> GivenArea:
    import shapely

    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{text}: a side of the box is no finite number")
    left, bottom, right, top = numbers
    if bottom >= top:
        raise ValueError(f"{text}: the second number, {bottom:g}, is to be below the fourth, {top:g}: the order is W,S,E,N")
    if left == right:
        raise ValueError(f"{text}: the box has no width; the order is W,S,E,N")
    if crs is not None:
        if left > right:
            raise ValueError(f"{text}: the first number is to be below the third: the order is xmin,ymin,xmax,ymax")
        return GivenArea(text, np.array([shapely.box(left, bottom, right, top)], object), _crs(crs, text))
    if max(-bottom, top) > HALF_TURN / 2 or max(abs(left), abs(right)) > 2 * HALF_TURN:
        raise ValueError(
            f"{text}: these are no longitudes and latitudes; write a box in another CRS as EPSG:32720:xmin,ymin,xmax,ymax"
        )
    boxes = [shapely.box(left, bottom, right, top)]
    if left > right:
        width = 2 * HALF_TURN - (left - right)
        if width >= HALF_TURN or width <= 0:
            raise ValueError(
                f"{text}: W is larger than E, which means a box over the 180th meridian; this one would be {width:g} degrees "
                "wide: are W and E swapped?"
            )
        boxes = [shapely.box(left, bottom, HALF_TURN, top), shapely.box(-HALF_TURN, bottom, right, top)]
    return GivenArea(text, np.array(boxes, object), pyproj.CRS.from_user_input(LONLAT))


def _from_wkt(wkt: str, srid: str | None) -> GivenArea:
    import shapely
    from shapely.errors import GEOSException

    start = wkt.strip()[:SHOWN] + ("…" if len(wkt.strip()) > SHOWN else "")
    try:
        with np.errstate(invalid="ignore"):  # NaN is refused below
            shape: Any = shapely.from_wkt(wkt)
    except GEOSException as error:
        raise ValueError(f"{start}: is no valid WKT: {str(error).splitlines()[0]}") from error
    shapes = np.array([shape], object)
    if not_finite(shapes) is not None:
        raise ValueError(f"{start}: has a coordinate that is no finite number")
    try:
        shapes = _faces(shapes, f"{start}: geometry")
        _refuse_nothing(shapes, start)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    crs = _crs(f"EPSG:{srid}" if srid else LONLAT, start)
    left, bottom, right, top = shapely.total_bounds(shapes).tolist()
    if srid is None and (max(-bottom, top) > HALF_TURN / 2 or max(-left, right) > 2 * HALF_TURN):
        raise ValueError(f"{start}: these are no longitudes and latitudes; say its CRS: SRID=32720;POLYGON(...)")
    return GivenArea(start, shapes, crs)


def _crs(text: str, label: str) -> pyproj.CRS:
    from pyproj.exceptions import CRSError

    try:
        found = pyproj.CRS.from_user_input(check_crs(text))
    except (ValueError, CRSError) as error:
        raise ValueError(f"{label}: its CRS can't be used: {str(error).splitlines()[0]}") from error
    if (why := not_a_map(found.to_wkt())) is not None:
        raise ValueError(f"{label}: {why}")
    return found


def missing_crs(label: str) -> ConfigError:
    """The error of a file without a CRS over a scene that has one."""
    return ConfigError(f"{label}: no CRS, so that it can't be laid over the scene; pass {setting('assume_crs')} EPSG:xxxx")
