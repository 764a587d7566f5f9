"""Work spread over threads, its results in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from geoseg.polygons.open_regions import Run

__all__ = ["block_runner", "cores", "ordered"]

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
