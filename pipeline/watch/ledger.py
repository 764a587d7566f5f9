"""The ledger of a watched source, of all that it has given so far: a row a scene, in one SQLite file of the output folder.

The ledger saves opening ten thousand folders to find the one scene that is new. It is an index: what a row calls done is
believed only while the files that it names are there, as they were left. One that is damaged is moved aside and made anew
from the scenes' reports. ``PRAGMA user_version`` is the version of its schema; older ones are brought up to date.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from geoseg.errors import ConfigError, OutputError
from geoseg.transient import passing
from pipeline.files.atomic import refuse_link
from pipeline.files.index import IndexEntry
from pipeline.watch.row import COLUMNS, Row, entries_of, is_row, rows_of_reports

__all__ = ["LEDGER", "SOURCES", "VERSION", "BrokenLedgerError", "Ledger", "open_ledger", "read_fact", "read_ledger"]

log = logging.getLogger(__name__)

LEDGER = ".geoseg-ledger.sqlite"
SOURCES = "sources"
"""Name of the fact that holds the sources that were listed before."""
BUSY_S = 30.0
# Version 0 is that of the first release, which had no number.
STEPS = (
    (
        """CREATE TABLE IF NOT EXISTS scene (
            name TEXT PRIMARY KEY,
            version TEXT NOT NULL,
            key TEXT NOT NULL,
            seen REAL NOT NULL,
            status TEXT NOT NULL,
            attempts INTEGER NOT NULL DEFAULT 0,
            entry TEXT
        ) WITHOUT ROWID""",
        "ALTER TABLE scene ADD COLUMN delays INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE scene ADD COLUMN retry_at REAL",
        "ALTER TABLE scene ADD COLUMN files TEXT",
        "ALTER TABLE scene ADD COLUMN repairs INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE scene ADD COLUMN holder TEXT",
        "CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    ),
)
VERSION = len(STEPS)
"""The schema that is written now."""
DAMAGED = (
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_CONSTRAINT,
)
"""What SQLite says of a file that is no ledger, or not any more; all else may pass: disks that are full or away, locks."""


class BrokenLedgerError(OutputError):
    """The file is no ledger, or a damaged one."""

    transient = True


class Ledger:
    """The rows of one output folder; for one thread."""

    def __init__(self, folder: Path) -> None:
        """Open the ledger of a folder, or make it, and bring its schema up to date.

        Raises:
            ConfigError: A newer version of geoseg has written it.
            BrokenLedgerError: It is damaged.
            OutputError: It can't be written now.
        """
        self.path = folder / LEDGER
        refuse_link(self.path)
        if self.path.exists() and not self.path.is_file():
            raise OutputError(f"{self.path}: is no file of its own; move it away")
        with self._told():
            self._connection = sqlite3.connect(self.path, timeout=BUSY_S)
        try:
            with self._told():
                # A row that a crash takes away is a scene that is looked at again: full synchronisation buys nothing.
                self._connection.execute("PRAGMA synchronous = NORMAL")
                ((found,),) = self._connection.execute("PRAGMA quick_check(1)")
            _check_sound(str(found), self.path)
            with self._told():
                _bring_up_to_date(self._connection, self.path)
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def rows(self) -> dict[str, Row]:
        """All rows by name; those with values of wrong types are left out, and their scenes are new."""
        with self._told():
            return _rows(self._connection)

    def put(self, rows: Iterable[Row], *, stale: bool = False) -> None:
        """Write rows, all or none.

        Args:
            rows: The rows.
            stale: Note that ``index.json`` says something else now.
        """
        values = [tuple(getattr(row, name) for name in COLUMNS) for row in rows]
        if not values and not stale:
            return
        with self._told(), self._connection:
            marks = ", ".join("?" * len(COLUMNS))
            order = f"INSERT OR REPLACE INTO scene ({', '.join(COLUMNS)}) VALUES ({marks})"  # noqa: S608 - names of our own
            self._connection.executemany(order, values)
            if stale:
                self._connection.execute("INSERT OR REPLACE INTO fact VALUES ('stale', '1')")

    def remove(self, names: Iterable[str]) -> None:
        """Forget scenes."""
        with self._told(), self._connection:
            self._connection.executemany("DELETE FROM scene WHERE name = ?", [(name,) for name in names])
            self._connection.execute("INSERT OR REPLACE INTO fact VALUES ('stale', '1')")

    def fact(self, name: str) -> str | None:
        """A fact that belongs to no scene."""
        with self._told():
            found = self._connection.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        return None if found is None else str(found[0])

    def note(self, name: str, value: str | None) -> None:
        """Set a fact, or take it away."""
        if value == self.fact(name):
            return
        with self._told(), self._connection:
            if value is None:
                self._connection.execute("DELETE FROM fact WHERE name = ?", (name,))
            else:
                self._connection.execute("INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, value))

    def entries(self) -> Iterator[IndexEntry]:
        """The entries of ``index.json``, in the order of their names."""
        return entries_of(self.rows())

    @contextmanager
    def _told(self) -> Iterator[None]:
        """SQLite's errors as ours."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if code in DAMAGED:
                raise BrokenLedgerError(f"{self.path}: damaged: {error}") from error
            raise passing(
                OutputError(f"{self.path}: can't be used now: {error}; make room, or see that it can be written")
            ) from error


def _check_sound(found: str, path: Path) -> None:
    if found != "ok":
        raise BrokenLedgerError(f"{path}: damaged: {found}")


def _bring_up_to_date(connection: sqlite3.Connection, path: Path) -> None:
    ((version,),) = connection.execute("PRAGMA user_version")
    if version > VERSION:
        raise ConfigError(
            f"{path}: was written by a newer geoseg (schema {version}, this one knows {VERSION}); install that one, or choose "
            "another --out"
        )
    if version == VERSION:
        return
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        for step in STEPS[version:]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")


def _rows(connection: sqlite3.Connection) -> dict[str, Row]:
    found = connection.execute(f"SELECT {', '.join(COLUMNS)} FROM scene")  # noqa: S608 - names of this module
    return {values[0]: Row(*values) for values in found if is_row(values)}


@contextmanager
def open_ledger(folder: Path) -> Iterator[Ledger]:
    """The ledger of an output folder. A damaged one is moved aside, and made anew from the reports of the scenes."""
    try:
        ledger = Ledger(folder)
    except BrokenLedgerError as error:
        aside = _move_aside(folder / LEDGER)
        ledger = Ledger(folder)
        rows = list(rows_of_reports(folder))
        ledger.put(rows, stale=True)
        log.warning(
            "%s; it is moved to %s, and a new one has the %d scenes whose reports are there: each is looked at again",
            error,
            aside.name,
            len(rows),
        )
    try:
        yield ledger
    finally:
        ledger.close()


def read_ledger(folder: Path) -> dict[str, Row]:
    """The rows of an output folder, without a change to anything there; none where there is no ledger.

    Raises:
        ConfigError: A newer version of geoseg has written it.
        OutputError: It can't be read.
    """
    with _copied(folder) as copy:
        return {} if copy is None else _rows(copy)


def read_fact(folder: Path, name: str) -> str | None:
    """A fact of an output folder that belongs to no scene, as ``read_ledger`` reads; None where there is none."""
    with _copied(folder) as copy:
        found = None if copy is None else copy.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
    return None if found is None else str(found[0])


@contextmanager
def _copied(folder: Path) -> Iterator[sqlite3.Connection | None]:
    """The ledger of a folder in memory, up to date; None where there is none."""
    path = folder / LEDGER
    if not path.is_file():
        yield None
        return
    try:
        with closing(sqlite3.connect(":memory:")) as copy:
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)) as source:
                source.backup(copy)
            _bring_up_to_date(copy, path)
            yield copy
    except sqlite3.Error as error:
        raise OutputError(f"{path}: can't be read: {error}; the next scan makes it anew where it is damaged") from error


def _move_aside(path: Path) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    aside = path.with_name(f"{LEDGER}.broken-{stamp}")
    for ending in ("", "-journal", "-wal", "-shm"):
        part = path.with_name(path.name + ending)
        if part.exists():
            part.rename(aside.with_name(aside.name + ending))
    return aside
