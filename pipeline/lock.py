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

from geoseg.errors import OutputError

__all__ = ["exclusive"]


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock file. The system gives it up when its process ends in whatever way, so none is ever stale.

    Raises:
        OutputError: Another run holds it, or it can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path.parent}: can't be written: {error.strerror}; choose another --out") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            raise OutputError(f"{path.parent}: another run is active there ({_holder(file.read())}); wait for it or stop it") from error
        file.seek(0)
        file.truncate()
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": now}) + "\n")
        file.flush()
        yield


def _holder(text: str) -> str:
    try:
        facts = json.loads(text)
        return f"process {facts['pid']} on {facts['host']} since {facts['since']}"
    except (ValueError, KeyError, TypeError):
        return "its process is not known"
