"""Work that may never end, given up after some time: a server can answer a byte a minute, a mount can hang for good."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Attempt", "within"]

Result = TypeVar("Result")


class Attempt(Generic[Result]):
    """Work under way in a thread of its own, which does not hold up the end of the process."""

    def __init__(self, work: Callable[[], Result], name: str) -> None:
        self.started = time.monotonic()
        self._work = work
        self._outcome: tuple[Result | None, BaseException | None] | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._outcome = self._work(), None
        except BaseException as error:  # noqa: BLE001 - it belongs to the one who waits
            self._outcome = None, error

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._thread.is_alive()

    def result(self, seconds: float) -> Result:
        """The result of the work; raises what it has raised.

        Raises:
            TimeoutError: It has not ended after so many seconds. It goes on, but nobody waits for it.
        """
        deadline = time.monotonic() + seconds
        while self._thread.is_alive() and time.monotonic() < deadline:
            # Without pieces the wait could not be interrupted on all systems.
            self._thread.join(min(0.5, max(0.001, deadline - time.monotonic())))
        if self._outcome is None:
            raise TimeoutError(f"no answer within {seconds:g} s")
        value, error = self._outcome
        if error is not None:
            raise error
        return value  # type: ignore[return-value]  # there where no error is


def within(seconds: float, work: Callable[[], Result], name: str = "geoseg-attempt") -> Result:
    """Do work that has to end within so many seconds.

    Raises:
        TimeoutError: It has not.
    """
    return Attempt(work, name).result(seconds)
