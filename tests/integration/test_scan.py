"""Scans: what is new, changed or half done is mapped, whatever the source; nothing else is touched."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import pytest
from support import ROOT, WriteRaster, contents, patchy

from geoseg.models.folder import Model
from pipeline.config import Config
from pipeline.infer import LocalWorkers
from pipeline.ledger import open_ledger
from pipeline.report import SceneReport
from pipeline.scan import find_work, scan_once
from pipeline.source import list_source

Scan = Callable[..., dict[str, str]]


@pytest.fixture
def scan(identity_model: Model, tmp_path: Path) -> Scan:
    """One scan into ``out``; gives the status of each scene that was mapped."""

    def run(*sources: str | Path, **sections: Any) -> dict[str, str]:
        config = Config.parse({"vector": {"formats": ["fgb"]}} | sections)
        reports = scan_once([str(s) for s in sources], identity_model, config, tmp_path / "out", LocalWorkers)
        return {report.scene: report.status for report in reports}

    return run


def _index(out: Path) -> dict[str, dict[str, Any]]:
    return {entry["scene"]: entry for entry in json.loads((out / "index.json").read_text())["scenes"]}


NOW = {"settle": "0s"}


def test_new_changed_and_lost_scenes_are_mapped_once(write_raster: WriteRaster, scan: Scan, tmp_path: Path) -> None:
    folder = write_raster(np.ones((70, 80), np.uint8), "a.tif").parent
    assert scan(folder, watch=NOW) == {"a": "done"}
    assert scan(folder, watch=NOW) == {}
    write_raster(np.ones((70, 80), np.uint8), "sub/b.tif")
    assert scan(folder, watch=NOW) == {"sub/b": "done"}
    write_raster(np.full((70, 80), 2, np.uint8), "a.tif")
    assert scan(folder, watch=NOW) == {"a": "done"}
    assert json.loads((tmp_path / "out" / "a" / "run.json").read_text())["classes"][2]["pixels"] == 70 * 80
    (tmp_path / "out" / "sub" / "b" / "run.json").unlink()
    assert scan(folder, watch=NOW) == {"sub/b": "done"}
    # Other settings give other maps; how often one looks does not.
    assert scan(folder, watch=NOW | {"at_once": 2}) == {}
    assert scan(folder, watch=NOW, vector={"formats": ["gpkg"]}) == {"a": "done", "sub/b": "done"}
    assert {name: entry["status"] for name, entry in _index(tmp_path / "out").items()} == {"a": "done", "sub/b": "done"}


def test_files_that_are_being_written_are_left_alone(write_raster: WriteRaster, scan: Scan) -> None:
    path = write_raster(np.ones((70, 80), np.uint8), "a.tif")
    assert scan(path.parent, watch={"settle": "1h"}) == {}
    os.utime(path, (time.time() - 7200,) * 2)
    assert scan(path.parent, watch={"settle": "1h", "done_marker": ".done"}) == {}
    Path(f"{path}.done").touch()
    assert scan(path.parent, watch={"settle": "1h", "done_marker": ".done"}) == {"a": "done"}


def test_a_clock_that_is_ahead_does_not_hide_a_file(write_raster: WriteRaster, identity_model: Model, tmp_path: Path) -> None:
    path = write_raster(np.ones((70, 80), np.uint8), "a.tif")
    os.utime(path, (time.time() + 86400,) * 2)
    config = Config.parse({"watch": {"settle": "1m"}})
    found, _ = list_source([str(path)], config)
    with open_ledger(tmp_path) as ledger:
        assert not find_work(found, ledger, tmp_path, "key", config.watch, now=1e9).ready
        assert find_work(found, ledger, tmp_path, "key", config.watch, now=1e9 + 61).ready


def test_quarantine_ends_when_the_file_changes(write_raster: WriteRaster, scan: Scan, tmp_path: Path) -> None:
    folder = write_raster(np.ones((70, 80), np.uint8), "good.tif").parent
    (folder / "bad.tif").write_bytes(b"no raster")
    settings = NOW | {"max_failures": 2}
    assert scan(folder, watch=settings) == {"bad": "failed", "good": "done"}
    assert scan(folder, watch=settings) == {"bad": "failed"}
    assert scan(folder, watch=settings) == {}
    assert re.search("in quarantine after 2 attempts.*not a raster", _index(tmp_path / "out")["bad"]["reason"])
    write_raster(np.ones((70, 80), np.uint8), "bad.tif")
    assert scan(folder, watch=settings) == {"bad": "done"}


def test_results_of_others_are_not_replaced(write_raster: WriteRaster, scan: Scan, identity_model: Model, tmp_path: Path) -> None:
    from pipeline.run import segment_scene

    path = write_raster(np.ones((70, 80), np.uint8), "a.tif")
    (ref,) = (item.ref for item in list_source([str(path)], Config())[0])
    segment_scene(ref, identity_model, Config.parse({"vector": {"formats": ["gpkg"]}}), tmp_path / "out")
    before = (tmp_path / "out" / "a" / "polygons.gpkg").read_bytes()
    for _ in range(3):
        assert scan(path, watch=NOW) == {"a": "failed"}
    assert scan(path, watch=NOW) == {}
    assert (tmp_path / "out" / "a" / "polygons.gpkg").read_bytes() == before


def test_ten_thousand_known_scenes_are_known(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(10_000):
        (tmp_path / "in" / f"{number}.tif").touch()
        (tmp_path / "out" / str(number)).mkdir(parents=True)
        (tmp_path / "out" / str(number) / "run.json").touch()
    config = Config.parse({"watch": NOW})
    found, _ = list_source([str(tmp_path / "in")], config)
    with open_ledger(tmp_path / "out") as ledger:
        work = find_work(found, ledger, tmp_path / "out", "key", config.watch, time.time())
        assert len(work.ready) == 10_000
        done = json.dumps(SceneReport(scene="", status="done").entry())
        import dataclasses

        ledger.put(dataclasses.replace(row, status="done", entry=done) for row in ledger.rows().values())
        work = find_work(found, ledger, tmp_path / "out", "key", config.watch, time.time())
    assert (work.ready, work.known) == ((), 10_000)


def test_killed_watch_goes_on(write_raster: WriteRaster, identity_model: Model, scan: Scan, tmp_path: Path) -> None:
    path = write_raster(patchy(1200, 1200, 5, size=8), "a.tif")
    args = ["-m", str(identity_model.path), "--settle", "0s", "--tile", "256", "--chunk", "256"]
    command = [sys.executable, "-m", "pipeline", "watch", str(path.parent), "-o", str(tmp_path / "out"), *args]
    process = subprocess.Popen([*command, "--every", "1s", "-q"], cwd=ROOT)
    chunks = tmp_path / "out" / "a" / ".run" / "chunks"
    _wait(lambda: chunks.is_dir() and len(list(chunks.glob("*.tif"))) >= 2)
    process.kill()
    process.wait(30)
    assert not (tmp_path / "out" / "a" / "classes.tif").exists()
    process = subprocess.Popen([*command, "--every", "1s", "-q"], cwd=ROOT)
    _wait((tmp_path / "out" / "a" / "run.json").exists)
    write_raster(np.ones((70, 80), np.uint8), "b.tif")
    _wait((tmp_path / "out" / "b" / "run.json").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    clean = [sys.executable, "-m", "pipeline", "segment", str(path), "-o", str(tmp_path / "clean"), *args[:2], *args[4:]]
    assert subprocess.run(clean, cwd=ROOT, check=False, capture_output=True).returncode == 0
    assert contents(tmp_path / "out" / "a") == contents(tmp_path / "clean" / "a")


def _wait(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[str]:
    """A server that is both: an S3 endpoint whose buckets are the folders below ``tmp_path``, and a STAC API of ``in``."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            del args

        def _answer(self, code: int, body: bytes, kind: str, **headers: str) -> None:
            self.send_response(code)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._search()

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if parts.path.startswith("/stac"):
                return self._search() if parts.path.endswith("/search") else self._landing()
            query, path = parse_qs(parts.query), tmp_path / unquote(parts.path).strip("/")
            if "list-type" in query:
                return self._list(path, query.get("prefix", [""])[0])
            if not path.is_file():
                return self._answer(404, b"", "text/plain")
            return self._part(path.read_bytes())

        def _part(self, data: bytes) -> None:
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if asked is None:
                return self._answer(200, data, "image/tiff", Accept_Ranges="bytes", ETag='"1"')
            first, last = int(asked[1]), min(int(asked[2] or len(data) - 1), len(data) - 1)
            place = {"Content_Range": f"bytes {first}-{last}/{len(data)}"}
            return self._answer(206, data[first : last + 1], "image/tiff", ETag='"1"', **place)

        def _list(self, bucket: Path, prefix: str) -> None:
            files = sorted(p for p in bucket.rglob("*") if p.is_file() and p.relative_to(bucket).as_posix().startswith(prefix))
            rows = "".join(
                f"<Contents><Key>{p.relative_to(bucket).as_posix()}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified>"
                f'<ETag>"{p.stat().st_mtime_ns}"</ETag><Size>{p.stat().st_size}</Size></Contents>'
                for p in files
            )
            body = f"<ListBucketResult><Name>{bucket.name}</Name><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>"
            self._answer(200, body.encode(), "application/xml")

        def _landing(self) -> None:
            root = f"http://127.0.0.1:{self.server.server_port}/stac"
            links = [{"rel": "self", "href": root}, {"rel": "root", "href": root}, {"rel": "search", "href": f"{root}/search"}]
            conforms = ["https://api.stacspec.org/v1.0.0/core", "https://api.stacspec.org/v1.0.0/item-search"]
            landing = {"type": "Catalog", "stac_version": "1.0.0", "id": "stand-in", "description": "a test", "links": links}
            self._answer(200, json.dumps(landing | {"conformsTo": conforms}).encode(), "application/json")

        def _search(self) -> None:
            base = f"http://127.0.0.1:{self.server.server_port}/in"
            items = [
                {
                    "type": "Feature", "stac_version": "1.0.0", "id": path.stem, "geometry": None, "links": [], "collection": "c",
                    "properties": {"datetime": "2023-05-06T00:00:00Z", "eo:cloud_cover": 80 if "cloudy" in path.name else 3},
                    "assets": {"visual": {"href": f"{base}/{path.name}"}},
                }
                for path in sorted((tmp_path / "in").glob("*.tif"))
            ]  # fmt: skip
            body = json.dumps({"type": "FeatureCollection", "features": items, "links": []}).encode()
            self._answer(200, body, "application/geo+json")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_bucket(write_raster: WriteRaster, scan: Scan, stand_in: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("obstore")
    write_raster(np.ones((70, 80), np.uint8), "2024/a.tif")
    write_raster(np.ones((70, 80), np.uint8), "other/b.tif")
    settings = {
        "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT": f"http://{stand_in}", "AWS_S3_ENDPOINT": stand_in, "AWS_HTTPS": "NO", "AWS_VIRTUAL_HOSTING": "FALSE",
        "AWS_ALLOW_HTTP": "true",
    }  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert scan("s3://in/2024/", watch={"done_marker": ".done"}) == {}
    (tmp_path / "in" / "2024" / "a.tif.done").touch()
    assert scan("s3://in/2024/", watch={"done_marker": ".done"}) == {"a": "done"}
    assert scan("s3://in/2024/", watch={"done_marker": ".done"}) == {}
    assert scan("s3://in/") == {"2024/a": "done", "other/b": "done"}


def test_stac_search(write_raster: WriteRaster, scan: Scan, stand_in: str, tmp_path: Path) -> None:
    pytest.importorskip("pystac_client")
    for name in ("clear.tif", "cloudy.tif"):
        write_raster(np.ones((70, 80), np.uint8), name)
    source, settings = f"stac+http://{stand_in}/stac", {"collections": ["c"], "max_cloud_cover": 20}
    assert scan(source, stac=settings) == {"clear": "done"}
    assert scan(source, stac=settings) == {}
    assert json.loads((tmp_path / "out" / "clear" / "run.json").read_text())["acquired"].startswith("2023-05-06")
