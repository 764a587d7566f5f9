"""People correct a map: the log only grows, versions hold what it says and nothing else, and no stranger writes."""

from __future__ import annotations

import filecmp
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import rasterio.features
import shapely
from desks import ask, queue_of
from services import browser_page, served
from support import LIMIT_S, ROOT, call_cli, patchy

from geoseg.errors import ConfigError
from geoseg.georeference import Georeference
from geoseg.labels.labels import corrected, open_labels
from geoseg.models.model_folder import Model
from geoseg.windows import Window
from pipeline.files.maps import find_maps
from pipeline.files.reports import reports_below
from pipeline.review.apply import apply_reviews
from pipeline.review.decisions import Decision
from pipeline.review.review_log import ReviewLog
from pipeline.review.subject import Subject
from pipeline.train.data import open_data
from pipeline.train.recipe import Recipe
from pipeline.view.viewed_inputs import find_all

PLACE = rasterio.Affine(10, 0, 430_000, 0, -10, 8_930_000)
needs_view = pytest.mark.skipif(find_spec("maplibre") is None, reason="the extra `view` is not installed")


@pytest.fixture(scope="module")
def mapped(identity_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene, mapped, with a corner of no data."""
    folder = tmp_path_factory.mktemp("review")
    (folder / "in").mkdir()
    codes = patchy(300, 400, 5, 0, 6.0)
    codes[:30, :60] = 255
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "height": 300, "width": 400, "crs": "EPSG:32720", "nodata": 255}
    with rasterio.open(folder / "in" / "a.tif", "w", **profile, transform=PLACE) as dataset:
        dataset.write(codes, 1)
    done = call_cli(["segment", folder / "in", "-m", identity_model.path, "-o", folder / "out", "--formats", "gpkg,geojson"])
    assert done.returncode == 0, done.stderr
    return folder / "out"


@pytest.fixture
def scene(mapped: Path, tmp_path: Path) -> Path:
    """A copy of it, to review."""
    shutil.copytree(mapped, tmp_path / "out")
    return tmp_path / "out" / "a"


def polygons_of(folder: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    meta, _, geometry, values = pyogrio.raw.read(folder / "polygons.gpkg", layer="polygons")
    return dict(zip(meta["fields"], values, strict=True)), shapely.from_wkb(geometry)


def codes_of(folder: Path) -> np.ndarray:
    with rasterio.open(folder / "classes.tif") as dataset:
        return dataset.read(1)


def said(scene: Path, *decisions: dict, by: str = "ann") -> None:
    subject = Subject.open(scene)
    ReviewLog.read(subject.log, subject.run_id).append([Decision.parse(one) for one in decisions], by)


def burnt(shape: shapely.Geometry, like: np.ndarray) -> np.ndarray:
    return rasterio.features.rasterize([(shape, 1)], like.shape, transform=PLACE) > 0


RESULTS = ("classes.tif", "confidence.tif", "polygons.gpkg", "polygons.geojson", "coverage.geojson", "classes.qml")


def test_nothing_said_and_all_accepted_is_the_same_map(scene: Path) -> None:
    empty = apply_reviews(scene)
    assert empty.folder == scene / "reviews" / "1"
    assert filecmp.cmpfiles(scene, empty.folder, RESULTS, shallow=False)[0] == list(RESULTS)
    columns, _ = polygons_of(scene)
    said(scene, *({"action": "accept", "polygon": int(number)} for number in columns["id"]))
    accepted = apply_reviews(scene)
    assert accepted.folder == scene / "reviews" / "2"
    assert filecmp.cmpfiles(scene, accepted.folder, RESULTS, shallow=False)[0] == list(RESULTS)
    review = accepted.document["review"]
    assert (review["parent"], review["polygons"], review["changed_pixels"], review["moved"]) == (1, len(columns["id"]), 0, [])
    assert all(one["share"] == one["share_of_area"] == 1 for one in review["agreement"])
    assert review["share"] == pytest.approx(1, abs=1e-5)
    assert not apply_reviews(scene).is_new


def test_decisions_are_burnt_as_gdal_burns_them(scene: Path) -> None:
    columns, shapes = polygons_of(scene)
    before = codes_of(scene)
    big = np.argsort(-columns["area_m2"])
    changed, rejected, instead, redrawn = (int(big[k]) for k in (1, 4, 7, 9))
    ids = columns["id"].tolist()
    to = rasterio.warp.transform_geom("EPSG:32720", "OGC:CRS84", shapes[redrawn].buffer(-25).__geo_interface__, precision=9)
    added = shapely.Polygon([(430_005, 8_929_995), (431_203, 8_929_500), (430_700, 8_929_100), (430_102, 8_929_401)])
    drawn = rasterio.warp.transform_geom("EPSG:32720", "OGC:CRS84", added.__geo_interface__, precision=9)
    said(
        scene,
        {"action": "class", "polygon": ids[changed], "class": 5},
        {"action": "reject", "polygon": ids[rejected], "reason": "cloud or shadow"},
        {"action": "reject", "polygon": ids[instead], "reason": "no such thing there", "class": 0},
        {"action": "redraw", "polygon": ids[redrawn], "class": int(columns["code"][redrawn]), "geometry": to, "rest": 4},
        {"action": "redraw", "class": 3, "geometry": drawn},
        {"action": "comment", "polygon": ids[big[0]], "comment": "look again"},
    )
    done = apply_reviews(scene)
    expected = before.copy()
    for shape, code, touches in (
        (shapes[changed], 5, False),
        (shapes[rejected], 254, False),
        (shapes[instead], 0, False),
        (shapes[redrawn], 4, False),
        (shapely.geometry.shape(rasterio.warp.transform_geom("OGC:CRS84", "EPSG:32720", to)), columns["code"][redrawn], True),
        (added, 3, True),
    ):
        inside = burnt(shape, before) & (expected != 255)
        expected[inside if touches else inside & (expected != 254)] = code
    after = codes_of(done.folder)
    np.testing.assert_array_equal(after, expected)
    assert ((after == 255) == (before == 255)).all()
    with rasterio.open(scene / "confidence.tif") as old, rasterio.open(done.folder / "confidence.tif") as new:
        np.testing.assert_array_equal(new.read(1), np.where(before == after, old.read(1), 254))
    review = done.document["review"]
    moved = {(one["from"], one["to"]): one["pixels"] for one in review["moved"]}
    pairs, counts = np.unique(np.stack([before, after])[:, before != after], axis=1, return_counts=True)
    assert moved == {(int(a), int(b)): int(n) for (a, b), n in zip(pairs.T, counts, strict=True)}
    classes = {one["code"]: one["pixels"] for one in done.document["classes"]}
    assert classes == {code: int((after == code).sum()) for code in classes}
    assert review["log"]["decisions"] == 6
    covered = json.loads((done.folder / "coverage.geojson").read_text())["features"]
    assert sum(one["properties"]["area_m2"] for one in covered if one["properties"]["code"] == 254) == pytest.approx(
        float(next(one["area_m2"] for one in done.document["classes"] if one["code"] == 254)), rel=1e-6
    )
    # Ids live on where nothing was changed, and what people decided has no confidence of the model.
    now, parts = polygons_of(done.folder)
    old = dict(zip(ids, shapely.to_wkb(shapes), strict=True))
    same = [shapely.to_wkb(shape) == old.get(number) for number, shape in zip(now["id"].tolist(), parts, strict=True)]
    assert sum(same) > len(ids) - 30
    touched = np.array([bool((before != after)[burnt(shape, before)].any()) for shape in parts])
    drawn_over = shapely.union_all([shapes[changed], shapes[rejected], shapes[instead], shapes[redrawn], added])
    near = shapely.intersection(drawn_over, parts)
    assert np.isnan(now["confidence"][touched]).all()
    assert not np.isnan(now["confidence"][shapely.area(near) == 0]).any()


def test_the_same_log_makes_the_same_bytes(scene: Path, tmp_path: Path) -> None:
    columns, _ = polygons_of(scene)
    said(scene, *({"action": "class", "polygon": int(number), "class": 2} for number in columns["id"][::7]))
    shutil.copytree(scene, tmp_path / "other" / "a")
    one, other = apply_reviews(scene).folder, apply_reviews(tmp_path / "other" / "a").folder
    names = sorted(path.name for path in one.iterdir())
    assert filecmp.cmpfiles(one, other, names, shallow=False)[0] == names
    assert not list(scene.joinpath("reviews").glob(".*tmp*"))


def test_a_version_is_reviewed_further(scene: Path) -> None:
    columns, shapes = polygons_of(scene)
    row = int(np.argmax(columns["area_m2"]))
    said(scene, {"action": "class", "polygon": int(columns["id"][row]), "class": 5})
    first = apply_reviews(scene).folder
    now, parts = polygons_of(first)
    mine = int(np.flatnonzero(now["code"] == 5)[0])
    said(scene, {"action": "class", "polygon": int(now["id"][mine]), "class": 1, "version": 1}, by="bob")
    second = apply_reviews(first)
    assert second.folder == scene / "reviews" / "2"
    assert second.document["review"]["parent"] == 1
    expected = codes_of(scene)
    expected[burnt(shapes[row], expected)] = 5
    expected[burnt(parts[mine], expected)] = 1
    np.testing.assert_array_equal(codes_of(second.folder), expected)


def test_the_last_decision_counts_and_disagreement_is_told(scene: Path) -> None:
    columns, _ = polygons_of(scene)
    number = int(columns["id"][3])
    said(scene, {"action": "class", "polygon": number, "class": 5}, {"action": "second", "polygon": number})
    assert apply_reviews(scene).document["review"]["open"] == 1
    said(scene, {"action": "accept", "polygon": number}, by="bob")
    done = apply_reviews(scene).document["review"]
    assert (done["open"], done["conflicts"], done["changed_pixels"]) == (0, 1, 0)
    assert done["reviewers"] == ["ann", "bob"]


def test_the_log_only_grows(scene: Path) -> None:
    path = scene / "reviews" / "log.jsonl"
    said(scene, *({"action": "comment", "polygon": k, "comment": "x"} for k in range(5)))
    whole = path.read_bytes()
    assert [json.loads(line)["polygon"] for line in whole.splitlines()] == list(range(5))
    lines = whole.splitlines(keepends=True)
    for damaged in (
        whole.replace(b'"x"', b'"y"', 1),
        b"".join(lines[:1] + lines[2:]),
        b"".join([lines[0], lines[2], lines[1], *lines[3:]]),
    ):
        path.write_bytes(damaged)
        with pytest.raises(ConfigError, match="only grows"):
            ReviewLog.read(path)
    # A crash cuts the last line off: what was never said to be recorded is not there, and the next line stands by itself.
    path.write_bytes(whole + b'{"action":"acc')
    said(scene, {"action": "accept", "polygon": 9})
    log = ReviewLog.read(path)
    assert [entry.polygon for entry in log.entries] == [0, 1, 2, 3, 4, 9]
    assert log.torn == 1
    assert path.read_bytes().startswith(whole)


def test_two_writers_lose_nothing(scene: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from pipeline.review.review_log import ReviewLog;"
        "from pipeline.review.decisions import Decision; log = ReviewLog.read(Path(sys.argv[1]));"
        "[log.append([Decision(action='accept', polygon=k)], sys.argv[2]) for k in range(100)]"
    )
    path = scene / "reviews" / "log.jsonl"
    writers = [subprocess.Popen([sys.executable, "-c", code, path, name], cwd=ROOT) for name in ("ann", "bob")]
    assert [writer.wait(LIMIT_S) for writer in writers] == [0, 0]
    entries = ReviewLog.read(path).entries
    for name in ("ann", "bob"):
        assert [entry.polygon for entry in entries if entry.by == name] == list(range(100))


def ring(*points: list[float]) -> dict:
    return {"action": "redraw", "class": 1, "geometry": {"type": "Polygon", "coordinates": [[*points, points[0]]]}}


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"action": "erase", "polygon": 1}, "action"),
        ({"action": "accept"}, "no polygon"),
        ({"action": "reject", "polygon": 1}, "no reason"),
        ({"action": "class", "polygon": 1}, "no class"),
        ({"action": "class", "polygon": 1, "class": 254}, "class"),
        ({"action": "accept", "polygon": 1, "by": "eve"}, "by"),
        ({"action": "accept", "polygon": -1}, "polygon"),
        ({"action": "comment", "polygon": 1, "comment": "x" * 2001}, "comment"),
        ({"action": "redraw", "polygon": 1, "class": 1}, "no geometry"),
        ({"action": "redraw", "class": 1, "geometry": {"type": "Point", "coordinates": [0, 0]}}, "neither a Polygon"),
        ({"action": "redraw", "class": 1, "geometry": {"type": "Polygon", "coordinates": "x"}}, "no rings"),
        (ring([0, 0], [1, 1], [0, 1], [1, 0]), "crossing"),
        (ring([0, 0], [1, 1], [2, 2]), "geometry"),
        (ring([0, 0], [1, 0], [1, 91]), "longitudes"),
        ([], "decision"),
        ("accept", "decision"),
    ],
)
def test_what_is_no_decision_is_told_in_a_sentence(document: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as error:
        Decision.parse(document)
    assert "\n" not in str(error.value)


@contextmanager
def serving(*args: str | Path) -> Iterator[tuple[str, int, str]]:
    """Host, port and path of a review in a process of its own."""
    with served("review", "open", *args) as (host, port, path, _):
        yield host, port, path


@needs_view
def test_only_the_page_writes_and_each_decision_is_a_line(scene: Path) -> None:
    log = scene / "reviews" / "log.jsonl"
    with serving(scene, "--as", "Ann") as server:
        host, port, path = server
        target, queue = f"{path}review/decisions", queue_of(server)
        columns, _ = polygons_of(scene)
        doubt = (1 - columns["confidence"] / 100) * columns["area_m2"]
        assert queue["total"] == len(doubt)
        assert queue["entries"][0]["id"] == columns["id"][np.argmax(doubt)]
        assert [one["doubt"] for one in queue["entries"]] == sorted((one["doubt"] for one in queue["entries"]), reverse=True)
        first = queue["entries"][0]
        body = json.dumps({"action": "accept", "polygon": first["id"]})
        refused = {
            421: [{"Host": f"evil.example:{port}"}, {"Host": host}],
            403: [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": ""}],
            415: [{"Content_Type": "text/plain"}, {"Content_Type": ""}, {"Content_Type": "application/json; charset=utf-8"}],
            411: [{"Transfer_Encoding": "chunked"}],
        }
        for status, cases in refused.items():
            for headers in cases:
                content = body.encode() if status != 411 else f"{len(body):x}\r\n{body}\r\n0\r\n\r\n".encode()
                assert ask(server, target, content, **headers)[0] == status, headers
        for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
            assert ask(server, target, body, method)[0] == 405
        assert ask(server, f"/x{target[1:]}", body)[0] == 405
        assert ask(server, f"/{path.strip('/')[:-1]}x/review/decisions", body)[0] == 405
        for name in ("view.json", "", "review/state.json", "review/decisions/", "review//decisions"):
            assert ask(server, path + name, body)[0] == 405, name
        assert ask(server, target, b'{"x": "' + b"y" * (1 << 20) + b'"}')[0] == 413
        for bad in (
            b"",
            b"{",
            b"[]",
            b'{"action":"accept","polygon":1,"polygon":2}',
            b"\xff",
            b'{"action":"accept","polygon":99999999}',
        ):
            status, answer = ask(server, target, bad)
            assert status == 422, (bad, answer)
            assert "\n" not in answer["message"]
        assert ask(server, target, json.dumps({"action": "class", "polygon": first["id"], "class": 77}))[0] == 422
        assert ask(server, target, json.dumps({"action": "accept", "polygon": first["id"], "version": 3}))[0] == 422
        assert not log.exists() or not log.read_bytes()
        status, answer = ask(server, target, body)
        assert (status, answer["done"], answer["recorded"]["by"]) == (200, 1, "Ann")
        # On the disk before the answer.
        (line,) = log.read_text().splitlines()
        assert (json.loads(line)["polygon"], json.loads(line)["version"]) == (first["id"], 0)
        assert first["id"] not in [one["id"] for one in queue_of(server)["entries"]]
        polygon = ask(server, f"{path}review/polygons/{first['row']}.json")[1]
        assert [one["action"] for one in polygon["history"]] == ["accept"]
        outline = rasterio.warp.transform_geom("OGC:CRS84", "EPSG:32720", polygon["geometry"])
        own = polygons_of(scene)[1][first["row"]]
        assert shapely.symmetric_difference(shapely.geometry.shape(outline), own).area < 0.1 * own.length
        # Somebody else sees it; nobody else is Ann.
        done = call_cli(["review", "open", scene, "--as", "Ann", "--no-browser"])
        assert (done.returncode, "reviews it already" in done.stderr) == (2, True)
        with serving(scene, "--as", "Bob") as other:
            assert queue_of(other)["done"] == 1
            answers: list[int] = []
            rest = [one["id"] for one in queue_of(other)["entries"][:20]]

            def both(number: int) -> None:
                for who in (server, other):
                    text = json.dumps({"action": "accept", "polygon": number})
                    answers.append(ask(who, f"{who[2]}review/decisions", text)[0])

            with ThreadPoolExecutor(4) as pool:
                list(pool.map(both, rest))
            assert answers == [200] * 40
            assert len(ReviewLog.read(log).entries) == 41
            second = {"action": "second", "polygon": rest[0]}
            assert ask(other, f"{other[2]}review/decisions", json.dumps(second))[1]["asked"] == 1
            # Who asks waits; the other is asked.
            assert queue_of(server)["entries"][0]["id"] == rest[0]
            assert rest[0] not in [one["id"] for one in queue_of(other)["entries"]]
    page = (ROOT / "pipeline" / "review" / "page").glob("*.js")
    for script in page:
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|https?://", script.read_text()
        )


@pytest.mark.slow
def test_killed_while_it_applies_there_is_a_whole_version_or_none(scene: Path) -> None:
    columns, _ = polygons_of(scene)
    said(scene, *({"action": "class", "polygon": int(number), "class": 2} for number in columns["id"][::5]))
    killed = 0
    command = [sys.executable, "-m", "pipeline", "review", "apply", str(scene)]
    for wait in np.linspace(0.8, 4.0, 9):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        for version in (scene / "reviews").glob("[0-9]*"):
            assert call_cli(["verify", version]).returncode == 0
    assert killed
    done = call_cli(["review", "apply", scene])
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (scene / "reviews").glob("[0-9]*")] == ["1"]
    assert not [path for path in (scene / "reviews").iterdir() if ".tmp" in path.name]
    assert call_cli(["verify", scene]).returncode == 0


@needs_view
@pytest.mark.checkers
def test_a_browser_reviews(scene: Path, tmp_path: Path) -> None:
    with serving(scene, "--as", "Ann") as (host, port, path), browser_page(f"http://{host}:{port}{path}", 1200, 900) as page:
        page.wait_for_selector("body[data-review=ready]", timeout=LIMIT_S * 1000)
        page.keyboard.press("a")
        page.locator("#review-counts", has_text="1 of").wait_for(timeout=LIMIT_S * 1000)
        page.select_option("#review-class", "5")
        page.click("#review-set")
        page.locator("#review-counts", has_text="2 of").wait_for(timeout=LIMIT_S * 1000)
        page.click("#review-draw summary")
        page.click("#draft-new")
        for x, y in ((600, 300), (800, 320), (780, 500)):
            page.mouse.click(x, y, delay=50)
            page.wait_for_timeout(400)
        page.click("#draft-add")
        page.locator("#review-counts", has_text="1 added").wait_for(timeout=LIMIT_S * 1000)
        page.screenshot(path=tmp_path / "review.png")
    entries = ReviewLog.read(scene / "reviews" / "log.jsonl").entries
    assert [(entry.action, entry.by) for entry in entries] == [("accept", "Ann"), ("class", "Ann"), ("redraw", "Ann")]


def edited(work: Path, *statements: str) -> None:
    """Change a work file as QGIS does, by its provider."""
    with sqlite3.connect(work) as connection:
        for trigger in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'review'"
        ).fetchall():
            connection.execute(f"DROP TRIGGER {trigger[0]}")
        for statement in statements:
            connection.execute(statement)


def test_a_work_file_goes_to_qgis_and_back(scene: Path, tmp_path: Path) -> None:
    columns, shapes = polygons_of(scene)
    work, log = tmp_path / "work.gpkg", scene / "reviews" / "log.jsonl"
    done = call_cli(["review", "export", scene, "--out", work])
    assert done.returncode == 0, done.stderr
    meta, _, geometry, values = pyogrio.raw.read(work, layer="review")
    table = dict(zip(meta["fields"], values, strict=True))
    assert table["id"].tolist() == columns["id"].tolist()
    assert shapely.equals_exact(shapely.get_parts(shapely.from_wkb(geometry)), shapes).all()
    doubt = (1 - columns["confidence"] / 100) * columns["area_m2"]
    assert (np.argsort(table["place"]) == np.argsort(-doubt, kind="stable")).all()
    # Nothing was decided: nothing is recorded.
    assert call_cli(["review", "import", work, scene, "--as", "Ann"]).stdout.startswith("0 decisions recorded; 0 known before")
    assert not log.exists()
    one, two, three, four, five, drawn = (int(columns["id"][row]) for row in (*range(5), 9))
    edited(
        work,
        f"UPDATE review SET decision = 'accept', comment = 'fine' WHERE id = {one}",
        f"UPDATE review SET decision = 'change class', class = 'class 5', reviewer = 'Bob' WHERE id = {two}",
        f"UPDATE review SET decision = 'reject', reason = 'cloud or shadow' WHERE id = {three}",
        f"UPDATE review SET decision = 'second opinion' WHERE id = {four}",
        f"UPDATE review SET geom = (SELECT geom FROM review WHERE id = {five}), class = 'class 1' WHERE id = {drawn}",
    )
    said_ = call_cli(["review", "import", work, scene, "--as", "Ann"])
    assert said_.returncode == 0, said_.stderr
    assert said_.stdout.startswith("5 decisions recorded")
    entries = {entry.polygon: entry for entry in ReviewLog.read(log).entries}
    assert {number: (entry.action, entry.by, entry.code) for number, entry in entries.items()} == {
        one: ("accept", "Ann", None),
        two: ("class", "Bob", 5),
        three: ("reject", "Ann", None),
        four: ("second", "Ann", None),
        drawn: ("redraw", "Ann", 1),
    }
    assert all(entry.via == "work.gpkg" for entry in entries.values())
    outline = rasterio.warp.transform_geom("OGC:CRS84", "EPSG:32720", entries[drawn].geometry)
    assert shapely.hausdorff_distance(shapely.geometry.shape(outline), shapes[4]) < 0.01
    # The same again is nothing new, whether from this file or from one that is made of the log.
    assert call_cli(["review", "import", work, scene, "--as", "Ann"]).stdout.startswith("0 decisions recorded; 5 known before")
    again = tmp_path / "again.gpkg"
    assert call_cli(["review", "export", scene, "--out", again]).stdout.startswith(f"{again}: {len(shapes)} polygons, 5 decided")
    assert call_cli(["review", "import", again, scene, "--as", "Ann"]).stdout.startswith("0 decisions recorded; 5 known before")
    # Somebody decides meanwhile: the later import counts, and says so.
    said(scene, {"action": "reject", "polygon": one, "reason": "other"}, by="eve")
    edited(again, f"UPDATE review SET decision = 'change class', class = 'class 2' WHERE id = {one}")
    told = call_cli(["review", "import", again, scene, "--as", "Ann"])
    assert told.stdout.startswith("1 decision recorded")
    assert f"polygon {one}: eve has decided reject" in told.stderr
    assert apply_reviews(scene).document["review"]["conflicts"] == 1


def test_what_was_emptied_or_deleted_in_qgis_decides_nothing_and_is_told(scene: Path, tmp_path: Path) -> None:
    columns, _ = polygons_of(scene)
    work = tmp_path / "work.gpkg"
    assert call_cli(["review", "export", scene, "--out", work]).returncode == 0
    null, empty, accepted, rejected, *deleted = (int(number) for number in columns["id"][:6])
    nothing = shapely.to_wkb(shapely.MultiPolygon()).hex()
    edited(
        work,
        f"UPDATE review SET geom = NULL WHERE id IN ({null}, {rejected})",
        # A GeoPackage header of an empty geometry, as QGIS leaves one.
        f"UPDATE review SET geom = X'4750001100000000{nothing}' WHERE id IN ({empty}, {accepted})",
        f"UPDATE review SET decision = 'accept' WHERE id = {accepted}",
        f"UPDATE review SET decision = 'reject', reason = 'other' WHERE id = {rejected}",
        f"DELETE FROM review WHERE id IN ({', '.join(map(str, deleted))})",
        "UPDATE gpkg_ogr_contents SET feature_count = (SELECT count(*) FROM review)",
    )
    done = call_cli(["review", "import", work, scene, "--as", "Ann"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"2 decisions recorded; 0 known before, {len(columns['id']) - 4:,} polygons undecided")
    assert f"decides nothing: polygons {null}, {empty}, {accepted}; reject those that are not there" in done.stderr
    assert "2 polygons of the map are not in" in done.stderr


def test_a_damaged_work_file_is_refused_whole(scene: Path, tmp_path: Path) -> None:
    work, log = tmp_path / "work.gpkg", scene / "reviews" / "log.jsonl"
    columns, _ = polygons_of(scene)
    assert call_cli(["review", "export", scene, "--out", work]).returncode == 0
    one, two = (int(number) for number in columns["id"][:2])
    fine = f"UPDATE review SET decision = 'accept' WHERE id = {one}"
    cases = {
        "is none of accept": f"UPDATE review SET decision = 'perhaps' WHERE id = {two}",
        "no class": f"UPDATE review SET decision = 'change class' WHERE id = {two}",
        "class 'lake'": f"UPDATE review SET decision = 'change class', class = 'lake' WHERE id = {two}",
        "no reason": f"UPDATE review SET decision = 'reject' WHERE id = {two}",
        "is there twice": f"UPDATE review SET id = {one} WHERE id = {two}",
        "none of the map": f"UPDATE review SET id = 99999999 WHERE id = {two}",
        "another map": "UPDATE review_facts SET value = '\"x\"' WHERE key = 'run'",
        "no table review_facts": "DROP TABLE review_facts",
    }
    for words, statement in cases.items():
        copy = tmp_path / "copy.gpkg"
        shutil.copy(work, copy)
        edited(copy, fine, statement)
        done = call_cli(["review", "import", copy, scene, "--as", "Ann"])
        assert done.returncode == 2, words
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
        assert not log.exists()


def test_the_project_names_its_layers_by_relative_paths(scene: Path, tmp_path: Path) -> None:
    assert call_cli(["review", "export", scene, "--out", tmp_path / "w.gpkg"]).returncode == 0
    root = ET.parse(tmp_path / "w.qgs").getroot()
    sources = {layer.findtext("id"): layer.findtext("datasource") for layer in root.iter("maplayer")}
    assert sources["review_polygons"] == "./w.gpkg|layername=review"
    for name, source in sources.items():
        assert (tmp_path / source.split("|")[0]).is_file(), name
    work = next(layer for layer in root.iter("maplayer") if layer.findtext("id") == "review_polygons")
    locked = {field.get("name") for field in work.find("editable") if field.get("editable") == "0"}
    assert {"fid", "place", "id", "part", "code", "map_class"} <= locked
    assert not locked & {"decision", "class", "rest", "reason", "comment"}
    assert work.find("attributetableconfig").get("sortExpression") == '"place"'
    assert next(one.get("value") for one in work.iter("category")) == "to do"


@pytest.mark.checkers
def test_qgis_opens_the_project(scene: Path, tmp_path: Path) -> None:
    if subprocess.run(["/usr/bin/python3", "-c", "import qgis.core"], capture_output=True, check=False).returncode:
        pytest.skip("QGIS is not installed")
    assert call_cli(["review", "export", scene, "--out", tmp_path / "w.gpkg"]).returncode == 0
    code = (
        "import sys, json, os\nfrom qgis.core import *\napp = QgsApplication([], False); QgsApplication.initQgis()\n"
        "project = QgsProject.instance(); ok = project.read(sys.argv[1])\nlayers = project.mapLayers()\n"
        "work = layers['review_polygons']\nwidget = work.editorWidgetSetup(work.fields().indexOf('decision')).type()\n"
        "print(json.dumps([ok, {k: l.isValid() for k, l in layers.items()}, work.renderer().type(), widget, "
        "work.editFormConfig().readOnly(work.fields().indexOf('fid')), work.featureCount()]))\nsys.stdout.flush(); os._exit(0)"
    )
    done = subprocess.run(
        ["/usr/bin/python3", "-c", code, tmp_path / "w.qgs"],
        capture_output=True,
        text=True,
        env=os.environ | {"QT_QPA_PLATFORM": "offscreen"},
        timeout=LIMIT_S,
        check=False,
    )
    ok, valid, renderer, widget, locked, count = json.loads(done.stdout.splitlines()[-1])
    assert ok
    assert valid == {"review_polygons": True, "map_classes": True, "image_0": True}
    assert (renderer, widget, locked) == ("categorizedSymbol", "ValueMap", True)
    assert count == len(polygons_of(scene)[1])


def test_what_people_said_outranks_labels(scene: Path) -> None:
    columns, shapes = polygons_of(scene)
    big = np.argsort(-columns["area_m2"])
    kept, changed, rejected = (int(big[k]) for k in (2, 5, 8))
    said(
        scene,
        {"action": "accept", "polygon": int(columns["id"][kept])},
        {"action": "class", "polygon": int(columns["id"][changed]), "class": 5},
        {"action": "reject", "polygon": int(columns["id"][rejected]), "reason": "other"},
    )
    path = apply_reviews(scene).folder / "corrections.tif"
    before = codes_of(scene)
    expected = np.full(before.shape, 255, np.uint8)
    expected[burnt(shapes[kept], before)] = columns["code"][kept]
    expected[burnt(shapes[changed], before)] = 5
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(1), expected)
        place = Georeference(tuple(dataset.transform)[:6], dataset.crs.to_wkt())
    codes = {str(code): code for code in range(6)}
    labels, better = (open_labels(str(one), place, *before.shape, codes) for one in (scene / "classes.tif", path))
    whole = Window.of(before.shape)
    np.testing.assert_array_equal(corrected(labels, [better]).read(whole)[0], np.where(expected == 255, before, expected))
    assert corrected(labels, []) is labels


def test_a_recipe_learns_from_corrections(scene: Path, tmp_path: Path) -> None:
    columns, _ = polygons_of(scene)
    said(scene, *({"action": "class", "polygon": int(number), "class": 5} for number in columns["id"][::3]))
    path = apply_reviews(scene).folder / "corrections.tif"
    image = json.loads((scene / "run.json").read_text())["source"][0]
    classes = [{"name": f"class {code}", "color": f"#{40 * code + 20:02x}8040"} for code in range(6)]
    table = {"images": [image], "labels": str(scene / "classes.tif"), "role": "train", "corrections": [str(path)]}
    facts = {"name": "x", "description": "a test", "bands": ["gray"], "value_range": [0, 255]}
    with rasterio.open(image) as old, rasterio.open(tmp_path / "far.tif", "w", **old.profile) as new:
        new.transform = rasterio.Affine(10, 0, 530_000, 0, -10, 8_930_000)
        new.write(old.read())
    far = {"images": [str(tmp_path / "far.tif")], "labels": str(tmp_path / "far.tif"), "role": "val"}
    for other in ({"plain": True}, {"labels": None, "role": "target"}):
        with pytest.raises(ConfigError, match="corrections"):
            open_data(Recipe.model_validate({**facts, "classes": classes, "data": [{**table, **other}, table, far]}))
    data = open_data(Recipe.model_validate({**facts, "classes": classes, "data": [table, far]}))
    (pair,) = data.training
    read = pair.read(Window.of((300, 400))).labels
    with rasterio.open(path) as dataset:
        said_ = dataset.read(1)
    assert (read[said_ != 255] == said_[said_ != 255]).all()
    assert (read == 5).any()


def test_results_are_read_from_a_version_and_never_counted_with_their_scene(scene: Path, tmp_path: Path) -> None:
    columns, _ = polygons_of(scene)
    said(scene, *({"action": "class", "polygon": int(number), "class": 2} for number in columns["id"][::9]))
    out, version = scene.parent, apply_reviews(scene).folder
    digest = call_cli(["verify", scene]).stdout.splitlines()[-1]
    image = json.loads((scene / "run.json").read_text())["source"][0]
    assert [found.name for found in find_maps([str(out)])] == ["a"]
    assert [found.name for found in find_maps([str(version)])] == [version.name]
    assert [found.name for found in find_all([out])] == ["a"]
    (seen,) = find_all([version])
    assert (seen.polygons, seen.images[0].paths) == (version / "polygons.gpkg", (image,))
    assert [name for name, _ in reports_below(out)] == ["a"]
    for folder in (version, scene, out):
        assert call_cli(["verify", folder]).returncode == 0
    with (version / "classes.qml").open("a") as file:
        file.write(" ")
    assert call_cli(["verify", version]).returncode == 1
    assert call_cli(["verify", scene]).stdout.splitlines()[-1] == digest
    done = call_cli(["evaluate", "--pred", version, "--truth", scene / "classes.tif", "--out", tmp_path / "e"])
    assert done.returncode == 0, done.stderr
    assert "no random sample" in done.stderr
    sample = tmp_path / "sample.gpkg"
    assert call_cli(["sample", version / "classes.tif", "--out", sample, "--size", "300"]).returncode == 0
    done = call_cli(["area", "--map", version / "classes.tif", "--sample", sample, "--reference", scene / "classes.tif"])
    assert done.returncode == 0, done.stderr
    assert "no random sample" in done.stdout
    pytest.importorskip("matplotlib", reason="the extra `sheets` is not installed")
    done = call_cli(["deliver", version, "--out", tmp_path / "d", "--event", "Review"])
    assert done.returncode == 0, done.stderr
    observed = json.loads((tmp_path / "d" / "observedEvent.geojson").read_text())["features"]
    assert len(observed) == len(polygons_of(version)[1])


def test_a_run_over_the_scene_leaves_reviews_alone(scene: Path, identity_model: Model) -> None:
    columns, _ = polygons_of(scene)
    said(scene, {"action": "class", "polygon": int(columns["id"][0]), "class": 2})
    version = apply_reviews(scene).folder
    before = {path: path.read_bytes() for path in sorted((scene / "reviews").rglob("*")) if path.is_file()}
    source = json.loads((scene / "run.json").read_text())["source"][0]
    again = ["segment", source, "-m", identity_model.path, "-o", scene.parent, "--formats", "gpkg", "--overwrite"]
    done = call_cli([*again, "--min-area", "5ha"])
    assert done.returncode == 0, done.stderr
    assert {path: path.read_bytes() for path in sorted((scene / "reviews").rglob("*")) if path.is_file()} == before
    assert [one["scene"] for one in json.loads((scene.parent / "index.json").read_text())["scenes"]] == ["a"]
    assert call_cli(["verify", version]).returncode == 0
    # The raster is the same, so the log still speaks of it; of another map it does not.
    with rasterio.open(source, "r+") as dataset:
        dataset.write(np.roll(dataset.read(1), 50, axis=1), 1)
    assert call_cli(again).returncode == 0
    refused = call_cli(["review", "apply", scene])
    assert (refused.returncode, "on another map" in refused.stderr) == (2, True)
