"""GeoParquet on a server, of which only what lies in a box is read.

The footer gives, for each row group, the least and the greatest of the columns that hold the boxes of features: GeoParquet 1.1
names them as ``covering``, and files before it have a column ``bbox`` (https://geoparquet.org/releases/v1.1.0/). Row groups
outside of the box are not asked for, nor are columns that nobody wants; what lies together in the file is one request.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj

from geoseg.arrays import Bools
from geoseg.crs import between, opens_files
from geoseg.documents import parse_json
from geoseg.errors import ReadError
from geoseg.scenes.ranges.range_client import RangeClient
from geoseg.scenes.remote import is_remote, shown
from geoseg.vectors.geoparquet import GeoColumn, geo_column, shapes_of
from geoseg.vectors.opening import ROW_GROUP_LIMIT

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["Box", "FoundFeatures", "features_in"]

TAIL = 256 << 10
"""Bytes at the end that are asked for first: the footer of a file of some hundred row groups."""
GAP = 64 << 10
"""Bytes between two parts that are rather read than asked for apart."""
MOST = 4 << 30
"""Bytes that are read of a file at most."""
SIDES = ("xmin", "ymin", "xmax", "ymax")
Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""


@dataclass(frozen=True, slots=True, eq=False)
class FoundFeatures:
    """Features of a file near a box."""

    table: pa.Table
    """The geometries as the file has them, and some columns."""
    column: GeoColumn
    version: str
    """ETag or time of the file, as its server tells it; empty for a local one."""
    licence: str | None
    """What the file says of its licence."""
    row_groups: tuple[int, int]
    """Those that were read, and all."""


class _Ranges(io.RawIOBase):
    """A file on a server as one that can be sought; parts that were asked for before are not asked for again."""

    def __init__(self, client: RangeClient) -> None:
        super().__init__()
        self._client, self._place, self._read = client, 0, 0
        head = client.get(0, 8)
        if bytes(head.data[:4]) != b"PAR1":
            raise ReadError(f"{shown(client.address)}: is no Parquet file")
        self.size, self.version = head.size, head.version
        self._pieces: list[tuple[int, memoryview]] = []
        self.fetch([(max(0, self.size - TAIL), min(TAIL, self.size))])

    def fetch(self, spans: Sequence[tuple[int, int]]) -> None:
        """Ask for parts at once, those that lie near each other as one.

        Raises:
            ReadError: The server fails, the file has changed meanwhile, or it is too much.
        """
        joined: list[list[int]] = []
        for first, count in sorted(spans):
            if joined and first <= joined[-1][1] + GAP:
                joined[-1][1] = max(joined[-1][1], first + count)
            else:
                joined.append([first, first + count])
        self._read += sum(stop - first for first, stop in joined)
        if self._read > MOST:
            raise ReadError(
                f"{shown(self._client.address)}: more than {MOST >> 30} GiB of it lie in the box; take a smaller image"
            )
        parts = self._client.get_all([(first, stop - first) for first, stop in joined])
        if any((part.size, part.version) != (self.size, self.version) for part in parts):
            raise ReadError(f"{shown(self._client.address)}: has changed while it was read; try again")
        self._pieces = [(first, part.data) for (first, _), part in zip(joined, parts, strict=True)] + self._pieces[-1:]

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        self._place = max(0, {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self.size}[whence] + offset)
        return self._place

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill a buffer as far as the file goes."""
        view = memoryview(buffer).cast("B")
        count = min(len(view), self.size - self._place)
        if count <= 0:
            return 0
        for _ in range(2):
            for first, data in self._pieces:
                if first <= self._place and self._place + count <= first + len(data):
                    at = self._place - first
                    view[:count] = data[at : at + count]
                    self._place += count
                    return count
            self.fetch([(self._place, count)])
        raise ReadError(f"{shown(self._client.address)}: ends before its footer says so")


@dataclass(frozen=True, slots=True, eq=False)
class _Footer:
    """What the footer of a file tells."""

    file: pq.ParquetFile
    column: GeoColumn
    sides: dict[str, str] = field(default_factory=dict)
    """Paths of the columns of boxes by side; empty where there are none."""

    @classmethod
    def of(cls, file: pq.ParquetFile) -> _Footer:
        column = geo_column(file)
        text = (file.metadata.metadata or {}).get(b"geo")
        facts: Any = {} if text is None else parse_json(text, "the key geo of its metadata", ReadError)
        covering = ((facts.get("columns") or {}).get(column.name) or {}).get("covering") or {}
        named = covering.get("bbox") or {side: ["bbox", side] for side in SIDES}
        paths = {file.schema.column(k).path for k in range(len(file.schema))}
        sides = {side: ".".join(named[side]) for side in SIDES if side in named}
        return cls(file, column, sides if len(sides) == len(SIDES) and set(sides.values()) <= paths else {})

    def groups_in(self, boxes: Sequence[Box]) -> list[int]:
        """Row groups that may hold features in one of some boxes; those that tell nothing do."""
        about, found = self.file.metadata, []
        for number in range(about.num_row_groups):
            group = about.row_group(number)
            if group.total_byte_size > ROW_GROUP_LIMIT:
                raise ReadError(f"a row group of it is {group.total_byte_size / 2**30:.1f} GiB when it is decompressed")
            stats = {group.column(k).path_in_schema: group.column(k).statistics for k in range(group.num_columns)}
            known = {side: one for side, path in self.sides.items() if (one := stats.get(path)) is not None and one.has_min_max}
            if len(known) < len(SIDES):
                found.append(number)
                continue
            left, bottom = known["xmin"].min, known["ymin"].min
            right, top = known["xmax"].max, known["ymax"].max
            if any(left <= b[2] and right >= b[0] and bottom <= b[3] and top >= b[1] for b in boxes):
                found.append(number)
        return found

    def spans(self, groups: Sequence[int], columns: Sequence[str]) -> list[tuple[int, int]]:
        """First bytes and lengths of the chunks of some columns."""
        found = []
        for number in groups:
            group = self.file.metadata.row_group(number)
            for k in range(group.num_columns):
                chunk = group.column(k)
                if chunk.path_in_schema.split(".")[0] in columns:
                    starts = [chunk.data_page_offset, *([chunk.dictionary_page_offset] if chunk.has_dictionary_page else [])]
                    found.append((min(starts), chunk.total_compressed_size))
        return found


def features_in(address: str, box: Box, crs: pyproj.CRS | None, columns: Sequence[str]) -> FoundFeatures:
    """The features of a GeoParquet file whose boxes touch a box.

    Args:
        address: An HTTP address, or a local path.
        box: The box; its left side may lie right of its right one, where it goes over the 180th meridian.
        crs: Of the box; None for that of the file.
        columns: Wanted beside the geometries, as far as the file has them.

    Raises:
        ReadError: It can't be read, or is no GeoParquet.
    """
    try:
        if not is_remote(address):
            with pq.ParquetFile(Path(address).absolute().as_posix()) as file:
                return _read(file, None, box, crs, columns)
        with closing(RangeClient(address)) as client:
            ranges = _Ranges(client)
            with pq.ParquetFile(ranges, pre_buffer=False) as file:
                return _read(file, ranges, box, crs, columns)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ReadError(f"{shown(address)}: can't be read as GeoParquet: {error}") from error


def _read(
    file: pq.ParquetFile, ranges: _Ranges | None, box: Box, crs: pyproj.CRS | None, columns: Sequence[str]
) -> FoundFeatures:
    footer = _Footer.of(file)
    boxes = _boxes(box, crs, footer.column)
    groups = footer.groups_in(boxes)
    wanted = [footer.column.name, *(name for name in columns if name in footer.column.others)]
    if ranges is not None and groups:
        ranges.fetch(footer.spans(groups, wanted))
    whole = file.read_row_groups(groups, columns=wanted, use_threads=False)
    near = _touching(whole.column(footer.column.name), footer.column, boxes)
    told = {key.decode().lower(): value.decode("utf-8", "replace") for key, value in (file.schema_arrow.metadata or {}).items()}
    licence = told.get("license") or told.get("licence")
    version = "" if ranges is None else ranges.version
    table = whole.filter(pa.array(near))
    return FoundFeatures(table, footer.column, version, licence, (len(groups), file.metadata.num_row_groups))


def _boxes(box: Box, crs: pyproj.CRS | None, column: GeoColumn) -> list[Box]:
    """A box in the CRS of a file; two where it goes over the 180th meridian."""
    if crs is not None and column.crs is not None:
        own = json.dumps(column.crs) if isinstance(column.crs, dict) else str(column.crs)
        if (grid := opens_files(own)) is not None:
            raise ReadError(f"its CRS names the file {grid}, which is not opened")
        left, bottom, right, top = between(crs, pyproj.CRS.from_user_input(own)).transform_bounds(*box, densify_pts=21)
    else:
        left, bottom, right, top = box
    if left > right:
        return [(left, bottom, 180.0, top), (-180.0, bottom, right, top)]
    return [(left, bottom, right, top)]


def _touching(column: pa.ChunkedArray, about: GeoColumn, boxes: Sequence[Box]) -> Bools:
    """Which (N,) geometries have a box that touches one of some boxes."""
    import shapely

    shapes = [shapes_of(chunk, about.encoding) for chunk in column.chunks]
    bounds = shapely.bounds(np.concatenate(shapes)) if shapes else np.empty((0, 4))
    near = np.zeros(len(bounds), bool)
    for left, bottom, right, top in boxes:
        near |= (bounds[:, 0] <= right) & (bounds[:, 2] >= left) & (bounds[:, 1] <= top) & (bounds[:, 3] >= bottom)
    return near
