"""People correct graded buildings: versions hold what the log says and nothing else, ids live on, and readers take them."""

from __future__ import annotations

import csv
import filecmp
import json
import shutil
import sqlite3
from importlib.util import find_spec
from pathlib import Path

import geopandas
import geopandas.testing
import numpy as np
import pytest
import shapely
import shapely.affinity
from desks import ask, queue_of
from pages import read_page
from support import call_cli

import geoseg
from geoseg.errors import ConfigError
from pipeline.review.apply import apply_reviews
from pipeline.review.review_log import ReviewLog
from tests.graded import GRADES, graded_town
from tests.services import served

FILES = ("buildings.gpkg", "buildings.geojson", "buildings.csv", "grid.gpkg", "density.tif", "zones.csv", "zones.gpkg")
needs_view = pytest.mark.skipif(find_spec("maplibre") is None, reason="the extra `view` is not installed")


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return graded_town(tmp_path_factory.mktemp("town"))


@pytest.fixture
def result(town: Path, tmp_path: Path) -> Path:
    """A copy of it, to review."""
    shutil.copytree(town, tmp_path / "out" / "pre_to_post")
    return tmp_path / "out" / "pre_to_post"


def rows(folder: Path) -> geopandas.GeoDataFrame:
    return geopandas.read_file(folder / "buildings.gpkg", layer="buildings").set_index("id")


def lonlat(shape: shapely.Geometry, crs: object) -> dict:
    return geopandas.GeoSeries([shape], crs=crs).to_crs("OGC:CRS84").iloc[0].__geo_interface__


def test_nothing_said_is_the_same_to_the_byte_and_all_accepted_the_same_grades(result: Path) -> None:
    empty = apply_reviews(result)
    assert empty.folder == result / "reviews" / "1"
    assert filecmp.cmpfiles(result, empty.folder, FILES, shallow=False)[0] == list(FILES)
    ann, before = geoseg.review(result, name="ann"), rows(result)
    ann.decide(*({"action": "accept", "polygon": int(number)} for number in before.index))
    done = apply_reviews(result)
    after = rows(done.folder)
    assert (after.pop("review") == "accept").all()
    geopandas.testing.assert_geodataframe_equal(before, after)
    review = done.document["review"]
    assert (review["polygons"], review["share"], review["changed_buildings"]) == (36, 1.0, 0)
    assert all(one["share"] == 1 for one in review["agreement"])
    assert not apply_reviews(result).is_new
    assert call_cli(["verify", done.folder]).returncode == 0


def test_a_version_holds_what_people_decided_and_nothing_else(result: Path) -> None:
    before = rows(result)
    other = before.index[before["code"] == 0][-1]
    outline = before.geometry[9].buffer(-2)
    new = shapely.affinity.translate(before.geometry[20], 8, 0)
    ann = geoseg.review(result, name="ann")
    ann.decide(
        {"action": "class", "polygon": int(other), "class": 3, "comment": "the roof is gone"},
        {"action": "reject", "polygon": 5, "reason": "not a building"},
        {"action": "reject", "polygon": 6, "reason": "cloud or shadow"},
        {"action": "redraw", "polygon": 9, "class": 1, "geometry": lonlat(outline, before.crs)},
        {"action": "redraw", "class": 2, "geometry": lonlat(new, before.crs)},
        {"action": "class", "polygon": 1, "class": 1},
    )
    done = apply_reviews(result)
    after = rows(done.folder)
    assert list(after.index) == [*(k for k in before.index if k != 5), 37]
    said = {other: 3, 9: 1, 37: 2, 1: 1, 6: 254}
    for number, row in after.iterrows():
        assert row["code"] == said.get(number, before["code"].get(number)), number
        assert row["class"] == (GRADES[row["code"]] if row["code"] < 4 else "not analysed")
        if number in said:
            # Of what people decided the model has no confidence.
            assert np.isnan(row["confidence"])
            assert np.isnan(row["p_destroyed"])
        else:
            assert row.drop("review").equals(before.loc[number]), number
    assert after["reason"][6] == "cloud or shadow"
    assert after.geometry[9].symmetric_difference(outline).area < 0.01
    assert after["area_m2"][9] == pytest.approx(outline.area, rel=1e-3)
    review = done.document["review"]
    differences = {one["name"]: (one["buildings_before"], one["buildings_after"]) for one in review["differences"]}
    for name, (old, now) in differences.items():
        assert (old, now) == ((before["class"] == name).sum(), (after["class"] == name).sum())
    assert (review["removed"], review["added"], review["reviewers"]) == ([5], 1, ["ann"])
    # A drawn building that shares ground with another one is told, with both and the area.
    common = {k: float(new.intersection(shape).area) for k, shape in before.geometry.items() if new.intersection(shape).area > 0}
    assert {(one["id"], one["with"]): pytest.approx(one["area_m2"], rel=1e-3) for one in review["overlaps"]} == {
        (37, k): area for k, area in common.items()
    }
    assert common
    assert any("share ground" in text for text in done.document["warnings"])
    summary = json.loads((done.folder / "damage.json").read_text())
    assert {name: summary["counts"][name] for name in differences} == {name: now for name, (_, now) in differences.items()}
    assert sum(zone["destroyed"] for zone in summary["zones"]) == differences["destroyed"][1]
    assert {zone["quarter"] for zone in summary["zones"]} == {"west", "east"}
    with (done.folder / "decisions.csv").open(encoding="utf-8") as file:
        table = {row["id"]: row for row in csv.DictReader(file)}
    assert (table["5"]["after"], table[str(other)]["after"], table[str(other)]["by"]) == ("none", "destroyed", "ann")
    page = read_page(done.folder / "report.html")
    assert "Reviewed buildings, version 1" in page.text
    assert [str(other), "no damage", "destroyed", "class", "-", "ann"] in page.rows


def test_the_last_decision_counts_also_over_versions(result: Path) -> None:
    ann, bob = (geoseg.review(result, name=name) for name in ("ann", "bob"))
    before = rows(result)
    new = shapely.affinity.translate(before.geometry[20], 8, 0)
    ann.decide(
        {"action": "reject", "polygon": 5, "reason": "not a building"},
        {"action": "redraw", "class": 0, "geometry": lonlat(new, before.crs)},
    )
    first = apply_reviews(result).folder
    # What was added is a building like any other, and keeps its id.
    geoseg.review(first, name="bob").decide({"action": "class", "polygon": 37, "class": 3})
    second = apply_reviews(first)
    assert (second.folder, second.document["review"]["parent"]) == (result / "reviews" / "2", 1)
    assert rows(second.folder)["code"][37] == 3
    assert 5 not in rows(second.folder).index
    # Bob says that there is one, after all: reviewers differ, the last one counts.
    bob.decide({"action": "accept", "polygon": 5}, {"action": "second", "polygon": 7})
    third = apply_reviews(result)
    assert rows(third.folder).loc[5].drop("review").equals(before.loc[5])
    assert (third.document["review"]["conflicts"], third.document["review"]["open"]) == (1, 1)
    with pytest.raises(ConfigError, match="polygon 5 of version 2 is not on this map"):
        geoseg.review(second.folder, name="ann").decide({"action": "accept", "polygon": 5})


@pytest.mark.parametrize(
    ("decision", "words"),
    [
        ({"action": "reject", "polygon": 5, "reason": "other", "class": 1}, "no class of its own"),
        ({"action": "class", "polygon": 5, "class": 4}, "class 4 is none of 0, 1, 2, 3"),
        ({"action": "accept", "polygon": 99}, "polygon 99 of version 0 is not on this map"),
        ({"action": "redraw", "class": 1, "geometry": shapely.box(80, 12, 80.001, 12.001).__geo_interface__}, "longitude first"),
    ],
)
def test_what_can_not_be_said_of_a_building_is_refused(result: Path, decision: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        geoseg.review(result, name="ann").decide(decision)
    assert not (result / "reviews").exists()


def test_a_version_may_have_no_building_left(result: Path, tmp_path: Path) -> None:
    none = ({"action": "reject", "polygon": int(number), "reason": "not a building"} for number in rows(result).index)
    geoseg.review(result, name="ann").decide(*none)
    done = apply_reviews(result)
    summary = json.loads((done.folder / "damage.json").read_text())
    assert (len(rows(done.folder)), summary["buildings"], "grid" in summary) == (0, 0, False)
    assert not {"grid.gpkg", "density.tif"} & {path.name for path in done.folder.iterdir()}
    assert call_cli(["verify", done.folder]).returncode == 0
    for command in (["deliver", "--event", "E"], ["sample", "--size", "20"]):
        refused = call_cli([command[0], done.folder, *command[1:], "--out", tmp_path / "new.gpkg"])
        assert refused.returncode == 2
        assert refused.stderr.startswith("geoseg: ")
        assert str(done.folder / "buildings.gpkg") in refused.stderr
        assert "has some" in refused.stderr
        assert not (tmp_path / "new.gpkg").exists()


def test_where_no_reviews_can_lie_is_said(result: Path) -> None:
    (result / "reviews").write_text("of somebody")
    refused = call_cli(["review", "apply", result])
    assert refused.returncode == 2
    assert "reviews can't be written there" in refused.stderr
    assert (result / "reviews").read_text() == "of somebody"


def test_buildings_that_were_graded_anew_are_others(result: Path) -> None:
    ann = geoseg.review(result, name="ann")
    ann.decide({"action": "accept", "polygon": 3})
    with sqlite3.connect(result / "buildings.gpkg") as connection:
        connection.execute("PRAGMA user_version = 10401")
    with pytest.raises(ConfigError, match=r"buildings\.gpkg: was changed since it was published"):
        apply_reviews(result)


def test_deliver_sample_and_area_take_a_version(result: Path, tmp_path: Path) -> None:
    ann = geoseg.review(result, name="ann")
    sample = tmp_path / "sample.gpkg"
    geoseg.sample(result, out=sample, size=20, least=2)
    graded = rows(result)
    some = [int(k) for k in graded.index[graded["code"] < 3][:4]]
    ann.decide(*({"action": "class", "polygon": k, "class": 3} for k in some))
    version = apply_reviews(result).folder
    done = call_cli(["deliver", version, "--out", tmp_path / "delivery", "--event", "Storm"])
    assert done.returncode == 0, done.stderr
    with (tmp_path / "delivery" / "summary.csv").open(encoding="utf-8") as file:
        summary = {row["class"]: row["features"] for row in csv.DictReader(file)}
    assert int(summary["destroyed"]) == (graded["code"] == 3).sum() + 4
    # A sample of the run's buildings serves the version, as long as the same ones are graded.
    truth = geopandas.read_file(sample, layer="sample")
    with sqlite3.connect(sample) as connection:
        for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f'DROP TRIGGER "{trigger}"')
        connection.execute("UPDATE sample SET reference = 'destroyed'")
    numbers = geoseg.area(version, sample)
    assert numbers["by_class"][3]["counted"] == int(summary["destroyed"])
    assert numbers["units"] == len(truth)
    assert any("4 buildings" in note and "no random sample" in note for note in numbers["notes"])


def test_qgis_and_back(result: Path, tmp_path: Path) -> None:
    work = tmp_path / "work.gpkg"
    assert call_cli(["review", "export", result, "--out", work]).returncode == 0
    table, graded = geopandas.read_file(work, layer="review").set_index("id"), rows(result)
    # The least sure first; what was not analysed last.
    expected = graded["confidence"].sort_values(kind="stable", na_position="last").index
    assert list(table["place"].sort_values().index) == list(expected)
    project = (tmp_path / "work.qgs").read_text()
    assert "pre.tif" in project
    assert "classes.tif" not in project
    with sqlite3.connect(work) as connection:
        for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f'DROP TRIGGER "{trigger}"')
        connection.execute("UPDATE review SET decision = 'change class', class = 'destroyed' WHERE id = 4")
        connection.execute("UPDATE review SET decision = 'reject', reason = 'not a building' WHERE id = 8")
    done = call_cli(["review", "import", work, result, "--as", "Ann"])
    assert done.stdout.startswith("2 decisions recorded"), done.stderr
    applied = call_cli(["review", "apply", result])
    assert "1 buildings are left out" in applied.stdout
    after = rows(result / "reviews" / "1")
    assert after["code"][4] == 3
    assert 8 not in after.index


@needs_view
def test_the_page_takes_buildings_the_least_sure_first(result: Path) -> None:
    with served("view", result.parent, "--review", "--as", "Ann") as (host, port, path, _):
        server = host, port, path
        queue, graded = queue_of(server), rows(result)
        ordered = graded["confidence"].sort_values(kind="stable", na_position="last").index
        assert [one["id"] for one in queue["entries"]] == list(ordered)
        state = ask(server, f"{path}review/state.json")[1]
        assert (state["units"], state["ground"], state["reasons"][0]) == ("buildings", False, "not a building")
        assert [one["name"] for one in state["classes"]] == list(GRADES)
        said = json.dumps({"action": "class", "polygon": int(ordered[0]), "class": 2})
        assert ask(server, f"{path}review/decisions", said)[0] == 200
        instead = json.dumps({"action": "reject", "polygon": int(ordered[1]), "reason": "x", "class": 0})
        assert ask(server, f"{path}review/decisions", instead)[0] == 422
    assert [entry.code for entry in ReviewLog.read(result / "reviews" / "log.jsonl").entries] == [2]
