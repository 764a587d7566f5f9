"""What a delivery says beside its figures: status, event, sensors, contact, quality, warnings, surroundings, STAC item."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio.raw
import pyproj
import pystac
import pytest
import rasterio
import shapely
from pages import read_page

import geoseg
from geoseg.errors import ConfigError
from pipeline.config.delivering import DeliveryConfig
from pipeline.deliver.extents import extents_of
from pipeline.deliver.result import read_result
from pipeline.deliver.roads_and_places import surroundings_of
from pipeline.deliver.run import deliver
from pipeline.deliver.statement import statement
from pipeline.deliver.terms import Terms
from tests.graded import joplin
from tests.support import call_cli

WARNINGS = ["post.tif says no date of acquisition", "the images are unlike those of its training"]
EVENT = {"labels": 120, "folds": 5, "macro_f1": 0.71, "macro_f1_95": [0.63, 0.78], "accuracy": 0.8}
REPORT = {"warnings": WARNINGS, "event_model": {"cross_validated": EVENT}}
FACTS = """
[delivery]
status = "draft"
event_time = "2011-05-22T22:34Z"
image_times = ["unknown", "2011-06-09T17:05Z"]
sensors = ["WorldView-2", "unknown"]
providers = ["Maxar", "Maxar"]
contact = ["Mapping unit", "maps@example.org"]
"""


@pytest.fixture(scope="module")
def graded(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return joplin(shared, tmp_path_factory.mktemp("facts") / "damage", report=REPORT)[0]


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with next(folder.glob(f"*{name}*.csv")).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def layer(folder: Path, name: str) -> dict[str, Any]:
    meta, _, _, values = pyogrio.raw.read(next(folder.glob("*delivery*.gpkg")), layer=name)
    return dict(zip(meta["fields"], values, strict=True))


def test_a_file_of_settings_and_the_command_line_say_who_when_and_how_well(graded: Path, tmp_path: Path) -> None:
    facts, out = tmp_path / "facts.toml", tmp_path / "out"
    facts.write_text(FACTS)
    named = ["--code", "EMSR999", "--aoi-id", "AOI01", "--product", "GRA", "--producer", "An agency", "--date", "2011-06-10"]
    done = call_cli(["deliver", graded, "--out", out, "--event", "Tornado", *named, "--config", facts, "--status", "final"])
    assert done.returncode == 0, done.stderr
    assert all(warning in done.stderr for warning in WARNINGS)
    rows = table(out, "quality")
    said = {topic: [row["text"] for row in rows if row["topic"] == topic] for topic in {row["topic"] for row in rows}}
    assert said["status"] == ["final"], "the command line counts more than the file"
    assert said["event time"] == ["2011-05-22T22:34Z"]
    assert said["contact"] == ["Mapping unit", "maps@example.org"]
    assert said["warning"] == WARNINGS
    (f1,) = [row for row in rows if row["text"].startswith("Macro F1")]
    assert [float(f1[key]) for key in ("value", "low_95", "high_95", "n")] == [0.71, 0.63, 0.78, 120]
    source = layer(out, "source")
    assert source["sensor"][:2].tolist() == ["WorldView-2", "unknown"]
    assert source["provider"][:2].tolist() == ["Maxar", "Maxar"]
    assert source["src_date"][:2].tolist() == ["2010-06-01", "2011-06-09T17:05Z"]
    assert layer(out, "areaOfInterest")["event_time"].tolist() == ["2011-05-22T22:34Z"]
    readme = (out / "README.txt").read_text(encoding="utf-8")
    page = read_page(next(out.glob("*summary*.html"))).text
    for text in ("Macro F1 0.71 (95 % 0.63 to 0.78), n = 120", *WARNINGS, "maps@example.org", "2011-05-22T22:34Z", "final"):
        assert text in readme
        assert text in page

    item = pystac.Item.from_file(str(next(out.glob("*item*.json"))))
    assert item.id == "EMSR999_AOI01_v1"
    assert item.properties["start_datetime"] == "2010-06-01T00:00:00Z"
    assert item.properties["datetime"] == item.properties["end_datetime"] == "2011-06-09T17:05:00Z"
    assert item.properties["geoseg:warnings"] == WARNINGS
    assert [one["name"] for one in item.properties["providers"]] == ["Maxar", "An agency"]
    files = {path.name for path in out.iterdir()}
    assert {asset.href.removeprefix("./") for asset in item.assets.values()} <= files
    assert {Path(name).suffix for name in item.assets} >= {".gpkg", ".geojson", ".pdf", ".png", ".csv", ".tif", ".html"}
    area = geopandas.read_file(next(out.glob("*areaOfInterest*.geojson"))).geometry.iloc[0]
    outline = shapely.geometry.shape(item.geometry)
    assert shapely.is_valid(outline)
    assert shapely.area(shapely.symmetric_difference(outline, area)) < 1e-3 * shapely.area(area)
    assert np.allclose(item.bbox, shapely.bounds(area), atol=2e-6)


def test_the_sheet_says_what_was_measured_and_then_the_gravest_warning(graded: Path, shared: Path, tmp_path: Path) -> None:
    lines = statement(read_result(graded))
    assert lines[0].startswith("Macro F1 0.71 (95 % 0.63 to 0.78), n = 120 buildings of this event")
    assert lines[1:] == (f"Warning: {WARNINGS[1]}", f"Warning: {WARNINGS[0]}")
    bare = statement(read_result(joplin(shared, tmp_path / "bare")[0]))
    assert len(bare) == 1
    assert "not stated" in bare[0]


def test_python_takes_the_same_settings(graded: Path, tmp_path: Path) -> None:
    more = {"sensors": ["A", "B"], "contact": ["x"], "code": "EMSR999", "aoi_id": "AOI01", "product": "DEL", "version": 2}
    done = geoseg.deliver(graded, out=tmp_path / "out", event="Tornado", date="2011-06-10", status="corrected", **more)
    assert "EMSR999_AOI01_DEL_PRODUCT_builtUp_v2.geojson" in done.files
    assert layer(done.folder, "source")["sensor"][:2].tolist() == ["A", "B"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sensors": ("one",)}, "1 values, and the result has 2 images: pre.tif, post.tif"),
        ({"roads": "places.geojson"}, "holds no lines"),
        ({"places": "places.geojson", "place_column": "town"}, "has no column 'town'; it has name"),
        ({"roads": "nowhere.gpkg"}, "no such file"),
    ],
)
def test_what_does_not_fit_is_one_sentence(graded: Path, tmp_path: Path, given: dict[str, Any], message: str) -> None:
    places = tmp_path / "places.geojson"
    geopandas.GeoDataFrame({"name": ["Joplin"]}, geometry=[shapely.Point(-94.504, 37.064)], crs="EPSG:4326").to_file(places)
    paths = {key: str(tmp_path / value) if key in ("roads", "places") else value for key, value in given.items()}
    with pytest.raises(ConfigError, match=message):
        deliver(graded, tmp_path / "out", Terms(event="Tornado", date="2011-06-10", given=DeliveryConfig(**paths)))
    assert not (tmp_path / "out").exists()


def test_places_that_are_no_points_are_named_at_a_point_within_and_told(
    graded: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result = read_result(graded)
    extents = extents_of(result, None)
    middle = shapely.Point(-94.504, 37.064)
    for name, shapes in (("points", [middle, middle]), ("towns", [middle, middle.buffer(0.001)])):
        path = tmp_path / f"{name}.gpkg"
        geopandas.GeoDataFrame({"name": ["Joplin", "Duquesne"]}, geometry=shapes, crs="EPSG:4326").to_file(path)
        caplog.clear()
        found = surroundings_of(DeliveryConfig(places=str(path)), result, extents).places
        assert [place for place, _ in found] == ["Joplin", "Duquesne"]
        told = [f"places: 1 of {path} are no points; the name of each stands at a point within it"] if name == "towns" else []
        assert caplog.messages == told


def test_times_that_are_none_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"delivery\.event_time: 'noon' is no time"):
        DeliveryConfig.read(None, {"event_time": "noon"})
    with pytest.raises(ConfigError, match=r"delivery\.sensor"):
        DeliveryConfig.read(None, {"sensor": "x"})


def test_roads_and_places_change_the_map_and_are_named(graded: Path, tmp_path: Path) -> None:
    """Roads in another CRS, places and borders: the map has other pixels where they are, and the sheet says whose they are."""
    roads, places, borders = (tmp_path / f"{name}.gpkg" for name in ("roads", "places", "borders"))
    street = shapely.LineString([(-94.51, 37.0637), (-94.498, 37.0637)])
    geopandas.GeoDataFrame(geometry=[street], crs="EPSG:4326").to_crs(3857).to_file(roads)
    geopandas.GeoDataFrame({"name": ["Joplin $x_1$"]}, geometry=[shapely.Point(-94.504, 37.064)], crs="EPSG:4326").to_file(places)
    geopandas.GeoDataFrame(geometry=[shapely.box(-125, 25, -67, 49)], crs="EPSG:4326").to_file(borders)
    found = []
    for number, given in enumerate(
        (DeliveryConfig(), DeliveryConfig(roads=str(roads), places=str(places), borders=str(borders)))
    ):
        done = deliver(graded, tmp_path / f"out{number}", Terms(event="Tornado", date="2011-06-10", given=given))
        with rasterio.open(done.folder / "map.png") as dataset:
            found.append(dataset.read().astype(int))
    changed = np.abs(found[0] - found[1]).max(axis=0) > 60
    _, width = changed.shape
    page_mm = width / 297
    frame = changed[: int(168 * page_mm), : int(212 * page_mm)]
    rows = np.flatnonzero(frame.mean(axis=1) > 0.4)
    assert 0 < len(rows) <= 8, "the street is a line from left to right"
    assert changed[int(10 * page_mm) : int(42 * page_mm), int(180 * page_mm) : int(212 * page_mm)].any(), "the locator"
    assert 0.001 < changed.mean() < 0.05


def test_the_area_of_interest_closes(graded: Path, shared: Path, tmp_path: Path) -> None:
    """What all images show and what they don't add up to all of it, beyond their edge, too."""
    with rasterio.open(shared / "data" / "joplin_damage" / "post.tif") as dataset:
        corners = [dataset.transform @ corner for corner in ((0, 0), (2048, 0), (2048, 1024), (0, 1024))]
    left, bottom, _, top = shapely.bounds(shapely.Polygon(corners))
    aoi = tmp_path / "aoi.gpkg"
    area = shapely.box(left - 0.004, bottom + 0.001, left + 0.005, top + 0.002)
    geopandas.GeoDataFrame(geometry=[area], crs="EPSG:4326").to_file(aoi)
    done = deliver(graded, tmp_path / "out", Terms(event="Tornado", date="2011-06-10"), aoi=aoi)
    rows = {row["class"]: float(row["affected"]) for row in table(done.folder, "summary") if row["unit"] == "ha"}
    geod = pyproj.Geod(ellps="WGS84")
    whole = abs(geod.geometry_area_perimeter(area)[0]) / 1e4
    assert rows["area of interest"] == pytest.approx(whole, rel=1e-4)
    assert rows["area shown by all images"] + rows["outside of the images"] == pytest.approx(whole, rel=1e-5)
    assert rows["outside of the images"] > 0.3 * whole
    gaps = layer(done.folder, "notAnalysed")
    outside = gaps["area_ha"][gaps["reason"] == "outside of the images"].sum()
    assert outside == pytest.approx(rows["outside of the images"], rel=1e-4)
    assert json.loads((done.folder / "item.json").read_text())["properties"]["title"] == "Tornado"
