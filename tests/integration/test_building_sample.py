"""Samples of graded buildings: drawn by grade and confidence, labelled, and numbers with intervals, in all and by zone."""

from __future__ import annotations

import csv
import json
import shlex
import sqlite3
from pathlib import Path

import geopandas
import numpy as np
import pyogrio.raw
import pytest
import shapely
from numpy.typing import NDArray

import geoseg
from geoseg.errors import ConfigError
from geoseg.sampling.totals import Number
from pipeline.deliver import sheet
from pipeline.deliver.estimates import Estimates, in_tenths
from pipeline.deliver.events import SummaryRow
from pipeline.deliver.run import deliver
from pipeline.deliver.statement import Measured
from pipeline.deliver.terms import Terms
from pipeline.sample.building_sample import read_building_sample
from pipeline.sample.numbers_page import MOST_ZONES, numbers_page
from pipeline.sample.run import draw, estimate
from pipeline.sample.settings import SampleSettings
from tests.graded import GRADES, joplin
from tests.labelled import broken, label
from tests.pages import read_page
from tests.support import call_cli

Town = tuple[Path, NDArray[np.int64], Path]


def fill_in(sample: Path, truth: NDArray[np.int64]) -> None:
    """Label each unit by what is there."""
    building = read_building_sample(sample)[0].building
    label(sample, lambda row: {"reference": GRADES[truth[building[row["unit"] - 1] - 1]]})


def middle_of(graded: geopandas.GeoDataFrame) -> float:
    """A longitude with half of the buildings on each side, and none on it."""
    return float(np.median(shapely.get_x(shapely.centroid(graded.geometry.to_numpy())))) + 1e-7


def row_of(name: str) -> SummaryRow:
    figures = {"affected": 1, "total_in_aoi": 2, "share_percent": 50.0, "features": 1, "features_area_ha": 0.1}
    return {"class": name, "unit": "number", **figures}


@pytest.fixture(scope="module")
def town(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Town:
    """Graded buildings of Joplin, what is there, and a labelled sample."""
    place = tmp_path_factory.mktemp("joplin")
    folder, truth = joplin(shared, place / "damage")
    sample = place / "sample of it.gpkg"
    done = call_cli(["sample", folder, "--out", sample, "--size", "120", "--least", "8", "--sure", "75", "--images", "post.tif"])
    assert done.returncode == 0, done.stderr
    assert "destroyed, unsure" in done.stdout
    assert shlex.split(done.stdout.rpartition("then: ")[2]) == ["geoseg", "area", "--map", str(folder), "--sample", str(sample)]
    return folder, truth, sample


@pytest.fixture(scope="module")
def labelled(town: Town) -> Town:
    fill_in(town[2], town[1])
    return town


def test_units_are_buildings_of_each_grade_and_confidence(town: Town) -> None:
    folder, _, sample = town
    frame, graded = geopandas.read_file(sample, layer="sample"), geopandas.read_file(folder / "buildings.gpkg")
    design = read_building_sample(sample)[0]
    own = graded.set_index("id").loc[design.building]
    assert len(frame) == 120 == len(set(design.building.tolist()))
    assert shapely.equals(frame.geometry.to_numpy(), own.geometry.to_numpy()).all()
    assert (own["code"] < 4).all(), "what was not analysed is not drawn"
    names = np.array([stratum["name"] for stratum in design.facts["strata"]])[design.stratum]
    sure = np.where(own["confidence"] >= 75, "sure", "unsure")
    assert (names == [f"{grade}, {how}" for grade, how in zip(own["class"], sure, strict=True)]).all()
    for stratum in design.facts["strata"]:
        grade, how = stratum["name"].rsplit(", ", 1)
        same = graded[(graded["class"] == grade) & ((graded["confidence"] >= 75) == (how == "sure"))]
        assert (stratum["size"], stratum["units"]) == (len(same), int((names == stratum["name"]).sum()))
        assert stratum["units"] >= min(8, stratum["size"])
    # Those who label see neither the grade nor the stratum.
    assert set(frame.columns) == {"unit", "reference", "second", "sure", "note", "image_1", "geometry"}


def test_numbers_stand_beside_counts_with_intervals_that_hold_the_truth(labelled: Town, tmp_path: Path) -> None:
    folder, truth, sample = labelled
    graded = geopandas.read_file(folder / "buildings.gpkg")
    west, middle, east = graded.total_bounds[0], middle_of(graded), graded.total_bounds[2]
    low, high = graded.total_bounds[1], graded.total_bounds[3]
    halves = [shapely.box(west, low, middle, high), shapely.box(middle, low, east, high), shapely.box(-95, 36, -94.9, 36.1)]
    zones = geopandas.GeoDataFrame({"name": ["west", "east", "far"]}, geometry=halves, crs="EPSG:4326").to_crs(32615)
    zones.to_file(tmp_path / "zones.gpkg")
    out, table = tmp_path / "numbers.json", tmp_path / "numbers.csv"
    done = call_cli(
        ["area", "--map", folder, "--sample", sample, "--zones", tmp_path / "zones.gpkg", "--out", out, "--table", table]
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(out.read_text())
    assert f"Zone 1, west: {document['zones'][0]['buildings']} buildings, " in done.stdout
    known, mapped = truth >= 0, graded["code"].to_numpy()
    assert (document["buildings"], document["not_analysed"]) == (known.sum(), (~known).sum())
    assert document["units"] == 120 == np.sum(document["error_matrix"]["counts"])
    inside = shapely.get_x(shapely.centroid(graded.geometry.to_numpy())) < middle
    west_east = zip(document["zones"][:2], (known & inside, known & ~inside), strict=True)
    for zone, there in (({"by_class": document["by_class"]}, known), *west_east):
        for k, row in enumerate(zone["by_class"]):
            number, true = row["number"], int((truth[there] == k).sum())
            assert row["counted"] == (mapped[there] == k).sum()
            # One sample of many: wider than the interval.
            assert abs(number["value"] - true) < 3.5 * max(number["se"], 1)
            assert 0 <= number["low"] <= number["value"] <= number["high"] <= there.sum()
        assert sum(row["number"]["value"] for row in zone["by_class"]) == pytest.approx(there.sum())
    right = (mapped[known] == truth[known]).mean()
    assert abs(document["overall_accuracy"]["value"] - right) < 3.5 * document["overall_accuracy"]["se"]
    far = document["zones"][2]
    assert (far["buildings"], far["units"], far["facts"]["name"]) == (0, 0, "far")
    assert all(row["number"]["value"] is None for row in far["by_class"])
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 4
    assert {row["number"] for row in rows if row["zone"] == "3"} == {""}


def test_the_page_tells_what_the_document_tells(labelled: Town, tmp_path: Path) -> None:
    folder, _, sample = labelled
    graded = geopandas.read_file(folder / "buildings.gpkg")
    left, low, right, high = graded.total_bounds
    middle, odd = middle_of(graded), '<b>"öst"</b> & 東'
    shapes = [shapely.box(left, low, middle, high), shapely.box(middle, low, right, high), shapely.box(-95, 36, -94.9, 36.1)]
    frame = geopandas.GeoDataFrame({"people": [1.5, 20.0, None], "name": ["west", odd, "far"]}, geometry=shapes, crs=4326)
    frame.to_file(tmp_path / "zones ü.gpkg")
    out, page_file, table = (tmp_path / f"p ü.{kind}" for kind in ("json", "html", "csv"))
    args = ["area", "--map", folder, "--sample", sample, "--zones", tmp_path / "zones ü.gpkg", "--out", out, "--page", page_file]
    done = call_cli([*args, "--table", table])
    assert done.returncode == 0, done.stderr
    document, page = json.loads(out.read_text(encoding="utf-8")), read_page(page_file)
    # A block by grade in all and in each zone, in the order of the document.
    parts = [document["by_class"], *(zone["by_class"] for zone in document["zones"])]
    for k, grade in enumerate(GRADES):
        cells = [row for row in page.rows if row[0] == grade and len(row) == 4]
        assert len(cells) == len(parts)
        for row, part in zip(cells, parts, strict=True):
            number = part[k]["number"]
            ends = "-" if number["low"] is None else f"{number['low']:,.0f} to {number['high']:,.0f}"
            value = "-" if number["value"] is None else f"{number['value']:,.0f}"
            assert row[1:] == [value, ends, f"{part[k]['counted']:,}"]
    # A zone without a unit has no interval to draw.
    assert len(page.all("svg")) == 3
    parts_of = "".join(page.text.split()).split("Zone")[1:]
    columns = zip(("west", odd, "far"), ("people1.5", "people20", ""), strict=True)
    for told, zone, (name, people) in zip(parts_of, document["zones"], columns, strict=True):
        assert told.startswith("".join(f"{zone['zone']},{name}Buildings{zone['buildings']}Units{zone['units']}".split()))
        assert people in told
        assert ("people" in told) == bool(people)
    again = call_cli([*args, "--table", table])
    assert again.returncode == 2
    assert "is there already; use --overwrite" in again.stderr
    known = page_file.read_bytes()
    assert call_cli([*args, "--table", table, "--overwrite"]).returncode == 0
    assert page_file.read_bytes() == known
    # Python gives what the command writes.
    assert geoseg.area(str(folder), sample, zones=tmp_path / "zones ü.gpkg") == document
    # Of very many zones the page shows some, and says so.
    document["zones"] = [{**document["zones"][0], "zone": k + 1} for k in range(MOST_ZONES + 9)]
    assert len(numbers_page(document).sections) < MOST_ZONES + 9
    assert f"{MOST_ZONES} of {MOST_ZONES + 9} zones" in str(numbers_page(document).sections[0])


def test_zones_that_are_no_polygons_are_refused(labelled: Town, tmp_path: Path) -> None:
    folder, _, sample = labelled
    for name, shapes, told in (
        ("points", [shapely.box(0, 0, 1, 1), shapely.Point(0, 0)], "feature 2 is a Point; zones are polygons"),
        ("none", [], "holds no polygons"),
    ):
        geopandas.GeoDataFrame(geometry=shapes, crs=4326).to_file(tmp_path / f"{name}.gpkg")
        with pytest.raises(ConfigError, match=told):
            estimate(str(folder), sample, zones=tmp_path / f"{name}.gpkg")


def test_other_grades_of_the_same_buildings_have_their_accuracy_from_the_sample(labelled: Town, tmp_path: Path) -> None:
    folder, truth, sample = labelled
    meta, _, wkb, values = pyogrio.raw.read(folder / "buildings.gpkg", layer="buildings")
    columns = dict(zip(meta["fields"], values, strict=True))
    columns["code"] = np.where(truth < 0, 254, truth).astype(np.int16)
    columns["class"] = np.array([GRADES[c] if c < 4 else "not analysed" for c in columns["code"]], object)

    def write(name: str, keep: NDArray[np.bool_]) -> Path:
        (tmp_path / name).mkdir()
        pyogrio.raw.write(
            tmp_path / name / "buildings.gpkg",
            wkb[keep],
            [column[keep] for column in columns.values()],
            list(columns),
            layer="buildings",
            geometry_type="Unknown",
            crs="EPSG:4326",
            driver="GPKG",
        )
        return tmp_path / name

    better = estimate(str(write("better", np.ones(len(truth), bool))), sample)
    assert (better["same_map"], better["overall_accuracy"]["value"]) == (False, 1.0)
    with pytest.raises(ConfigError, match="has graded other buildings"):
        estimate(str(write("fewer", np.arange(len(truth)) > 0)), sample)


def test_what_is_no_labelled_sample_of_buildings_is_one_sentence(town: Town, labelled: Town, tmp_path: Path) -> None:
    folder, _, sample = labelled
    fresh = tmp_path / "fresh.gpkg"
    draw(str(folder), fresh, SampleSettings(size=60, least=4))
    with pytest.raises(ConfigError, match="60 of 60 units have no label"):
        estimate(str(folder), fresh)
    changed = broken(sample, tmp_path / "changed.gpkg", "UPDATE design SET building = building + 1 WHERE unit = 1")
    with pytest.raises(ConfigError, match="were changed since the units were drawn"):
        estimate(str(folder), changed)
    gone = broken(sample, tmp_path / "gone.gpkg", "DELETE FROM sample WHERE unit = 3")
    with pytest.raises(ConfigError, match="1 unit is gone"):
        estimate(str(folder), gone)
    with pytest.raises(ConfigError, match="give the output folder of geoseg damage"):
        estimate("classes.tif", sample)
    with pytest.raises(ConfigError, match="units are the buildings themselves"):
        draw(str(folder), tmp_path / "x.gpkg", SampleSettings(size=60, block=20))
    with pytest.raises(ConfigError, match="'ruin' is no stratum: no damage, minor damage"):
        draw(str(folder), tmp_path / "x.gpkg", SampleSettings(size=60, expected={"ruin": 0.5}))
    assert not (tmp_path / "x.gpkg").exists()


def test_the_same_seed_draws_the_same_buildings(town: Town, tmp_path: Path) -> None:
    for name in ("one", "two"):
        draw(str(town[0]), tmp_path / f"{name}.gpkg", SampleSettings(size=60, least=4, seed=7))
    assert (tmp_path / "one.gpkg").read_bytes() == (tmp_path / "two.gpkg").read_bytes()
    draw(str(town[0]), tmp_path / "three.gpkg", SampleSettings(size=60, least=4, seed=8))
    found = [set(read_building_sample(tmp_path / f"{name}.gpkg")[0].building.tolist()) for name in ("one", "three")]
    assert found[0] != found[1]


def test_a_delivery_has_the_numbers_of_its_area_of_interest(labelled: Town, tmp_path: Path) -> None:
    folder, truth, sample = labelled
    graded = geopandas.read_file(folder / "buildings.gpkg")
    left, low, _, high = graded.total_bounds
    middle = middle_of(graded)
    aoi = tmp_path / "aoi.gpkg"
    geopandas.GeoDataFrame(geometry=[shapely.box(left, low, middle, high)], crs="EPSG:4326").to_file(aoi)
    done = deliver(folder, tmp_path / "out", Terms(event="Tornado", date="2011-06-10", sample=sample), aoi=aoi)
    with (done.folder / "summary.csv").open(encoding="utf-8") as file:
        rows = {row["class"]: row for row in csv.DictReader(file)}
    inside = (shapely.get_x(shapely.centroid(graded.geometry.to_numpy())) < middle) & (truth >= 0)
    for k, name in enumerate(GRADES):
        row = rows[name]
        assert float(row["low_95"]) <= float(row["estimated"]) <= float(row["high_95"])
        assert abs(float(row["estimated"]) - (truth[inside] == k).sum()) < 2 * (float(row["high_95"]) - float(row["low_95"]))
        assert int(row["affected"]) == (graded["code"].to_numpy()[inside] == k).sum()
    assert sum(float(rows[name]["estimated"]) for name in GRADES) == pytest.approx(inside.sum(), abs=0.1)
    assert rows["not analysed"]["estimated"] == ""
    quality = (done.folder / "quality.csv").read_text(encoding="utf-8")
    assert "Overall accuracy, buildings drawn at random" in quality
    assert ",120\n" in quality
    assert "n = 120 buildings drawn at random" in (done.folder / "README.txt").read_text(encoding="utf-8")


def test_the_map_sheet_rounds_an_interval_once() -> None:
    """67.46 is 67 of whole buildings; by way of 67.5 of the table it would be 68."""
    number = Number(value=26.96, se=20.1, low=26.51, high=67.46, units=12)
    exact = Estimates({"destroyed": number}, Measured("Overall accuracy", 0.9, (0.8, 1.0), 12, "buildings")).beside(
        [row_of("destroyed"), row_of("area of interest")]
    )
    assert [sheet._estimate(row) for row in exact] == ["27 (27-67)", ""]
    assert [[row[key] for key in ("estimated", "low_95", "high_95")] for row in in_tenths(exact)] == [
        [27.0, 26.5, 67.5],
        [None, None, None],
    ]
    assert in_tenths([row_of("destroyed")]) == [row_of("destroyed")]


def test_facts_of_the_design_are_hidden_from_layers(town: Town) -> None:
    with sqlite3.connect(town[2]) as connection:
        kinds = dict(connection.execute("SELECT table_name, data_type FROM gpkg_contents"))
    connection.close()
    assert kinds["sample"] == "features"
    assert kinds["design"] == kinds["design_facts"] == "attributes"
