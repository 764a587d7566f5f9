"""The polygons of the maps of several UTM zones as one set in longitude and latitude, joined by class where the maps meet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from math import cos, radians
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyproj
import shapely

from geoseg.arrays import F64
from geoseg.crs import between, crs_of
from geoseg.formats.geojson import longest_edge
from geoseg.formats.vector import EXTENSIONS, write_features
from geoseg.georeference import Georeference
from geoseg.polygons.features import GEOMETRY, feature_schema
from geoseg.polygons.geometries import Shapes
from geoseg.scenes.gdal import gdal_env, open_written
from geoseg.vectors.cut_lines import CutLine, brought_to, groups_over, lines_between, near_lines, united
from geoseg.vectors.given_area import read_area
from geoseg.vectors.polygon_file import PolygonFile
from pipeline.files.atomic import remove_tree, temporary_beside
from pipeline.files.outputs import atomic_folder
from pipeline.files.spool import SPOOL, FeatureSpool
from pipeline.segment.planned import SceneJob

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["JOINED", "join_zones"]

JOINED = "mosaic-joined"
"""Folder of the polygons of all zones."""
LONLAT = "OGC:CRS84"
READ_FIRST = ("parquet", "fgb", "gpkg", "geojson")
"""Formats of a map's polygons, those with all digits first."""
AROUND_PX = 0.6
"""Pixels by which a map ends beside its line at most, where borders are not simplified: half of one, and what meridians lean."""
DEGREE_M = 111_000.0
ROWS = 16384
Value = str | int | float | None
"""An attribute."""


def join_zones(jobs: Sequence[SceneJob]) -> list[str]:
    """Write the polygons of the maps of zones as one file a format, joined where the maps meet; their names.

    Args:
        jobs: The maps, which are done.

    Raises:
        OutputError: The folder holds something else.
        ConfigError: Polygons of a map can't be read.
    """
    config = jobs[0].config
    wanted = [name for name in config.vector.formats if name in EXTENSIONS]
    maps = [found for job in jobs if (found := _Map.of(job)) is not None]
    if not wanted or len(maps) < len(jobs):
        return []
    boxes = [box for job in jobs if job.config.mosaic.within is not None for box in read_area(job.config.mosaic.within).boxes()]
    folder, qml = jobs[0].folder.with_name(JOINED), maps[0].folder / "polygons.qml"
    work = temporary_beside(folder)
    work.mkdir()
    try:
        with atomic_folder(folder, replace=True) as stage:
            spool = _spooled(maps, _joins(maps, boxes), work / SPOOL)
            place, shape = _place(maps)
            style = qml.read_text(encoding="utf-8")
            for name in wanted:
                path = stage / f"polygons{EXTENSIONS[name]}"
                write_features(path, name, spool.batches, place, shape, style, schema=spool.schema)
            (stage / "polygons.qml").write_text(style, encoding="utf-8")
    finally:
        remove_tree(work)
    return [f"polygons{EXTENSIONS[name]}" for name in wanted]


@dataclass(frozen=True, slots=True, eq=False)
class _Feature:
    """A polygon in longitude and latitude, with its attributes."""

    shape: shapely.Geometry
    columns: Mapping[str, Value]

    @property
    def area_m2(self) -> float | None:
        """Geodesic area, where it is known."""
        area = self.columns.get("area_m2")
        return None if area is None else float(area)

    def text(self, name: str) -> str:
        """An attribute as text; empty where there is none."""
        value = self.columns.get(name)
        return "" if value is None else str(value)


@dataclass(frozen=True, eq=False)
class _Map:
    """The map of a zone, with its polygons."""

    folder: Path
    file: PolygonFile
    place: Georeference
    shape: tuple[int, int]
    simplified: float
    """Pixels by which borders may lie elsewhere."""
    middle: float
    """Longitude of the middle of the part of the Earth that it is for."""

    @classmethod
    def of(cls, job: SceneJob) -> _Map | None:
        """Of a map that is done; None where it has no polygons that can be read."""
        path = next((path for name in READ_FIRST if (path := job.folder / f"polygons{EXTENSIONS[name]}").is_file()), None)
        raster = job.folder / "classes.tif"
        if path is None or not raster.is_file():
            return None
        with gdal_env(), open_written(raster) as dataset:
            transform, crs, shape = dataset.transform[:6], dataset.crs.to_wkt(), (dataset.height, dataset.width)
        a, b, c, d, e, f = (float(number) for number in transform)
        west, _, east, _ = (float(number) for number in str(job.config.mosaic.within).split(","))
        middle = west + (east - west) % 360 / 2
        place = Georeference((a, b, c, d, e, f), crs)
        return cls(job.folder, PolygonFile.open(path), place, shape, job.config.vector.simplify, middle)

    @cached_property
    def within(self) -> tuple[float, float]:
        """Degrees of longitude and latitude up to which what lies beside a line ends at it."""
        metres = (AROUND_PX + self.simplified) * (self.place.pixel_size(*self.shape) or 0.0)
        lat = np.abs(self.place.lonlat(*np.array([[0.0, self.shape[0]], [0.0, self.shape[1]]]))[:, 1]).max()
        return metres / (DEGREE_M * cos(radians(float(lat)))), metres / DEGREE_M

    def batches(self) -> Iterator[tuple[Shapes, Mapping[str, Sequence[Value]]]]:
        """Polygons in longitude and latitude, and their columns, in the order of the file."""
        crs = self.file.crs
        assert crs is not None, "a map of a zone has a CRS"
        lonlat = None if crs.is_geographic else between(crs, crs_of(LONLAT))
        step, middle = longest_edge(self.place, self.shape), self.middle
        for shapes, columns in self.file.batches(self.file.fields):
            if lonlat is None:
                yield shapes, columns
                continue
            # Straight edges there are curves here.
            fine = shapely.segmentize(shapes, step) if np.isfinite(step) else shapes
            yield shapely.transform(fine, partial(_moved, lonlat, middle)), columns


def _moved(lonlat: pyproj.Transformer, middle: float, xy: F64) -> F64:
    """(N, 2) coordinates as longitudes, counted on over the 180th meridian from a middle, and latitudes."""
    lon, lat = lonlat.transform(xy[:, 0], xy[:, 1])
    return np.stack([(np.asarray(lon) - middle + 180) % 360 - 180 + middle, lat], axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class _Joins:
    """What becomes of polygons along the lines, which are known by their map and their place in its file."""

    rows: Mapping[tuple[int, int], _Feature | None]
    """Polygons along the lines, brought to them; None for those that nothing is left of, or that are part of another."""
    united: Sequence[_Feature]
    """Those that were joined."""


def _joins(maps: Sequence[_Map], boxes: Sequence[tuple[float, float, float, float]]) -> _Joins:
    """Bring polygons along the edges of the parts of the Earth that maps are for to them, and join those of a class."""
    lines = lines_between(boxes)
    # At the 180th meridian maps end, and stay two.
    ends = [*lines, *(CutLine(0, at) for at in (-180.0, 180.0) if any(at in (box[0], box[2]) for box in boxes))]
    places: list[tuple[int, int]] = []
    near: list[_Feature] = []
    for number, one in enumerate(maps):
        start = 0
        for shapes, columns in one.batches():
            which = np.flatnonzero(near_lines(shapes, ends, one.within))
            for index, shape in zip(which.tolist(), brought_to(shapes[which], ends, one.within), strict=True):
                places.append((number, start + index))
                near.append(_Feature(shape, {name: values[index] for name, values in columns.items()}))
            start += len(shapes)
    kept = [k for k, one in enumerate(near) if not one.shape.is_empty]
    kinds = [(near[k].text("code"), near[k].text("class")) for k in kept]
    groups = groups_over(np.array([near[k].shape for k in kept], object), kinds, lines)
    found: dict[tuple[int, int], _Feature | None] = dict.fromkeys(places)
    alone = set(range(len(kept))) - {int(index) for group in groups for index in group}
    found |= {places[kept[k]]: near[kept[k]] for k in sorted(alone)}
    return _Joins(found, [one for group in groups for one in _united([near[kept[int(k)]] for k in group])])


def _united(parts: Sequence[_Feature]) -> Iterator[_Feature]:
    """One polygon of several of a class; pieces of one are joined to what they touch, so that there may be several."""
    shapes = united(np.array([part.shape for part in parts], object))
    areas, sure = [part.area_m2 for part in parts], [part.text("confidence") for part in parts]
    known = [area for area in areas if area is not None]
    total = sum(known) if len(known) == len(parts) else None
    shares = shapely.area(shapes) / max(float(shapely.area(shapes).sum()), 1e-300)
    mean = float(np.average([float(text) for text in sure], weights=known)) if total and all(sure) else None
    scenes = sorted({name for part in parts for name in part.text("scenes").split(", ") if name})
    days = sorted({day for part in parts for day in part.text("dates").split("/") if day})
    for shape, share in zip(shapes, shares.tolist(), strict=True):
        own: dict[str, Value] = {
            "part": 0,
            "area_m2": None if total is None else round(total * share, 2),
            "perimeter_m": round(pyproj.Geod(ellps="WGS84").geometry_length(shape.boundary), 2),
            "confidence": None if mean is None else round(mean, 1),
            # A tenth of all pixels is none of the tenths of the parts.
            "confidence_p10": None,
            "acquired": _same(part.text("acquired") for part in parts),
            "scene": _same(part.text("scene") for part in parts) or "mosaic",
            "scenes": ", ".join(scenes) or None,
            "dates": "/".join(dict.fromkeys([days[0], days[-1]])) if days else None,
        }
        yield _Feature(shape, {**parts[0].columns, **own})


def _same(texts: Iterable[str]) -> str | None:
    """What all are; None where they differ, or are empty."""
    found = set(texts)
    return found.pop() or None if len(found) == 1 else None


def _spooled(maps: Sequence[_Map], joins: _Joins, path: Path) -> FeatureSpool:
    """Write all polygons with new ids: those of maps in their order, then those that were joined."""
    import pyarrow as pa

    origins = any("scenes" in one.file.fields for one in maps)
    schema, count = feature_schema(origins=origins), 0
    ids: dict[tuple[int, str], int] = {}
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for rows in _batched(maps, joins):
            numbers = []
            for number, (_, piece) in enumerate(rows, start=count + 1):
                # Pieces of a polygon share its id.
                numbers.append(number if piece is None else ids.setdefault(piece, number))
            writer.write_batch(_batch([one for one, _ in rows], numbers, schema))
            count += len(rows)
    return FeatureSpool(path, count)


def _batched(maps: Sequence[_Map], joins: _Joins) -> Iterator[list[tuple[_Feature, tuple[int, str] | None]]]:
    """All polygons, some at a time; of pieces of one, the map and the id that they share."""
    for number, one in enumerate(maps):
        start = 0
        for shapes, columns in one.batches():
            rows: list[tuple[_Feature, tuple[int, str] | None]] = []
            for index, shape in enumerate(shapes):
                own = _Feature(shape, {name: values[index] for name, values in columns.items()})
                found = joins.rows.get((number, start + index), own)
                if found is not None:
                    piece = (number, own.text("id")) if own.columns.get("part") else None
                    rows += [(_Feature(part, found.columns), piece) for part in shapely.get_parts(found.shape)]
            start += len(shapes)
            if rows:
                yield rows
    for first in range(0, len(joins.united), ROWS):
        yield [(one, None) for one in joins.united[first : first + ROWS]]


def _batch(rows: Sequence[_Feature], ids: Sequence[int], schema: pa.Schema) -> pa.RecordBatch:
    import pyarrow as pa

    shapes = shapely.orient_polygons(np.array([row.shape for row in rows], object), exterior_cw=False)
    own = {"id": pa.array(ids, pa.int64()), GEOMETRY: pa.array(shapely.to_wkb(shapes).tolist(), pa.binary())}
    columns = [
        own[one.name] if one.name in own else pa.array([row.columns.get(one.name) for row in rows], one.type) for one in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _place(maps: Sequence[_Map]) -> tuple[Georeference, tuple[int, int]]:
    """A grid in degrees around all maps, with pixels of about their size: what digits of coordinates follow."""
    corners: list[F64] = [one.place.lonlat(*np.array([[0.0, one.shape[0]] * 2, [0.0, 0.0, *[one.shape[1]] * 2]])) for one in maps]
    xy = np.concatenate(corners)
    size = min((one.place.pixel_size(*one.shape) or 1.0) for one in maps) / DEGREE_M
    (west, south), (east, north) = xy.min(axis=0).tolist(), xy.max(axis=0).tolist()
    place = Georeference((size, 0.0, west, 0.0, -size, north), crs_of("EPSG:4326").to_wkt())
    return place, (max(1, round((north - south) / size)), max(1, round((east - west) / size)))
