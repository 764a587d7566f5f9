"""``geoseg``, and ``python -m pipeline``: the command line, which Ctrl-C stops at any time, also while it is imported."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType

__all__ = ["main"]

INTERRUPTED = 130
IMPORTING = "importlib._bootstrap"
"""The names of modules whose frames are those of an import begin so."""
AGAIN_S = 0.01
"""Seconds after which an import that was under way is looked for again."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code; arguments are those of the process where none are given."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        from pipeline.cli import main as command

        command(args)
    except KeyboardInterrupt:
        # Before the command has begun, or after its end.
        with suppress(OSError):
            os.write(2, b"geoseg: stopped\n")
        os._exit(INTERRUPTED)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Stop once no import is under way: libraries in C, and callbacks of the imports, show it as a trace, or lose it."""
    del number
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith(IMPORTING):
            again = threading.Timer(AGAIN_S, os.kill, (os.getpid(), signal.SIGINT))
            again.daemon = True
            again.start()
            return
        frame = frame.f_back
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
