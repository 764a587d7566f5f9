"""The viewer answers its own page and nobody else; an export is the same as files."""

from __future__ import annotations

import http.client
import json
import re
import shlex
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pyogrio
import pytest
import rasterio
from services import browser_page, served
from support import LIMIT_S, ROOT, WriteRaster, call_cli, patchy

from geoseg.models.model_folder import Model
from geoseg.tiles.web_mercator import tiles_within
from pipeline.view import viewed_inputs
from pipeline.view.loopback_guard import policy as policy_of
from pipeline.view.run import open_gallery

pytestmark = pytest.mark.skipif(find_spec("maplibre") is None, reason="the extra `view` is not installed")


@pytest.fixture(scope="module")
def out(identity_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes, mapped; the image of the second is gone."""
    folder = tmp_path_factory.mktemp("view")
    (folder / "in").mkdir()
    for name, seed in (("a", 0), ("b", 1)):
        codes = patchy(300, 400, 5, seed, 6.0)
        profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "height": 300, "width": 400, "crs": "EPSG:32720"}
        transform = rasterio.Affine(10, 0, 430_000 + 4000 * seed, 0, -10, 8_930_000)
        with rasterio.open(folder / "in" / f"{name}.tif", "w", **profile, transform=transform) as dataset:
            dataset.write(codes, 1)
    done = call_cli(["segment", folder / "in", "-m", identity_model.path, "-o", folder / "out", "--min-area", "4px"])
    assert done.returncode == 0, done.stderr
    (folder / "in" / "b.tif").unlink()
    return folder / "out"


def test_a_mosaic_is_shown_with_its_scenes(identity_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    for number, name in enumerate(("a", "b ü", "c")):
        profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "height": 128, "width": 128, "crs": "EPSG:32720"}
        transform = rasterio.Affine(10, 0, 430_000 + 1000 * number, 0, -10, 8_930_000)
        with rasterio.open(tmp_path / "in" / f"{name}.tif", "w", **profile, transform=transform) as dataset:
            dataset.write(patchy(128, 128, 5, number, 6.0), 1)
    done = call_cli(["segment", tmp_path / "in", "-m", identity_model.path, "-o", tmp_path / "out", "--mosaic"])
    assert done.returncode == 0, done.stderr
    shown = open_gallery([tmp_path / "out"], None).map(0)
    images = [layer for layer in shown.rasters.values() if layer.kind == "image"]
    assert [layer.title for layer in images] == ["a", "b ü", "c"]
    assert not shown.notes
    # Of very many some are shown, and one that has gone is told.
    monkeypatch.setattr(viewed_inputs, "MOST_SCENES", 2)
    (tmp_path / "in" / "a.tif").unlink()
    shown = open_gallery([tmp_path / "out" / "mosaic"], None).map(0)
    assert [layer.title for layer in shown.rasters.values() if layer.kind == "image"] == ["b ü"]
    assert "first 2 of its 3 scenes" in shown.notes[0]
    assert "a.tif is not there any more" in shown.notes[1]


@pytest.fixture(scope="module")
def server(out: Path) -> Iterator[tuple[str, int, str]]:
    with served("view", out) as (host, port, path, _):
        yield host, port, path


def ask(server: tuple[str, int, str], path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(server[0], server[1], timeout=LIMIT_S)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def told(server: tuple[str, int, str], name: str) -> dict:
    status, _, body = ask(server, server[2] + name)
    assert status == 200, body
    return json.loads(body)


def polygons_of(server: tuple[str, int, str], number: int) -> dict:
    for _ in range(LIMIT_S * 10):
        document = told(server, f"maps/{number}/polygons.json")
        if document["state"] != "reading":
            return document
        time.sleep(0.1)
    raise AssertionError("the polygons were never read")


def test_the_page_is_told_what_the_folder_holds(server: tuple[str, int, str], out: Path) -> None:
    assert [one["name"] for one in told(server, "view.json")["maps"]] == ["a", "b"]
    first, second = told(server, "maps/0/map.json"), told(server, "maps/1/map.json")
    assert [layer["id"] for layer in first["layers"]] == ["image0", "classes", "confidence"]
    assert [layer["id"] for layer in second["layers"]] == ["classes", "confidence"]
    assert not first["notes"]
    assert "is not there any more" in second["notes"][0]
    with rasterio.open(out / "a" / "classes.tif") as dataset:
        colors = {code: "#{:02x}{:02x}{:02x}".format(*rgba) for code, rgba in dataset.colormap(1).items() if code < 6}
    assert {one["code"]: one["color"] for one in first["classes"] if one["code"] < 254} == colors
    assert [one["name"] for one in first["classes"]] == [*(f"class {code}" for code in range(6)), "not analysed"]
    meta, _, _, values = pyogrio.raw.read(out / "a" / "polygons.gpkg", layer="polygons")
    columns = dict(zip(meta["fields"], values, strict=True))
    document = polygons_of(server, 0)
    assert document["count"] == len(columns["id"])
    assert {one["code"]: one["count"] for one in document["classes"]} == dict(
        zip(*(v.tolist() for v in np.unique(columns["code"], return_counts=True)), strict=True)
    )
    doubt = (1 - columns["confidence"] / 100) * columns["area_m2"]
    listed = max(document["first"], key=lambda entry: entry["doubt"])
    assert listed["doubt"] == pytest.approx(doubt.max(), abs=0.1)
    assert listed["id"] == columns["id"][np.argmax(doubt)]


def test_tiles_over_http_are_those_of_the_files(server: tuple[str, int, str], out: Path, tmp_path: Path) -> None:
    polygons = polygons_of(server, 0)
    opened = open_gallery([out]).map(0)
    for name, layer in opened.rasters.items():
        place = layer.tiles.place
        (tile, *_) = tiles_within(place.box, place.max_zoom)
        status, headers, body = ask(server, f"{server[2]}maps/0/{name}/{tile.z}/{tile.x}/{tile.y}.{layer.tiles.suffix}")
        assert (status, body) == (200, layer.tiles.picture(tile))
        assert headers["content-type"] == f"image/{layer.tiles.suffix}"
    seen: set[int] = set()
    west, south, east, north = opened.rasters["classes"].tiles.place.box
    for tile in tiles_within((west, south, east, north), polygons["maxZoom"]):
        (tmp_path / "tile.pbf").write_bytes(ask(server, f"{server[2]}maps/0/polygons/{tile.z}/{tile.x}/{tile.y}.pbf")[2])
        if (tmp_path / "tile.pbf").stat().st_size:
            meta, _, _, values = pyogrio.raw.read(f"MVT:{tmp_path / 'tile.pbf'}", layer="polygons")
            seen |= set(values[list(meta["fields"]).index("id")].tolist())
    assert seen == set(pyogrio.raw.read(out / "a" / "polygons.gpkg", layer="polygons", columns=["id"])[3][0].tolist())


def test_only_its_own_page_is_answered(server: tuple[str, int, str]) -> None:
    host, port, path = server
    own = f"{host}:{port}"
    assert ask(server, path)[0] == 200
    assert ask(server, path, Origin=f"http://{own}")[0] == 200
    assert ask(server, path, Host=f"localhost:{port}")[0] == 200
    refused = {
        421: [
            {"Host": f"evil.example:{port}"},
            {"Host": host},
            {"Host": f"127.0.0.1.evil.example:{port}"},
            {"Host": f"{host}:1"},
        ],
        403: [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": f"https://{own}"}, {"Origin": f"http://{host}"}],
    }
    for status, cases in refused.items():
        for headers in cases:
            for target in (path, f"{path}view.json", f"{path}maps/0/polygons.json"):
                assert ask(server, target, **headers)[0] == status, headers
    for target in (
        "/",
        "/view.json",
        "/x/view.json",
        f"{path[:-2]}/view.json",
        f"{path[:-1]}x/view.json",
        f"/{path}"[1:-1] + "y/",
    ):
        assert ask(server, target)[0] == 404, target
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert ask(server, f"{path}view.json", method)[0] == 405


def test_nothing_but_the_page_and_the_layers_is_there(server: tuple[str, int, str]) -> None:
    path = server[2]
    up = ("..", "%2e%2e", "..%2f..", "%252e%252e", "....//", "%5c..%5c", "%00")
    for start in ("", "app/", "vendor/", "maps/0/", "maps/0/classes/"):
        for part in up:
            for end in ("/etc/passwd", "/run.json", "/../../../../../../../../etc/passwd", "/pyproject.toml"):
                status, _, body = ask(server, f"{path}{start}{part}{end}")
                assert (status, body) in [(404, b"not found\n"), (404, b"refused\n")], (start, part, end)
    missing = (
        "maps/2/map.json",
        "maps/-1/map.json",
        "maps/0/classes/3/9/0.png",
        "maps/0/classes/99/0/0.png",
        "maps/0/classes/0/0/0.webp",
        "maps/0/nothing/0/0/0.png",
        "app/main.py",
        "vendor/pywidget.js",
        "app/",
        "run.json",
    )
    for name in missing:
        assert ask(server, path + name)[0] == 404, name


def test_the_policy_lets_no_text_of_data_run(server: tuple[str, int, str]) -> None:
    for name in ("", "view.json", "app/main.js", "no", "maps/0/classes/0/0/0.png"):
        headers = ask(server, server[2] + name)[1]
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        assert "unsafe" not in headers["content-security-policy"]
        assert (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
    assert "img-src 'self' data: blob: https://a.example;" in policy_of("https://a.example")
    page = ask(server, server[2])[2].decode()
    assert not re.search(r"<script(?![^>]*\ssrc=)|\son\w+=|<style|\sstyle=|https?://|javascript:", page)
    for script in (ROOT / "pipeline" / "view" / "page").glob("*.js"):
        text = script.read_text()
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|setHTML|https?://", text
        ), script


def test_it_listens_on_loopback_alone_writes_nothing_and_ends_by_ctrl_c(out: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in sorted(out.rglob("*"))}
    with served("view", out / "a") as (host, port, path, process):
        if Path("/proc/net/tcp").is_file():
            listening = [
                line.split()[1] for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()
            ]
            assert [at for at in listening if at.endswith(f":{port:04X}")][:1] == [f"0100007F:{port:04X}"]
        assert ask((host, port, path), f"{path}view.json")[0] == 200
        polygons_of((host, port, path), 0)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0
        assert said == "Ctrl-C ends it\n"
    assert {path: path.stat().st_mtime_ns for path in sorted(out.rglob("*"))} == before


@pytest.mark.parametrize("verb", [("view",), ("review", "open")], ids=lambda words: words[0])
def test_sigterm_ends_a_page_as_well_as_ctrl_c(out: Path, verb: tuple[str, ...], tmp_path: Path) -> None:
    shutil.copytree(out / "a", tmp_path / "a")
    with served(*verb, tmp_path / "a") as (host, port, path, process):
        assert ask((host, port, path), f"{path}view.json")[0] == 200
        process.terminate()
        _, said = process.communicate(timeout=LIMIT_S)
        assert (process.returncode, said) == (0, "Ctrl-C ends it\n")


def test_the_view_leads_to_corrections(server: tuple[str, int, str], out: Path, tmp_path: Path) -> None:
    """The page names the command; --review is that command, of one map."""
    told = json.loads(ask(server, f"{server[2]}view.json")[2])
    assert told["maps"][0]["correct"] == f"geoseg review open {shlex.quote(str(out / 'a'))}"
    several = call_cli(["view", out, "--review"])
    assert several.returncode == 2
    assert f"there are 2; name one: {out / 'a'}, {out / 'b'}" in several.stderr
    image = call_cli(["view", out.parent / "in" / "a.tif", "--review"])
    assert image.returncode == 2
    assert "holds no map by class" in image.stderr
    for words in (["--export", tmp_path / "site", "--review"], ["--as", "ann"]):
        done = call_cli(["view", out / "a", *words])
        assert done.returncode == 2
        assert "--review" in done.stderr
    (tmp_path / "out").mkdir()
    shutil.copytree(out / "a", tmp_path / "out" / "a")
    with served("view", tmp_path / "out", "--review", "--as", "Ann") as (host, port, path, _):
        status, _, text = ask((host, port, path), f"{path}review/state.json")
        assert (status, json.loads(text)["by"]) == (200, "Ann")


def test_an_export_is_the_same_as_files_of_any_server(server: tuple[str, int, str], out: Path, tmp_path: Path) -> None:
    done = call_cli(["view", out, "--export", tmp_path / "site"])
    assert done.returncode == 0, done.stderr

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "site")) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{site.server_port}/"
        with urlopen(address) as answer:
            page = answer.read().decode()
        assert page.replace(re.search(r"\n  <meta http-equiv.*>", page)[0], "") == ask(server, server[2])[2].decode()
        for number in (0, 1):
            polygons_of(server, number)
            for path in sorted((tmp_path / "site" / "maps" / str(number)).rglob("*")):
                if path.is_file():
                    name = path.relative_to(tmp_path / "site").as_posix()
                    with urlopen(address + name) as answer:
                        assert answer.read() == ask(server, server[2] + name)[2], name
        for name in ("vendor/maplibre-gl.js", "vendor/maplibre-gl.css", "app/main.js"):
            with urlopen(address + name) as answer:
                assert answer.read() == ask(server, server[2] + name)[2]
        site.shutdown()
    again = call_cli(["view", out, "--export", tmp_path / "site"])
    assert again.returncode == 2
    assert "exists" in again.stderr
    assert call_cli(["view", out / "a", "--export", tmp_path / "site", "--overwrite"]).returncode == 0
    assert not (tmp_path / "site" / "maps" / "1").exists()


def test_files_of_anyone_are_one_map(out: Path, tmp_path: Path) -> None:
    lonlat = tmp_path / "p.geojson"
    lonlat.write_text(
        '{"type":"FeatureCollection","features":[{"type":"Feature","properties":{"class":"</script><b>x"},'
        '"geometry":{"type":"Polygon","coordinates":[[[-63.6,-9.6],[-63.5,-9.6],[-63.5,-9.5],[-63.6,-9.6]]]}}]}'
    )
    gallery = open_gallery([out / "a" / "classes.tif", lonlat, out.parent / "in" / "a.tif"])
    opened = gallery.map(0)
    assert list(opened.rasters) == ["image0", "classes", "confidence"]
    assert opened.polygons is not None
    opened.polygons.wait()
    document = opened.polygons.document()
    assert document["classes"] == [{"code": 0, "count": 1, "name": "</script><b>x"}]


def test_what_cannot_be_shown_is_told_in_a_sentence(write_raster: WriteRaster, out: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.geojson").write_text("nothing")
    (tmp_path / "notes.txt").write_text("nothing")
    plain = write_raster(patchy(64, 64, 5), crs=None)
    cases = {
        "no such file": ["nowhere"],
        "holds no classes.tif": [tmp_path / "empty"],
        "can't be read": [tmp_path / "text.geojson"],
        "neither a raster": [tmp_path / "notes.txt"],
        "no CRS": [plain],
        "two class rasters": [out / "a" / "classes.tif", out / "b" / "classes.tif"],
        "no address of tiles": [out, "--basemap", "https://a.example/tiles.png"],
        "--port": [out, "--export", tmp_path / "x", "--port", "8123"],
    }
    for words, args in cases.items():
        done = call_cli(["view", "--no-browser", *args])
        assert done.returncode != 0
        assert words in done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.checkers
def test_a_browser_draws_the_page(out: Path, tmp_path: Path) -> None:
    with served("view", out) as (host, port, path, _), browser_page(f"http://{host}:{port}{path}", 1000, 700) as page:
        page.wait_for_selector("body[data-ready=polygons]", timeout=LIMIT_S * 1000)
        page.wait_for_selector("body[data-drawn]", timeout=LIMIT_S * 1000)
        count = page.locator("#list button").count()
        page.keyboard.press("n")
        page.wait_for_selector("#attributes tr", timeout=LIMIT_S * 1000)
        address = page.evaluate("location.hash")
        assert "polygon=" in address
        page.locator("#classes input").first.uncheck()
        assert page.locator("#list button").count() < count
        page.keyboard.press("s")
        page.wait_for_selector("#over canvas", timeout=LIMIT_S * 1000)
        assert set(re.findall(r"(\w+)=", page.evaluate("location.hash"))) >= {
            "at",
            "layers",
            "hide",
            "polygon",
            "swipe",
        }
        page.screenshot(path=tmp_path / "page.png")
        # What is told of a polygon leaves the zoom buttons free, however narrow and low the window is.
        page.set_viewport_size({"width": 360, "height": 480})
        popup = page.locator("#details").bounding_box()
        zoom = page.locator(".maplibregl-ctrl-zoom-in").first.bounding_box()
        assert popup["width"] > 200
        assert popup["x"] >= 0
        assert popup["x"] + popup["width"] <= zoom["x"]
