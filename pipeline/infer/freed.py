"""Memory that was freed: kept in few places, and given back to the system.

The C library of Linux (glibc) takes arrays of up to 32 MB out of a heap for each of some threads, and keeps what is freed there
for later (mallopt(3), M_MMAP_THRESHOLD and M_TRIM_THRESHOLD): the heaps of threads that read, combine, compress and trace, each
at its time, would all stay as large as they ever were.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from contextlib import suppress

from geoseg.parallel import cores

__all__ = ["few_arenas", "give_back"]

ARENA_MAX = -8
"""The parameter ``M_ARENA_MAX`` of glibc's ``mallopt``."""
EVERY_S = 1.0
"""Seconds between two times: the system clears each page that is taken again."""


class _Heaps:
    """Those of this process."""

    def __init__(self) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._next, self._lock = 0.0, threading.Lock()

    def trim(self) -> None:
        with self._lock:
            if self._trim is None or time.monotonic() < self._next:
                return
            self._next = time.monotonic() + EVERY_S
        self._trim(0)


_heaps = _Heaps()


def give_back() -> None:
    """Give the system what was freed, where that was not done just now; does nothing where the C library is another one."""
    _heaps.trim()


def few_arenas() -> None:
    """Have the C library keep freed memory in as many places as there are cores, instead of eight times as many.

    Each keeps what its threads have freed from the others: with a dozen threads that was a third of a run's memory, and pages
    that were asked of the system again and again. Where ``MALLOC_ARENA_MAX`` is set, and without glibc, nothing is done.
    """
    if "MALLOC_ARENA_MAX" not in os.environ:
        with suppress(OSError, AttributeError, TypeError):
            ctypes.CDLL(None).mallopt(ARENA_MAX, cores())
