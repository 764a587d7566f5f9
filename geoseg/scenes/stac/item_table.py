"""Items of a GeoParquet file in the manner of stac-geoparquet: those in a box, of some dates, as items of JSON.

A row is an item, its properties are columns of their own, and its box is four numbers, by whose least and greatest whole row
groups are passed over (https://github.com/radiantearth/stac-geoparquet-spec). Geometries are not read: the box says where an
item lies.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from geoseg.addresses import is_remote, path_of, shown
from geoseg.arrays import F64, Bools
from geoseg.errors import ConfigError
from geoseg.scenes.stac.search import Box, StacSearch, interval

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

__all__ = ["TABLES", "is_table", "items_of_table", "touching"]

TABLES = (".parquet", ".geoparquet")
SIDES = ("xmin", "ymin", "xmax", "ymax")
ITEM = ("id", "links", "assets", "collection")
"""Columns of an item itself; the others are its properties."""
PROPERTIES = re.compile(r"proj:.*|eo:cloud_cover|(?:start_|end_)?datetime|updated|created|platform|constellation")
"""Those that scenes are made of; no other is read."""
MOST_BYTES = 2 << 30
"""Of a row group, when it is decompressed."""


def is_table(text: str) -> bool:
    """Whether a file or an address is that of a table of items, by its name."""
    return (path_of(text) if is_remote(text) else text).lower().endswith(TABLES)


def items_of_table(path: str, search: StacSearch) -> Iterator[dict[str, Any]]:
    """The items of a table that a search takes, as JSON, in the order of the file.

    Args:
        path: The file.
        search: Its box, dates, collections and clouds; what cannot be told of an item leaves it in, but for clouds.

    Raises:
        ConfigError: It can't be read, or holds no items.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if is_remote(path):
        raise ConfigError(
            f"inputs: {shown(path)}: tables of items are read from a disk; download it, or search its API: stac+https://…"
        )
    try:
        with pq.ParquetFile(os.path.abspath(path)) as file:
            lacks = [name for name in ("id", "assets") if name not in file.schema_arrow.names]
            if lacks:
                raise ConfigError(
                    f"inputs: {path}: no table of STAC items, as it has no column {lacks[0]!r}; polygons are no scenes, and an "
                    "index of scenes is in the manner of stac-geoparquet"
                )
            columns = [name for name in file.schema_arrow.names if name in (*ITEM, "bbox") or PROPERTIES.fullmatch(name)]
            asked = [] if search.bbox is None else [[search.bbox]]
            asked += [] if search.near is None else [list(search.near())]
            for group in _groups(file, path, asked):
                table = file.read_row_group(group, columns=columns, use_threads=False)
                yield from _items(table.filter(pa.array(_wanted(table, search, asked))))
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"inputs: {path}: can't be read as a table of STAC items: {error}") from error


def _groups(file: pq.ParquetFile, path: str, asked: Sequence[Sequence[Box]]) -> Iterator[int]:
    """Row groups that may hold items which touch one of each of some sets of boxes; those that tell nothing do."""
    about = file.metadata
    for number in range(about.num_row_groups):
        group = about.row_group(number)
        if group.total_byte_size > MOST_BYTES:
            raise ConfigError(
                f"inputs: {path}: a row group of it is {group.total_byte_size / 2**30:.1f} GiB when it is decompressed; "
                f"{MOST_BYTES >> 30} GiB are the most: write it in smaller ones"
            )
        stats = {group.column(k).path_in_schema: group.column(k).statistics for k in range(group.num_columns)}
        ends = [one for side in SIDES if (one := stats.get(f"bbox.{side}")) is not None and one.has_min_max]
        if len(ends) < len(SIDES) or ends[0].max > 0 > ends[2].min:
            # The last: one may lie over the 180th meridian.
            yield number
            continue
        around = np.array([[ends[0].min, ends[1].min, ends[2].max, ends[3].max]])
        if all(touching(around, boxes).any() for boxes in asked):
            yield number


def touching(boxes: F64, asked: Sequence[Box]) -> Bools:
    """Which of (N, 4) boxes touch one of some boxes, west, south, east, north in degrees; those that are not finite do.

    West may be larger than east in both: they lie over the 180th meridian.
    """
    west, south, east, north = boxes.T
    over, found = west > east, ~np.isfinite(boxes).all(axis=1)
    for left, bottom, right, top in asked:
        if left > right:
            across = over | (west <= right) | (east >= left)
        else:
            across = np.where(over, (left <= east) | (right >= west), (west <= right) & (east >= left))
        found |= across & (south <= top) & (north >= bottom)
    return np.asarray(found, bool)


def _wanted(table: pa.Table, search: StacSearch, asked: Sequence[Sequence[Box]]) -> Bools:
    """Which (N,) rows a search takes."""
    keep = np.ones(table.num_rows, bool)
    names = set(table.schema.names)
    if asked and (boxes := _boxes(table)) is not None:
        for one in asked:
            keep &= touching(boxes, one)
    if search.datetime is not None:
        keep &= _within(table, search.datetime)
    if search.collections and "collection" in names:
        keep &= np.isin(np.array(table.column("collection").to_pylist(), object).astype(str), search.collections)
    if search.max_cloud_cover is not None:
        # Those that do not say are passed over, as in a search.
        clouds = (
            _numbers(table.column("eo:cloud_cover").combine_chunks()) if "eo:cloud_cover" in names else np.full(len(keep), np.nan)
        )
        keep &= clouds <= search.max_cloud_cover
    return keep


def _boxes(table: pa.Table) -> F64 | None:
    """(N, 4) boxes of items; None where the table has none."""
    import pyarrow as pa

    if "bbox" not in table.schema.names:
        return None
    column = table.column("bbox").combine_chunks()
    if not pa.types.is_struct(column.type) or any(column.type.get_field_index(side) < 0 for side in SIDES):
        return None
    return np.stack([_numbers(column.field(side)) for side in SIDES], axis=1)


def _within(table: pa.Table, text: str) -> Bools:
    """Which (N,) rows are of a date or of an interval, by their first and last moment; those without one are."""
    first, _, last = interval(text).partition("/")
    ends = [None if end in ("", "..") else _moment(end) for end in (first, last or first)]
    names, keep = set(table.schema.names), np.ones(table.num_rows, bool)
    for column, end, later in (("end_datetime", ends[0], True), ("start_datetime", ends[1], False)):
        if end is None:
            continue
        times = _times(table, "datetime")
        if column in names:
            own = _times(table, column)
            times = np.where(np.isnat(own), times, own)
        keep &= np.isnat(times) | ((times >= end) if later else (times <= end))
    return keep


def _times(table: pa.Table, name: str) -> np.ndarray:
    """(N,) times of a column in UTC; NaT where there is none."""
    import pyarrow as pa

    if name not in table.schema.names:
        return np.full(table.num_rows, np.datetime64("NaT", "us"))
    column = table.column(name)
    if not pa.types.is_timestamp(column.type):
        found = [_moment(text) if isinstance(text, str) else np.datetime64("NaT", "us") for text in column.to_pylist()]
        return np.array(found, "datetime64[us]")
    return np.asarray(column.cast(pa.timestamp("us", column.type.tz), safe=False).to_numpy(), "datetime64[us]")


def _moment(text: str) -> np.datetime64:
    when = datetime.fromisoformat(text)
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return np.datetime64(when.astimezone(UTC).replace(tzinfo=None), "us")


def _numbers(array: pa.Array) -> F64:
    """(N,) numbers; NaN where there is none."""
    import pyarrow as pa

    return np.asarray(array.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)


def _items(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Rows as items: columns that are not of an item itself are its properties."""
    named = {name: _values(table.column(name).combine_chunks()) for name in table.schema.names if name != "bbox"}
    own = [name for name in named if name in ITEM]
    others = [name for name in named if name not in ITEM]
    for number in range(table.num_rows):
        item = {name: value for name in own if (value := named[name][number]) is not None}
        item["properties"] = {name: value for name in others if (value := named[name][number]) is not None}
        yield item


def _values(array: pa.Array) -> list[Any]:
    """Values as of JSON, column by column rather than row by row: what is null in a table does not stand in an object."""
    import pyarrow as pa

    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return _values(array.storage)
    if pa.types.is_struct(kind):
        fields = [(kind.field(k).name, _values(array.field(k))) for k in range(kind.num_fields)]
        return [
            {name: value for name, values in fields if (value := values[row]) is not None} if there else None
            for row, there in enumerate(array.is_valid().to_pylist())
        ]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        steps = array.offsets.to_numpy()
        inner = _values(array.values.slice(steps[0], steps[-1] - steps[0]))
        starts = (steps - steps[0]).tolist()
        return [inner[starts[row] : starts[row + 1]] if there else None for row, there in enumerate(array.is_valid().to_pylist())]
    if pa.types.is_timestamp(kind):
        zone = "+00:00" if kind.tz else ""
        texts = np.datetime_as_string(
            np.asarray(array.cast(pa.timestamp("us", kind.tz), safe=False).to_numpy(zero_copy_only=False), "datetime64[us]")
        )
        return [None if text == "NaT" else text.removesuffix(".000000") + zone for text in texts.tolist()]
    return list(array.to_pylist())
