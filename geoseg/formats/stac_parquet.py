"""STAC items as a table: GeoParquet by the specification stac-geoparquet.

https://github.com/stac-utils/stac-geoparquet/blob/main/spec/stac-geoparquet-spec.md: a row an item, properties as columns of
their own, links and assets nested, the box as a structure that GeoParquet 1.1 knows as the covering of the geometry.

``write_rows`` writes every such file; ``write_items`` makes its columns of items, ``geoseg.formats.stac_table`` of scenes.
"""

from __future__ import annotations

import json
import math
import os
import posixpath
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
import shapely.geometry

from geoseg.addresses import is_remote
from geoseg.arrays import F64

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["MADE_BY", "ROWS", "is_item_table", "write_items", "write_rows"]

VERSION = "1.0.0"
MADE_BY = "geoseg:items"
"""Key of the file's metadata by which geoseg knows its own."""
ROWS = 4096
"""Of a row group, which is read or passed over as a whole."""
MAGIC, TAIL, MOST_FOOTER = b"PAR1", 8, 1 << 28
"""The end of a Parquet file: the footer's length in four bytes, and its name."""
TIMES = ("datetime", "start_datetime", "end_datetime", "created", "updated")
BOX = ("xmin", "ymin", "xmax", "ymax")
OWN = ("type", "stac_version", "stac_extensions", "id", "geometry", "bbox", "properties", "links", "assets", "collection")


def write_items(
    path: Path,
    items: Mapping[str, Mapping[str, Any]],
    collection: Mapping[str, Any],
    made_by: str,
) -> None:
    """Write a table of items; the same items make the same bytes.

    Args:
        path: The file.
        items: The items, by their paths relative to the file's folder; their relative links become relative to that folder.
        collection: The STAC Collection that they are of.
        made_by: What made the file, for its metadata.
    """
    rows = [items[href] for href in sorted(items)]
    name = str(collection["id"])
    shapes = [shapely.geometry.shape(row["geometry"]) if row.get("geometry") else None for row in rows]
    boxes = np.array([_box(row) for row in rows], np.float64).reshape(-1, len(BOX))
    columns = _columns(rows, sorted(items), name)
    write_rows(path, columns, shapes, boxes, collections={name: collection}, made_by=made_by)


def write_rows(
    path: Path,
    columns: Mapping[str, pa.Array],
    shapes: Sequence[shapely.Geometry | None],
    boxes: F64,
    *,
    collections: Mapping[str, Mapping[str, Any]] | None = None,
    made_by: str | None = None,
) -> None:
    """Write rows as GeoParquet 1.1 in longitude and latitude, in groups of ``ROWS``.

    Args:
        path: The file.
        columns: Of the items and of their properties, by name, in their order; geometry and box come before ``links``.
        shapes: (N,) geometries; None where there is none.
        boxes: (N, 4) west, south, east and north in degrees; not a number where there is none.
        collections: The STAC Collections of the items, by their ids, for the file's metadata.
        made_by: What made the file, by which ``is_item_table`` knows it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    there = np.isfinite(boxes).all(axis=1)
    sides = [pa.array(side, pa.float64()) for side in boxes.T]
    own = {
        "geometry": pa.array(shapely.to_wkb(np.array(shapes, object)).tolist(), pa.binary()),
        "bbox": pa.StructArray.from_arrays(sides, names=list(BOX), mask=pa.array(~there)),
    }
    before = list(columns).index("links")
    named = list(columns.items())
    table = pa.table(dict([*named[:before], *own.items(), *named[before:]]))
    told = {"version": VERSION} | ({} if collections is None else {"collections": collections})
    facts = {"geo": json.dumps(_geo(shapes), sort_keys=True), "stac-geoparquet": json.dumps(told, sort_keys=True)}
    with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
        writer.write_table(table, row_group_size=ROWS)
        writer.add_key_value_metadata(facts | ({} if made_by is None else {MADE_BY: made_by}))


def is_item_table(path: Path) -> bool:
    """Whether a file is such a table that ``write_items`` has written; its footer is looked through, not interpreted."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            length = int.from_bytes(file.read(4), "little")
            if size < TAIL or file.read(4) != MAGIC or length > min(size - TAIL, MOST_FOOTER):
                return False
            file.seek(size - TAIL - length)
            return MADE_BY.encode() in file.read(length)
    except OSError:
        return False


def _columns(rows: Sequence[Mapping[str, Any]], hrefs: Sequence[str], collection: str) -> dict[str, pa.Array]:
    import pyarrow as pa

    text, texts = pa.string(), pa.list_(pa.string())
    link = pa.struct([(key, text) for key in ("href", "rel", "type", "title")])
    columns: dict[str, pa.Array] = {
        "id": pa.array([row.get("id") for row in rows], text),
        "stac_version": pa.array([row.get("stac_version") for row in rows], text),
        "stac_extensions": pa.array([row.get("stac_extensions", []) for row in rows], texts),
        "links": pa.array([_links(row, href) for row, href in zip(rows, hrefs, strict=True)], pa.list_(link)),
        "assets": _column([_assets(row, href) for row, href in zip(rows, hrefs, strict=True)]),
        "collection": pa.array([row.get("collection") or collection for row in rows], text),
    }
    # Any item may lack datetime where it has an interval; readers look for the column all the same.
    names = {"datetime": None, **{key: None for row in rows for key in row["properties"]}}
    for key in names:
        # STAC forbids such properties; a column can be there once.
        if key not in OWN:
            values = [row["properties"].get(key) for row in rows]
            columns[key] = pa.array([_time(v) for v in values], pa.timestamp("us", "UTC")) if key in TIMES else _column(values)
    return columns


def _column(values: Sequence[Any]) -> pa.Array:
    """Values by their own type; as JSON where they have several, or none that Parquet knows."""
    import pyarrow as pa

    try:
        found = pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return _as_json(values)
    if pa.types.is_null(found.type):
        return pa.nulls(len(values), pa.string())
    return _as_json(values) if _is_hollow(found.type) else found


def _is_hollow(kind: pa.DataType) -> bool:
    """Whether a type holds a structure without fields, which Parquet can't write."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return kind.num_fields == 0 or any(_is_hollow(field.type) for field in kind)
    return pa.types.is_list(kind) and _is_hollow(kind.value_type)


def _as_json(values: Sequence[Any]) -> pa.Array:
    import pyarrow as pa

    return pa.array([None if value is None else json.dumps(value, sort_keys=True) for value in values], pa.string())


def _time(text: str | None) -> datetime | None:
    if not text:
        return None
    when = datetime.fromisoformat(text)
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _box(row: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """The corners in the plane, without heights; not a number where there are none.

    A box that crosses the antimeridian, whose west is east of its east, becomes one around the whole Earth: readers look for
    what lies between its ends.
    """
    box = row.get("bbox")
    if not box:
        return (math.nan,) * 4
    half = len(box) // 2
    west, south, east, north = map(float, (box[0], box[1], box[half], box[half + 1]))
    return (west, south, east, north) if west <= east else (-180.0, south, 180.0, north)


def _links(row: Mapping[str, Any], href: str) -> list[dict[str, str | None]]:
    links = [
        {key: link.get(key) for key in ("href", "rel", "type", "title")} | {"href": _beside(href, link["href"])}
        for link in row.get("links", [])
    ]
    own = {"href": href, "rel": "canonical", "type": "application/geo+json", "title": None}
    return [own, *links]


def _assets(row: Mapping[str, Any], href: str) -> dict[str, dict[str, Any]]:
    return {key: {**asset, "href": _beside(href, asset["href"])} for key, asset in row.get("assets", {}).items()}


def _beside(item: str, href: str) -> str:
    """A link of an item, relative to the folder that the item's own path is relative to."""
    if is_remote(href) or href.startswith("/"):
        return href
    return "./" + posixpath.normpath(posixpath.join(posixpath.dirname(item), href))


def _geo(geometries: Sequence[shapely.Geometry | None]) -> dict[str, Any]:
    """Metadata of GeoParquet 1.1; without a CRS they are longitudes and latitudes."""
    shapes = [shape for shape in geometries if shape is not None]
    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": sorted({shape.geom_type for shape in shapes}),
        "covering": {"bbox": {name: ["bbox", name] for name in BOX}},
    }
    if shapes:
        column["bbox"] = shapely.total_bounds(shapes).tolist()
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
