"""Checks of a vector file for what would make its driver ask a server, or compute without end: before it is opened."""

from __future__ import annotations

import json
import mmap
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from geoseg.errors import ReadError
from geoseg.vectors.folder_datasets import ACCEPTED

__all__ = ["CRS_WINDOW", "check_geojson", "check_geopackage", "connect_read_only"]

SPATIAL_INDEX = ("rtree", "rtree_i32")
"""Virtual tables of SQLite that GeoPackages have."""
CRS_WINDOW = 1 << 16
"""Bytes that a CRS in a GeoJSON file takes at most."""


def _letters(word: str) -> bytes:
    """A pattern of a word in JSON, in which any letter may be escaped."""
    return b"".join(
        rb"(?:%c|%c|\\u00%02x|\\u00%02x)" % (a, b, a, b) for a, b in zip(word.encode(), word.upper().encode(), strict=True)
    )


CRS_KEY = re.compile(rb'"' + _letters("crs") + rb'"\s*:\s*', re.IGNORECASE)


def check_geojson(path: Path) -> None:
    """Refuse a CRS that is a link: GDAL would fetch it."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        for match in CRS_KEY.finditer(text):
            if text[match.end() : match.end() + 1] == b"{" and _is_link(text[match.end() : match.end() + CRS_WINDOW]):
                raise ReadError(
                    f"{path}: its member crs links to another file or address, which was not opened; take it out: GeoJSON is in "
                    "longitude and latitude (RFC 7946)"
                )


def _is_link(text: bytes) -> bool:
    pairs: list[tuple[str, Any]] = []

    def keep(found: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs.extend(found)
        return dict(found)

    try:
        json.JSONDecoder(object_pairs_hook=keep).raw_decode(text.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        # What can't be understood here may be understood there.
        return True
    kinds = {str(value).lower() for key, value in pairs if key.lower() == "type"}
    return bool(kinds & {"link", "url"}) or any(key.lower() in ("href", "url") for key, _ in pairs)


def check_geopackage(path: Path) -> None:
    """Refuse what is computed when it is read: views, generated columns and virtual tables can take any time and memory."""
    try:
        with closing(connect_read_only(path)) as connection:
            entries = connection.execute("SELECT type, name, coalesce(sql, '') FROM sqlite_master").fetchall()
            if not any(kind == "table" and name.lower() == "gpkg_contents" for kind, name, _ in entries):
                raise ReadError(f"{path}: an SQLite file without the tables of a GeoPackage. Accepted: {ACCEPTED}")
            for kind, name, sql in entries:
                what = _computed(kind, sql) or _generated(connection, kind, name, sql)
                if what is not None:
                    raise ReadError(
                        f"{path}: {name!r} {what}, which was not opened: such can take any time and memory; write its features "
                        "to a file of their own, for example with ogr2ogr"
                    )
    except sqlite3.Error as error:
        raise ReadError(f"{path}: a damaged GeoPackage: {error}; copy or download it again") from error


def _computed(kind: str, sql: str) -> str | None:
    """What an entry of a schema is that computes when it is read; None for plain tables, their indices and triggers."""
    if kind == "view":
        return "is a view"
    virtual = re.match(r"\s*create\s+virtual\s+table.*?\busing\s+(\w+)", sql, re.IGNORECASE | re.DOTALL)
    return None if virtual is None or virtual[1].lower() in SPATIAL_INDEX else f"is a virtual table of {virtual[1]}"


def _generated(connection: sqlite3.Connection, kind: str, name: str, sql: str) -> str | None:
    if kind != "table" or not re.search(r"\bas\b", sql, re.IGNORECASE):
        return None
    quoted = name.replace('"', '""')
    columns = connection.execute(f'PRAGMA table_xinfo("{quoted}")').fetchall()
    # 2 and 3 in the last column: computed, virtual or stored.
    return "has columns that are computed" if any(column[6] in (2, 3) for column in columns) else None


def connect_read_only(path: Path) -> sqlite3.Connection:
    """An SQLite database that is read and not written to, in which nothing but plain tables is trusted."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    connection.execute("PRAGMA trusted_schema=OFF")
    return connection
