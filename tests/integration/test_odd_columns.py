"""Columns of vector files that are not as expected: beside ours, of any type, rounded, as scores; and their CRS."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import geopandas
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import pytest
import shapely
from vector_files import BOX, UTM, frame, geo, square_map

from geoseg.scenes.scene import OpenOptions
from geoseg.vectors.polygon_file import PolygonFile
from pipeline.evaluate.match import match_files
from pipeline.evaluate.settings import MatchOptions
from pipeline.files.class_rasters import open_class_raster
from pipeline.summarize.zones import areas_by_zone, write_zones
from tests.support import call_cli

ENGINEERING = 'ENGCRS["site",EDATUM["d"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["metre",1]]'


def test_a_crs_without_relation_to_the_map_is_told_before_any_work(class_map: Path, tmp_path: Path) -> None:
    site = tmp_path / "site.gpkg"
    frame().set_crs(ENGINEERING, allow_override=True).to_file(site)
    frame().to_file(tmp_path / "t.gpkg")
    assert match_files(str(site), str(site)).document["figures"]["f1"] == 1
    commands: tuple[list[Any], ...] = (
        ["match", site, tmp_path / "t.gpkg"],
        ["evaluate", "--pred", class_map, "--truth", site, "--column", "class", "--out", tmp_path / "ev"],
        ["deforestation", class_map, copied(class_map), "--model", "amazon-forest", "--zones", site, "--out", tmp_path / "out"],
    )
    for command in commands:
        done = call_cli(command)
        assert done.returncode in (1, 2)
        assert "site" in done.stderr
        assert "to one" in done.stderr
        assert done.stderr.count("\n") == 1
    assert not (tmp_path / "ev").exists()
    assert not (tmp_path / "out").exists()


def copied(path: Path) -> Path:
    return Path(shutil.copy(path, path.with_name("later.tif")))


# Columns.


@pytest.fixture
def class_map(tmp_path: Path) -> Path:
    return square_map(tmp_path / "map.tif", class_0="other", class_1="forest")


COLUMNS: dict[str, tuple[list[Any], str, list[Any]]] = {
    "zone": (["R1", "R2"], "zone_2", ["R1", "R2"]),
    "ZONE": (["R1", "R2"], "ZONE_2", ["R1", "R2"]),
    "Forest_HA": ([1.5, 2.5], "Forest_HA_2", [1.5, 2.5]),
    "NOT_ANALYSED_ha": ([1, 2], "NOT_ANALYSED_ha_2", [1, 2]),
    "fid": ([7, 9], "fid_2", [7, 9]),
    "geom": (["x", "y"], "geom_2", ["x", "y"]),
    "Geometry": (["x", "y"], "Geometry_2", ["x", "y"]),
    "id": ([2**60 + 1, 2**53 + 1], "id", [2**60 + 1, 2**53 + 1]),
    "id with none": ([2**60 + 1, None], "id with none", [2**60 + 1, None]),
    "unsigned": ([2**64 - 1, 3], "unsigned", [str(2**64 - 1), "3"]),
    "truth": ([True, False], "truth", [True, False]),
    "list": ([[1, 2], [3]], "list", ["[1, 2]", "[3]"]),
    "ratio": ([0.1, None], "ratio", [0.1, None]),
    "nothing": ([None, None], "nothing", [None, None]),
    "S\u00e3o": (["\u6771\u4eac", "=1+1"], "S\u00e3o", ["\u6771\u4eac", "=1+1"]),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_of_zones_stay_beside_ours_and_none_is_rounded(name: str, class_map: Path, tmp_path: Path) -> None:
    given, new, expected = COLUMNS[name]
    kind = pa.uint64() if name == "unsigned" else None
    shapes = pa.array([BOX.wkb, shapely.box(500_000, 5_399_500, 500_050, 5_399_550).wkb])
    table = pa.table({name: pa.array(given, kind), "shape": shapes}).replace_schema_metadata(geo("WKB", "shape"))
    pq.write_table(table, tmp_path / "z.parquet")
    zones = areas_by_zone(open_class_raster(str(class_map), OpenOptions())[0], str(tmp_path / "z.parquet"))
    _, layer = write_zones(zones, {0: "other", 1: "forest"}, tmp_path / "out", PolygonFile.open(tmp_path / "z.parquet").crs)
    meta, _, _, values = pyogrio.raw.read(layer)
    with closing(sqlite3.connect(layer)) as connection:
        quoted = new.replace('"', '""')
        found = [row[0] for row in connection.execute(f'SELECT "{quoted}" FROM zones')]
    assert found == expected
    areas = dict(zip(meta["fields"], values, strict=True))
    assert areas["zone"].tolist() == [1, 2]
    # 20 x 20 pixels of 10 m; UTM stretches lengths by 0.9996 at its middle.
    assert areas["forest_ha"][0] == pytest.approx(4 / 0.9996**2, rel=1e-6)


def test_names_that_differ_in_case_alone_are_all_kept(class_map: Path, tmp_path: Path) -> None:
    lonlat = geopandas.GeoSeries([BOX], crs=UTM).to_crs(4326)[0]
    feature = {
        "type": "Feature",
        "properties": {"Name": "a", "NAME": "b", "name": "c", "": "d"},
        "geometry": shapely.geometry.mapping(lonlat),
    }
    (tmp_path / "z.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    zones = areas_by_zone(open_class_raster(str(class_map), OpenOptions())[0], str(tmp_path / "z.geojson"))
    table, layer = write_zones(zones, {0: "other", 1: "forest"}, tmp_path / "out", PolygonFile.open(tmp_path / "z.geojson").crs)
    assert table.read_text().startswith("zone,Name,NAME_2,name_3,")
    found = geopandas.read_file(layer)
    assert found[["Name", "NAME_2", "name_3"]].iloc[0].tolist() == ["a", "b", "c"]


def test_whole_numbers_that_a_driver_has_rounded_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lonlat = geopandas.GeoSeries([BOX], crs=UTM).to_crs(4326)[0]
    feature = {"type": "Feature", "properties": {"big": 2**64 - 1, "id": 2**60 + 1}, "geometry": shapely.geometry.mapping(lonlat)}
    (tmp_path / "z.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    ((_, values),) = PolygonFile.open(tmp_path / "z.geojson").batches(("big", "id"))
    assert values["id"] == [2**60 + 1]
    assert "column 'big' holds numbers such as 18446744073709551616, of which only about 16 digits are kept" in caplog.text
    assert "'id'" not in caplog.text


SCORES = {
    "numbers as text": (["0.25", " 0.93 "], None),
    "truth values": ([False, True], None),
    "some missing": ([None, 0.5], None),
    "blank text": (["", "0.5"], None),
    "words": (["high", "low"], "column 'score' holds 'high', which is no number; --score names the column"),
    "dates": (["2024-05-01", "2024-06-01"], "column 'score' holds '2024-05-01', which is no number"),
    "lists": ([[0.5], [0.6]], "column 'score' holds '[0.5]', which is no number"),
    "infinity": (["inf", "0.5"], "column 'score' holds inf, which is no finite number"),
    "all missing": ([None, None], None),
}


@pytest.mark.parametrize("kind", SCORES)
def test_scores_of_any_type_are_numbers_or_told(kind: str, tmp_path: Path) -> None:
    values, sentence = SCORES[kind]
    shapes = [BOX, shapely.box(500_400, 5_399_700, 500_500, 5_399_900)]
    table = pa.table({"score": pa.array(values), "geometry": pa.array([shape.wkb for shape in shapes])}).replace_schema_metadata(
        geo("WKB")
    )
    pq.write_table(table, tmp_path / "f.parquet")
    done = call_cli(["match", tmp_path / "f.parquet", tmp_path / "f.parquet"])
    if sentence is None:
        assert done.returncode == 0, done.stderr
        assert "f1 1.0000" in done.stdout
    else:
        assert done.returncode == 2
        assert sentence in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("kind", [[1, 2], [1.0, 2.0], ["1", "2"], [1, None]])
def test_classes_are_chosen_by_number_in_columns_of_any_type(kind: list[Any], tmp_path: Path) -> None:
    shapes = [BOX, shapely.box(500_400, 5_399_700, 500_500, 5_399_900)]
    table = pa.table({"class": pa.array(kind), "geometry": pa.array([shape.wkb for shape in shapes])}).replace_schema_metadata(
        geo("WKB")
    )
    pq.write_table(table, tmp_path / "f.parquet")
    found = match_files(str(tmp_path / "f.parquet"), str(tmp_path / "f.parquet"), MatchOptions(classes=["1"])).document["figures"]
    assert (found["found"], found["truth"], found["matched"]) == (1, 2, 1)
