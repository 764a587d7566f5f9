"""A STAC API on loopback: items in pages, whose next links may be anything, and the files of a folder."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

COG = "image/tiff; application=geotiff; profile=cloud-optimized"


def item(label: str, assets: dict[str, Any], **facts: Any) -> dict[str, Any]:
    """A STAC item; ``facts`` are its properties."""
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": label,
        "geometry": None,
        "links": [],
        "collection": "c",
        "properties": {"datetime": "2024-01-02T03:04:05Z", **facts},
        "assets": assets,
    }


def asset(href: str, *names: str, kind: str | None = COG, roles: Sequence[str] | None = ("data",), **more: Any) -> dict[str, Any]:
    """An asset whose bands have common names."""
    found: dict[str, Any] = {"href": href, **more}
    if names:
        found["eo:bands"] = [{"name": name, "common_name": name} for name in names]
    if kind is not None:
        found["type"] = kind
    if roles is not None:
        found["roles"] = list(roles)
    return found


@dataclass
class Catalogue:
    """What the API has, and what it was asked."""

    folder: Path
    items: list[Any] = field(default_factory=list)
    page: int = 250
    """Items of a page at most."""
    methods: tuple[str, ...] = ("POST",)
    """By which it can be searched."""
    following: Callable[[str, int], dict[str, Any] | None] | None = None
    """Of the base address and the number of a page, the next link in place of the right one."""
    lifetime: float | None = None
    """Seconds that a signature opens files for, which ``/token/COLLECTION`` gives; None where files are open to all."""
    tokens: dict[str, float] = field(default_factory=dict)
    """Signatures that were given, and when."""
    denied: int = 0
    """Requests for files that were answered 403."""
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    """Method, path and body of each request."""
    base: str = ""

    def token(self) -> dict[str, str]:
        """A new signature; nothing is said of its end."""
        name = f"T0KEN-{len(self.tokens)}"
        self.tokens[name] = time.monotonic()
        return {"token": f"sv=2024&sig={name}"}

    def opens(self, query: str) -> bool:
        """Whether a query has a signature that is still good."""
        if self.lifetime is None:
            return True
        (name,) = parse_qs(query).get("sig", [""])[:1]
        good = time.monotonic() - self.tokens.get(name, -1e9) < self.lifetime
        self.denied += not good
        return good

    def document(self, method: str, path: str, body: Any) -> Any:
        """The document at a path."""
        self.asked.append((method, path, body))
        parts = urlsplit(path)
        if parts.path == "/api":
            links = [{"rel": "search", "href": f"{self.base}/api/search", "method": one} for one in self.methods]
            return {"type": "Catalog", "stac_version": "1.0.0", "id": "x", "description": "x", "links": links}
        query = {key: values[0] for key, values in parse_qs(parts.query).items()} if method == "GET" else body
        start, size = int(query.get("token", 0)), min(self.page, int(query.get("limit", self.page)))
        number = start // size
        found, more = self.items[start : start + size], start + size < len(self.items)
        link: dict[str, Any] | None = None
        if self.following is not None:
            link = self.following(self.base, number)
        elif more and method == "POST":
            link = {"href": f"{self.base}/api/search", "method": "POST", "body": {"token": start + size}, "merge": True}
        elif more:
            link = {"href": f"{self.base}/api/search?limit={size}&token={start + size}"}
        links = [] if link is None else [{"rel": "next", **link}]
        return {"type": "FeatureCollection", "features": found, "links": links}


@contextmanager
def catalogue(folder: Path, items: Sequence[Any] = (), **how: Any) -> Iterator[Catalogue]:
    """Serve a catalogue at ``/api`` and the files of a folder beside it while the block lasts."""
    served = Catalogue(folder, list(items), **how)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_POST(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = folder / urlsplit(self.path).path.lstrip("/")
            if self.path.startswith("/api"):
                document = served.document(self.command, self.path, json.loads(sent) if sent else None)
                return self._send(200, json.dumps(document).encode())
            if self.path.startswith("/token/"):
                served.asked.append((self.command, self.path, None))
                return self._send(200, json.dumps(served.token()).encode())
            if path.suffix.lower() == ".tif" and not served.opens(urlsplit(self.path).query):
                return self._send(403, b"")
            if not path.is_file():
                return self._send(404, b"")
            data, asked = path.read_bytes(), re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if asked is None:
                return self._send(200, data)
            first, last = int(asked[1]), min(int(asked[2] or len(data) - 1), len(data) - 1)
            return self._send(206, data[first : last + 1], **{"Content-Range": f"bytes {first}-{last}/{len(data)}"})

        def _send(self, code: int, body: bytes, **headers: str) -> None:
            self.send_response(code)
            for name, value in {"Content-Length": str(len(body)), "ETag": '"1"', **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    served.base = f"http://127.0.0.1:{server.server_port}"
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
