"""Decoded units of files, kept until the last window that was expected to need them has had them."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Container, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from geoseg.arrays import Bools
from geoseg.scenes.pixels.layout import Key

__all__ = ["Unit", "UnitCache"]


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """A decoded unit."""

    data: NDArray[Any] | None
    """(bands of the file, h, w); None where no block was ever written."""
    valid: Bools | None
    """(h, w); None where all is valid."""
    bad: Bools | None
    """(h, w); None where all was readable."""

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return sum(a.nbytes for a in (self.data, self.valid, self.bad) if a is not None)

    def apart(self) -> Unit:
        """The same with arrays of its own, so that it keeps no others in memory."""
        return Unit(*(None if a is None else a.copy() for a in (self.data, self.valid, self.bad)))


class UnitCache:
    """Units by key, read by several threads and each once while it is kept; may be used by several threads.

    Units side by side that are wanted now, or soon, are read at once where that is cheaper.

    Args:
        threads: Threads that read and decode.
        limit: Bytes of decoded units that are kept for another window.
        read: Reads one unit, or several side by side; where that of several fails, they are read one by one. One may be given
            where its pixels are to go, and need not be put there.
        run_of: Tells how many units side by side may be read at once, from a unit on.
        keep: Keep units up to the limit, whatever was expected.
        ahead: Expected units that are read before a window asks for them, within half of the limit.
        known: Units that are decoded already, within half of the limit.
    """

    def __init__(
        self,
        threads: int,
        limit: int,
        read: Callable[[Sequence[Key], NDArray[Any] | None], list[Unit]],
        run_of: Callable[[Key], int],
        *,
        keep: bool,
        ahead: int = 0,
        known: Mapping[Key, Unit] | None = None,
    ) -> None:
        self._limit, self._keep, self._ahead = limit, keep, ahead
        self._read, self._run_of = read, run_of
        self._coming: deque[Key] = deque()
        self._early: set[Key] = set()
        self._largest = 0
        self._lock = threading.Lock()
        self._units: OrderedDict[Key, Future[Unit]] = OrderedDict()
        self._uses: dict[Key, int] = {}
        self._kept_bytes = 0
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="geoseg-read")
        for key, unit in (known or {}).items():
            if self._kept_bytes + unit.nbytes <= limit // 2:
                self._units[key] = Future()
                self._units[key].set_result(unit)
                self._kept_bytes += unit.nbytes

    def close(self) -> None:
        """Stop the threads and forget all units."""
        self._pool.shutdown(cancel_futures=True)
        with self._lock:
            for future in self._units.values():
                future.cancel()
            self._units.clear()

    def whole(self) -> dict[Key, Unit]:
        """The units that are kept, and that were readable."""
        with self._lock:
            done = {key: future.result() for key, future in self._units.items() if future.done() and not future.exception()}
        return {key: unit for key, unit in done.items() if unit.bad is None}

    def expect(self, key: Key) -> None:
        """Count one more window that will need a unit."""
        with self._lock:
            if self._ahead and key not in self._uses:
                self._coming.append(key)
            self._uses[key] = self._uses.get(key, 0) + 1

    def request(self, keys: Sequence[Key], place: Callable[[Key], NDArray[Any] | None]) -> list[Future[Unit]]:
        """The units of a window, as they are, are being read, or are read from now on by the cache's threads.

        Args:
            keys: Their keys.
            place: Where in the window a unit that no other one needs is to be decoded; None where it must be copied.
        """
        with self._lock:
            own = set(keys)
            for key in keys:
                if key not in self._units:
                    alone = not self._keep and self._uses.get(key, 1) <= 1
                    self._start(key, own, len(keys), place(key) if alone else None)
                self._units.move_to_end(key)
                self._early.discard(key)
            return [self._units[key] for key in keys]

    def read_ahead(self) -> None:
        """Have units read that are expected next, so that a distant server is not waited for window by window."""
        with self._lock:
            soon = {key for key in itertools.islice(self._coming, self._ahead) if self._uses.get(key, 0) > 0}
            most = min(self._ahead, self._limit // max(1, 2 * self._largest))
            while self._coming and len(self._early) < most:
                key = self._coming.popleft()
                if key not in self._units and self._uses.get(key, 0) > 0:
                    self._early.update(self._start(key, soon, most - len(self._early)))

    def release(self, key: Key) -> None:
        """Count that one expected window has had the unit; drop it with the last one, or when too much is kept."""
        with self._lock:
            left = self._uses.get(key, 1) - 1
            self._uses[key] = left
            future = self._units.get(key)
            failed = future is not None and future.done() and future.exception() is not None
            if (left <= 0 and not self._keep) or failed:
                self._drop(key)
            while self._kept_bytes > self._limit and len(self._units) > 1:
                oldest = next((k for k, f in self._units.items() if f.done()), None)
                if oldest is None:
                    break
                self._drop(oldest)

    def _drop(self, key: Key) -> None:
        self._early.discard(key)
        future = self._units.pop(key, None)
        if future is not None and future.done() and future.exception() is None:
            self._kept_bytes -= future.result().nbytes

    def _start(self, key: Key, wanted: Container[Key], most: int, into: NDArray[Any] | None = None) -> list[Key]:
        """Have a unit read, and with it those right of it that are wanted, too; gives all of them."""
        (file, row, col), most = key, min(most, self._run_of(key))
        run = [key]
        while len(run) < most and (right := (file, row, col + len(run))) in wanted and right not in self._units:
            run.append(right)
        futures = [(one, Future[Unit]()) for one in run]
        self._pool.submit(self._fulfil, futures, into if len(run) == 1 else None)
        self._units.update(futures)
        return run

    def _fulfil(self, run: Sequence[tuple[Key, Future[Unit]]], into: NDArray[Any] | None = None) -> None:
        try:
            units = self._read([key for key, _ in run], into)
        except BaseException as error:  # noqa: BLE001 - it belongs to the one who waits
            if len(run) == 1:
                run[0][1].set_exception(error)
            else:
                for one in run:
                    self._fulfil([one])
            return
        with self._lock:
            for (key, future), unit in zip(run, units, strict=True):
                lasts = len(run) > 1 and (self._keep or self._uses.get(key, 0) > 1)
                own = unit.apart() if lasts else unit
                if self._units.get(key) is future:
                    # Not dropped meanwhile, by a window that could not be read.
                    self._kept_bytes += own.nbytes
                self._largest = max(self._largest, own.nbytes)
                future.set_result(own)
