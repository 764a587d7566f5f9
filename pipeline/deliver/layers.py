"""The layers of a delivery, in one GeoPackage and as files of their own, styled."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pyproj

from geoseg.codes import NOT_ANALYSED
from geoseg.digits import DEGREES, figure
from geoseg.errors import OutputError, SceneError
from geoseg.formats.shades import hatched_qml, outline_qml
from geoseg.formats.styles import ClassStyle, vector_qml
from geoseg.formats.vector import FIXED_DATE, add_style
from geoseg.georeference import Georeference
from geoseg.polygons.arrow_stream import write_batches
from geoseg.scenes.files.muting import muted
from geoseg.scenes.gdal import gdal_env, open_raster
from geoseg.vectors.opening import open_vector
from pipeline.deliver.document import Image
from pipeline.deliver.events import Observed, observed_events
from pipeline.deliver.extents import Extents, geodesic_m2, not_analysed
from pipeline.deliver.result import Result

if TYPE_CHECKING:
    import pyarrow as pa
    import shapely

    from pipeline.deliver.terms import Terms

__all__ = ["ABOUT", "add_layer", "export_layer", "styles_of", "write_layers"]

BATCH = 4096
ROWS = 1024
ABOUT = {
    "source": "the images and the model that the result was made from (a table)",
    "areaOfInterest": "the area of interest",
    "imageFootprint": "where each image has valid pixels",
    "notAnalysed": "what in the area of interest was not analysed, and why",
    "observedEvent": "what was observed in the area of interest: changed areas cut at its border, or buildings with their damage",
}
DRIVERS = {"geojson": "GeoJSON", "fgb": "FlatGeobuf", "shp": "ESRI Shapefile"}


def write_layers(package: Path, result: Result, extents: Extents, terms: Terms, sums: Observed) -> None:
    """Write all layers to a GeoPackage, with their styles.

    Args:
        package: The file to write.
        result: What is delivered.
        extents: The areas.
        terms: What is said.
        sums: Gets the sums of the observed events.
    """
    add_layer(package, "source", *_source(result), None)
    add_layer(package, "areaOfInterest", *_area(result, extents, terms), result.crs)
    feet = (
        (shape, {"or_src_id": number, "source_nam": image.name, "acq_date": image.acquired, "det_method": how})
        for number, (image, shape, how) in enumerate(extents.footprints, start=1)
    )
    add_layer(
        package,
        "imageFootprint",
        *_shapes(feet, {"or_src_id": int, "source_nam": str, "acq_date": str, "det_method": str}),
        result.crs,
    )
    last = len(result.images)
    unseen = (
        (shape, {"obj_type": "Not analysed", "reason": reason, "or_src_id": last, "area_ha": _hectares(area)})
        for shape, reason, area in not_analysed(result, extents)
    )
    add_layer(
        package, "notAnalysed", *_shapes(unseen, {"obj_type": str, "reason": str, "or_src_id": int, "area_ha": float}), result.crs
    )
    constants: dict[str, str | int] = {
        "event_type": terms.event,
        "obj_desc": result.title,
        "det_method": "Automatic extraction",
        "dmg_src_id": last,
    }
    add_layer(package, "observedEvent", *observed_events(result, extents, constants, sums), result.crs)
    with closing(sqlite3.connect(package)) as connection, connection:
        for layer, qml in styles_of(result, sums).items():
            add_style(connection, layer, qml, ABOUT[layer])


def styles_of(result: Result, sums: Observed) -> dict[str, str]:
    """QGIS styles by layer."""
    names = {code: result.names.get(code, sums.names.get(code, f"class {code}")) for code in sorted(sums.names)}
    shown = result.observed if result.observed is not None else [code for code in names if code < NOT_ANALYSED]
    events = [ClassStyle(code, names[code], result.color(code, names[code])) for code in sorted(shown) if code in names]
    return {
        "areaOfInterest": outline_qml("#d7263d", dashed=True),
        "imageFootprint": outline_qml("#5a6672"),
        "notAnalysed": hatched_qml("#4a4f55"),
        "observedEvent": vector_qml(events),
    }


def _area(result: Result, extents: Extents, terms: Terms) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """The area of interest."""
    facts = {
        "emsr_id": terms.code,
        "area_id": 1,
        "event": terms.event,
        "event_time": terms.given.event_time,
        "map_type": result.title,
        "area_ha": _hectares(geodesic_m2(extents.aoi, result.crs)),
        "given": int(extents.aoi_given),
    }
    kinds = {"emsr_id": str, "area_id": int, "event": str, "event_time": str, "map_type": str, "area_ha": float, "given": int}
    return _shapes([(extents.aoi, facts)], kinds)


def _hectares(square_metres: float) -> float:
    return figure(square_metres / 1e4, 4)


def _source(result: Result) -> tuple[pa.Schema, list[pa.RecordBatch]]:
    """Images and the model."""
    import pyarrow as pa

    rows = [{"src_id": i, "eventphase": _phase(i, result), **_facts(image)} for i, image in enumerate(result.images, start=1)]
    if result.model:
        rows.append({"src_id": len(rows) + 1, "source_nam": result.model, "eventphase": "model"})
    texts = ("source_nam", "src_date", "sensor", "provider", "eventphase", "crs")
    schema = pa.schema(
        [pa.field("src_id", pa.int32()), *(pa.field(name, pa.string()) for name in texts), pa.field("sensor_gsd", pa.float64())]
    )
    return schema, [pa.RecordBatch.from_pylist(rows, schema=schema)]


def _phase(number: int, result: Result) -> str:
    if len(result.images) == 1:
        return "image"
    return "pre-event" if number == 1 else "post-event" if number == len(result.images) else "between"


def _facts(image: Image) -> dict[str, object]:
    """Facts of an image file, as far as it is still there."""
    facts: dict[str, object] = {"source_nam": image.name, "src_date": image.acquired, "sensor": image.sensor or "unknown"}
    facts["provider"] = image.provider
    try:
        with gdal_env(), open_raster(image.path, local=True) as dataset:
            place = Georeference(tuple(dataset.transform)[:6], None if dataset.crs is None else dataset.crs.to_wkt())
            size = place.pixel_size(dataset.height, dataset.width)
            facts |= {"crs": place.name, "sensor_gsd": None if size is None else round(size, 3)}
    except (OSError, SceneError):
        facts["crs"] = None
    return facts


def _shapes(
    rows: Iterable[tuple[shapely.MultiPolygon, Mapping[str, object]]], fields: Mapping[str, type]
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Shapes with their columns, some at a time."""
    import pyarrow as pa
    import shapely

    kinds = {str: pa.string(), int: pa.int32(), float: pa.float64()}
    schema = pa.schema(
        [
            *(pa.field(name, kinds[kind]) for name, kind in fields.items()),
            pa.field("geometry", pa.binary(), metadata={"ARROW:extension:name": "geoarrow.wkb"}),
        ]
    )

    def batches() -> Iterator[pa.RecordBatch]:
        waiting: list[dict[str, object]] = []
        for shape, facts in rows:
            waiting.append({**facts, "geometry": shapely.to_wkb(shape)})
            if len(waiting) == ROWS:
                yield pa.RecordBatch.from_pylist(waiting, schema=schema)
                waiting = []
        if waiting:
            yield pa.RecordBatch.from_pylist(waiting, schema=schema)

    return schema, batches()


def add_layer(
    package: Path,
    layer: str,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    crs: pyproj.CRS | None,
    kind: str = "MultiPolygon",
) -> None:
    """Add a layer to a GeoPackage; a table without geometries where the CRS is None.

    Raises:
        OutputError: It can't be written.
    """
    import pyogrio
    from pyogrio.errors import DataLayerError, DataSourceError, FeatureError

    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": FIXED_DATE})
    place: dict[str, str | None] = (
        {"geometry_name": None, "geometry_type": None, "crs": None}
        if crs is None
        else {
            "geometry_name": "geometry",
            "geometry_type": kind,
            "crs": crs.to_wkt(),
        }
    )
    options = {} if package.exists() else {"dataset_options": {"VERSION": "1.3"}}
    try:
        write_batches(package, schema, batches, layer=layer, driver="GPKG", **place, **options)
    except (DataSourceError, DataLayerError, FeatureError) as error:
        raise OutputError(f"{package}: can't be written: {error}; make room or choose another place, then run again") from error


def export_layer(package: Path, layer: str, path: Path, kind: str, decimals: int = DEGREES) -> Path:
    """Write a layer of a GeoPackage to a file of its own: GeoJSON in longitude and latitude, others in their CRS."""
    import pyogrio
    import pyogrio.raw

    source = open_vector(package)
    info = source.info(layer)
    options = {"geojson": {"RFC7946": "YES", "COORDINATE_PRECISION": str(decimals)}, "shp": {"ENCODING": "UTF-8"}}.get(kind, {})
    # Shapefiles shorten the names of fields, and FlatGeobuf has no index of nothing.
    with source.batches(layer, None, BATCH) as (meta, reader), muted():
        pyogrio.raw.write_arrow(
            reader,
            path,
            layer=path.stem,
            driver=DRIVERS[kind],
            geometry_name=meta["geometry_name"],
            crs=meta["crs"],
            geometry_type="Unknown" if kind != "shp" else info["geometry_type"] or "Polygon",
            layer_options=options,
        )
    if kind == "geojson" and (info["geometry_type"] or "").endswith("Polygon"):
        _keep_polygons(path)
    return path


def _keep_polygons(path: Path) -> None:
    """Make polygons again of what GDAL made of them where rounding closes a gap: collections of polygons and lines.

    Args:
        path: A GeoJSON file with a feature a line, as GDAL writes it; without such features it stays as it is.
    """
    mixed = re.compile(rb'"geometry": ?\{ ?"type": ?"(?!Polygon|MultiPolygon)')
    with path.open("rb") as lines:
        if not any(mixed.search(line) for line in lines):
            return
    temporary = path.with_name(f"{path.name}.polygons")
    with path.open("rb") as lines, temporary.open("wb") as out:
        for line in lines:
            out.write(_with_polygons(line) if mixed.search(line) else line)
    temporary.replace(path)


def _with_polygons(line: bytes) -> bytes:
    """A line of a GeoJSON file with the polygons of its feature alone; of what has none left, with no geometry."""
    text = line.decode().rstrip()
    feature = json.loads(text.removesuffix(","))
    parts = [
        ring
        for one in feature["geometry"].get("geometries", ())
        if one["type"].endswith("Polygon")
        for ring in (one["coordinates"] if one["type"] == "MultiPolygon" else [one["coordinates"]])
    ]
    feature["geometry"] = {"type": "MultiPolygon", "coordinates": parts} if parts else None
    return f"{json.dumps(feature, ensure_ascii=False)}{',' * text.endswith(',')}\n".encode()
