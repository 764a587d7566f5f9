"""The log of reviews: a line of JSON for each decision, that only grows.

Each line holds the hash of the one before and of itself, so that a line that was changed or taken out is found. A line is there
when it is on the disk; one that a crash has cut off counts as never written. Writers take turns by a lock of the system.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from geoseg.documents import parse_json
from geoseg.errors import ConfigError, OutputBusyError, OutputError
from pipeline.files.atomic import no_follow, sync_folder
from pipeline.files.lock import exclusive
from pipeline.review.decisions import Decision, Entry

__all__ = ["NOT_WRITABLE", "ReviewLog", "reviewing_as"]

NOT_WRITABLE = "make it writable, or copy the result to where you may write"
"""What to do where reviews can't be written."""

log = logging.getLogger(__name__)

SUM = "sha256"
"""Of a line: of its own JSON without this key."""


class ReviewLog:
    """A log in a file, read as far as it has grown."""

    def __init__(self, path: Path, run: str = "") -> None:
        """Have a log that nothing was read of.

        Args:
            path: The file.
            run: sha256 of the map that it is of; empty where that is not asked.
        """
        self.path, self.run = path, run
        self.entries: list[Entry] = []
        """In their order."""
        self.torn = 0
        """Lines that a crash has cut off."""
        self._read, self._last, self._whole = 0, "", hashlib.sha256()
        self._unread = False
        """Whether what stands last in the file is no decision."""

    @classmethod
    def read(cls, path: Path, run: str = "") -> ReviewLog:
        """Read a log; one that is not there is empty. Where it ends in what is no decision, that is told.

        Raises:
            ConfigError: A line was changed or taken out, or is of another map.
        """
        found = cls(path, run)
        found.catch_up()
        if found._unread:
            log.warning(
                "%s: what stands behind decision %d is no whole line: a crash cut it off, it was changed since, or somebody is "
                "writing it; it does not count: look whether the last decision is there, and decide again or put back the file",
                path,
                len(found.entries),
            )
        return found

    @property
    def digest(self) -> str:
        """sha256 of what was read."""
        return self._whole.hexdigest()

    @property
    def last(self) -> str | None:
        """Time of the last entry."""
        return self.entries[-1].at if self.entries else None

    def catch_up(self) -> list[Entry]:
        """Read what has been added since; returns it.

        Raises:
            ConfigError: A line was changed or taken out.
        """
        if not self._is_there():
            return []
        with open(self.path, "rb", opener=no_follow) as file:
            return self._take(file)

    def _is_there(self) -> bool:
        """Whether there is a file; one that was read is not to be begun anew, with a line that goes on from what is gone."""
        if self.path.exists():
            return True
        if self._read:
            raise ConfigError(f"{self.path}: is gone since it was read; put it back")
        return False

    def _take(self, file: BinaryIO) -> list[Entry]:
        if file.seek(0, os.SEEK_END) < self._read:
            raise ConfigError(
                f"{self.path}: is shorter than when it was read, and the log only grows; put back the file as it was"
            )
        file.seek(self._read)
        found: list[Entry] = []
        for line in file:
            if not line.endswith(b"\n"):
                self._unread = True
                break  # under way, or cut off
            self._whole.update(line)
            self._read += len(line)
            entry = self._entry(line.rstrip(b"\n"))
            if entry is not None:
                found.append(entry)
        self.entries += found
        return found

    def _entry(self, line: bytes) -> Entry | None:
        if not line:
            return None
        number = len(self.entries) + 1
        try:
            facts = parse_json(line, str(self.path))
            said = facts.pop(SUM)
        except (ValueError, KeyError, AttributeError, TypeError):
            self.torn += 1
            self._unread = True
            return None
        if said != _sum_of(facts) or facts.get("previous") != self._last:
            raise ConfigError(
                f"{self.path}: decision {number} or the one before it was changed, moved or taken out; the log only grows: put "
                "back the file as it was"
            )
        self._last, self._unread = said, False
        entry = Entry.parse(facts)
        if self.run and entry.run and entry.run != self.run:
            raise ConfigError(
                f"{self.path}: decision {number} is on another map than lies here now; the scene was mapped again: move "
                f"{self.path.parent} away, or put back the map"
            )
        return entry

    def append(self, decisions: Sequence[Decision], by: str, via: str = "page") -> list[Entry]:
        """Add decisions; they are on the disk when this returns.

        Raises:
            ConfigError: The log was changed.
            OutputError: It can't be written.
        """
        if not decisions:
            return []
        self._is_there()
        try:
            self.path.parent.mkdir(exist_ok=True)
            with open(self.path, "ab+", buffering=0, opener=no_follow) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                with open(self.path, "rb", opener=no_follow) as reader:
                    self._take(reader)
                    cut_off = bool(reader.seek(0, os.SEEK_END) > self._read)
                previous, lines, now = self._last, [b"\n"] if cut_off else [], datetime.now(UTC)
                for decision in decisions:
                    at = now.strftime("%Y-%m-%dT%H:%M:%SZ")
                    facts = {**decision.public(), "by": by, "at": at, "via": via, "previous": previous}
                    facts |= {"run": self.run} if self.run else {}
                    previous = _sum_of(facts)
                    lines.append(_text_of({**facts, SUM: previous}) + b"\n")
                data = b"".join(lines)
                while data:
                    data = data[file.write(data) :]
                os.fsync(file.fileno())
                sync_folder(self.path.parent)
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise OutputError(f"{self.path}: can't be written: {error.strerror}; nothing was recorded") from error
        return self.catch_up()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only one who writes the log, or what follows of it, as long as the block lasts; others wait.

        Raises:
            OutputError: The log can't be opened.
        """
        try:
            with open(self.path, "rb", opener=no_follow) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield
        except FileNotFoundError as error:
            raise OutputError(f"{self.path}: is gone since it was read; put it back") from error


@contextmanager
def reviewing_as(folder: Path, name: str) -> Iterator[None]:
    """Be the only one who reviews under a name.

    Raises:
        OutputBusyError: Somebody does.
    """
    try:
        with exclusive(folder / f".{hashlib.sha256(name.encode()).hexdigest()[:16]}.lock", NOT_WRITABLE):
            yield
    except OutputBusyError as error:
        raise OutputBusyError(
            f"{folder}: {name!r} reviews it already, in another window; give another name by --as, or end that one"
        ) from error


def _text_of(facts: dict[str, object]) -> bytes:
    return json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _sum_of(facts: dict[str, object]) -> str:
    return hashlib.sha256(_text_of(facts)).hexdigest()
