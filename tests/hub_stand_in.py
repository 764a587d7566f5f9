"""What stands in on loopback for the Hugging Face hub: one repository, ``someone/forest``, or many with single files."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

__all__ = ["hub_of", "hub_of_repositories"]


class Hub(BaseHTTPRequestHandler):
    """As much of the Hugging Face hub as a download needs."""

    folder: Path
    revision = hashlib.sha1(b"revision").hexdigest()

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            if parts[2:4] != ["someone", "forest"]:
                self.say(401, b"{}", {"X-Error-Code": "RepoNotFound"}, body=body)
                return
            files = [{"rfilename": path.name} for path in sorted(self.folder.iterdir())]
            names = {
                "id": "someone/forest",
                "modelId": "someone/forest",
                "sha": self.revision,
                "siblings": files,
                "tags": [],
                "private": False,
            }
            if "tree" in parts:
                tree = [
                    {"type": "file", "path": p.name, "size": p.stat().st_size, "oid": hashlib.sha1(p.read_bytes()).hexdigest()}
                    for p in sorted(self.folder.iterdir())
                ]
                self.say(200, json.dumps(tree).encode(), {"Content-Type": "application/json"}, body=body)
                return
            self.say(200, json.dumps(names).encode(), {"Content-Type": "application/json"}, body=body)
            return
        path = self.folder / parts[-1]
        if not path.is_file():
            self.say(404, b"", {"X-Error-Code": "EntryNotFound"}, body=body)
            return
        data = path.read_bytes()
        self.say(
            200,
            data,
            {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": self.revision, "Accept-Ranges": "none"},
            body=body,
        )

    def say(self, status: int, data: bytes, headers: dict[str, str], *, body: bool) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        del args


@contextmanager
def hub_of(folder: Path) -> Iterator[str]:
    """The address of a hub that has this folder."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Hub,), {"folder": folder}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class Repositories(BaseHTTPRequestHandler):
    """Files at OWNER/NAME/resolve/REVISION/FILE, as the hub serves them; of any revision, or of that of a folder between."""

    root: Path
    asked: list[str]

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        owner, name, kind, *rest = [*self.path.split("?")[0].strip("/").split("/"), "", "", ""]
        folder = self.root / f"{owner}/{name}" if kind == "resolve" else self.root / "none"
        pinned = folder / rest[0] / rest[1]
        path = pinned if rest[0] and pinned.is_file() else folder / rest[1]
        self.asked.append(f"{self.command} {owner}/{name}/{rest[1]}")
        if not path.is_file():
            code = "EntryNotFound" if folder.is_dir() else "RepoNotFound"
            self.answer(404, b"", {"X-Error-Code": code})
            return
        data = path.read_bytes()
        self.answer(
            200,
            data,
            {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": rest[0] if len(rest[0]) == 40 else "1" * 40},
        )

    def answer(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        del args


@contextmanager
def hub_of_repositories(root: Path) -> Iterator[tuple[str, list[str]]]:
    """The address of a hub whose repositories are the folders OWNER/NAME below a folder, and what it is asked for."""
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Repositories,), {"root": root, "asked": asked}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
