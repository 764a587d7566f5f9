"""Work spread over threads, its results in order."""

from __future__ import annotations

import ctypes
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from geoseg.polygons.open_regions import Run

__all__ = ["block_runner", "cores", "few_arenas", "ordered"]

ARENA_MAX = -8
"""The parameter ``M_ARENA_MAX`` of glibc's ``mallopt``."""

S = TypeVar("S")
T = TypeVar("T")


def ordered(pool: ThreadPoolExecutor, function: Callable[[S], T], items: Iterable[S], limit: int) -> Iterator[T]:
    """Results of a function over items, in the order of the items, a few at a time.

    Those that are there don't wait for items that are to come.
    """
    waiting: deque[Future[T]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        while waiting and (len(waiting) >= limit or waiting[0].done()):
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def block_runner(pool: ThreadPoolExecutor, threads: int) -> Run:
    """A function that maps functions over blocks by the threads of a pool."""
    return lambda function, items: list(ordered(pool, function, items, threads + 1))


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))


def few_arenas() -> None:
    """Have the C library keep freed memory in as many places as there are cores, instead of eight times as many.

    Each keeps what its threads have freed from the others: with a dozen threads that was a third of a run's memory, and pages
    that were asked of the system again and again. Where ``MALLOC_ARENA_MAX`` is set, and without glibc, nothing is done.
    """
    if "MALLOC_ARENA_MAX" not in os.environ:
        with suppress(OSError, AttributeError, TypeError):
            ctypes.CDLL(None).mallopt(ARENA_MAX, cores())
