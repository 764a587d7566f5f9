"""Parts of one file from its server, by several threads at once, over connections that are kept (RFC 9110, section 14)."""

from __future__ import annotations

import re
import threading
import urllib.error
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, IncompleteRead
from urllib.parse import urldefrag, urljoin, urlsplit

from geoseg.addresses import shown
from geoseg.deadline import Attempt
from geoseg.errors import ReadError
from geoseg.redaction import redact
from geoseg.scenes.remote import MEANINGS, TIMEOUT_S, basic_credentials, is_http
from geoseg.transient import is_transient, passing

__all__ = ["Part", "RangeClient"]

PART_S = 120.0
"""Seconds that a part may take in all; a server can send a byte now and then, so that no single wait is ever too long."""
MOST_REDIRECTS = 5
MOST_IDLE = 32
"""Connections that are kept for the next part."""
REDIRECTS = {301, 302, 303, 307, 308}
CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")
Host = tuple[str, str]
"""Scheme and authority."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a file."""

    data: memoryview
    """As many bytes as were asked for, or fewer where the file ends before."""
    size: int
    """Bytes of the whole file."""
    version: str
    """Its ETag, else its time of modification; changes when the file does."""


class RangeClient:
    """Asks for parts of a file; may be used by several threads.

    A part is whole, and lies where it was asked for, or it is none: what a server answers is checked. Nothing is kept, so that
    what came damaged is asked for anew. Redirects lead to HTTP only, and are followed again when their target denies.

    Args:
        address: An HTTP address, with the signature that it needs.
    """

    def __init__(self, address: str) -> None:
        self.address = urldefrag(address).url
        self._target = self.address
        self._lock = threading.Lock()
        self._idle: list[tuple[Host, HTTPConnection]] = []
        self._closed = False

    def close(self) -> None:
        """Close the connections that are idle; those in use are closed when they have been used."""
        with self._lock:
            idle, self._idle, self._closed = self._idle, [], True
        for _, connection in idle:
            connection.close()

    def get(self, first: int, count: int) -> Part:
        """The bytes from ``first`` on; raises as ``get_all``."""
        return self.get_all([(first, count)])[0]

    def get_all(self, spans: Sequence[tuple[int, int]], rooms: Sequence[memoryview] | None = None) -> list[Part]:
        """Parts of the file, all asked for at once.

        Args:
            spans: Of each, its first byte and their number.
            rooms: Where each is written to; None for memory of its own. Where one fails, others may still be written.

        Raises:
            ReadError: The server refuses, fails, or can't serve parts of the file.
        """
        places = [None] * len(spans) if rooms is None else rooms
        attempts = [Attempt(partial(self._get, *span, room), "geoseg-range") for span, room in zip(spans, places, strict=True)]
        try:
            return [attempt.result(PART_S) for attempt in attempts]
        except ReadError:
            raise
        except urllib.error.HTTPError as error:
            told = ReadError(f"{shown(self.address)}: the server answers {error.code} ({MEANINGS.get(error.code, 'refused')})")
            told.transient = is_transient(error)
            raise told from error
        except (OSError, EOFError, HTTPException, ValueError) as error:
            reason = redact(str(getattr(error, "reason", error)), self.address) or type(error).__name__
            raise passing(ReadError(f"{shown(self.address)}: {reason}")) from error

    def _get(self, first: int, count: int, room: memoryview | None) -> Part:
        target = self._target
        try:
            return self._followed(target, first, count, room)
        except urllib.error.HTTPError:
            if target == self.address:
                raise
        # Targets of redirects are often good for a while only.
        return self._followed(self.address, first, count, room)

    def _followed(self, address: str, first: int, count: int, room: memoryview | None) -> Part:
        for _ in range(MOST_REDIRECTS + 1):
            host, connection, response = self._asked(address, first, count)
            kept = False
            try:
                if response.status not in REDIRECTS:
                    part = self._part(response, address, (first, count), room)
                    kept = response.isclosed() and not response.will_close
                    self._target = address
                    return part
                location = urljoin(address, response.headers.get("Location", ""))
                if not is_http(location):
                    raise ReadError(f"{shown(self.address)}: sends one to {shown(location)}, which is not HTTP")
                own = urlsplit(address)
                if own.username is not None and urlsplit(location).netloc == own.netloc.rpartition("@")[2]:
                    # Credentials stay with the host that they are for.
                    location = urlsplit(location)._replace(netloc=own.netloc).geturl()
                address = location
            finally:
                self._put_back(host, connection, kept=kept)
        raise ReadError(f"{shown(self.address)}: more than {MOST_REDIRECTS} redirects, one after the other")

    def _part(self, response: HTTPResponse, address: str, span: tuple[int, int], room: memoryview | None) -> Part:
        first, count = span
        if response.status >= 400:
            raise urllib.error.HTTPError(address, response.status, response.reason, response.headers, None)
        found = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if response.status != 206 or found is None:
            raise ReadError(
                f"{shown(self.address)}: the server can't serve parts of a file (no byte ranges); download the file first"
            )
        start, end, size = map(int, found.groups())
        if start != first or end != min(first + count, size) - 1:
            raise HTTPException(f"asked for bytes {first} to {first + count - 1}, the server sends {start} to {end} of {size}")
        version = response.headers.get("ETag") or response.headers.get("Last-Modified") or ""
        length = end - start + 1
        data = memoryview(bytearray(length)) if room is None else room[:length]
        _read_body(response, data)
        return Part(data, size, version)

    def _asked(self, address: str, first: int, count: int) -> tuple[Host, HTTPConnection, HTTPResponse]:
        parts = urlsplit(address)
        headers = {"Range": f"bytes={first}-{first + count - 1}", "User-Agent": "geoseg"}
        if (credentials := basic_credentials(parts)) is not None:
            headers["Authorization"] = credentials
        host = (parts.scheme.lower(), parts.netloc.rpartition("@")[2])
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        while True:
            connection, fresh = self._taken(host)
            try:
                connection.request("GET", path, headers=headers)
                return host, connection, connection.getresponse()
            except ConnectionError:
                connection.close()
                # A server closes connections that were idle for long.
                if fresh:
                    raise
            except BaseException:
                connection.close()
                raise

    def _taken(self, host: Host) -> tuple[HTTPConnection, bool]:
        """A connection to a host, and whether it is a new one."""
        with self._lock:
            for i in reversed(range(len(self._idle))):
                if self._idle[i][0] == host:
                    return self._idle.pop(i)[1], False
        kind = HTTPSConnection if host[0] == "https" else HTTPConnection
        return kind(host[1], timeout=TIMEOUT_S), True

    def _put_back(self, host: Host, connection: HTTPConnection, *, kept: bool) -> None:
        if kept:
            with self._lock:
                if not self._closed and len(self._idle) < MOST_IDLE:
                    self._idle.append((host, connection))
                    return
        connection.close()


def _read_body(response: HTTPResponse, room: memoryview) -> None:
    count, filled = len(room), 0
    while filled < count:
        got = response.readinto(room[filled:])
        if not got:
            raise IncompleteRead(bytes(room[:filled]), count - filled)
        filled += got
    # The end of a body in chunks, after which the connection is free.
    response.read(1)
