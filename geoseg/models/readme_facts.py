"""Figures in the README of a model: the table at its head, which has its accuracy."""

from __future__ import annotations

import re
from pathlib import Path

from geoseg.documents import read_text
from geoseg.errors import GeosegError
from geoseg.formats.page.elements import Entry

__all__ = ["readme_facts"]

README = "README.md"
ROW = re.compile(r"\|\s*([^|]+?)\s*\|\s*([^|]+?)\s*\|\s*")
MOST_ROWS = 20


def readme_facts(folder: Path) -> list[Entry]:
    """The rows of the first table of two columns in the README of a model; none where there is none."""
    try:
        lines = read_text(folder / README).splitlines()
    except (OSError, ValueError, GeosegError):
        return []
    found: list[Entry] = []
    for line in lines:
        row = ROW.fullmatch(line.strip())
        if row is None:
            if found:
                break
            continue
        name, text = (re.sub(r"[*`]", "", cell) for cell in row.groups())
        if set(name) - set("-: "):
            found.append(Entry(name, text))
    # What the card says, too, is told once.
    return [entry for entry in found[:MOST_ROWS] if entry.name not in ("Network", "Data", "Licence of the weights")]
