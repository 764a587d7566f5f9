"""Pixels of chunk results that were written or decoded last, kept for the stages behind the network."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future

from geoseg.arrays import U8

__all__ = ["KeptBands"]

MOST_BYTES = 96 << 20
"""Of two bands of three chunks of 4096 x 4096 pixels."""
Key = tuple[int, int]
"""A chunk, and the number of a band in its file."""


class KeptBands:
    """Bands by chunk and number, each decoded once while it is kept; may be used by several threads."""

    def __init__(self, most: int = MOST_BYTES, *, written: bool = False) -> None:
        """Keep so many bytes, and one band at least; with ``written`` also bands that nobody has asked for yet."""
        self.written = written
        self._most, self._bytes, self._lock = most, 0, threading.Lock()
        self._bands: OrderedDict[Key, Future[U8]] = OrderedDict()

    def put(self, key: Key, band: U8) -> None:
        """Take up a band that was written now; it is not to be changed from now on."""
        with self._lock:
            self._drop(key)
            if self.written:
                future = self._bands[key] = Future()
                self._done(key, future, band)

    def get(self, key: Key, decode: Callable[[], U8]) -> U8:
        """A band (h, w), which only one of those who ask for it at once decodes."""
        with self._lock:
            future, known = self._bands.get(key), key in self._bands
            if future is None:
                future = self._bands[key] = Future()
            self._bands.move_to_end(key)
        if known:
            return future.result()
        try:
            band = decode()
        except BaseException as error:
            with self._lock:
                if self._bands.get(key) is future:
                    del self._bands[key]
            future.set_exception(error)
            raise
        with self._lock:
            self._done(key, future, band)
        return future.result()

    def _done(self, key: Key, future: Future[U8], band: U8) -> None:
        kept = band.view()
        kept.flags.writeable = False
        future.set_result(kept)
        if self._bands.get(key) is not future:
            # It was written anew meanwhile.
            return
        self._bytes += kept.nbytes
        while self._bytes > self._most:
            oldest = next((other for other, one in self._bands.items() if one.done() and other != key), None)
            if oldest is None:
                break
            self._drop(oldest)

    def _drop(self, key: Key) -> None:
        future = self._bands.pop(key, None)
        if future is not None and future.done():
            self._bytes -= future.result().nbytes
