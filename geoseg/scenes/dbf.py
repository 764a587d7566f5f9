"""Tables of dBase III, as Esri keeps them beside rasters (``.vat.dbf``)."""

from __future__ import annotations

import struct
from pathlib import Path

__all__ = ["dbf_rows"]

DELETED, END_OF_FIELDS, DESCRIPTOR = b"*", 0x0D, 32


def dbf_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table as text by column; none where it is damaged.

    The header tells the number of rows and the widths of its columns (dBase III, Ashton-Tate); text is UTF-8, else Latin-1.
    """
    data = path.read_bytes()
    if len(data) < DESCRIPTOR:
        return []
    count, head, width = struct.unpack("<IHH", data[4:12])
    fields: list[tuple[str, int]] = []
    for start in range(DESCRIPTOR, min(head, len(data)) - DESCRIPTOR + 1, DESCRIPTOR):
        if data[start] == END_OF_FIELDS:
            break
        fields.append((_text(data[start : start + 11].split(b"\0", 1)[0]), data[start + 16]))
    if not fields or 1 + sum(length for _, length in fields) != width:
        return []
    rows = []
    for number in range(min(count, (len(data) - head) // width)):
        place = head + number * width
        if data[place : place + 1] == DELETED:
            continue
        row, place = {}, place + 1
        for name, length in fields:
            row[name] = _text(data[place : place + length])
            place += length
        rows.append(row)
    return rows


def _text(raw: bytes) -> str:
    try:
        return raw.decode().strip("\0 ")
    except UnicodeDecodeError:
        return raw.decode("latin-1").strip("\0 ")
