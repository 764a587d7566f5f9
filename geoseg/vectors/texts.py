"""Columns of vector files as Python values, whatever their texts are encoded in."""

from __future__ import annotations

import logging
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["SHAPEFILE_TEXT", "dbf_encoding", "text_of", "values_of", "warn_of_rounding"]

log = logging.getLogger(__name__)
SHAPEFILE_TEXT = "UTF-8"
EXACT = 2.0**53
"""Whole numbers beyond are not all there among those of 64 bits with a point."""
DESCRIPTOR, NAME_BYTES, LAST_DESCRIPTOR = 32, 11, b"\r"
CHARACTER_BYTES = 4
"""Of the longest character in UTF-8."""


def values_of(column: Any) -> list[Any]:
    """The values of an Arrow array; texts that are no UTF-8 are Windows-1252, of which ISO 8859-1 is a part."""
    import pyarrow as pa

    try:
        found: list[Any] = column.to_pylist()
    except UnicodeDecodeError:
        array = column.storage if isinstance(column, pa.ExtensionArray) else column
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
            raise
        found = [None if raw is None else _text(raw) for raw in array.cast(pa.large_binary()).to_pylist()]
    return found


def text_of(value: Any) -> str:
    """The text that names a class or a thing: whole numbers without a point, however the file has them."""
    return str(int(value)) if isinstance(value, float | Decimal) and value % 1 == 0 else str(value).strip()


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        # Fields of a width cut the last character.
        if error.start > 0 and len(raw) - error.start < CHARACTER_BYTES and error.reason == "unexpected end of data":
            return raw[: error.start].decode()
    try:
        return raw.decode("cp1252")
    except UnicodeDecodeError:
        return raw.decode("iso-8859-1")


def dbf_encoding(path: Path) -> str | None:
    """The encoding that the texts of a Shapefile are to be read as; None where the file says so itself.

    Without a .cpg file and a code of a language, and with a .cpg file of UTF-8 that names of columns contradict, GDAL does not
    know: UTF-8 where the names are, and each text that is not is taken for Windows-1252 by ``values_of``.
    """
    table = next((p for p in (path.with_suffix(ending) for ending in (".dbf", ".DBF")) if p.is_file()), None)
    if table is None:
        return None
    page = next((p for p in (path.with_suffix(ending) for ending in (".cpg", ".CPG")) if p.is_file()), None)
    said = "" if page is None else page.read_bytes()[:64].decode("ascii", "replace").strip().upper().replace("-", "")
    with table.open("rb") as file:
        head = file.read(DESCRIPTOR)
        names = []
        while len(about := file.read(DESCRIPTOR)) == DESCRIPTOR and not about.startswith(LAST_DESCRIPTOR):
            names.append(about[:NAME_BYTES].split(b"\0")[0])
    language = head[29] if len(head) == DESCRIPTOR else 0
    if said not in ("", "UTF8", "65001") or (not said and language):
        return None
    try:
        b"".join(names).decode()
    except UnicodeDecodeError:
        return "ISO-8859-1"
    return SHAPEFILE_TEXT


def warn_of_rounding(path: Path, name: str, values: list[Any]) -> bool:
    """Say that whole numbers of a file were too large to be kept; whether there were any."""
    numbers = np.array([value for value in values if isinstance(value, float)], np.float64)
    beyond = numbers[(np.abs(numbers) >= EXACT) & np.isfinite(numbers) & (numbers == np.floor(numbers))]
    if not len(beyond):
        return False
    log.warning(
        "%s: column %r holds numbers such as %.0f, of which only about 16 digits are kept; where they are ids, write them as "
        "text",
        path,
        name,
        beyond[0],
    )
    return True
