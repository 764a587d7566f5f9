"""A watch among faults: servers that are down, silent or slow, disks that are full or away, files that people change."""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import LIMIT_S, WriteRaster, call_cli

from geoseg.errors import OutputError, ReadError
from geoseg.models.model_folder import Model
from geoseg.scenes import remote
from geoseg.scenes.sources import SceneRef
from pipeline.config.sections import Config
from pipeline.infer.receipt import Receipt
from pipeline.infer.workers import LocalWorkers
from pipeline.plan.make import make_plan
from pipeline.plan.room import check_room
from pipeline.segment.outcome import ERRORS
from pipeline.segment.progress import JsonProgress, Lasting, Quiet
from pipeline.watch import looking, webhook
from pipeline.watch.ledger import LEDGER, read_ledger
from pipeline.watch.run import watch
from pipeline.watch.scan import scan_once
from pipeline.watch.status import read_status

Scan = Callable[..., dict[str, str]]
SOON = {"settle": "0s", "retry_delay": "0s", "max_failures": 2}


@pytest.fixture
def scan(identity_model: Model, tmp_path: Path) -> Scan:
    """One scan into ``out``; gives the status of each scene that was mapped."""

    def run(*sources: str | Path, workers: Any = LocalWorkers, **sections: Any) -> dict[str, str]:
        config = Config.parse({"vector": {"formats": ["fgb"]}, "watch": SOON} | sections)
        reports = scan_once([str(s) for s in sources], identity_model, config, tmp_path / "out", workers)
        return {report.scene: report.status for report in reports}

    return run


class Server:
    """Serves files of a folder and a STAC API of them, as long as nothing is wrong with it."""

    def __init__(self, root: Path) -> None:
        self.root, self.fault, self.searches = root, "", 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                del args

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.do_GET()

            def do_GET(self) -> None:
                outer.answer(self)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, to: BaseHTTPRequestHandler) -> None:
        """One answer, or what is wrong with it."""
        if self.fault.isdigit():
            to.send_response(int(self.fault))
            to.send_header("Content-Length", "0")
            to.end_headers()
        elif self.fault == "reset":
            to.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            to.connection.close()
        elif self.fault == "drip":
            for _ in range(200):
                try:
                    to.wfile.write(b"X")
                    to.wfile.flush()
                except OSError:
                    return
                time.sleep(0.05)
        elif to.path.split("?")[0].endswith(".tif"):
            self._part(to)
        else:
            body = json.dumps(self._search() if "/search" in to.path else self._landing()).encode()
            self._send(to, 200, body, {})

    def _part(self, to: BaseHTTPRequestHandler) -> None:
        data = (self.root / to.path.split("?")[0].lstrip("/")).read_bytes()
        asked = to.headers.get("Range")
        first, _, last = (asked or "bytes=0-").removeprefix("bytes=").partition("-")
        end = min(int(last or len(data) - 1), len(data) - 1)
        place = {"Content-Range": f"bytes {first}-{end}/{len(data)}"} if asked else {}
        self._send(to, 206 if asked else 200, data[int(first) : end + 1], {**place, "ETag": '"1"'})

    def _send(self, to: BaseHTTPRequestHandler, code: int, body: bytes, headers: dict[str, str]) -> None:
        to.send_response(code)
        for name, value in {"Content-Length": str(len(body)), "Accept-Ranges": "bytes", **headers}.items():
            to.send_header(name, value)
        to.end_headers()
        to.wfile.write(body)

    def _landing(self) -> dict[str, Any]:
        links = [
            {"rel": "self", "href": self.address},
            {"rel": "root", "href": self.address},
            {"rel": "search", "href": f"{self.address}/search"},
        ]
        conforms = ["https://api.stacspec.org/v1.0.0/core", "https://api.stacspec.org/v1.0.0/item-search"]
        return {"type": "Catalog", "stac_version": "1.0.0", "id": "x", "description": "x", "links": links, "conformsTo": conforms}

    def _search(self) -> dict[str, Any]:
        """Items whose addresses are signed anew each time."""
        self.searches += 1
        items = [
            {
                "type": "Feature",
                "stac_version": "1.0.0",
                "id": path.stem,
                "geometry": None,
                "links": [],
                "collection": "c",
                "properties": {"datetime": "2024-01-01T00:00:00Z"},
                "assets": {"visual": {"href": f"{self.address}/{path.name}?sig=SECRET{self.searches}&se=2030"}},
            }
            for path in sorted(self.root.glob("*.tif"))
        ]
        return {"type": "FeatureCollection", "features": items, "links": []}

    @contextmanager
    def running(self) -> Iterator[Server]:
        """Its time."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of ``served``."""
    with Server(tmp_path / "in" / "served").running() as running:
        yield running


@pytest.fixture
def silent() -> Iterator[str]:
    """Address of a server that accepts and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(50)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """No patience: the limits are the same as ever, but shorter."""
    monkeypatch.setattr(remote, "TRIES", 1)
    monkeypatch.setattr(remote, "PROBE_S", 1.0)
    monkeypatch.setattr(remote, "TIMEOUT_S", 0.7)
    monkeypatch.setattr(webhook, "MOST_S", 1.0)


def _scene(write_raster: WriteRaster, name: str = "a.tif") -> Path:
    return write_raster(np.ones((70, 80), np.uint8), name)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("fault", ["503", "429", "500", "403", "404", "reset", "drip"])
def test_a_server_that_fails_leads_to_no_quarantine(
    fault: str, write_raster: WriteRaster, scan: Scan, server: Server, tmp_path: Path
) -> None:
    _scene(write_raster, "served/a.tif")
    (tmp_path / "list.txt").write_text(f"{server.address}/a.tif?sig=1\n")
    server.fault = fault
    for _ in range(4):
        assert scan(tmp_path / "list.txt") == {"a": "failed"}
    (row,) = read_ledger(tmp_path / "out").values()
    assert (row.status, row.attempts, row.delays) == ("waiting", 0, 4)
    assert "waiting, tried again at 20" in row.facts["reason"]
    assert "sig" not in row.facts["reason"]
    status = read_status(tmp_path / "out")
    assert status is not None
    assert (status["scenes"]["backing_off"], status["scenes"]["quarantined"]) == (1, 0)
    server.fault = ""
    assert scan(tmp_path / "list.txt") == {"a": "done"}
    assert json.loads((tmp_path / "out" / "index.json").read_text())["scenes"][0]["status"] == "done"


@pytest.mark.usefixtures("hasty")
def test_nobody_listening_and_no_such_host(scan: Scan, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    (tmp_path / "list.txt").write_text(f"http://127.0.0.1:{port}/a.tif\nhttp://no-such-host.invalid/b.tif\n")
    for _ in range(3):
        assert scan(tmp_path / "list.txt") == {"a": "failed", "b": "failed"}
    assert {row.status for row in read_ledger(tmp_path / "out").values()} == {"waiting"}


def test_it_waits_before_it_asks_again(write_raster: WriteRaster, scan: Scan, server: Server, tmp_path: Path) -> None:
    _scene(write_raster, "served/a.tif")
    (tmp_path / "list.txt").write_text(f"{server.address}/a.tif\n")
    server.fault = "404"
    patient = SOON | {"retry_delay": "1h"}
    assert scan(tmp_path / "list.txt", watch=patient) == {"a": "failed"}
    server.fault = ""
    assert scan(tmp_path / "list.txt", watch=patient) == {}
    done = call_cli(["watch", tmp_path / "out", "--list"])
    assert done.returncode == 0
    assert "waiting" in done.stdout
    assert call_cli(["watch", "--out", tmp_path / "out", "--release", "all"]).stdout == "a: tried again at the next scan\n"
    assert scan(tmp_path / "list.txt", watch=patient) == {"a": "done"}


@pytest.mark.parametrize("fault", ["silent", "drip", "503", "reset", "nonsense"])
def test_a_source_that_does_not_answer_holds_up_no_other(
    fault: str, write_raster: WriteRaster, scan: Scan, server: Server, silent: str, tmp_path: Path
) -> None:
    path = _scene(write_raster)
    server.fault = fault
    if fault == "nonsense":
        server.fault, server._landing = "", lambda: json.loads("[" * 500 + "]" * 500)  # type: ignore[method-assign]
    address = silent if fault == "silent" else server.address
    limits = SOON | {"scan_timeout": "2s"}
    started = time.monotonic()
    assert scan(f"stac+{address}/", path, watch=limits) == {"a": "done"}
    status = read_status(tmp_path / "out")
    assert status is not None
    assert (status["scan"]["result"], len(status["away"])) == ("partial", 1)
    with pytest.raises(ReadError):
        scan(f"stac+{address}/", watch=limits)
    assert time.monotonic() - started < 60
    # The lock is free, and one listing that hangs is not joined by a second.
    assert scan(path, watch=limits) == {}
    assert sum(attempt.running for attempt in looking._open.values()) <= 2


def test_a_new_signature_is_no_new_scene(write_raster: WriteRaster, scan: Scan, server: Server, tmp_path: Path) -> None:
    _scene(write_raster, "served/a.tif")
    source = f"stac+{server.address}/"
    assert scan(source) == {"a": "done"}
    assert scan(source) == {}
    assert server.searches >= 2
    kept = b"".join(path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file())
    assert b"SECRET" not in kept, "neither in the ledger nor in the index nor in the status"
    (server.root / "a.tif").write_bytes(b"no raster")
    (tmp_path / "out" / "a" / "run.json").unlink()
    for _ in range(2):
        assert scan(source) == {"a": "failed"}
    assert scan(source) == {}, "in quarantine, however it is signed"


@pytest.mark.usefixtures("hasty")
def test_a_webhook_that_is_silent_costs_little(write_raster: WriteRaster, scan: Scan, silent: str) -> None:
    path = _scene(write_raster)
    started = time.monotonic()
    assert scan(path, watch=SOON | {"webhook": f"{silent}/hook"}) == {"a": "done"}
    assert time.monotonic() - started < 30


ERRORS_OF_LIBRARIES = [
    KeyError("x"),
    RecursionError("maximum recursion depth exceeded"),
    struct.error("unpack requires 4 bytes"),
    AssertionError(),
    UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
    ZeroDivisionError("division by zero"),
    RuntimeError("of two\nlines with http://user:password@host/a?sig=SECRET"),
    StopIteration(),
    MemoryError(),
]


@pytest.mark.parametrize("error", ERRORS_OF_LIBRARIES, ids=lambda error: type(error).__name__)
def test_whatever_a_scene_raises_the_others_go_on(
    error: Exception, write_raster: WriteRaster, scan: Scan, tmp_path: Path
) -> None:
    folder = _scene(write_raster, "a.tif").parent
    _scene(write_raster, "b.tif")

    def workers(plan: Any, storage: Any, chunks: Any) -> Any:
        if plan.scene.name == "a":
            raise error
        return LocalWorkers(plan, storage, chunks)

    assert scan(folder, workers=workers) == {"a": "failed", "b": "done"}
    reason = read_ledger(tmp_path / "out")["a"].facts["reason"]
    assert type(error).__name__ in reason or isinstance(error, MemoryError)
    assert "\n" not in reason
    assert "SECRET" not in reason
    assert "password" not in reason
    if not isinstance(error, MemoryError):
        log = (tmp_path / "out" / ERRORS).read_text()
        assert "Traceback" in log
        assert "SECRET" not in log
    assert scan(folder) == {"a": "done"}


@pytest.mark.parametrize("fault", ["deleted", "flipped", "longer", "report deleted", "touched"])
def test_published_files_that_were_damaged_are_made_again_once(
    fault: str, write_raster: WriteRaster, scan: Scan, tmp_path: Path
) -> None:
    path, folder = _scene(write_raster), tmp_path / "out" / "a"
    assert scan(path) == {"a": "done"}
    target = folder / ("run.json" if fault.startswith("report") else "polygons.fgb")
    before = (folder / "polygons.fgb").read_bytes()
    if fault.endswith("deleted"):
        target.unlink()
    elif fault == "touched":
        os.utime(target, (1, 1))
    else:
        target.write_bytes(before + b"x" if fault == "longer" else before[:-1] + bytes([before[-1] ^ 1]))
    assert scan(path) == {"a": "skipped" if fault == "touched" else "done"}
    assert (folder / "polygons.fgb").read_bytes() == before
    assert scan(path) == {}, "it is settled"


class Ticks(threading.Event):
    """Stops a watch after some ticks, and does something between them."""

    def __init__(self, *between: Callable[[], None]) -> None:
        super().__init__()
        self._between = list(between)

    def wait(self, timeout: float | None = None) -> bool:
        """The time between two ticks."""
        del timeout
        if not self._between:
            self.set()
            return True
        self._between.pop(0)()
        return False


@pytest.fixture
def watching(identity_model: Model, tmp_path: Path) -> Callable[..., list[dict[str, str]]]:
    """Watches ``in`` with something between its ticks; gives what each good scan has mapped."""

    def run(
        *between: Callable[[], None], sources: tuple[str, ...] = (), out: Path | None = None, **sections: Any
    ) -> list[dict[str, str]]:
        config = Config.parse({"vector": {"formats": ["fgb"]}, "watch": SOON} | sections)
        ticks: list[dict[str, str]] = []
        watch(
            sources or (str(tmp_path / "in"),),
            identity_model,
            config,
            out or tmp_path / "out",
            lambda: nullcontext(LocalWorkers),
            every_s=1.0,
            stop=Ticks(*between),
            on_tick=lambda reports: ticks.append({r.scene: r.status for r in reports}),
        )
        return ticks

    return run


@pytest.mark.parametrize("size", [0, 2000, 9000, 14_000, 30_000])
def test_a_full_disk_ends_no_watch(
    size: int, write_raster: WriteRaster, watching: Callable[..., list[dict[str, str]]], tmp_path: Path
) -> None:
    """A limit on the size of files takes all there is: ledger, chunks, maps, index, status. With room, all of it is there."""
    _scene(write_raster)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    def room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    try:
        full()
        ticks = watching(full, full, full, room, room)
    finally:
        room()
    assert {status for tick in ticks for status in tick.values()} & {"done", "skipped"}
    row = read_ledger(tmp_path / "out")["a"]
    assert (row.status, row.attempts) == ("done", 0)
    (entry,) = json.loads((tmp_path / "out" / "index.json").read_text())["scenes"]
    assert entry["status"] == "done"
    status = read_status(tmp_path / "out")
    assert status is not None
    assert status["scenes"]["done"] == 1
    assert not list((tmp_path / "out").rglob("*.tmp*"))


def test_an_output_that_is_unmounted_is_waited_for(
    write_raster: WriteRaster, watching: Callable[..., list[dict[str, str]]], tmp_path: Path
) -> None:
    places = [Path(text) for text in ("/dev/shm", "/var/tmp", "/tmp") if os.access(text, os.W_OK)]
    other = next((place for place in places if place.stat().st_dev != tmp_path.stat().st_dev), None)
    if other is None:
        pytest.skip("there is no second file system")
    _scene(write_raster)
    (tmp_path / "disk").mkdir()
    out = tmp_path / "out"
    out.symlink_to(tmp_path / "disk")
    empty = other / f"geoseg-test-{os.getpid()}"
    empty.mkdir()

    def unmount() -> None:
        out.unlink()
        out.symlink_to(empty)

    def vanish() -> None:
        out.unlink()

    def mount() -> None:
        out.symlink_to(tmp_path / "disk")
        _scene(write_raster, "b.tif")

    try:
        assert watching(unmount, vanish, mount) == [{"a": "done"}, {"b": "done"}]
        assert list(empty.iterdir()) == []
    finally:
        for path in sorted(empty.rglob("*"), reverse=True):
            path.unlink() if not path.is_dir() else path.rmdir()
        empty.rmdir()


def test_a_source_that_goes_is_waited_for(
    write_raster: WriteRaster, watching: Callable[..., list[dict[str, str]]], tmp_path: Path
) -> None:
    _scene(write_raster)

    def back() -> None:
        (tmp_path / "away").rename(tmp_path / "in")
        _scene(write_raster, "b.tif")

    assert watching(lambda: (tmp_path / "in").rename(tmp_path / "away") and None, lambda: None, back)[-1] == {"b": "done"}  # type: ignore[func-returns-value]


@pytest.mark.parametrize("more", [[], ["--once"], ["--aoi", "gone.gpkg"]])
def test_a_source_that_was_never_there_leaves_nothing(more: list[str], identity_model: Model, tmp_path: Path) -> None:
    """Neither a folder that was made for it, nor anything in one that was there; what a watch has begun stays."""
    there, begun = tmp_path / "there", tmp_path / "begun"
    there.mkdir()
    (there / "of-somebody.txt").write_text("x")
    (tmp_path / "in").mkdir()
    source = tmp_path / "in" if "--aoi" in more else tmp_path / "nowhere"
    for out in (tmp_path / "out", there):
        done = call_cli(["watch", source, "-m", identity_model.path, "-o", out, *more])
        assert done.returncode == 2, done.stderr
        assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert [path.name for path in there.iterdir()] == ["of-somebody.txt"]
    assert call_cli(["watch", tmp_path / "in", "-m", identity_model.path, "-o", begun, "--once"]).returncode == 0
    files = sorted(path.name for path in begun.iterdir())
    assert ".geoseg-ledger.sqlite" in files
    assert call_cli(["watch", source, "-m", identity_model.path, "-o", begun, *more]).returncode == 2
    assert sorted(path.name for path in begun.iterdir()) == files


def test_a_ledger_that_breaks_is_made_anew(
    write_raster: WriteRaster, watching: Callable[..., list[dict[str, str]]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _scene(write_raster)
    ticks = watching(lambda: (tmp_path / "out" / LEDGER).write_bytes(b"broken" * 1000) and None)  # type: ignore[func-returns-value]
    assert ticks == [{"a": "done"}, {"a": "skipped"}]
    assert "is moved to .geoseg-ledger.sqlite.broken-" in caplog.text
    (entry,) = json.loads((tmp_path / "out" / "index.json").read_text())["scenes"]
    assert entry["status"] == "done"
    assert "a/polygons.fgb" in entry["outputs"]


def test_the_output_is_asked_from_outside(write_raster: WriteRaster, scan: Scan, identity_model: Model, tmp_path: Path) -> None:
    folder, out = _scene(write_raster).parent, tmp_path / "out"
    (folder / "bad.tif").write_bytes(b"no raster")
    args = ["watch", folder, "-m", identity_model.path, "-o", out, "--settle", "0s", "--formats", "fgb"]
    done = call_cli([*args, "--dry-run"])
    assert (done.returncode, done.stdout, out.exists()) == (0, "map     a: new\nmap     bad: new\n", False)
    for _ in range(2):
        scan(folder)
    done = call_cli(["watch", out, "--list", "--json"])
    assert [(s["scene"], s["status"], s["attempts"]) for s in map(json.loads, done.stdout.splitlines())] == [
        ("bad", "quarantined", 2),
        ("a", "done", 0),
    ]
    assert call_cli(["watch", "--health", out]).returncode == 0
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in out.rglob("*")}
    (out / "a" / "polygons.fgb").unlink()
    del before[out / "a" / "polygons.fgb"]
    done = call_cli([*args, "--max-failures", "2", "--dry-run", "--json"])
    lines = {line["scene"]: (line["action"], line["reason"]) for line in map(json.loads, done.stdout.splitlines())}
    assert lines["a"] == ("map", "repair: polygons.fgb is gone")
    assert lines["bad"][0] == "none"
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in out.rglob("*") if path != out / "a"} == {
        path: facts for path, facts in before.items() if path != out / "a"
    }
    assert call_cli(["watch", out, "--release", "bad"]).returncode == 0
    assert call_cli(["watch", out, "--release", "nobody"]).returncode == 2
    assert scan(folder) == {"a": "done", "bad": "failed"}
    # What has gone from the source and from the output is forgotten, and nothing else.
    (folder / "bad.tif").unlink()
    (folder / "a.tif").unlink()
    prune = ["watch", folder, "-o", out, "--forget-removed"]
    assert call_cli([*prune, "--dry-run"]).stdout.startswith("bad: would be forgotten\n1 scene to be forgotten")
    assert set(read_ledger(out)) == {"a", "bad"}
    assert call_cli(prune).stdout.startswith("bad: forgotten\n1 scene forgotten")
    assert set(read_ledger(out)) == {"a"}
    assert [entry["scene"] for entry in json.loads((out / "index.json").read_text())["scenes"]] == ["a"]


@pytest.mark.parametrize("args", [["--list"], ["--release", "a"]])
def test_a_folder_that_nothing_is_watched_into(args: list[str], tmp_path: Path) -> None:
    done = call_cli(["watch", tmp_path, *args])
    assert (done.returncode, done.stderr.count("\n"), list(tmp_path.iterdir())) == (2, 1, [])


class Broken(io.StringIO):
    """A stream whose reader has gone."""

    calls = 0

    def write(self, text: str) -> int:
        """Fail, and count."""
        del text
        self.calls += 1
        raise BrokenPipeError


def test_progress_without_a_reader_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, told = Broken(), []
    monkeypatch.setattr(sys, "stdout", stream)
    progress = Lasting(JsonProgress(), lambda: told.append(1))
    for _ in range(3):
        progress.folder(1)
        progress.stage("infer")
    assert (stream.calls, told) == (1, [1])


@pytest.mark.parametrize("streams", [">/dev/full", ">&-", "2>&-", "2>/dev/full", ">&- 2>&- <&-"])
def test_broken_streams_end_no_run(streams: str, write_raster: WriteRaster, identity_model: Model, tmp_path: Path) -> None:
    path = _scene(write_raster)
    command = (
        f"'{sys.executable}' -m pipeline watch '{path}' --once --settle 0s -m '{identity_model.path}' -o "
        f"'{tmp_path}/out' --formats fgb --json {streams}"
    )
    done = subprocess.run(
        ["bash", "-c", command], cwd=Path(__file__).parents[2], timeout=LIMIT_S, check=False, capture_output=True
    )
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
    assert (tmp_path / "out" / "a" / "run.json").is_file()
    # A closed stream's number has gone to no file of ours.
    assert all(b"Warning" not in file.read_bytes()[:200] for file in (tmp_path / "out" / "a").iterdir() if file.is_file())


def test_what_is_asked_for_and_lost_is_told_by_the_exit_code(
    write_raster: WriteRaster, identity_model: Model, tmp_path: Path
) -> None:
    path = _scene(write_raster)
    with Path("/dev/full").open("w") as full:
        command = [
            sys.executable,
            "-m",
            "pipeline",
            "segment",
            str(path),
            "-m",
            str(identity_model.path),
            "-o",
            str(tmp_path / "out"),
            "--dry-run",
        ]
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, timeout=LIMIT_S, check=False, cwd=Path(__file__).parents[2]
        )
    assert (done.returncode, b"Traceback" in done.stderr) == (1, False)


def test_a_time_of_change_in_another_age(write_raster: WriteRaster, identity_model: Model, tmp_path: Path) -> None:
    path = _scene(write_raster)
    for moment in (-(10**9), 4 * 10**9, 15 * 10**9):
        try:
            os.utime(path, (moment, moment))
        except (OSError, OverflowError):
            continue
        done = call_cli(["segment", path, "-m", identity_model.path, "-o", tmp_path / str(moment), "--formats", "fgb", "-q"])
        assert done.returncode == 0, done.stderr


def test_a_source_that_takes_longer_than_its_time_is_good_for_the_next_look(
    write_raster: WriteRaster, scan: Scan, server: Server
) -> None:
    _scene(write_raster, "served/a.tif")
    quick = server._search

    def slow() -> dict[str, Any]:
        time.sleep(3)
        return quick()

    server._search = slow  # type: ignore[method-assign]
    limits = SOON | {"scan_timeout": "1s"}
    with pytest.raises(ReadError, match="no answer within"):
        scan(f"stac+{server.address}/", watch=limits)
    (attempt,) = (tried for key, tried in looking._open.items() if any(server.address in part for part in key))
    deadline = time.monotonic() + 60
    while attempt.running and time.monotonic() < deadline:
        time.sleep(0.1)
    assert scan(f"stac+{server.address}/", watch=limits) == {"a": "done"}


def test_a_run_that_can_not_fit_is_refused_before_it_works(
    write_raster: WriteRaster, identity_model: Model, tmp_path: Path
) -> None:
    path = _scene(write_raster)
    plan = make_plan(SceneRef("a", (str(path),)), identity_model, Config())
    check_room(tmp_path, plan, 0)
    free = shutil.disk_usage(tmp_path).free
    huge = replace(plan, estimate=replace(plan.estimate, disk_bytes=free * 100))
    with pytest.raises(
        OutputError, match=r"GB are free, and the run takes about [\d.]+ GB, [\d.]+ GB at the very least"
    ) as caught:
        check_room(tmp_path, huge, 0)
    assert caught.value.transient
    # What is done already takes no more room.
    check_room(tmp_path, huge, len(plan.active))


def test_runs_beside_each_other_end_soon_after_they_are_told_to(
    write_raster: WriteRaster, identity_model: Model, tmp_path: Path
) -> None:
    """A signal meets the main thread; runs in other threads end with their next chunk, and are not to blame."""
    for name in ("a.tif", "b.tif"):
        write_raster(np.ones((1024, 1024), np.uint8), name)
    chunks = threading.Event()

    class Told(Quiet):
        def chunk(self, receipt: Receipt) -> None:
            del receipt
            chunks.set()
            time.sleep(0.2)

    config = Config.parse({"vector": {"formats": ["fgb"]}, "watch": SOON | {"at_once": 2}, "grid": {"tile": 256, "chunk": 256}})
    previous = signal.signal(signal.SIGALRM, _interrupt)
    try:
        threading.Thread(target=lambda: (chunks.wait(LIMIT_S), os.kill(os.getpid(), signal.SIGALRM)), daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            scan_once([str(tmp_path / "in")], identity_model, config, tmp_path / "out", LocalWorkers, Told())
    finally:
        signal.signal(signal.SIGALRM, previous)
    rows = read_ledger(tmp_path / "out")
    assert {(row.status, row.attempts) for row in rows.values()} == {("seen", 0)}
    assert not list((tmp_path / "out").glob("*/run.json"))


def _interrupt(number: int, frame: object) -> None:
    del number, frame
    raise KeyboardInterrupt


def test_once_says_what_still_waits(identity_model: Model, write_raster: WriteRaster, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_raster(np.ones((64, 64), np.uint8), "in/a.tif")
    done = call_cli(["watch", tmp_path / "in", "--once", "-m", identity_model.path, "-o", tmp_path / "out"])
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "geoseg: 1 scene waits: changed less than 30s ago (--settle), or without the marker\n"
