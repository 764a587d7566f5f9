"""What a watched source has given so far: a row a scene, in one SQLite file of the output folder.

The ledger saves opening ten thousand folders to find the one scene that is new. It is an index: what a row calls done is
believed only while the scene's report is there.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoseg.errors import OutputError
from pipeline.atomic import refuse_link

__all__ = ["LEDGER", "Ledger", "Row"]

LEDGER = ".geoseg-ledger.sqlite"
SCHEMA = """
CREATE TABLE IF NOT EXISTS scene (
    name TEXT PRIMARY KEY,
    version TEXT NOT NULL,
    key TEXT NOT NULL,
    seen REAL NOT NULL,
    status TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    entry TEXT
) WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of a scene."""

    name: str
    version: str
    """State of its files at the source: sizes and times, or ETags."""
    key: str
    """sha256 of the model and the settings that it is mapped with."""
    seen: float
    """When it was first seen in this version, in seconds since 1970."""
    status: str
    """``seen``, ``started``, ``done``, ``partial``, ``failed`` or ``quarantined``."""
    attempts: int = 0
    """Times that it was begun since it last succeeded or changed."""
    entry: str | None = None
    """Its entry of ``index.json``."""


class Ledger:
    """The rows of one output folder; for one thread."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LEDGER
        refuse_link(self.path)
        try:
            self._connection = sqlite3.connect(self.path, timeout=30)
            # A row that a crash takes away is a scene that is looked at again: full synchronisation buys nothing.
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute(SCHEMA)
        except sqlite3.DatabaseError as error:
            raise OutputError(f"{self.path}: can't be used: {error}; delete it, and finished scenes are found again") from error

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def rows(self) -> dict[str, Row]:
        """All rows by name."""
        found = self._connection.execute("SELECT name, version, key, seen, status, attempts, entry FROM scene")
        return {row[0]: Row(*row) for row in found}

    def put(self, rows: Iterable[Row]) -> None:
        """Write rows, all or none."""
        with self._connection:
            self._connection.executemany(
                "INSERT OR REPLACE INTO scene (name, version, key, seen, status, attempts, entry) VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(r.name, r.version, r.key, r.seen, r.status, r.attempts, r.entry) for r in rows],
            )

    def entries(self) -> Iterator[dict[str, Any]]:
        """The entries of ``index.json``, in the order of their names."""
        for (text,) in self._connection.execute("SELECT entry FROM scene WHERE entry IS NOT NULL ORDER BY name"):
            yield json.loads(text)


@contextmanager
def open_ledger(folder: Path) -> Iterator[Ledger]:
    """The ledger of an output folder."""
    ledger = Ledger(folder)
    try:
        yield ledger
    finally:
        ledger.close()
