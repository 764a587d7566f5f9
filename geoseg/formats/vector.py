"""Vector files that GDAL and Arrow write: GeoPackage, FlatGeobuf and GeoParquet."""

from __future__ import annotations

import json
import sqlite3
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geoseg.dialect import setting
from geoseg.errors import GeoreferenceError, OutputError
from geoseg.formats.geojson import write_geojson
from geoseg.georeference import Georeference
from geoseg.polygons.arrow_stream import write_batches
from geoseg.polygons.features import ALIASES, GEOMETRY, feature_schema
from geoseg.polygons.geometries import boxes_of

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["EXTENSIONS", "FIXED_DATE", "LAYER", "ON_EARTH", "Batches", "add_style", "write_features"]

LAYER = "polygons"
EXTENSIONS: Mapping[str, str] = {"geojson": ".geojson", "gpkg": ".gpkg", "fgb": ".fgb", "parquet": ".parquet"}
"""File extension by format."""
ON_EARTH: Mapping[str, str] = {"geojson": "GeoJSON", "pmtiles": "PMTiles"}
"""Names of formats whose coordinates are longitudes and latitudes, or made of them."""
FIXED_DATE = "2000-01-01T00:00:00.000Z"
"""Written where a format wants the time of its last change, so that equal results have equal bytes."""

Batches = Callable[[], Iterable["pa.RecordBatch"]]


def write_features(
    path: Path,
    format_: str,
    batches: Batches,
    georeference: Georeference,
    shape: tuple[int, int],
    qml: str | None = None,
    *,
    schema: pa.Schema | None = None,
) -> None:
    """Write features to one file.

    Args:
        path: The file to write.
        format_: ``geojson``, ``gpkg``, ``fgb`` or ``parquet``.
        batches: Gives the features (``features.feature_schema``), as often as it is asked.
        georeference: Where the raster's pixels lie.
        shape: Rows and columns of the raster.
        qml: QGIS style, embedded where the format can hold it.
        schema: Of the batches; by default that of regions.

    Raises:
        GeoreferenceError: GeoJSON of a CRS without relation to WGS 84.
    """
    schema = feature_schema() if schema is None else schema
    if format_ == "geojson":
        write_geojson(path, batches(), georeference, shape)
    elif format_ == "parquet":
        _write_parquet(path, batches(), schema, georeference)
    elif format_ == "fgb":
        _write_with_gdal(path, "FlatGeobuf", batches(), schema, georeference, {"SPATIAL_INDEX": "YES"})
    elif format_ == "gpkg":
        _write_with_gdal(
            path, "GPKG", batches(), schema, georeference, {"GEOMETRY_NAME": "geom", "FID": "fid"}, {"VERSION": "1.3"}
        )
        _finish_geopackage(path, schema, qml)
    else:
        raise ValueError(f"format {format_!r} is not one of {', '.join(EXTENSIONS)}")


def _write_with_gdal(
    path: Path,
    driver: str,
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    georeference: Georeference,
    layer_options: Mapping[str, str],
    dataset_options: Mapping[str, str] | None = None,
) -> None:
    import pyogrio
    from pyogrio.errors import DataLayerError, DataSourceError, FeatureError

    path.unlink(missing_ok=True)
    # Who wants the file on the disk syncs it when it is whole; a half is of no use.
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": FIXED_DATE, "OGR_SQLITE_SYNCHRONOUS": "OFF"})
    # Images in pixel coordinates have none, and their run says so.
    warnings.filterwarnings("ignore", message="'crs' was not provided")
    try:
        write_batches(
            path,
            schema,
            batches,
            layer=LAYER,
            driver=driver,
            geometry_name=GEOMETRY,
            geometry_type="Polygon",
            crs=georeference.crs,
            dataset_options=dict(dataset_options or {}),
            layer_options=dict(layer_options),
        )
    except (DataSourceError, DataLayerError, FeatureError) as error:
        raise OutputError(f"{path}: can't be written: {error}; make room or choose another place, then run again") from error
    finally:
        pyogrio.set_gdal_config_options({"OGR_SQLITE_SYNCHRONOUS": None})


def _finish_geopackage(path: Path, schema: pa.Schema, qml: str | None) -> None:
    """Add aliases (GeoPackage schema extension) and the default QGIS style (its ``layer_styles`` table)."""
    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA synchronous = OFF")
        with connection:
            connection.executescript(
                """
                CREATE TABLE gpkg_data_columns (
                    table_name TEXT NOT NULL, column_name TEXT NOT NULL, name TEXT, title TEXT, description TEXT,
                    mime_type TEXT, constraint_name TEXT,
                    CONSTRAINT pk_gdc PRIMARY KEY (table_name, column_name), CONSTRAINT gdc_tn UNIQUE (table_name, name));
                CREATE TABLE gpkg_data_column_constraints (
                    constraint_name TEXT NOT NULL, constraint_type TEXT NOT NULL, value TEXT, min NUMERIC,
                    min_is_inclusive BOOLEAN, max NUMERIC, max_is_inclusive BOOLEAN, description TEXT,
                    CONSTRAINT gdcc_ntv UNIQUE (constraint_name, constraint_type, value));
                CREATE TABLE IF NOT EXISTS gpkg_extensions (
                    table_name TEXT, column_name TEXT, extension_name TEXT NOT NULL, definition TEXT NOT NULL,
                    scope TEXT NOT NULL, CONSTRAINT ge_tce UNIQUE (table_name, column_name, extension_name));
                """
            )
            connection.executemany(
                "INSERT INTO gpkg_extensions VALUES (?, NULL, 'gpkg_schema', "
                "'http://www.geopackage.org/spec121/#extension_schema', 'read-write')",
                [("gpkg_data_columns",), ("gpkg_data_column_constraints",)],
            )
            connection.executemany(
                "INSERT INTO gpkg_data_columns (table_name, column_name, name, title) VALUES (?, ?, ?, ?)",
                [(LAYER, name, ALIASES[name], ALIASES[name]) for name in schema.names if name in ALIASES],
            )
            if qml is not None:
                add_style(connection, LAYER, qml, "Classes of the model")
    finally:
        connection.close()


def add_style(connection: sqlite3.Connection, layer: str, qml: str, title: str) -> None:
    """Give a layer of a GeoPackage its default QGIS style, in the table ``layer_styles``."""
    connection.execute(
        "CREATE TABLE IF NOT EXISTS layer_styles (id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, f_table_catalog TEXT(256), "
        "f_table_schema TEXT(256), f_table_name TEXT(256), f_geometry_column TEXT(256), styleName TEXT(30), styleQML TEXT, "
        "styleSLD TEXT, useAsDefault BOOLEAN, description TEXT, owner TEXT(30), ui TEXT(30), update_time DATETIME)"
    )
    connection.execute(
        "INSERT INTO layer_styles (f_table_catalog, f_table_schema, f_table_name, f_geometry_column, styleName, styleQML, "
        "styleSLD, useAsDefault, description, owner, update_time) VALUES ('', '', ?, 'geom', ?, ?, '', 1, ?, '', ?)",
        (layer, "classes", qml, title, FIXED_DATE),
    )
    connection.execute(
        "INSERT OR IGNORE INTO gpkg_contents (table_name, data_type, identifier, description, last_change) "
        "VALUES ('layer_styles', 'attributes', 'layer_styles', '', ?)",
        (FIXED_DATE,),
    )


def _write_parquet(path: Path, batches: Iterable[pa.RecordBatch], schema: pa.Schema, georeference: Georeference) -> None:
    """GeoParquet 1.1 with a covering bounding box."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    bbox_type = pa.struct([(name, pa.float64()) for name in ("xmin", "ymin", "xmax", "ymax")])
    field = pa.field("bbox", bbox_type, nullable=False)
    plain = [f.with_metadata(None) if f.name == GEOMETRY else f for f in schema]
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    with pq.ParquetWriter(
        path, pa.schema([*plain, field]), compression="zstd", compression_level=1, write_statistics=True
    ) as writer:
        for batch in batches:
            bounds = boxes_of(batch.column(GEOMETRY))
            if len(bounds):
                low, high = np.minimum(low, bounds[:, :2].min(axis=0)), np.maximum(high, bounds[:, 2:].max(axis=0))
            box = pa.StructArray.from_arrays([pa.array(bounds[:, i]) for i in range(4)], fields=list(bbox_type))
            writer.write_batch(pa.RecordBatch.from_arrays([*batch.columns, box], schema=pa.schema([*plain, field])))
        writer.add_key_value_metadata({"geo": json.dumps(_geo_metadata(georeference, low, high))})


def _geo_metadata(georeference: Georeference, low: Any, high: Any) -> dict[str, Any]:
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": ["Polygon"] if np.isfinite(low).all() else [],
        "orientation": "counterclockwise",
        "edges": "planar",
        "covering": {"bbox": {name: ["bbox", name] for name in ("xmin", "ymin", "xmax", "ymax")}},
        "crs": georeference.projjson,
    }
    if np.isfinite(low).all():
        column["bbox"] = [*low.tolist(), *high.tolist()]
    return {"version": "1.1.0", "primary_column": GEOMETRY, "columns": {GEOMETRY: column}}


def check_formats(formats: Iterable[str], georeference: Georeference) -> Iterator[str]:
    """The formats that can be written for a scene, in order.

    Raises:
        GeoreferenceError: One was asked for that needs longitudes and latitudes, and the scene has none.
    """
    for name in formats:
        if name in ON_EARTH and not georeference.has_lonlat:
            raise GeoreferenceError(
                f"{ON_EARTH[name]} needs longitudes and latitudes, which {georeference.name} does not give; use "
                f"{setting('formats', 'gpkg')}"
            )
        yield name
