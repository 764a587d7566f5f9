"""A server on loopback that notes who asks it; a process of its own, since GDAL may hold Python's lock while it asks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

__all__ = ["Canary", "canary"]


@dataclass(frozen=True, slots=True)
class Canary:
    """Where it listens, and what it was asked."""

    address: str
    log: Path

    @property
    def asked(self) -> list[str]:
        """The requests so far."""
        return self.log.read_text().splitlines() if self.log.is_file() else []


@contextmanager
def canary(folder: Path) -> Iterator[Canary]:
    """The server, as long as it is needed."""
    log = folder / "canary.log"
    process = subprocess.Popen([sys.executable, __file__, str(log)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield Canary(f"http://127.0.0.1:{int(process.stdout.readline())}", log)
    finally:
        process.kill()
        process.wait()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        with Path(sys.argv[1]).open("a") as log:
            log.write(f"{self.command} {self.path}\n")
        self.send_response(404)
        self.end_headers()

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Nothing: the log is a file."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()
