"""The polygons of the maps of several UTM zones as one set in longitude and latitude, joined by class where the maps meet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from math import cos, radians
from pathlib import Path
from typing import TYPE_CHECKING, Any

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


def join_zones(jobs: Sequence[SceneJob]) -> Path | None:
    """Write the polygons of the maps of zones as one file a format, joined where the maps meet; the folder of them.

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
        return None
    boxes = [box for job in jobs if job.config.mosaic.within is not None for box in read_area(job.config.mosaic.within).boxes()]
    folder, qml = jobs[0].out / JOINED, maps[0].folder / "polygons.qml"
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
    return folder


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

    def batches(self) -> Iterator[tuple[Shapes, dict[str, list[Any]]]]:
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

    rows: Mapping[tuple[int, int], Mapping[str, Any] | None] = field(default_factory=dict)
    """Polygons along the lines, brought to them; None for those that nothing is left of, or that are part of another."""
    united: Sequence[Mapping[str, Any]] = ()
    """Those that were joined."""


def _joins(maps: Sequence[_Map], boxes: Sequence[tuple[float, float, float, float]]) -> _Joins:
    """Bring polygons along the edges of the parts of the Earth that maps are for to them, and join those of a class."""
    lines = lines_between(boxes)
    # At the 180th meridian maps end, and stay two.
    ends = [*lines, *(CutLine(0, at) for at in (-180.0, 180.0) if any(at in (box[0], box[2]) for box in boxes))]
    places: list[tuple[int, int]] = []
    rows: list[dict[str, Any]] = []
    for number, one in enumerate(maps):
        start = 0
        for shapes, columns in one.batches():
            near = np.flatnonzero(near_lines(shapes, ends, one.within))
            for index, shape in zip(near.tolist(), brought_to(shapes[near], ends, one.within), strict=True):
                places.append((number, start + index))
                rows.append({**{name: values[index] for name, values in columns.items()}, GEOMETRY: shape})
            start += len(shapes)
    kept = [k for k, row in enumerate(rows) if not row[GEOMETRY].is_empty]
    shapes = np.array([rows[k][GEOMETRY] for k in kept], object)
    groups = groups_over(shapes, [(rows[k]["code"], rows[k]["class"]) for k in kept], lines)
    found: dict[tuple[int, int], Mapping[str, Any] | None] = dict.fromkeys(places)
    alone = set(range(len(kept))) - {int(index) for group in groups for index in group}
    found |= {places[kept[k]]: rows[kept[k]] for k in sorted(alone)}
    return _Joins(found, [row for group in groups for row in _united([rows[kept[int(k)]] for k in group])])


def _united(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """One polygon of several of a class; pieces of one are joined to what they touch, so that there may be several."""
    shapes = united(np.array([row[GEOMETRY] for row in rows], object))
    areas = [row.get("area_m2") for row in rows]
    known = all(area is not None for area in areas)
    sizes = np.array([1.0 if area is None else float(area) for area in areas])
    shares = shapely.area(shapes) / max(float(shapely.area(shapes).sum()), 1e-300)
    sure = [row.get("confidence") for row in rows]
    mean = float(np.average(np.array(sure, np.float64), weights=sizes)) if None not in sure and sizes.sum() > 0 else None
    scenes = sorted({name for row in rows for name in str(row.get("scenes") or "").split(", ") if name})
    days = sorted({day for row in rows for day in str(row.get("dates") or "").split("/") if day})
    for shape, share in zip(shapes, shares.tolist(), strict=True):
        yield {
            **rows[0],
            "part": 0,
            "area_m2": round(float(sizes.sum()) * share, 2) if known else None,
            "perimeter_m": round(pyproj.Geod(ellps="WGS84").geometry_length(shape.boundary), 2),
            "confidence": None if mean is None else round(mean, 1),
            # A tenth of all pixels is none of the tenths of the parts.
            "confidence_p10": None,
            "acquired": _same(row.get("acquired") for row in rows),
            "scene": _same(row.get("scene") for row in rows) or "mosaic",
            "scenes": ", ".join(scenes) or None,
            "dates": "/".join(dict.fromkeys([days[0], days[-1]])) if days else None,
            GEOMETRY: shape,
        }


def _same(values: Iterator[Any]) -> Any:
    """What all are; None where they differ."""
    found = set(values)
    return found.pop() if len(found) == 1 else None


def _spooled(maps: Sequence[_Map], joins: _Joins, path: Path) -> FeatureSpool:
    """Write all polygons with new ids: those of maps in their order, then those that were joined."""
    import pyarrow as pa

    origins = any("scenes" in one.file.fields for one in maps)
    schema, count = feature_schema(origins=origins), 0
    ids: dict[tuple[int, int], int] = {}
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for rows in _batched(maps, joins):
            for number, row in enumerate(rows, start=count + 1):
                # Pieces of a polygon share its id.
                key = row.pop("piece", None)
                row["id"] = number if key is None else ids.setdefault(key, number)
            writer.write_batch(_batch(rows, schema))
            count += len(rows)
    return FeatureSpool(path, count)


def _batched(maps: Sequence[_Map], joins: _Joins) -> Iterator[list[dict[str, Any]]]:
    for number, one in enumerate(maps):
        start = 0
        for shapes, columns in one.batches():
            rows = []
            for index, shape in enumerate(shapes):
                place = number, start + index
                own = {name: values[index] for name, values in columns.items()} | {GEOMETRY: shape}
                row = joins.rows.get(place, own)
                if row is not None:
                    piece = (number, int(own["id"])) if own.get("part") else None
                    rows += [{**row, "piece": piece, GEOMETRY: part} for part in shapely.get_parts(row[GEOMETRY])]
            start += len(shapes)
            if rows:
                yield rows
    for first in range(0, len(joins.united), ROWS):
        yield [dict(row) for row in joins.united[first : first + ROWS]]


def _batch(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
    import pyarrow as pa

    shapes = shapely.orient_polygons(np.array([row[GEOMETRY] for row in rows], object), exterior_cw=False)
    columns = [
        pa.array(shapely.to_wkb(shapes).tolist(), one.type)
        if one.name == GEOMETRY
        else pa.array([row.get(one.name) for row in rows], one.type)
        for one in schema
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
