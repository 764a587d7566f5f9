"""Standard streams that may be closed, full or broken: what is said is lost then, and the work goes on."""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO

__all__ = ["flush", "lasting_streams", "silence"]


class _Lasting(io.FileIO):
    """A stream that takes everything, also when nothing can be written to it any more."""

    def write(self, data: bytes) -> int:  # type: ignore[override]  # of bytes alone
        """Write, or lose it."""
        try:
            return super().write(data)
        except OSError:
            return len(data)


def lasting_streams() -> None:
    """Fill the places of closed streams, and let no failure of standard error end the run.

    A stream that was closed leaves its number to the next file that is opened, into which libraries would then write their
    messages.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as the process lives
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    raw = _Lasting(2, "w", closefd=False)
    sys.stderr = io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors="backslashreplace", line_buffering=True)


def silence(stream: TextIO) -> None:
    """Have a broken stream lead nowhere, so that what it still holds can be written at the end."""
    try:
        number = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)
    except (OSError, ValueError, AttributeError):
        return


def flush() -> bool:
    """Write what standard output still holds; says whether all of it has arrived."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        silence(sys.stdout)
        return False
    return True
