"""The end of a server that people stop: by Ctrl-C or SIGTERM, quietly and as a success."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["ended_by_signals"]


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Have Ctrl-C and SIGTERM end the block; uvicorn hands on, when it has ended, the signal that made it end."""
    if threading.current_thread() is not threading.main_thread():
        # A program that serves in a thread has signals of its own.
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)
