"""Memory that was freed: kept in few places, and given back to the system.

The C library of Linux (glibc) takes arrays of up to 32 MB out of a heap for each of some threads, and keeps what is freed there
for later (mallopt(3), M_MMAP_THRESHOLD and M_TRIM_THRESHOLD): the heaps of threads that read, combine, compress and trace, each
at its time, would all stay as large as they ever were. So heaps are few and hold what is small; large arrays have pages of their
own, which go as soon as they are freed.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
from contextlib import suppress

from geoseg.parallel import cores

__all__ = ["give_back", "small_heaps"]

LIMITS = {
    "MALLOC_ARENA_MAX": (-8, cores()),
    "MALLOC_MMAP_THRESHOLD_": (-3, 4 << 20),
    "MALLOC_TRIM_THRESHOLD_": (-1, 16 << 20),
}
"""Parameters of glibc's ``mallopt`` and their values, by variable: the most heaps, bytes of an array with pages of its own, and
bytes that may stay free at the end of a heap. With fewer of these, pages go back that the next tile takes again."""
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


def small_heaps() -> None:
    """Have the C library keep little of what was freed: in as many heaps as there are cores, and none of large arrays.

    Without, there are eight heaps a core, each of which keeps what its threads have freed from the others, and arrays of up to
    32 MB lie in them: with a dozen threads that was a third of a run's memory. A limit that an environment variable sets is kept;
    without glibc nothing is done.
    """
    for variable, (parameter, value) in LIMITS.items():
        if variable not in os.environ:
            with suppress(OSError, AttributeError, TypeError):
                ctypes.CDLL(None).mallopt(parameter, value)
