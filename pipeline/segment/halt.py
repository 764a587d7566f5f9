"""One end for stages that run beside each other: the first failure of any ends all, and is the one that is told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

__all__ = ["Halt", "Stop", "never"]

T = TypeVar("T")
Stop = Callable[[], bool]
"""Asked again and again; what it ends raises Interrupted."""


def never() -> bool:
    """Let a run go on to its end."""
    return False


class Halt:
    """Asked whether to stop: once the run is to, or something has failed."""

    def __init__(self, should_stop: Stop = never, on_failure: Callable[[], None] = lambda: None) -> None:
        """Ask ``should_stop``; ``on_failure`` wakes those that wait for what does not come any more."""
        self._should_stop, self._on_failure = should_stop, on_failure
        self._first: BaseException | None = None
        self._lock = threading.Lock()

    def __call__(self) -> bool:
        """Whether to stop."""
        return self._first is not None or self._should_stop()

    def cause(self, error: BaseException) -> BaseException:
        """Take up a failure; returns the first one, from which all others follow."""
        with self._lock:
            self._first = self._first or error
        self._on_failure()
        return self._first

    def guard(self, work: Callable[[], T]) -> T:
        """Do a part of the work, and tell of its failure at once."""
        try:
            return work()
        except BaseException as error:
            self.cause(error)
            raise
