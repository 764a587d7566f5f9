"""Threads that stages share with the network, and how long each stage worked beside it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.infer.freed import give_back

__all__ = ["StageClock", "Turns"]

MANY = 1 << 16


class Turns:
    """Lets few threads of the stages behind the network work at once while it runs, and all once it is done."""

    def __init__(self, beside: int = MANY) -> None:
        """Let so many work while the network runs; without a number there is none that runs."""
        self._left, self._changed = beside, threading.Condition()
        self.opened = time.monotonic() if beside >= MANY else None
        """When the network was done."""

    def open(self) -> None:
        """The network is done."""
        with self._changed:
            self.opened = time.monotonic()
            self._changed.notify_all()

    @contextmanager
    def take(self) -> Iterator[None]:
        """One thread's turn."""
        with self._changed:
            self._changed.wait_for(lambda: self._left > 0 or self.opened is not None)
            self._left -= 1
        try:
            yield
        finally:
            with self._changed:
                self._left += 1
                self._changed.notify()


class StageClock:
    """The time of one stage; its work beside the network is that of its threads together."""

    def __init__(self, turns: Turns) -> None:
        self._turns, self._started = turns, time.monotonic()
        self._beside, self._lock = 0.0, threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One thread's turn, which counts for the stage."""
        with self._turns.take():
            started = time.monotonic()
            try:
                yield
            finally:
                ended = self._turns.opened or time.monotonic()
                with self._lock:
                    self._beside += max(0.0, ended - started)
                give_back()

    def seconds(self) -> tuple[float, float]:
        """How long the stage worked, and how much of that beside the network; its waits for chunks are none of it."""
        opened = self._turns.opened or time.monotonic()
        beside = min(self._beside, max(0.0, opened - self._started))
        return beside + time.monotonic() - max(opened, self._started), beside
