"""A server of the files of a folder, on loopback, that serves parts of files and fails as servers in the field do."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MODES = {
    "ok": "serves",
    "503every": "every n-th request is answered 503",
    "503always": "every request is answered 503",
    "auth": "every request is answered 403",
    "norange": "whole files only",
    "short": "every n-th body ends in its middle",
    "reset": "every n-th connection is closed without an answer",
    "flip": "every n-th body has a wrong byte",
    "slow": "each answer takes n seconds",
    "changing": "each answer has another ETag",
    "moved": "requests are sent on to the same server by its name, where they are denied with credentials",
    "elsewhere": "requests are sent on to what is not HTTP",
    "circle": "requests are sent on to themselves",
}
"""What a mode does; n stands behind a sign of equality: ``short=4``."""
RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, folder: Path, mode: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.mode, _, number = mode.partition("=")
        assert self.mode in MODES, mode
        self.folder, self.number = folder, float(number or 1)
        self._lock, self.requests, self.sent = threading.Lock(), 0, 0
        self.url = f"http://127.0.0.1:{self.server_port}"

    def count(self) -> int:
        """The number of a request, from 1."""
        with self._lock:
            self.requests += 1
            return self.requests

    def add(self, count: int) -> None:
        """So many bytes are sent."""
        with self._lock:
            self.sent += count


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._respond()

    def do_GET(self) -> None:
        self._respond()

    def _respond(self) -> None:
        server = self.server
        request, mode = server.count(), server.mode
        is_turn = request % max(1, int(server.number)) == 0
        path = server.folder / Path(self.path.partition("?")[0]).name
        if not path.is_file():
            self._send(HTTPStatus.NOT_FOUND, b"no such file")
        elif mode == "503always" or (mode == "503every" and is_turn):
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, b"busy", **{"Retry-After": "1"})
        elif mode in ("moved", "elsewhere", "circle") and "moved" not in self.path:
            host = {"moved": f"http://localhost:{server.server_port}", "elsewhere": "ftp://localhost", "circle": ""}[mode]
            target = self.path if mode == "circle" else f"{self.path}?moved"
            self._send(HTTPStatus.FOUND, b"", Location=host + target)
        elif mode == "auth" or (mode == "moved" and "Authorization" in self.headers):
            self._send(HTTPStatus.FORBIDDEN, b"denied")
        else:
            if mode == "slow":
                time.sleep(server.number)
            wanted = RANGE.fullmatch(self.headers.get("Range", ""))
            content = path.read_bytes()
            if wanted is None or mode == "norange":
                ranges = {} if mode == "norange" else {"Accept-Ranges": "bytes"}
                self._send(HTTPStatus.OK, content, **ranges)
            else:
                self._send_part(content, int(wanted[1]), int(wanted[2] or len(content) - 1), request, is_turn=is_turn)

    def _send_part(self, content: bytes, first: int, last: int, request: int, *, is_turn: bool) -> None:
        mode, last = self.server.mode, min(last, len(content) - 1)
        if first > last:
            self._send(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b"")
            return
        if mode == "reset" and is_turn:
            self.close_connection = True
            self.connection.close()
            return
        body = bytearray(content[first : last + 1])
        if mode == "flip" and is_turn:
            body[len(body) // 2] ^= 0xFF
        headers = {
            "Content-Range": f"bytes {first}-{last}/{len(content)}",
            "Accept-Ranges": "bytes",
            "ETag": f'"{request if mode == "changing" else 1}"',
        }
        if mode == "short" and is_turn:
            self.close_connection = True
            self._send(HTTPStatus.PARTIAL_CONTENT, bytes(body[: len(body) // 2]), length=len(body), **headers)
        else:
            self._send(HTTPStatus.PARTIAL_CONTENT, bytes(body), **headers)

    def _send(self, status: HTTPStatus, body: bytes, *, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.server.add(len(body))
            self.wfile.write(body)


@contextmanager
def faulty_server(folder: Path, mode: str = "ok") -> Iterator[str]:
    """Serve a folder while the block lasts; gives the address that names of files are put behind."""
    with serving(folder, mode) as server:
        yield server.url


@contextmanager
def serving(folder: Path, mode: str = "ok") -> Iterator[_Server]:
    """The same, and gives the server, which counts its requests and the bytes of its answers."""
    server = _Server(folder, mode)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
