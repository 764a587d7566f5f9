"""A rolling window over work: a few tasks at a time, and nothing kept of those that are finished."""

from __future__ import annotations

import queue
from collections.abc import Callable, Generator, Iterable
from functools import partial
from typing import Protocol, Self

from pipeline.infer.receipt import Receipt

__all__ = ["FutureLike", "rolling"]


class FutureLike(Protocol):
    """The part that futures of the standard library and of Dask have in common."""

    def add_done_callback(self, callback: Callable[[Self], object], /) -> object:
        """Have it called with the future when it is done."""
        ...

    def result(self) -> Receipt:
        """The receipt of a chunk; raises what the work has raised."""
        ...


def rolling(
    submit: Callable[[int], FutureLike], items: Iterable[int], limit: Callable[[], int]
) -> Generator[tuple[int, FutureLike], int | None, None]:
    """Submit items so that at most ``limit()`` are under way, and give each with its future when it is done.

    A consumer may send an item back through ``generator.send(item)`` to have it done again, last.
    """
    waiting = iter(items)
    again: list[int] = []
    done: queue.SimpleQueue[tuple[int, FutureLike]] = queue.SimpleQueue()
    under_way = 0
    while True:
        while under_way < limit():
            item = next(waiting, None)
            if item is None:
                if not again:
                    break
                item = again.pop(0)
            future = submit(item)
            future.add_done_callback(partial(_put, done, item))
            under_way += 1
        if not under_way:
            return
        finished = _get(done)
        if finished is None:
            continue
        item, future = finished
        under_way -= 1
        sent = yield item, future
        while sent is not None:
            again.append(sent)
            sent = yield item, future


def _put(done: queue.SimpleQueue[tuple[int, FutureLike]], item: int, future: FutureLike) -> None:
    done.put((item, future))


def _get(done: queue.SimpleQueue[tuple[int, FutureLike]]) -> tuple[int, FutureLike] | None:
    # Without a timeout the wait could not be interrupted on all systems, and workers that join would stand idle.
    try:
        return done.get(timeout=0.5)
    except queue.Empty:
        return None
