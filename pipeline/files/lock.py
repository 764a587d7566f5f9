"""One run at a time on one output."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from geoseg.documents import parse_json
from geoseg.errors import OutputBusyError, OutputError
from pipeline.files.atomic import no_follow

__all__ = ["exclusive", "is_lock"]

OTHER_OUT = "choose another --out"
BEGIN = '{"pid"'
"""How each lock file begins."""


@contextmanager
def exclusive(path: Path, cure: str = OTHER_OUT) -> Iterator[None]:
    """Hold a lock file, which is removed at the end.

    The system gives the lock up when its process ends in whatever way, so none is ever stale.

    Args:
        path: The file.
        cure: What to do where it can't be written.

    Raises:
        OutputBusyError: Another run holds it.
        OutputError: It can't be written, or is a link or a file of somebody.
    """
    with _locked(path, cure) as file:
        file.truncate()
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": now}) + "\n")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def is_lock(path: Path) -> bool:
    """Whether a file is a lock that a run holds, or that a killed one has left."""
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(BEGIN)) in (BEGIN.encode(), b"")


def _locked(path: Path, cure: str) -> TextIO:
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open(path, "a+", encoding="utf-8", errors="replace", opener=no_follow)  # noqa: SIM115 - the caller closes it
        except OutputError:
            raise
        except OSError as error:
            raise OutputError(f"{path.parent}: can't be written: {error.strerror}; {cure}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = _holder(file.read(4096))
            file.close()
            raise OutputBusyError(f"{path.parent}: another run is active there ({holder}); wait for it or stop it") from error
        # Between opening and locking, the run before may have removed the file: then the lock is on nothing.
        try:
            if os.path.samestat(os.fstat(file.fileno()), path.stat(follow_symlinks=False)):
                break
        except FileNotFoundError:
            pass
        file.close()
    file.seek(0)
    if file.read(len(BEGIN)) not in (BEGIN, ""):
        file.close()
        raise OutputError(f"{path}: is no lock of geoseg but somebody's file; move it away, then run again")
    file.seek(0)
    return file


def _holder(text: str) -> str:
    try:
        facts = parse_json(text, "lock")
        return f"process {facts['pid']} on {facts['host']} since {facts['since']}"
    except (ValueError, KeyError, TypeError):
        return "its process is not known"
