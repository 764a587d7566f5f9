"""The one place where vector files are opened for reading: by which drivers, and with what in them.

GDAL opens whatever it recognizes, under any name: a virtual layer, a pipeline or a catalogue of a server in a file named
``.geojson`` reads any other file or address. So a file is recognized by its first bytes, handed to the one driver for them, and
refused where something in it would make that driver ask a server, or compute without end.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from geoseg.addresses import LAYER
from geoseg.errors import NotARasterError, ReadError
from geoseg.scenes.preflight import first_bytes
from geoseg.vectors.checks import CRS_WINDOW, check_geojson, check_geopackage, connect_read_only
from geoseg.vectors.folder_datasets import ACCEPTED, folder_driver, other_format
from geoseg.vectors.geoparquet import geo_column, shapes_of
from geoseg.vectors.texts import dbf_encoding, values_of, warn_of_rounding

if TYPE_CHECKING:
    import pyarrow.parquet as pq

__all__ = ["ACCEPTED", "PARQUET", "VectorSource", "connect_read_only", "open_parquet", "open_vector"]

Features = tuple[NDArray[Any], dict[str, list[Any]]]
BATCH = 16384
PARQUET = "Parquet"
LINES = (".geojsonl", ".geojsons", ".ndjson", ".jsonl")
"""Endings of files with a feature a line."""
SQLITE = b"SQLite format 3\0"
SHAPEFILE = b"\x00\x00\x27\x0a"
PREFIXED = ("GeoJSON", "GeoJSONSeq")
"""Drivers that can be named before the path, which keeps all others away; the rest are told by bytes that no other takes."""
HEADER_LIMIT = 1 << 24
"""Bytes of the largest header of a FlatGeobuf file."""
ROW_GROUP_LIMIT = 2 << 30
"""Bytes of the largest row group of a Parquet file, uncompressed; a row group may be read at once."""
STYLES = "layer_styles"
"""A table of GeoPackages that holds no features."""


@dataclass(frozen=True, slots=True)
class VectorSource:
    """A vector file that was recognized and looked through."""

    path: Path
    driver: str
    """GDAL's name of its format, or ``Parquet``."""

    @property
    def name(self) -> str:
        """The name that GDAL is to be given."""
        whole = os.path.abspath(self.path)
        return f"{self.driver}:{whole}" if self.driver in PREFIXED else whole

    def layers(self) -> list[str]:
        """Names of the layers with geometries."""
        import pyogrio

        return [str(name) for name, kind in pyogrio.list_layers(self.name) if kind is not None]

    @property
    def encoding(self) -> str | None:
        """The encoding that its texts are to be read as; None where the driver knows."""
        return dbf_encoding(self.path) if self.driver == "ESRI Shapefile" else None

    def chosen(self, layer: str | None = None) -> str | None:
        """The one layer that is meant; None for formats without layers.

        Args:
            layer: Its name, where there are several.

        Raises:
            ReadError: There is none of that name, or there are several and none was named.
        """
        found = [] if self.driver == PARQUET else [name for name in self.layers() if name != STYLES]
        if layer is not None:
            if layer not in found:
                raise ReadError(f"{self.path}: holds no layer {layer}; it has {', '.join(found) or 'none'}")
            return layer
        if len(found) > 1:
            raise ReadError(
                f"{self.path}: holds {len(found)} layers ({', '.join(found)}); say which: '{self.path}{LAYER}{found[0]}', or "
                "give a file with one"
            )
        if not found and self.driver != PARQUET:
            raise ReadError(f"{self.path}: holds no layer with geometries")
        return found[0] if found else None

    def info(self, layer: str | None = None, *, bounds: bool = False) -> dict[str, Any]:
        """Facts of a layer; see ``pyogrio.read_info``.

        Raises:
            ReadError: Another driver has opened it.
        """
        import pyogrio

        try:
            found: dict[str, Any] = pyogrio.read_info(self.name, layer=layer, force_total_bounds=bounds, encoding=self.encoding)
        except UnicodeDecodeError as error:
            raise ReadError(f"{self.path}: names of columns are not UTF-8: {error}; save it as UTF-8") from error
        if found["driver"] != self.driver:
            raise ReadError(f"{self.path}: was taken for {found['driver']}, not for {self.driver}; accepted: {ACCEPTED}")
        return found

    def features(self, layer: str | None, columns: Sequence[str] | None, size: int) -> Iterator[Features]:
        """A layer as geometries (N,) and columns, so many features at a time; all columns where none are chosen.

        Arcs become chords, and texts are decoded; see ``curves`` and ``texts``.

        Raises:
            ReadError: Something in it can't be read.
        """
        if self.driver == PARQUET:
            yield from self._of_parquet(columns, size)
            return
        kept = None if columns is None else list(columns)
        told: set[str] = set()
        try:
            with self.batches(layer, kept, size) as (meta, reader):
                geometry = meta["geometry_name"] or "wkb_geometry"
                for batch in reader:
                    # The last of that name: an attribute may have it, too.
                    place = max(i for i, name in enumerate(batch.schema.names) if name == geometry)
                    names = [name for i, name in enumerate(batch.schema.names) if i != place]
                    arrays = [array for i, array in enumerate(batch.columns) if i != place]
                    values = {name: values_of(array) for name, array in zip(names, arrays, strict=True)}
                    if self.driver in (*PREFIXED, "ESRI Shapefile"):
                        told |= {n for n, v in values.items() if n not in told and warn_of_rounding(self.path, n, v)}
                    yield shapes_of(batch.column(place)), values
        except UnicodeDecodeError as error:
            raise ReadError(f"texts or names of columns are not UTF-8: {error}; save it as UTF-8") from error

    def _of_parquet(self, columns: Sequence[str] | None, size: int) -> Iterator[Features]:
        with open_parquet(self) as file:
            about = geo_column(file)
            wanted = list(about.others if columns is None else columns)
            for batch in file.iter_batches(size, columns=[*wanted, about.name]):
                shapes = shapes_of(batch.column(about.name), about.encoding)
                yield shapes, {name: values_of(batch.column(name)) for name in wanted}

    def batches(self, layer: str | None, columns: list[str] | None, size: int) -> AbstractContextManager[Any]:
        """A layer as Arrow record batches; see ``pyogrio.open_arrow``."""
        import pyogrio

        opened: AbstractContextManager[Any] = pyogrio.open_arrow(
            self.name, layer=layer, columns=columns, batch_size=size, use_pyarrow=True, encoding=self.encoding
        )
        return opened

    def within(self, box: tuple[float, float, float, float], columns: list[str]) -> Any:
        """The features near a box as an Arrow table."""
        import pyogrio

        return pyogrio.read_arrow(self.name, bbox=box, columns=columns)[1]

    def table(self, layer: str) -> tuple[dict[str, Any], Any, list[Any]]:
        """A layer at once: its metadata, geometries as WKB, and columns."""
        import pyogrio.raw

        meta, _, geometry, values = pyogrio.raw.read(self.name, layer=layer)
        return meta, geometry, values


def open_vector(path: str | Path) -> VectorSource:
    """Recognize a vector file, and look through it for what would open others.

    Raises:
        ReadError: It is not there, of no accepted format, damaged, or names another file or address.
    """
    local = Path(path)
    if local.is_dir():
        return VectorSource(local, folder_driver(local))
    try:
        head = first_bytes(local)
    except NotARasterError as error:
        raise ReadError(str(error)) from error
    state = local.stat()
    return _looked_through(local, head, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=64)
def _looked_through(path: Path, head: bytes, size: int, changed: int) -> VectorSource:
    del size, changed  # they distinguish what a file was from what it is
    driver = _driver(path, head)
    if driver == "GPKG":
        check_geopackage(path)
    elif driver in PREFIXED:
        check_geojson(path)
    elif driver == PARQUET:
        _check_parquet(path)
    return VectorSource(path, driver)


def _driver(path: Path, head: bytes) -> str:
    if head.startswith(b"PAR1"):
        return PARQUET
    if head.startswith(SQLITE):
        return "GPKG"
    if head.startswith(SHAPEFILE):
        return "ESRI Shapefile"
    # A header of more bytes could hold text that another driver takes for its own.
    if re.match(rb"fgb\x03fgb[\x00-\x09]", head) and int.from_bytes(head[8:12], "little") < HEADER_LIMIT:
        return "FlatGeobuf"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n")
    if text.startswith(b"\x1e"):
        return "GeoJSONSeq"
    if text.startswith(b"{"):
        return "GeoJSONSeq" if path.suffix.lower() in LINES or _feature_a_line(path) else "GeoJSON"
    what = other_format(path, head)
    if b"<ogrvrt" in text.lower() or b"<vrtdataset" in text.lower():
        what = "it is a virtual layer (VRT), which can name any other file or address; it was not opened"
    raise ReadError(f"{path}: can't be read: {what}. Accepted: {ACCEPTED}; convert it, for example with ogr2ogr")


def _feature_a_line(path: Path) -> bool:
    """Whether the first line is a feature, and another follows."""
    with path.open("rb") as file:
        first, second = file.readline(CRS_WINDOW).strip(), file.readline(2).strip()
    if not first.endswith(b"}") or not second.startswith(b"{"):
        return False
    try:
        found = json.loads(first)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("type") == "Feature"


def _check_parquet(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(os.path.abspath(path)) as file:
            groups = [file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups)]
    except (pa.ArrowException, OSError) as error:
        raise ReadError(f"{path}: can't be read as GeoParquet: {error}") from error
    if groups and max(groups) > ROW_GROUP_LIMIT:
        raise ReadError(
            f"{path}: a row group of it is {max(groups) / 2**30:.1f} GiB when it is decompressed; {ROW_GROUP_LIMIT >> 30} GiB "
            "are the most: write it in smaller ones"
        )


@contextmanager
def open_parquet(source: VectorSource) -> Iterator[pq.ParquetFile]:
    """A GeoParquet file that was looked through."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(os.path.abspath(source.path)) as file:
        yield file
