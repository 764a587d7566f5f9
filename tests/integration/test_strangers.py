"""Catalogues, servers and folders of strangers: nothing is written elsewhere, nothing else is opened, no secret is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import WriteRaster, call_cli, run_cli

from geoseg.errors import ReadError
from geoseg.models.model_folder import Model
from geoseg.scenes.remote import probe
from pipeline.config.sections import Config
from pipeline.infer.workers import LocalWorkers
from pipeline.watch.scan import scan_once
from pipeline.watch.source import list_source

Answer = Callable[[str, str], tuple[int, dict[str, str], bytes]]


@contextmanager
def _server(answer: Answer) -> Iterator[tuple[str, list[str]]]:
    """A server that answers as told, and what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            del args

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            asked.append(f"{self.command} {self.path} {self.headers.get('Authorization')}")
            code, headers, body = answer(self.path, f"http://127.0.0.1:{self.server.server_port}")
            self.send_response(code)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def _item(label: Any, href: Any, **facts: Any) -> dict[str, Any]:
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": label,
        "geometry": None,
        "links": [],
        "collection": "c",
        "properties": {"datetime": "2024-01-01T00:00:00Z"},
        "assets": {"visual": {"href": href}},
    } | facts


def _catalogue(items: Callable[[], list[Any]], search: str | None = None, following: str | None = None) -> Answer:
    """A STAC API that gives some items; its links may lead elsewhere."""

    def answer(path: str, base: str) -> tuple[int, dict[str, str], bytes]:
        kind = "application/geo+json"
        if path.startswith("/search"):
            links = [] if following is None else [{"rel": "next", "href": following, "type": kind, "method": "GET"}]
            document: dict[str, Any] = {"type": "FeatureCollection", "features": items(), "links": links}
        else:
            conforms = ["https://api.stacspec.org/v1.0.0/core", "https://api.stacspec.org/v1.0.0/item-search"]
            links = [{"rel": "self", "href": base}, {"rel": "root", "href": base}]
            links.append({"rel": "search", "href": search or f"{base}/search", "type": kind, "method": "POST"})
            document = {
                "type": "Catalog",
                "stac_version": "1.0.0",
                "id": "x",
                "description": "x",
                "links": links,
                "conformsTo": conforms,
            }
        return 200, {"Content-Type": kind}, json.dumps(document).encode()

    return answer


IDS = (
    "..",
    ".",
    "../../up",
    "index.json",
    "con\nnl",
    ".geoseg-ledger.sqlite",
    "=cmd()",
    "back\\..\\x",
    "/etc/passwd",
    "\u202egnp",
    "x" * 400,
)


def test_ids_of_strangers_stay_in_the_output(
    write_raster: WriteRaster, stand_in: str, identity_model: Model, tmp_path: Path
) -> None:
    write_raster(np.ones((70, 80), np.uint8), "a.tif")
    signature = iter(range(1000))
    # The same image, signed anew at each look.
    listed = lambda: [_item(label, f"http://{stand_in}/in/a.tif?sig={next(signature)}") for label in IDS[:4]]  # noqa: E731
    out = tmp_path / "deep" / "deeper" / "out"
    config = Config.parse({"vector": {"formats": ["fgb"]}})
    with _server(_catalogue(listed)) as (address, _):
        found, refused = list_source([f"stac+{address}"], Config())
        assert (len(found), refused) == (4, [])
        reports = scan_once([f"stac+{address}"], identity_model, config, out, LocalWorkers)
        assert [report.status for report in reports] == ["done"] * 4
        assert scan_once([f"stac+{address}"], identity_model, config, out, LocalWorkers) == []
    assert {path.name for path in tmp_path.iterdir()} == {"in", "deep"}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["deeper"]
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert len([path for path in out.iterdir() if (path / "run.json").is_file()]) == 4
    assert json.loads((out / "index.json").read_text())["scenes"]


@pytest.mark.parametrize("label", IDS)
def test_each_id_is_a_name(label: str) -> None:
    with _server(_catalogue(lambda: [_item(label, "https://h/a.tif"), _item("good", "https://h/b.tif")])) as (address, _):
        found, refused = list_source([f"stac+{address}"], Config())
    assert len(found) == 2
    assert not refused
    assert all(name not in ("", ".", "..") for item in found for name in item.ref.name.split("/"))
    assert all(not {"/", "\\", "\n"} & set(item.ref.name) for item in found)


HREFS = (
    "private/private.tif",
    "/etc/passwd",
    "../a.tif",
    "file:///etc/hostname",
    "FILE://localhost/etc/hostname",
    "/vsicurl/http://127.0.0.1:9/a.tif",
    "/vsizip/x.zip/a.tif",
    "GTIFF_DIR:1:private.tif",
    'NETCDF:"x.nc":b',
    "data:image/tiff;base64,AA",
    "ftp://127.0.0.1/a.tif",
    "",
    "  ",
    None,
    7,
    ["x"],
    "a\0b.tif",
    "gopher://h/",
    "javascript:1",
    "C:\\private.tif",
    "~/private.tif",
    "http:/etc/passwd",
    "//",
    "https//x",
    "<VRTDataset/>",
)


@pytest.mark.parametrize("href", HREFS)
def test_addresses_of_a_server_lead_to_servers(href: Any) -> None:
    with _server(_catalogue(lambda: [_item("bad", href), _item("good", "https://h/b.tif")])) as (address, _):
        found, refused = list_source([f"stac+{address}"], Config())
    assert [item.ref.name for item in found] == ["good"]
    ((name, reason),) = [(item.name, item.reason) for item in refused]
    assert name == "bad"
    assert "item bad" in reason


ITEMS: tuple[Any, ...] = (
    None,
    1,
    "x",
    [],
    {},
    _item(None, "https://h/a"),
    _item(7, "https://h/a"),
    _item("", "https://h/a"),
    _item("a", "https://h/a", assets=[]),
    _item("a", "https://h/a", assets={"visual": "https://h/a"}),
    _item("a", "https://h/a", properties=None),
    _item("a", "https://h/a", assets={"other": {"href": "https://h/a"}}),
)


@pytest.mark.parametrize("item", ITEMS)
def test_an_item_that_is_none_is_refused_alone(item: Any) -> None:
    with _server(_catalogue(lambda: [item, _item("good", "https://h/b.tif")])) as (address, _):
        found, refused = list_source([f"stac+{address}"], Config())
    assert [found[0].ref.name, len(found), len(refused)] == ["good", 1, 1]


@pytest.mark.parametrize(
    "facts", [{"datetime": 5}, {"datetime": "never"}, {"datetime": None, "updated": [1]}, {"eo:cloud_cover": "none"}]
)
def test_odd_properties_harm_nobody(facts: dict[str, Any]) -> None:
    with _server(_catalogue(lambda: [_item("a", "https://h/a.tif", properties=facts)])) as (address, _):
        found, _ = list_source(
            [f"stac+{address}"], Config.parse({"stac": {"max_cloud_cover": 50}} if "eo:cloud_cover" in facts else {})
        )
    assert [item.acquired for item in found] == ([] if "eo:cloud_cover" in facts else [None])


def test_relative_addresses_start_from_the_item() -> None:
    own = {"links": [{"rel": "self", "href": "https://host/items/one/item.json"}]}
    items = [
        _item("one", "../a.tif", **own),
        _item("two", "/data/b.tif", **own),
        _item("three", "c.tif", links=[{"rel": "self", "href": "/etc/x"}]),
    ]
    with _server(_catalogue(lambda: items)) as (address, _):
        found, refused = list_source([f"stac+{address}"], Config())
    assert {item.ref.name: item.ref.paths[0] for item in found} == {
        "one": "https://host/items/a.tif",
        "two": "https://host/data/b.tif",
    }
    assert [item.name for item in refused] == ["three"]


def test_equal_ids_are_refused_and_named() -> None:
    items = [
        _item("dup", "https://h/a.tif?sig=1"),
        _item("dup", "https://h/a.tif?sig=2"),
        _item("DUP", "https://h/b.tif"),
        _item("x", "https://h/x.tif"),
    ]
    with _server(_catalogue(lambda: items)) as (address, _):
        found, refused = list_source([f"stac+{address}", f"stac+{address}"], Config())
    assert [item.ref.name for item in found] == ["x"]
    assert sorted(item.name for item in refused) == ["https://h/a.tif", "https://h/b.tif"]
    assert all("https://h/a.tif (dup)" in item.reason or "https://h/b.tif (DUP)" in item.reason for item in refused)


@pytest.mark.parametrize("where", ["/etc/hostname", "file:///etc/hostname", "private.json", "ftp://127.0.0.1:9/x"])
def test_links_of_a_catalogue_open_no_file(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "private.json").write_text(
        json.dumps({"type": "FeatureCollection", "features": [_item("stolen", "https://h/a.tif")], "links": []})
    )
    follow = _catalogue(lambda: [_item("a", "https://h/a.tif")], following=where)
    with _server(follow) as (address, _), pytest.raises(ReadError, match="not on a server"):
        list_source([f"stac+{address}"], Config())
    with _server(_catalogue(list, search=where)) as (address, asked):
        if ":" in where:
            with pytest.raises(ReadError, match="not on a server"):
                list_source([f"stac+{address}"], Config())
        else:
            # A path is one of the server.
            assert list_source([f"stac+{address}"], Config()) == ([], [])
            assert {line.split()[1] for line in asked} == {"/", "/" + where.lstrip("/")}


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1:9/a.tif", "gopher://127.0.0.1:9/", "data:text/plain,x", "/vsicurl/x"]
)
def test_redirects_lead_to_servers(target: str) -> None:
    answer: Answer = lambda path, _: (302, {"Location": target}, b"") if path == "/a.tif" else (404, {}, b"")  # noqa: E731
    with _server(answer) as (address, _), pytest.raises(ReadError, match=r"answers (302|404)"):
        probe(f"{address}/a.tif")


def test_credentials_stay_with_their_host() -> None:
    with _server(lambda *_: (404, {}, b"")) as (other, asked):
        answer: Answer = lambda *_: (302, {"Location": f"{other}/b.tif"}, b"")  # noqa: E731
        with _server(answer) as (address, first), pytest.raises(ReadError):
            probe(address.replace("//", "//user:SECRET@") + "/a.tif")
    assert first == ["GET /a.tif Basic dXNlcjpTRUNSRVQ="]
    assert asked == ["GET /b.tif None"]


def test_a_link_planted_in_the_output_is_refused_alone(write_raster: WriteRaster, identity_model: Model, tmp_path: Path) -> None:
    elsewhere, out = tmp_path / "elsewhere", tmp_path / "out"
    for folder in (elsewhere / ".run", out / "c"):
        folder.mkdir(parents=True)
    (out / "a").symlink_to(elsewhere)
    (out / "c" / ".run").symlink_to(elsewhere / ".run")
    for name in ("a.tif", "b.tif", "c.tif"):
        path = write_raster(np.ones((70, 80), np.uint8), name)
    done = call_cli(["segment", path.parent, "-m", identity_model.path, "-o", out, "--formats", "none"])
    assert done.returncode == 1
    assert done.stderr.count("by a link to") + done.stderr.count("is a link, and") == 2
    assert sorted(path.name for path in elsewhere.rglob("*")) == [".run"]
    assert (out / "b" / "run.json").is_file()


SECRET = "S3CRET-zq"
KEYS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_SAS_TOKEN", "GDAL_HTTP_USERPWD")


def _leaks(*places: Path) -> list[str]:
    """Files below some places whose name or content holds the secret."""
    paths = [path for place in places for path in place.rglob("*") if path.is_file()]
    return [str(path) for path in paths if SECRET in str(path) or SECRET.encode() in path.read_bytes()]


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets in the environment."""
    for number, name in enumerate(KEYS):
        monkeypatch.setenv(name, f"{SECRET}-{number}")
    monkeypatch.setenv("GEOSEG_CONNECT_S", "1")


def test_runs_tell_no_secret(
    write_raster: WriteRaster, stand_in: str, identity_model: Model, tmp_path: Path, planted: None
) -> None:
    """Userinfo, query and fragment of scenes, of entries of a list, of a mask, of the scratch folder; done, failed, kept."""
    for name in ("a.tif", "b.tif", "2020-01-01.tif", "2021-01-01.tif"):
        write_raster(np.ones((70, 80), np.uint8), name)
    signed = f"http://user:{SECRET}@{stand_in}/in/{{}}?sig={SECRET}&plain-{SECRET}#{SECRET}"
    (tmp_path / "list.txt").write_text(
        "\n".join(
            [
                signed.format("a.tif"),
                signed.format("b.tif"),
                signed.format("gone.tif"),
                f"/vsicurl/{signed.format('a.tif')}",
                f"ftp://u:{SECRET}@h/x.tif",
                f"http://u:{SECRET}@127.0.0.1:1/down.tif?{SECRET}",
                f"http://u:{SECRET}@[bad/x.tif",
                f"http://h:{SECRET}/x y.tif?{SECRET}",
            ]
        )
    )
    (tmp_path / "run.toml").write_text(
        f'[watch]\nwebhook = "http://127.0.0.1:1/services/{SECRET}?x={SECRET}"\n[dates]\nmasks = ["{signed.format("a.tif")}"]\n'
    )
    common = ["-m", identity_model.path, "--config", tmp_path / "run.toml", "--formats", "geojson,gpkg", "--keep", "--json"]
    done = call_cli(["segment", tmp_path / "list.txt", "-o", tmp_path / "out", *common])
    assert done.returncode == 1
    assert (tmp_path / "out" / "a" / "run.json").is_file()
    index = {
        entry["scene"]: entry["reason"] or "" for entry in json.loads((tmp_path / "out" / "index.json").read_text())["scenes"]
    }
    assert len(index) == 8
    assert "404" in index["gone"]
    assert SECRET not in done.stdout + done.stderr
    again = call_cli(["segment", signed.format("a.tif").replace("sig=", "sig=2"), "-o", tmp_path / "out", *common])
    assert (again.returncode, "finished by an earlier run" in again.stdout) == (0, True), "signed anew it is the same scene"
    both = [signed.format(f"{year}-01-01.tif") for year in (2020, 2021)]
    mask = f"none,{signed.format('a.tif')}"
    pair = call_cli(
        ["deforestation", *both, "-m", identity_model.path, "-o", tmp_path / "pair", "--of", "class 1", "--masks", mask, "--keep"]
    )
    assert SECRET not in pair.stdout + pair.stderr
    assert _leaks(tmp_path / "out", tmp_path / "pair") == []


def test_watches_tell_no_secret(
    write_raster: WriteRaster, stand_in: str, identity_model: Model, tmp_path: Path, planted: None
) -> None:
    """Signed addresses of a catalogue, the catalogue's own, a webhook that is down, one that listens, a store that refuses."""
    write_raster(np.ones((70, 80), np.uint8), "a.tif")
    items = [
        _item("good", f"http://u:{SECRET}@{stand_in}/in/a.tif?token={SECRET}"),
        _item("gone", f"http://{stand_in}/in/gone.tif?{SECRET}"),
        _item("odd", f"/vsicurl/http://h/a.tif?sig={SECRET}"),
    ]
    with _server(_catalogue(lambda: items)) as (address, _):
        source = f"stac+{address}/?api_key={SECRET}".replace("http://", f"http://user:{SECRET}@")
        common = ["-m", identity_model.path, "-o", tmp_path / "out", "--once", "--keep", "--formats", "geojson,gpkg"]
        # In a process of its own, as what is logged goes elsewhere within a test.
        done = run_cli(["watch", source, *common, "--webhook", f"http://127.0.0.1:1/services/{SECRET}"])
        assert done.returncode == 1
        assert "webhook http://127.0.0.1:1/…" in done.stderr
    assert (tmp_path / "out" / "good" / "run.json").is_file()
    told = done.stdout + done.stderr
    for failing in (
        f"s3://key:{SECRET}@no-such/prefix/",
        f"stac+http://u:{SECRET}@127.0.0.1:1/x?sig={SECRET}",
        f"http://h/x?t={SECRET}/",
    ):
        failed = call_cli(["watch", failing, *common])
        assert failed.returncode != 0
        told += failed.stdout + failed.stderr
    assert SECRET not in told
    assert _leaks(tmp_path / "out") == []


@pytest.mark.parametrize(
    "options",
    [
        ["-m", f"https://u:{SECRET}@h/model?sig={SECRET}"],
        ["--scheduler", f"tcp://u:{SECRET}@127.0.0.1:1"],
        ["--scheduler", f"bad://u:{SECRET}@h"],
        ["--scratch", f"nope://u:{SECRET}@h/x?{SECRET}"],
        ["--scratch", f"s3://u:{SECRET}@h/x?{SECRET}"],
        ["--target-crs", f"https://u:{SECRET}@h/x.prj"],
        ["--assume-crs", f"http://h/?sig={SECRET}"],
        ["--masks", f"/vsicurl/http://u:{SECRET}@h/x"],
        ["--config", f"https://u:{SECRET}@h/x.toml?{SECRET}"],
        ["--webhook", f"ftp://h/{SECRET}"],
        ["--webhook", f"{SECRET}"],
        [f"https://u:{SECRET}@127.0.0.1:1/a.tif?{SECRET}"],
        [f"ftp://u:{SECRET}@h/a.tif"],
        [f"/vsicurl/https://u:{SECRET}@h/a.tif?sig={SECRET}"],
    ],
)
def test_what_can_not_work_is_told_without_secrets(
    write_raster: WriteRaster, identity_model: Model, tmp_path: Path, planted: None, options: list[str]
) -> None:
    path = write_raster(np.ones((70, 80), np.uint8), "a.tif")
    verb = "watch" if "--webhook" in options else "deforestation" if "--masks" in options else "segment"
    if "-m" not in options:
        options = [*options, "-m", str(identity_model.path)]
    files = [path, write_raster(np.ones((70, 80), np.uint8), "b.tif")] if verb == "deforestation" else [path]
    done = call_cli([verb, *files, *options, "-o", tmp_path / "out", *(["--once"] if verb == "watch" else [])])
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert not (tmp_path / "out").exists() or _leaks(tmp_path / "out") == []
