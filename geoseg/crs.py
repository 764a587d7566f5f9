"""Coordinate reference systems by a text from outside: what opens no file and asks no server.

GDAL and PROJ take more than that for a CRS: names of files, addresses, init files, and grids by their path.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from geoseg.errors import ConfigError, GeoreferenceError

if TYPE_CHECKING:
    import pyproj

__all__ = ["between", "check_crs", "check_related", "crs_of", "horizontal", "named_crs", "not_a_map", "opens_files"]

_local = threading.local()
MAX_TEXT = 65536
CODE = re.compile(
    r"[a-z][a-z0-9_]{1,31}:[a-z0-9_.]{1,32}(?:\+[0-9]{1,8})?|urn:ogc:def:crs:[a-z0-9_]+:[0-9.]*:[a-z0-9_.]+", re.IGNORECASE
)
"""An authority and a code: EPSG:32721, ESRI:102033, OGC:CRS84, EPSG:32721+5773, urn:ogc:def:crs:EPSG::32721."""
WKT = re.compile(r"[A-Z][A-Z0-9_]*\s*[\[(]", re.IGNORECASE)
PROJ = re.compile(r"(?:\+?[a-z0-9_]+(?:=[^\s=+]*)?(?:\s+|(?=\+)|$))+", re.IGNORECASE)
IN_WKT = re.compile(r"(?:PARAMETERFILE\s*[\[(]\s*\"[^\"]*\"|\"PROJ4_GRIDS\")\s*,\s*\"([^\"]*)\"", re.IGNORECASE)
IN_PROJ = re.compile(r"(?:init|file|catalog|model|\w*grids\w*)=([^\s\"]*)", re.IGNORECASE)
"""Parameters of PROJ strings that name files; WKT can hold such strings, too."""
NO_FILE = ("null", "@null")
"""Web Mercator is often written with this grid, which is none."""
EXAMPLE = "write a code such as EPSG:32721, WKT, PROJJSON, or a PROJ string"


def check_crs(text: str) -> str:
    """A text that names a CRS by itself: a code of an authority, WKT, PROJJSON, or a PROJ string, without files of grids.

    Whether there is such a CRS says who parses it.

    Raises:
        ValueError: It is something else.
    """
    given = text.strip()
    if len(given) > MAX_TEXT:
        raise ValueError(f"has {len(given):,} characters, and {MAX_TEXT:,} is the most for a CRS; {EXAMPLE}")
    start = f"{given[:80]!r}"
    if not _is_crs(given) or "\0" in given:
        raise ValueError(f"{start} is no coordinate reference system; {EXAMPLE}")
    if files := list(_files_in(given)):
        raise ValueError(f"{start} names the file {files[0]!r}, which is not opened; {EXAMPLE}")
    return given


def named_crs(text: str, option: str) -> pyproj.CRS:
    """The CRS that the value of an option names.

    Raises:
        ConfigError: It names none, or a file.
    """
    from pyproj.exceptions import CRSError

    try:
        return crs_of(check_crs(text))
    except CRSError as error:
        raise ConfigError(f"{option}: {text!r} is not a CRS that PROJ knows; {EXAMPLE}") from error
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from error


def opens_files(crs: str) -> str | None:
    """The file that the CRS of a raster or of polygons names by its path, as that of a grid; PROJ would open it.

    A grid that is named without a path is looked for where PROJ keeps its own. None where there is no such file.
    """
    return next((name for name in _files_in(crs) if re.search(r"[/\\:]|^\.\.", name.removeprefix("@"))), None)


def horizontal(crs: pyproj.CRS) -> pyproj.CRS:
    """The horizontal part of a CRS: without heights, and without a way to WGS 84."""
    while crs.is_bound or crs.is_compound:
        inner = crs.source_crs if crs.is_bound else crs.sub_crs_list[0]
        assert inner is not None
        crs = inner
    return crs


@lru_cache(maxsize=64)
def crs_of(text: str) -> pyproj.CRS:
    """The CRS that a text names, parsed once."""
    from pyproj import CRS

    return CRS.from_user_input(text)


def between(source: str | pyproj.CRS, target: str | pyproj.CRS) -> pyproj.Transformer:
    """The transformer of coordinates of one CRS to another, x before y; of this thread, and kept where both are texts.

    pyproj's objects are not shared between threads.

    Raises:
        GeoreferenceError: The two have no relation: one is a map of its own.
    """
    if not (isinstance(source, str) and isinstance(target, str)):
        return _transformer(source, target)
    cache: dict[tuple[str, str], pyproj.Transformer] = _local.__dict__.setdefault("transformers", {})
    key = source, target
    if key not in cache:
        cache[key] = _transformer(crs_of(source), crs_of(target))
    return cache[key]


def _transformer(source: str | pyproj.CRS, target: str | pyproj.CRS) -> pyproj.Transformer:
    from pyproj import CRS, Transformer
    from pyproj.exceptions import ProjError

    here, there = CRS.from_user_input(source), CRS.from_user_input(target)
    try:
        return Transformer.from_crs(here, there, always_xy=True)
    except ProjError as error:
        raise GeoreferenceError(
            f"the CRS {here.name} and {there.name} have no relation, so that what is in one has no place in the other; bring "
            "both to one"
        ) from error


def check_related(path: str, source: str, target: str) -> None:
    """Refuse a file whose CRS has no relation to that of an image, before GDAL fails in its own words.

    Raises:
        GeoreferenceError: It has none.
    """
    try:
        between(source, target)
    except GeoreferenceError as error:
        raise GeoreferenceError(f"{path}: {error}") from error


def not_a_map(crs: str) -> str | None:
    """Say why places in a CRS are none on a map, and what to do; None where they are.

    A local or an engineering CRS is a flat map of its own.
    """
    from pyproj import CRS

    found = horizontal(CRS.from_user_input(crs))
    kind = found.type_name
    if found.is_geocentric:
        what = "counts metres X, Y, Z from the middle of the Earth"
    elif found.is_vertical:
        what = "is one of heights alone"
    elif found.is_geographic or found.is_projected or found.is_engineering or "Projected" in kind or "Geographic" in kind:
        return None
    else:
        what = "is none of places"
    return (
        f"its CRS {found.name} ({kind}) {what}, so that it is no map; say which map it is on, such as EPSG:32721, or warp "
        "it to one"
    )


def _is_crs(text: str) -> bool:
    if text.startswith("{"):
        return str(_json(text).get("type", "")).endswith("CRS")
    if CODE.fullmatch(text) or WKT.match(text):
        return True
    return PROJ.fullmatch(text) is not None and re.search(r"(?:^|[\s+])proj=", text) is not None


def _files_in(text: str) -> Iterator[str]:
    if text.startswith("{"):
        yield from _values(_json(text))
        return
    for name in (*IN_WKT.findall(text), *IN_PROJ.findall(text)):
        if name.lower() not in NO_FILE:
            yield name


def _values(value: Any) -> Iterator[str]:
    """Values of parameters that are texts: those of PROJJSON are numbers, but for names of files."""
    if isinstance(value, dict):
        if isinstance(value.get("value"), str):
            yield value["value"]
        value = list(value.values())
    for item in value if isinstance(value, list) else ():
        yield from _values(item)


def _json(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
