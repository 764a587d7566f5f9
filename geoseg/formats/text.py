"""Texts of strangers in documents: names of classes, scenes and files in XML, HTML and tables."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

__all__ = ["clean", "csv_line", "html_text", "steers", "write_table", "xml_attribute", "xml_text"]

STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufffe\uffff\ud800-\udfff]")
"""Controls, ends of lines, marks that turn the direction of writing, and what is no character: XML 1.0 forbids most of them."""
FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Beginnings that spreadsheets take for a formula (OWASP, CSV injection), in full width, too."""
NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[+-]?(?:nan|inf)", re.IGNORECASE)
QUOTED = re.compile(r'[",;\t]|^\s|\s$')


def steers(text: str) -> bool:
    """Whether a text holds controls or marks that no name needs."""
    return STEERING.search(text) is not None


def clean(text: str) -> str:
    """A text without controls, ends of lines and marks of direction, each of which becomes a space."""
    return STEERING.sub(" ", text)


def xml_text(text: str) -> str:
    """A text for the content of an element of XML 1.0."""
    return escape(clean(text))


def xml_attribute(text: str) -> str:
    """A text as the value of an attribute of XML 1.0, with its quotation marks."""
    return quoteattr(clean(text))


def html_text(text: str) -> str:
    """A text for HTML, within an element or an attribute."""
    return html.escape(clean(text))


def csv_line(cells: Iterable[Any]) -> str:
    """A line of a CSV file (RFC 4180), which no spreadsheet takes for a formula; numbers stay as they are."""
    return (",".join(map(_csv_cell, cells)) or '""') + "\n"


def write_table(path: Path, names: Sequence[str], rows: Iterable[Sequence[Any] | Mapping[str, Any]]) -> None:
    """Write a CSV file in UTF-8.

    Args:
        path: The file.
        names: Of the columns.
        rows: The cells of each row in this order, or by name.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(csv_line(names))
        for row in rows:
            file.write(csv_line([row.get(name) for name in names] if isinstance(row, Mapping) else row))


def _csv_cell(value: Any) -> str:
    if value is None:
        return ""
    text = str(value)
    if not isinstance(value, str):
        return f'"{text}"' if QUOTED.search(text) else text
    # A spreadsheet skips what is blank or a quotation mark in front of a formula.
    bare = text.lstrip("\t\r\n \"'")
    text = clean(text)
    if bare.startswith(FORMULA) and NUMBER.fullmatch(text) is None:
        text = "'" + text
    return '"' + text.replace('"', '""') + '"' if QUOTED.search(text) else text
