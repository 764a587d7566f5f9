"""Deliveries: layers within the area of interest, sums that add up, files that open, the same bytes again."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
import sqlite3
import xml.etree.ElementTree as ET
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyogrio.raw
import pyproj
import pytest
import rasterio
import shapely
from pages import read_page
from support import call_cli, patchy, save

from geoseg.errors import ConfigError, OutputError
from pipeline.changes.run import map_changes, pair_of
from pipeline.config.sections import Config
from pipeline.deliver.run import deliver
from pipeline.deliver.terms import Terms

LAYERS = ("source", "areaOfInterest", "imageFootprint", "notAnalysed", "observedEvent")
TURNED = rasterio.Affine(10.0, 2.0, 430_000.0, 2.0, -10.0, 8_930_000.0)
TERMS = Terms(event="Forest loss", code="EMSR999", date="2024-05-31")


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forest loss between two small scenes on a rotated grid, with a corner of no data."""
    torch = pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("loss")
    network = torch.nn.Conv2d(1, 2, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1))
        network.bias.copy_(torch.tensor([100.0, -100.0]))
    names = [{"value": 0, "name": "other", "color": "#eeeeaa"}, {"value": 1, "name": "forest", "color": "#227722"}]
    model = save(network, 1, 2, folder / "model", classes=names)
    before = np.where(patchy(300, 400, 2, 1, 6.0) > 0, 180, 20).astype(np.uint8)
    after = np.where(patchy(300, 400, 2, 2, 9.0) > 0, before, 20).astype(np.uint8)
    before[:60, :80] = 0
    after[:60, :80] = 0
    for name, array in (("2013-01-01", before), ("2023-01-01", after)):
        with rasterio.open(
            folder / f"{name}.tif",
            "w",
            driver="GTiff",
            count=1,
            height=300,
            width=400,
            dtype="uint8",
            crs="EPSG:32720",
            transform=TURNED,
            nodata=0,
            tiled=True,
            blockxsize=64,
            blockysize=64,
        ) as dataset:
            dataset.write(array, 1)
            dataset.update_tags(ACQUISITIONDATETIME=name)
    config = Config.parse({"dates": {"acquired": ["2013-01-01", "2023-01-01"], "coregister": "off"}})
    done = map_changes(pair_of([str(folder / "2013-01-01.tif"), str(folder / "2023-01-01.tif")]), model, config, folder / "out")
    assert done.report.status == "done", done.report.reason
    return done.folder


def read(path: Path, layer: str | None = None) -> tuple[Any, dict[str, Any], Any]:
    meta, _, wkb, values = pyogrio.raw.read(path, layer=layer)
    shapes = None if wkb is None else shapely.from_wkb(wkb)
    return shapes, dict(zip(meta["fields"], values, strict=True)), meta["crs"]


def rows_of(folder: Path) -> dict[str, dict[str, Any]]:
    (path,) = folder.glob("*summary.csv")
    with path.open(encoding="utf-8") as file:
        return {row["class"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def aoi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A box in degrees that reaches over the upper left corner of the scene."""
    path = tmp_path_factory.mktemp("aoi") / "aoi.geojson"
    to = pyproj.Transformer.from_crs(32720, 4326, always_xy=True)
    (left, bottom), (right, top) = to.transform(429_500, 8_928_200), to.transform(432_200, 8_930_400)
    box = shapely.geometry.mapping(shapely.box(left, bottom, right, top))
    path.write_text(
        json.dumps({"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {}, "geometry": box}]})
    )
    return path


def test_a_delivery_is_whole(mapped, aoi, tmp_path):
    done = deliver(mapped, tmp_path / "out", TERMS, aoi=aoi, as_zip=True)
    folder = done.folder
    package = folder / "EMSR999_delivery.gpkg"
    assert {str(name) for name, _ in pyogrio.list_layers(package)} == {*LAYERS, "layer_styles"}
    with closing(sqlite3.connect(package)) as connection:
        styled = connection.execute("SELECT f_table_name, f_geometry_column FROM layer_styles ORDER BY 1").fetchall()
        assert styled == connection.execute("SELECT table_name, column_name FROM gpkg_geometry_columns ORDER BY 1").fetchall()
        assert {kind for (kind,) in connection.execute("SELECT geometry_type_name FROM gpkg_geometry_columns")} == {
            "MULTIPOLYGON"
        }
    area = read(package, "areaOfInterest")[0][0]
    grown = shapely.buffer(area, 0.05)
    for layer in LAYERS:
        shapes, _, crs = read(package, layer)
        of_file, _, crs_of_file = read(folder / f"EMSR999_{layer}.geojson")
        if layer == "source":
            continue
        assert crs == "EPSG:32720"
        assert pyproj.CRS.from_user_input(crs_of_file).to_epsg() in (4326, None)
        assert len(of_file) == len(shapes) > 0
        assert shapely.is_valid(shapes).all()
        assert shapely.is_valid(of_file).all()
        assert (np.abs(shapely.total_bounds(of_file)) <= 180).all()
        if layer != "imageFootprint":
            assert shapely.covers(grown, shapes).all()
    _, sources, _ = read(package, "source")
    assert sources["source_nam"][:2].tolist() == ["2013-01-01.tif", "2023-01-01.tif"]
    assert sources["src_date"][:2].tolist() == ["2013-01-01", "2023-01-01"]
    assert sources["sensor_gsd"][0] == pytest.approx(10.2, abs=0.05)

    # Sums: of the table, of the layers, and of the pixels.
    rows = rows_of(folder)
    _, events, _ = read(package, "observedEvent")
    assert set(events["class"]) <= {"forest loss", "forest gain"}
    for name in set(events["class"]):
        chosen = events["class"] == name
        assert events["area_m2"][chosen].sum() / 1e4 == pytest.approx(float(rows[name]["features_area_ha"]), abs=1e-3)
        assert float(rows[name]["features_area_ha"]) == pytest.approx(float(rows[name]["affected"]), rel=0.02)
    assert events["clipped"].any()
    _, gaps, _ = read(package, "notAnalysed")
    unknown = sum(float(rows[name]["affected"]) for name in ("not analysed", "no data", "outside of the images"))
    assert {"outside of the images"} < set(gaps["reason"])
    assert gaps["area_ha"].sum() == pytest.approx(unknown, rel=1e-3)
    whole = float(rows["area of interest"]["affected"])
    assert unknown + float(rows["forest loss"]["total_in_aoi"]) == pytest.approx(whole, rel=1e-4)

    # Everything that is there is named, and as its checksum says.
    lines = (folder / "checksums.sha256").read_text().splitlines()
    said = {name: digest for digest, name in (line.split("  ") for line in lines)}
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert said == {name: hashlib.sha256(data).hexdigest() for name, data in files.items() if name != "checksums.sha256"}
    readme = files["README.txt"].decode()
    assert all(name in readme for name in files)
    assert files["EMSR999_map.pdf"].startswith(b"%PDF")
    with rasterio.open(folder / "EMSR999_map.png") as dataset:
        assert dataset.width > dataset.height > 1600
    assert done.zip is not None
    with zipfile.ZipFile(done.zip) as archive:
        assert {Path(name).name for name in archive.namelist()} == set(files)

    (tmp_path / "again").mkdir()
    again = deliver(mapped, tmp_path / "again" / "out", TERMS, aoi=aoi, as_zip=True)
    assert {path.name: path.read_bytes() for path in again.folder.iterdir()} == files
    assert again.zip is not None
    assert again.zip.read_bytes() == done.zip.read_bytes()


def test_without_an_area_of_interest_it_is_where_images_have_data(mapped, tmp_path):
    (tmp_path / "out").mkdir()
    run = call_cli(
        [
            "deliver",
            mapped,
            "--out",
            tmp_path / "out",
            "--event",
            "Loss",
            "--also",
            "shp",
            "--also",
            "fgb",
            "--date",
            "2024-05-31",
        ]
    )
    assert run.returncode == 0, run.stderr
    rows = rows_of(tmp_path / "out")
    events = [read(tmp_path / "out" / f"observedEvent.{kind}")[0] for kind in ("geojson", "shp", "fgb")]
    assert len({len(shapes) for shapes in events}) == 1
    _, columns, _ = read(tmp_path / "out" / "observedEvent.geojson")
    assert not columns["clipped"].any()
    with rasterio.open(mapped / "classes.tif") as dataset:
        codes = dataset.read(1)
    valid = float(rows["forest loss"]["total_in_aoi"])
    assert float(rows["forest loss"]["affected"]) / valid == pytest.approx((codes == 2).sum() / (codes < 254).sum(), rel=1e-3)


def test_clouds_are_a_row_of_their_own_and_the_area_closes(mapped, aoi, tmp_path):
    """What clouds hide is not analysed in the classes, and cloud in the coverage; all hectares add up to the area of interest."""
    folder = tmp_path / "run"
    shutil.copytree(mapped, folder)
    with rasterio.open(folder / "classes.tif", "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
        codes = dataset.read(1)
        codes[60:110, 20:140] = np.where(codes[60:110, 20:140] < 254, 254, codes[60:110, 20:140])
        dataset.write(codes, 1)
        profile = dataset.profile | {"driver": "GTiff", "compress": "deflate"}
    coverage = np.where(codes < 254, 0, codes)
    coverage[60:110, 20:100] = np.where(codes[60:110, 20:100] == 254, 253, coverage[60:110, 20:100])
    with rasterio.open(folder / "coverage.tif", "w", **profile) as target:
        target.write(coverage.astype(np.uint8), 1)
        target.update_tags(geoseg_scene="x")
    rows = rows_of(deliver(folder, tmp_path / "out", TERMS, aoi=aoi).folder)
    hectares = {name: float(row["affected"]) for name, row in rows.items()}
    assert hectares["cloud"] == pytest.approx(2 * hectares["not analysed"], rel=0.05)
    assert hectares["cloud"] > 0
    whole = hectares.pop("area of interest")
    assert sum(hectares.values()) == pytest.approx(whole, rel=1e-5)


def test_wrong_calls_are_one_sentence(mapped, aoi, tmp_path):
    far = tmp_path / "far.geojson"
    box = shapely.geometry.mapping(shapely.box(10, 50, 10.1, 50.1))
    far.write_text(json.dumps({"type": "Feature", "properties": {}, "geometry": box}))
    with pytest.raises(ConfigError, match="does not meet the result"):
        deliver(mapped, tmp_path / "out", TERMS, aoi=far)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="neither buildings nor polygons"):
        deliver(tmp_path, tmp_path / "out", TERMS)
    with pytest.raises(ConfigError, match="'soon' is no date"):
        deliver(mapped, tmp_path / "out", Terms(event="x", date="soon"))
    with pytest.raises(OutputError):
        deliver(mapped, mapped, TERMS)
    with pytest.raises(OutputError, match="would replace the result"):
        deliver(mapped, mapped.parent, Terms(event="x"), overwrite=True)


def buildings(folder: Path, xy: Any, codes: Any, crs: str = "EPSG:32720", names: Any = None) -> Path:
    """A folder of graded buildings of 12 x 12 units around places."""
    folder.mkdir()
    grades = np.array(["no damage", "minor damage", "major damage", "destroyed"], object)
    classes = np.array([grades[c] if c < 4 else "not analysed" for c in codes], object)
    boxes = shapely.box(xy[:, 0] - 6, xy[:, 1] - 6, xy[:, 0] + 6, xy[:, 1] + 6)
    reason = np.array([None if c < 4 else "cloud" for c in codes], object)
    names = np.array([f"b{k}" for k in range(len(codes))] if names is None else names, object)
    pyogrio.raw.write(
        folder / "buildings.gpkg",
        shapely.to_wkb(boxes),
        [np.arange(len(codes)), names, codes, classes, np.full(len(codes), 144.0), reason],
        ["id", "name", "code", "class", "area_m2", "reason"],
        layer="buildings",
        geometry_type="Polygon",
        crs=crs,
        driver="GPKG",
    )
    dates = [{"acquired": day, "source": [f"/nowhere/{day}.tif"]} for day in ("2023-02-01", "2023-02-09")]
    (folder / "damage.json").write_text(json.dumps({"dates": dates, "model": {"name": "m", "version": "1", "sha256": "ab"}}))
    return folder


def test_where_no_building_was_analysed_the_delivery_says_so(tmp_path):
    xy = np.array([[430_000.0, 8_920_000.0], [430_100.0, 8_920_050.0]])
    folder = buildings(tmp_path / "damage", xy, np.full(2, 254, np.int16))
    done = deliver(folder, tmp_path / "out", Terms(event="Flood", date="2023-02-10", also=("fgb", "shp")))
    rows = rows_of(done.folder)
    assert (rows["not analysed"]["affected"], rows["not analysed"]["total_in_aoi"]) == ("2", "2")
    assert "destroyed" not in rows
    shapes, _, _ = read(done.folder / "delivery.gpkg", "observedEvent")
    assert len(shapes) == 0
    gaps, columns, _ = read(done.folder / "delivery.gpkg", "notAnalysed")
    assert len(gaps) == 2
    assert set(columns["reason"]) == {"cloud"}
    assert (done.folder / "map.pdf").stat().st_size > 5_000
    _, cells, _ = read(done.folder / "grid.gpkg", "grid")
    assert (cells["total"].sum(), cells["analysed"].sum()) == (2, 0)
    assert np.isnan(cells["share"]).all()


def test_where_nothing_changed_the_delivery_is_whole(mapped, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(mapped, folder)
    with rasterio.open(folder / "classes.tif", "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
        codes = dataset.read(1)
        dataset.write(np.where(codes < 254, 0, codes).astype(np.uint8), 1)
    with closing(sqlite3.connect(folder / "polygons.gpkg")) as connection, connection:
        for (trigger,) in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'polygons'"
        ).fetchall():
            connection.execute(f'DROP TRIGGER "{trigger}"')
        connection.execute("DELETE FROM polygons")
    done = deliver(folder, tmp_path / "delivery", TERMS)
    rows = rows_of(done.folder)
    assert float(rows["forest loss"]["affected"]) == 0
    assert float(rows["area of interest"]["affected"]) > 0
    shapes, _, _ = read(done.folder / "EMSR999_delivery.gpkg", "observedEvent")
    assert len(shapes) == 0


HOSTILE = "Flood </h1><script>alert('x')</script> & $x_1$ \"q\"\nSources\r\n  évil \u202eback"


def test_texts_stay_texts(tmp_path):
    """Nothing that is said becomes markup, a line of its own, or a formula."""
    xy = np.array([[430_000.0, 8_920_000.0], [430_100.0, 8_920_050.0]])
    names = ["<b>'\"&", "=cmd|' /C calc'!A0"]
    folder = buildings(tmp_path / "damage", xy, np.array([0, 3], np.int16), names=names)
    done = deliver(
        folder, tmp_path / "out", Terms(event=HOSTILE, producer=HOSTILE, date="2023-02-10", disclaimer=HOSTILE, licence=HOSTILE)
    )
    page = (done.folder / "summary.html").read_text(encoding="utf-8")
    read_page(done.folder / "summary.html")
    assert "</h1><script>" not in page
    assert "&lt;script&gt;" in page
    readme = (done.folder / "README.txt").read_text(encoding="utf-8")
    assert [line for line in readme.splitlines() if line.startswith("Sources")] == ["Sources"]
    assert "\u202e" not in readme + page
    for path in done.folder.glob("*.qml"):
        ET.parse(path)
    _, columns, _ = read(done.folder / "delivery.gpkg", "observedEvent")
    assert columns["name"].tolist() == names
    assert columns["event_type"][0].startswith("Flood </h1><script>")
    with pytest.raises(ConfigError, match="event: is empty"):
        Terms(event=" \n ")
    with pytest.raises(ConfigError, match="can't begin the names of files"):
        deliver(folder, tmp_path / "two", Terms(event="x", code="../x"))


def test_a_delivery_over_the_180th_meridian_has_the_right_area(tmp_path):
    """Areas of interest in the UTM zone of the last east, a part of it in the first west."""
    x, y = pyproj.Transformer.from_crs(4326, 32760, always_xy=True).transform(180.0, -17.0)
    xy = np.add(np.random.default_rng(0).uniform(-1500, 1500, (80, 2)), (x, y))
    folder = buildings(tmp_path / "damage", xy, np.full(80, 3, np.int16), "EPSG:32760")
    done = deliver(folder, tmp_path / "out", Terms(event="Cyclone", date="2023-02-10"))
    rows = rows_of(done.folder)
    box = shapely.total_bounds(read(folder / "buildings.gpkg", "buildings")[0])
    assert float(rows["area of interest"]["affected"]) == pytest.approx((box[2] - box[0]) * (box[3] - box[1]) / 1e4, rel=5e-3)
    assert int(rows["destroyed"]["affected"]) == 80
    shapes, _, _ = read(done.folder / "observedEvent.geojson")
    assert shapely.is_valid(shapes).all()
    assert len(shapes) == 80
    assert shapely.area(shapes).max() < 1e-6, "none goes around the world"
    assert shapely.area(read(done.folder / "areaOfInterest.geojson")[0]).max() < 1e-2


def test_degrees_on_both_sides_of_the_180th_meridian_are_refused(tmp_path):
    xy = np.array([[179.0, -17.0], [-179.0, -17.0]])
    folder = buildings(tmp_path / "damage", xy, np.zeros(2, np.int16), "EPSG:4326")
    with pytest.raises(ConfigError, match=r"both sides of the 180th meridian .* EPSG:32660"):
        deliver(folder, tmp_path / "out", Terms(event="Cyclone", date="2023-02-10"))


def test_buildings_are_delivered_by_number(tmp_path):
    rng = np.random.default_rng(1)
    xy = rng.random((400, 2)) * 3000 + (430_000, 8_920_000)
    codes = rng.choice([0, 1, 2, 3, 254], 400).astype(np.int16)
    names = np.array(["no damage", "minor damage", "major damage", "destroyed"], object)
    folder = tmp_path / "damage"
    folder.mkdir()
    classes = np.array([names[c] if c < 4 else "not analysed" for c in codes], object)
    boxes = shapely.box(xy[:, 0] - 6, xy[:, 1] - 6, xy[:, 0] + 6, xy[:, 1] + 6)
    reason = np.array([None if c < 4 else "cloud" for c in codes], object)
    pyogrio.raw.write(
        folder / "buildings.gpkg",
        shapely.to_wkb(boxes),
        [np.arange(400), codes, classes, np.full(400, 144.0), reason],
        ["id", "code", "class", "area_m2", "reason"],
        layer="buildings",
        geometry_type="Polygon",
        crs="EPSG:32720",
        driver="GPKG",
    )
    dates = [{"acquired": day, "source": [f"/nowhere/{day}.tif"]} for day in ("2023-02-01", "2023-02-09")]
    (folder / "damage.json").write_text(json.dumps({"dates": dates, "model": {"name": "m", "version": "1", "sha256": "ab"}}))
    aoi = tmp_path / "aoi.gpkg"
    area = shapely.box(429_000, 8_919_000, 431_500, 8_924_000)
    pyogrio.raw.write(
        aoi, shapely.to_wkb(np.array([area])), [], [], geometry_type="Polygon", crs="EPSG:32720", driver="GPKG", layer="a"
    )
    done = deliver(folder, tmp_path / "out", Terms(event="Earthquake", date="2023-02-10"), aoi=aoi)
    inside = xy[:, 0] < 431_500
    rows = rows_of(done.folder)
    for code, name in enumerate(names):
        assert int(rows[name]["affected"]) == (inside & (codes == code)).sum()
        assert int(rows[name]["total_in_aoi"]) == (inside & (codes < 254)).sum()
    assert int(rows["not analysed"]["affected"]) == (inside & (codes == 254)).sum()
    assert int(rows["not analysed"]["total_in_aoi"]) == inside.sum()
    _, events, _ = read(done.folder / "delivery.gpkg", "observedEvent")
    assert len(events["object_id"]) == (inside & (codes < 254)).sum()
    _, gaps, _ = read(done.folder / "delivery.gpkg", "notAnalysed")
    assert "cloud" in set(gaps["reason"])
    _, cells, _ = read(done.folder / "grid.gpkg", "grid")
    assert cells["affected"].sum() == (inside & (codes == 3)).sum()
    assert (cells["total"].sum(), cells["analysed"].sum()) == (inside.sum(), (inside & (codes < 254)).sum())
    with rasterio.open(done.folder / "density.tif") as dataset:
        image = dataset.read(1, masked=True)
        assert image.sum(dtype=np.float64) * abs(dataset.transform.determinant) / 1e6 == pytest.approx(
            (inside & (codes == 3)).sum(), rel=1e-4
        )


def test_names_and_grades_are_those_of_the_manual(tmp_path):
    """Files are named by activation, area, product, layer and version; each building has its grade in the words of EMS."""
    xy = np.array([[430_000.0 + 40 * k, 8_920_000.0] for k in range(5)])
    folder = buildings(tmp_path / "damage", xy, np.array([0, 1, 2, 3, 254], np.int16))
    terms = Terms(event="Quake", code="EMSR999", aoi_id="AOI02", product="GRA", version=3, date="2023-02-10")
    done = deliver(folder, tmp_path / "out", terms)
    names = set(done.files) - {"README.txt", "checksums.sha256", ".geoseg.json"}
    assert all(re.fullmatch(r"EMSR999_AOI02_GRA_PRODUCT_[A-Za-z]+_v3\.[a-z]+", name) for name in names)
    assert {"EMSR999_AOI02_GRA_PRODUCT_builtUp_v3.geojson", "EMSR999_AOI02_GRA_PRODUCT_areaOfInterest_v3.geojson"} <= names
    _, values, _ = read(done.folder / "EMSR999_AOI02_GRA_PRODUCT_builtUp_v3.geojson")
    grades = ["No visible damage", "Possibly damaged", "Damaged", "Destroyed"]
    assert dict(zip(values["code"], values["damage_gra"], strict=True)) == dict(enumerate(grades))
    readme = (done.folder / "README.txt").read_text()
    described = [line.split(None, 1) for line in readme.splitlines() if line.startswith("  EMSR999_")]
    assert {len(parts) for parts in described} == {2}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"code": "X1"}, "code: 'X1'"),
        ({"aoi_id": "1"}, "aoi_id: '1'"),
        ({"product": "gra"}, "'gra'"),
        ({"version": 0}, "below 1"),
    ],
)
def test_names_that_the_manual_has_not_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        Terms(**({"event": "x", "code": "EMSR999", "aoi_id": "AOI01", "product": "DEL"} | wrong))


def test_the_summary_has_what_is_known_of_the_model_and_the_warnings_of_the_run(tmp_path):
    """Its measured accuracy, from the README beside it; without one the page says that it is not stated."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "README.md").write_text("# m\n\n| | |\n|---|---|\n| Test | 120 buildings: F1 **0.71** |\n")
    for name, path in (("known", tmp_path / "model"), ("unknown", tmp_path / "gone")):
        folder = buildings(tmp_path / name, np.array([[430_000.0, 8_920_000.0]]), np.array([3], np.int16))
        report = json.loads((folder / "damage.json").read_text())
        report["model"]["members"] = [{"path": str(path), "sha256": "ab"}]
        (folder / "damage.json").write_text(json.dumps(report | {"warnings": ["pairs are 9 px apart"]}))
        done = deliver(folder, tmp_path / f"{name}_out", Terms(event="Quake", date="2023-02-10"))
        text, readme = read_page(done.folder / "summary.html").text, (done.folder / "README.txt").read_text()
        assert "pairs are 9 px apart" in text
        assert ("120 buildings: F1 0.71" in text) == ("Test: 120 buildings: F1 0.71" in readme) == (name == "known")
        assert ("not stated" in text) == (name == "unknown")
