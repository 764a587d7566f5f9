"""Vector data that are folders, or lie in archives: file geodatabases are read, of all others is said what to give."""

from __future__ import annotations

import zipfile
from pathlib import Path

from geoseg.dialect import listed
from geoseg.errors import ReadError

__all__ = ["ACCEPTED", "GEODATABASE", "folder_driver", "is_dataset", "other_format"]

ACCEPTED = "GeoJSON, GeoPackage, FlatGeobuf, Shapefile, GeoParquet and file geodatabases (.gdb)"
GEODATABASE = "OpenFileGDB"
CATALOGUE = "a00000001.gdbtable"
"""The table of tables of a file geodatabase."""
ENDINGS = (".shp", ".gpkg", ".geojson", ".json", ".fgb", ".parquet", ".geoparquet", ".geojsonl", ".gdb")
NAMED = 5
OTHERS = {b"\xff\xfe": "it is a text in UTF-16; save it as UTF-8", b"\xfe\xff": "it is a text in UTF-16; save it as UTF-8"}


def is_dataset(path: Path) -> bool:
    """Whether a folder is one vector data set, not one of many files."""
    return path.is_dir() and (_is_geodatabase(path) or path.suffix.lower() in (".gdb", ".parquet", ".geoparquet"))


def folder_driver(path: Path) -> str:
    """The driver for a folder.

    Raises:
        ReadError: There is none.
    """
    if path.suffix.lower() == ".gdb":
        if _is_geodatabase(path):
            return GEODATABASE
        raise ReadError(f"{path}: a folder without the tables of a file geodatabase ({CATALOGUE}); copy or unpack it again")
    if _is_geodatabase(path):
        raise ReadError(f"{path}: a file geodatabase whose name does not end in .gdb, by which it is known; give it that ending")
    inside = sorted(entry.name for entry in path.iterdir() if entry.suffix.lower() in ENDINGS and not entry.name.startswith("."))
    if len(inside) > 1 and all(name.lower().endswith((".parquet", ".geoparquet")) for name in inside):
        raise ReadError(
            f"{path}: a folder of {len(inside)} Parquet files ({listed(inside, NAMED)}); write them as one, "
            "geopandas.read_parquet(FOLDER).to_parquet(FILE), and give that"
        )
    files = [str(path / name) for name in inside]
    what = f"give the file in it: {listed(files, NAMED)}" if files else "no vector file lies in it"
    raise ReadError(f"{path}: a folder, and one vector file is wanted; {what}. Accepted: {ACCEPTED}")


def _is_geodatabase(path: Path) -> bool:
    return (path / CATALOGUE).is_file()


def other_format(path: Path, head: bytes) -> str:
    """Name the format of a file that is of no accepted one."""
    if head.startswith(b"PK\x03\x04"):
        return f"it is a ZIP archive{_in_archive(path)}; unpack it and give that file"
    if path.suffix.lower() in (".dbf", ".shx", ".prj", ".cpg", ".sbn"):
        return "it is a part of a Shapefile; give the one that ends in .shp"
    return next((what for start, what in OTHERS.items() if head.startswith(start)), "it is of another format")


def _in_archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return ""
    found = sorted({_data_set(name) for name in names if _data_set(name).lower().endswith(ENDINGS)})
    return f" with {listed(found, NAMED)}" if found else ""


def _data_set(name: str) -> str:
    """A file, or the geodatabase that it is a part of."""
    before, separator, _ = name.partition(".gdb/")
    return f"{before}.gdb" if separator else name
