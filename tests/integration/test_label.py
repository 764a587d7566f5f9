"""People label buildings in the browser: for a model of their event, and those of a sample, without seeing any grade."""

from __future__ import annotations

import json
import shlex
import shutil
import sqlite3
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import geopandas
import numpy as np
import pytest
from desks import ask, queue_of
from services import browser_page, served
from support import LIMIT_S, call_cli

import geoseg
from geoseg.damage.scale import CLASSES
from pipeline.review.review_log import ReviewLog
from pipeline.sample.building_sample import read_building_sample
from tests.graded import GRADES, graded_town

pytestmark = pytest.mark.skipif(find_spec("maplibre") is None, reason="the extra `view` is not installed")


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return graded_town(tmp_path_factory.mktemp("town"))


@pytest.fixture
def result(town: Path, tmp_path: Path) -> Path:
    shutil.copytree(town, tmp_path / "out" / "pre_to_post")
    return tmp_path / "out" / "pre_to_post"


def say(server: tuple[str, int, str], **what: object) -> tuple[int, dict]:
    return ask(server, f"{server[2]}review/decisions", json.dumps({"action": "class", **what}))


def read_labels(result: Path) -> dict[int, str]:
    table = geopandas.read_file(result / "reviews" / "labels.gpkg")
    return dict(zip(table["id"].tolist(), table["damage"], strict=True))


def test_labels_are_a_file_that_damage_takes(result: Path) -> None:
    truth = geopandas.read_file(result / "label_next.gpkg")
    with served("view", result.parent, "--label", "--as", "Ann") as (host, port, path, _):
        server = host, port, path
        queue, state = queue_of(server), ask(server, f"{path}review/state.json")[1]
        # Those that are asked for, in their order; two have labels already.
        assert [one["id"] for one in queue["entries"]] == [4, 5, 6, 7, 8, 9]
        assert (queue["total"], queue["done"], queue["labels"]) == (6, 0, 2)
        assert state["file"] == str(result.resolve() / "reviews" / "labels.gpkg")
        given = shlex.split(state["command"])
        assert given[:2] == ["geoseg", "damage"]
        assert [Path(one).name for one in given[2:4]] == ["pre.tif", "post.tif"]
        assert given[given.index("--labels") + 1] == state["file"]
        assert given[given.index("--out") + 1] == str(result.resolve().parent)
        status, answer = say(server, polygon=4, **{"class": 3}, comment="nothing is left")
        assert (status, answer["labels"], answer["done"], answer["byClass"][3]) == (200, 3, 1, 1)
        assert say(server, polygon=5, **{"class": 0})[0] == 200
        assert (
            ask(server, f"{path}review/decisions", json.dumps({"action": "reject", "polygon": 6, "reason": "can't be told"}))[1][
                "untold"
            ]
            == 1
        )
        # One that nobody asked for, and one that has a label: the last one counts.
        assert say(server, polygon=30, **{"class": 1})[0] == 200
        assert say(server, polygon=2, **{"class": 2})[1]["done"] == 3
        for wrong in ({"class": 4}, {"class": 1, "polygon": 99}, {"action": "redraw", "class": 1}, {"action": "accept"}):
            assert say(server, **{"polygon": 7, **wrong})[0] == 422, wrong
        # Somebody else labels beside her, and neither loses a label.
        with served("review", "label", result, "--as", "Bob") as (*other, _):
            assert [one["id"] for one in queue_of(tuple(other))["entries"]] == [7, 8, 9]
            assert say(tuple(other), polygon=7, **{"class": 1})[0] == 200
            assert say(server, polygon=8, **{"class": 1})[0] == 200
            assert call_cli(["review", "label", result, "--as", "Bob", "--no-browser"]).returncode == 2
    known = {3: str(truth["damage"].iloc[1])}
    expected = {
        **known,
        4: "destroyed",
        5: "no damage",
        30: "minor damage",
        2: "major damage",
        7: "minor damage",
        8: "minor damage",
    }
    assert read_labels(result) == expected
    table = geopandas.read_file(result / "reviews" / "labels.gpkg").set_index("id")
    graded = geopandas.read_file(result / "buildings.gpkg", layer="buildings").set_index("id")
    assert table.geometry.geom_equals(graded.geometry[table.index]).all()
    assert table["labelled_by"].dropna().to_dict() == {2: "Ann", 4: "Ann", 5: "Ann", 7: "Bob", 8: "Ann", 30: "Ann"}
    entries = ReviewLog.read(result / "reviews" / "labels.jsonl").entries
    assert [(one.polygon, one.by) for one in entries] == [
        (4, "Ann"),
        (5, "Ann"),
        (6, "Ann"),
        (30, "Ann"),
        (2, "Ann"),
        (7, "Bob"),
        (8, "Ann"),
    ]
    # A result stays whole beside its labels; a file that is gone is made again of the log.
    assert call_cli(["verify", result]).returncode == 0
    (result / "reviews" / "labels.gpkg").unlink()
    with served("review", "label", result, "--as", "Ann"):
        assert read_labels(result) == expected


def test_without_suggestions_the_least_sure_are_asked_for(result: Path) -> None:
    (result / "label_next.gpkg").unlink()
    graded = geopandas.read_file(result / "buildings.gpkg", layer="buildings")
    with served("review", "label", result, "--as", "Ann") as (host, port, path, _):
        entries = queue_of((host, port, path))["entries"]
    assert [one["id"] for one in entries] == graded.sort_values("confidence", kind="stable")["id"].tolist()[:20]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.drop(columns="rank"), "has no column 'rank'"),
        (lambda table: table.drop(columns="name"), "has no column 'name'"),
        (lambda table: table[["name", "rank", "geometry"]], "has no column 'damage'"),
        (lambda table: table.assign(rank="first"), "rank 'first' is no whole number"),
        (
            lambda table: table.assign(damage=["", None, *["Destroid"] * (len(table) - 2)], name=table["name"]),
            "row 3, building b3: 'Destroid' is no class of the scale; write no damage, minor damage, major damage, destroyed, or",
        ),
    ],
)
def test_what_is_to_be_labelled_next_may_be_edited_but_not_broken(result: Path, change: Callable, words: str) -> None:
    path = result / "label_next.gpkg"
    table = geopandas.read_file(path)
    path.unlink()
    change(table).to_file(path, layer="label_next")
    refused = call_cli(["review", "label", result, "--no-browser"])
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"geoseg: {path.resolve()}: {words}")


def test_nothing_is_labelled_without_images(tmp_path: Path) -> None:
    result = graded_town(tmp_path)
    for name in ("pre.tif", "post.tif"):
        (tmp_path / name).unlink()
    refused = call_cli(["review", "label", result, "--no-browser"])
    assert refused.returncode == 2
    assert "none of its images can be shown" in refused.stderr
    assert str(tmp_path / "post.tif") in refused.stderr


def test_a_version_and_a_map_by_class_are_not_labelled(result: Path) -> None:
    version = geoseg.review(result, name="ann").apply().folder
    done = call_cli(["review", "label", version, "--as", "Ann", "--no-browser"])
    assert (done.returncode, "label the buildings of the run" in done.stderr) == (2, True)
    both = call_cli(["view", result, "--review", "--label", "--no-browser"])
    assert (both.returncode, "give one" in both.stderr) == (2, True)


def test_a_sample_is_labelled_and_area_reads_it(result: Path, tmp_path: Path) -> None:
    sample = tmp_path / "sample ü.gpkg"
    geoseg.sample(result, out=sample, size=16, least=2)
    design = read_building_sample(sample)[0]
    truth = geopandas.read_file(result.parent / "pre_to_post" / "buildings.gpkg", layer="buildings").set_index("id")["code"]
    with sqlite3.connect(sample) as connection:
        for name, count in ("ST_IsEmpty", 1), ("ST_MinX", 1), ("ST_MaxX", 1), ("ST_MinY", 1), ("ST_MaxY", 1):
            connection.create_function(name, count, lambda *_: None)
        connection.execute("UPDATE sample SET reference = 'destroyed' WHERE unit = 3")
    with served("review", "label", result, "--sample", sample, "--as", "Ann") as (host, port, path, _):
        server = host, port, path
        queue, polygons = queue_of(server), ask(server, f"{path}maps/0/polygons.json")[1]
        # In the random order of the units, and nothing tells a grade.
        assert (queue["total"], queue["done"]) == (16, 1)
        assert set(polygons["labels"]) & {"class", "confidence", "p_destroyed", "stratum"} == set()
        rows = [one["row"] for one in queue["entries"]]
        units = [ask(server, f"{path}review/polygons/{row}.json")[1]["polygon"] for row in rows]
        assert units == [k for k in range(1, 17) if k != 3]
        for unit in units[:-1]:
            code = int(truth[design.building[unit - 1]])
            assert say(server, polygon=unit, **{"class": code}, comment=f"unit {unit}")[0] == 200
        assert say(server, polygon=units[-1], action="reject", reason="can't be told")[1]["done"] == 16
    filled = geopandas.read_file(sample, layer="sample").set_index("unit")
    expected = {unit: CLASSES[truth[design.building[unit - 1]]] for unit in units[:-1]} | {
        3: "destroyed",
        units[-1]: "can't be told",
    }
    assert filled["reference"].to_dict() == expected
    assert filled["note"][units[0]] == f"unit {units[0]}"
    # What somebody changes in QGIS afterwards stays.
    with sqlite3.connect(sample) as connection:
        for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f'DROP TRIGGER "{trigger}"')
        other = next(name for name in CLASSES if name != expected[units[0]])
        connection.execute(f"UPDATE sample SET reference = '{other}' WHERE unit = {units[0]}")
    with served("review", "label", result, "--sample", sample, "--as", "Ann") as (host, port, path, _):
        assert queue_of((host, port, path))["entries"] == []
    assert geopandas.read_file(sample, layer="sample").set_index("unit")["reference"][units[0]] == other
    numbers = geoseg.area(result, sample, nonresponse="drop")
    assert (numbers["units"], numbers["left_out"]) == (15, 1)
    assert len(ReviewLog.read(sample.with_name(f"{sample.name}.log.jsonl")).entries) == 15


@pytest.mark.slow
def test_later_comments_are_notes_and_notes_of_others_stay(result: Path, tmp_path: Path) -> None:
    sample = tmp_path / "sample.gpkg"
    geoseg.sample(result, out=sample, size=16, least=2)

    def notes() -> dict[int, tuple[str | None, str | None]]:
        with sqlite3.connect(sample) as connection:
            told = connection.execute("SELECT unit, reference, note FROM sample WHERE unit <= 3 ORDER BY unit").fetchall()
        return {unit: (label, note) for unit, label, note in told}

    with served("review", "label", result, "--sample", sample, "--as", "Ann") as (host, port, path, _):
        server = host, port, path
        queue_of(server)
        assert say(server, polygon=1, **{"class": 3})[0] == 200
        assert say(server, polygon=1, **{"class": 3}, comment="the same, with a comment")[0] == 200
        assert say(server, polygon=2, action="comment", comment="under a cloud")[0] == 200
        assert say(server, polygon=3, **{"class": 0}, comment="first")[0] == 200
        assert say(server, polygon=3, action="comment", comment="second")[0] == 200
    said = {1: ("destroyed", "the same, with a comment"), 2: (None, "under a cloud"), 3: ("no damage", "second")}
    assert notes() == said
    with sqlite3.connect(sample) as connection:
        for name in ("ST_IsEmpty", "ST_MinX", "ST_MaxX", "ST_MinY", "ST_MaxY"):
            connection.create_function(name, 1, lambda *_: None)
        connection.execute("UPDATE sample SET note = 'of QGIS' WHERE unit = 3")
    with served("review", "label", result, "--sample", sample, "--as", "Ann") as (host, port, path, _):
        server = host, port, path
        queue_of(server)
        assert say(server, polygon=2, **{"class": 1})[0] == 200
    assert notes() == said | {2: ("minor damage", "under a cloud"), 3: ("no damage", "of QGIS")}


def test_from_two_images_to_a_model_by_clicks(town: Path, tmp_path: Path) -> None:
    """What to label, labels by clicks, and the command that the page tells: better than the shares of the classes alone."""
    place = town.parent.parent
    done = geoseg.grade_damage(
        place / "pre.tif", place / "post.tif", out=tmp_path / "out", footprints=str(place / "truth.gpkg"), label_next=12
    )
    truth = geopandas.read_file(place / "truth.gpkg").set_index("uid")["damage"]
    names = geopandas.read_file(done.folder / "buildings.gpkg", layer="buildings").set_index("id")["name"]
    with served("review", "label", done.folder, "--as", "Ann") as (host, port, path, _):
        server = host, port, path
        command = ask(server, f"{path}review/state.json")[1]["command"]
        for one in queue_of(server)["entries"]:
            code = GRADES.index(truth[names[one["id"]]])
            assert say(server, polygon=one["id"], **{"class": code})[0] == 200
    again = call_cli(shlex.split(command)[1:])
    assert again.returncode == 0, again.stderr
    assert "A model of this event, from 12 labelled buildings" in again.stdout
    graded = geopandas.read_file(done.folder / "buildings.gpkg", layer="buildings")
    rest = graded[graded["labelled"] == 0]
    steps = np.abs(rest["code"] - [GRADES.index(truth[name]) for name in rest["name"]])
    # Far better than chance (1.25).
    assert steps.mean() < 0.7
    # Labels live on: the next ones are added to them.
    with served("review", "label", done.folder, "--as", "Ann") as (host, port, path, _):
        queue = queue_of((host, port, path))
        assert (queue["labels"], queue["total"], queue["done"]) == (12, 12, 0)


@pytest.mark.checkers
def test_a_browser_labels_by_keys(result: Path, tmp_path: Path) -> None:
    with (
        served("view", result, "--label", "--as", "Ann") as (host, port, path, _),
        browser_page(f"http://{host}:{port}{path}", 1200, 900) as page,
    ):
        page.wait_for_selector("body[data-review=ready]", timeout=LIMIT_S * 1000)
        # Nothing on the page tells a grade.
        assert not page.locator("#first, #details, #classes").filter(visible=True).count()
        for key, building, after in (("4", 4, 5), ("1", 5, 6), ("u", 6, 7)):
            page.keyboard.press(key)
            page.locator("#review-said", has_text=f"{building}: ").wait_for(timeout=LIMIT_S * 1000)
            page.locator("#review-current", has_text=f"Building {after}").wait_for(timeout=LIMIT_S * 1000)
            page.wait_for_timeout(500)
        page.keyboard.press("b")
        page.locator("#review-said", has_text="on the map: Before").wait_for(timeout=LIMIT_S * 1000)
        assert "geoseg damage" in page.locator("#label-command").inner_text()
        page.screenshot(path=tmp_path / "label.png")
    assert {4: "destroyed", 5: "no damage"}.items() <= read_labels(result).items()
