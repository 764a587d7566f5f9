"""Features into a table, by COPY and some at a time."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyproj

from geoseg.vectors.geoparquet import geo_column
from geoseg.vectors.opening import open_parquet, open_vector
from geoseg.vectors.polygon_file import Geometries, PolygonFile
from geoseg.vectors.reprojecting import reprojected
from pipeline.load.database import GEOMETRY, KEYS, Place

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["columns_of", "copy_features", "forget"]

POLYGON = 3


def columns_of(file: PolygonFile) -> dict[str, str]:
    """SQL types of a file's columns by name; whole numbers, numbers, booleans, and texts for all else.

    Columns that formats tell differently, as GeoJSON does of numbers that happen to be whole, have the type that features of
    geoseg have.
    """
    import pyarrow as pa

    from geoseg.polygons.features import feature_schema

    ours = feature_schema(objects=True, changes=True, origins=True)
    source = open_vector(file.path)
    if file.layer is None:
        with open_parquet(source) as opened:
            kinds = {name: _sql_type(opened.schema_arrow.field(name).type) for name in geo_column(opened).others}
    else:
        info = source.info(file.layer)
        kinds = {
            str(name): "text" if kind == "object" else _sql_type(pa.from_numpy_dtype(np.dtype(kind)))
            for name, kind in zip(info["fields"], info["dtypes"], strict=True)
        }
    return {name: _sql_type(ours.field(name).type) if name in ours.names else kind for name, kind in kinds.items()}


def _sql_type(kind: pa.DataType) -> str:
    import pyarrow.types as pt

    if pt.is_integer(kind):
        return "bigint"
    if pt.is_floating(kind):
        return "double precision"
    return "boolean" if pt.is_boolean(kind) else "text"


def copy_features(
    place: Place, table: str, run: str, file: PolygonFile, columns: Mapping[str, str], target: pyproj.CRS | None
) -> int:
    """Put the features of a run into a table: what the run has there is updated, and removed where it has it no more.

    Batches are in memory. Returns the number of features.

    Args:
        place: The schema.
        table: The table, which has the columns.
        run: The run.
        file: The features.
        columns: SQL types by name; see ``columns_of``.
        target: CRS that geometries are brought to; None for theirs.
    """
    from psycopg.sql import SQL, Identifier

    again = place.connection.execute(place.named("SELECT 1 FROM {table} WHERE run = %s LIMIT 1", table), [run]).fetchone()
    into = Identifier(place.schema, table)
    if again is not None:
        into = Identifier("pg_temp", "staged")
        place.connection.execute(place.named("CREATE TEMPORARY TABLE staged (LIKE {table} INCLUDING DEFAULTS)", table))
    names = SQL(", ").join(map(Identifier, ("run", *columns, GEOMETRY)))
    count = 0
    with place.connection.cursor().copy(SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(into, names)) as copy:
        for rows, text in _csv(run, file, columns, target):
            copy.write(text)
            count += rows
    if again is not None:
        _take_over(place, table, run)
    return count


def _take_over(place: Place, table: str, run: str) -> None:
    """Have the staged rows of a run replace those that it has; rows that stay keep what refers to them."""
    from psycopg.sql import SQL, Identifier

    columns = list(place.columns(table))
    names = SQL(", ").join(map(Identifier, columns))
    changes = SQL(", ").join(SQL("{0} = EXCLUDED.{0}").format(Identifier(name)) for name in columns if name not in KEYS)
    keys = ", ".join(KEYS)
    connection, into = place.connection, Identifier(place.schema, table)
    connection.execute("ANALYZE pg_temp.staged")
    connection.execute(
        SQL(
            "DELETE FROM {} f WHERE run = %s AND NOT EXISTS (SELECT FROM pg_temp.staged s WHERE (s.id, s.part) = (f.id, f.part))"
        ).format(into),
        [run],
    )
    connection.execute(
        SQL(
            "INSERT INTO {into} ({names}) SELECT {names} FROM pg_temp.staged ON CONFLICT ({keys}) DO UPDATE SET {changes}"
        ).format(into=into, names=names, keys=SQL(keys), changes=changes)
    )
    connection.execute("DROP TABLE pg_temp.staged")


def forget(place: Place, table: str, run: str) -> None:
    """Remove the features of a run from a table that it is not in any more."""
    if place.columns(table):
        place.connection.execute(place.named("DELETE FROM {table} WHERE run = %s", table), [run])


def _csv(run: str, file: PolygonFile, columns: Mapping[str, str], target: pyproj.CRS | None) -> Iterator[tuple[int, bytes]]:
    """Features some at a time, as their number and the rows of a CSV file; a missing value is empty, an empty text is ``""``."""
    import pyarrow as pa
    import pyarrow.csv

    types: dict[str, pa.DataType] = {"bigint": pa.int64(), "double precision": pa.float64(), "boolean": pa.bool_()}
    options = pyarrow.csv.WriteOptions(include_header=False)
    for shapes, values in file.batches(tuple(columns)):
        arrays = [pa.array([run] * len(shapes), pa.string())]
        for name, kind in columns.items():
            found: Sequence[object] = values[name]
            if kind == "text":
                found = [value if value is None or isinstance(value, str) else str(value) for value in found]
            arrays.append(pa.array(found, types.get(kind, pa.string())))
        arrays.append(pa.array(_hex(shapes, file.crs, target), pa.string()))
        buffer = io.BytesIO()
        pyarrow.csv.write_csv(pa.table(arrays, names=["run", *columns, GEOMETRY]), buffer, options)
        yield len(shapes), buffer.getvalue()


def _hex(shapes: Geometries, source: pyproj.CRS | None, target: pyproj.CRS | None) -> Geometries:
    """Well-known binary of multipolygons in hexadecimal digits: all of one type, as clients of a table expect it."""
    import shapely

    if target is not None:
        shapes = reprojected(shapes, source, target)
    shapes = shapely.force_2d(shapes)
    single = np.flatnonzero(shapely.get_type_id(shapes) == POLYGON)
    if len(single):
        shapes = shapes.copy()
        shapes[single] = shapely.multipolygons(shapes[single], indices=np.arange(len(single)))
    return np.asarray(shapely.to_wkb(shapes, hex=True))
