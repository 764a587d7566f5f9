"""Metadata of GeoParquet files, and their geometries in every encoding that versions 0.4 to 1.1 have.

GeoParquet 1.1.0, https://geoparquet.org/releases/v1.1.0/: well-known binary, or nested lists of coordinates as GeoArrow has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.arrays import I64
from geoseg.documents import parse_json
from geoseg.errors import ReadError
from geoseg.vectors.arcs import shapes_of_wkb

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

__all__ = ["GeoColumn", "geo_column", "shapes_of"]

LONLAT = "OGC:CRS84"
"""The specification's default."""
WKB = "wkb"
LEVELS = {"point": 0, "linestring": 1, "multipoint": 1, "polygon": 2, "multilinestring": 2, "multipolygon": 3}
"""Lists in lists around the coordinates."""


@dataclass(frozen=True, slots=True)
class GeoColumn:
    """The geometries of a GeoParquet file, and its other columns."""

    name: str
    encoding: str
    """In lower letters."""
    crs: Any
    """As the file has it: PROJJSON, a text, or None where it says that nobody knows."""
    others: tuple[str, ...]
    """Columns that are neither geometries nor boxes of them."""


def geo_column(file: pq.ParquetFile) -> GeoColumn:
    """The primary geometries of a file.

    The key ``geo`` is one of the file: where Arrow's own schema is stored beside it, the schema that is read lacks it.

    Raises:
        ReadError: It has none, or in an encoding that is not known.
    """
    schema = file.schema_arrow
    text = (file.metadata.metadata or {}).get(b"geo")
    if text is None:
        return _by_type(schema)
    facts: Any = parse_json(text, "the key geo of its metadata", ReadError)
    try:
        name, columns = facts["primary_column"], facts["columns"]
        about = columns[name]
        encoding = str(about.get("encoding", WKB)).lower().removeprefix("geoarrow.")
        boxes = {box["xmin"][0] for one in columns.values() if (box := (one.get("covering") or {}).get("bbox"))}
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ReadError(f"its key geo says nothing of its geometries: {error!r}") from error
    if name not in schema.names:
        raise ReadError(f"it has no column {name!r}, which its key geo names as that of its geometries")
    if encoding != WKB and encoding not in LEVELS:
        raise ReadError(f"its geometries are encoded as {about.get('encoding')}; known are WKB, {', '.join(LEVELS)}")
    return GeoColumn(name, encoding, about.get("crs", LONLAT), _others(schema, {*columns, *boxes}))


def _by_type(schema: pa.Schema) -> GeoColumn:
    """Of a file without the key: the first column of Parquet's own type of geometries."""
    found = {field.name: field for field in schema if _extension(field) == "geoarrow.wkb"}
    if not found:
        raise ReadError("a Parquet file without geometries: it has no key geo in its metadata")
    field = next(iter(found.values()))
    about = getattr(field.type, "crs", None) or _crs_of_metadata(field)
    return GeoColumn(field.name, WKB, about, _others(schema, set(found)))


def _extension(field: pa.Field) -> str | None:
    name = getattr(field.type, "extension_name", None) or (field.metadata or {}).get(b"ARROW:extension:name")
    return name.decode() if isinstance(name, bytes) else name


def _crs_of_metadata(field: pa.Field) -> Any:
    text = (field.metadata or {}).get(b"ARROW:extension:metadata") or b"{}"
    facts: Any = parse_json(text, "the type of its geometries", ReadError)
    return facts.get("crs", LONLAT) if isinstance(facts, dict) else LONLAT


def _others(schema: pa.Schema, taken: set[str]) -> tuple[str, ...]:
    return tuple(name for name in schema.names if name not in taken)


def shapes_of(column: Any, encoding: str = WKB) -> NDArray[Any]:
    """(N,) geometries of an Arrow array; None where there are none.

    Raises:
        ReadError: They are not what the encoding says.
    """
    import pyarrow as pa

    array = column.storage if isinstance(column, pa.ExtensionArray) else column
    if encoding == WKB:
        return shapes_of_wkb(array.to_numpy(zero_copy_only=False))
    there = np.asarray(array.is_valid())
    out = np.full(len(array), None, object)
    try:
        out[there] = _nested(array.filter(pa.array(there)), encoding)
    except (pa.ArrowException, AttributeError, TypeError, ValueError, shapely.errors.GEOSException) as error:
        raise ReadError(f"its geometries are not encoded as {encoding}: {error}") from error
    return out


def _nested(array: Any, encoding: str) -> NDArray[Any]:
    offsets: list[I64] = []
    for _ in range(LEVELS[encoding]):
        steps = array.offsets.to_numpy().astype(np.int64)
        array = array.values.slice(steps[0], steps[-1] - steps[0])
        offsets.append(steps - steps[0])
    xy = np.stack([array.field(name).to_numpy(zero_copy_only=False).astype(np.float64) for name in ("x", "y")], axis=1)
    kind = shapely.GeometryType[encoding.upper()]
    return np.asarray(shapely.from_ragged_array(kind, xy, tuple(reversed(offsets)) or None), object)
