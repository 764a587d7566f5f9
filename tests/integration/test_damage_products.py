"""What `geoseg damage` writes, of footprints as they come: broken, without ids, in any CRS, seen or not."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from pages import read_page

from geoseg.errors import ConfigError, OutputError
from geoseg.models.model_folder import Model
from pipeline.changes.run import pair_of
from pipeline.config.sections import Config
from pipeline.damage.run import DamageRun, keep_figures, map_damage
from pipeline.damage.settings import CountOptions
from tests.support import UTM, damage_by_red

pytest.importorskip("torch")

TRANSFORM = rasterio.Affine(0.5, 0.0, 430_000.0, 0.0, -0.5, 8_930_000.0)
SIDE = 400
FILES = (
    "buildings.gpkg",
    "buildings.geojson",
    "buildings.csv",
    "grid.gpkg",
    "density.tif",
    "density.qml",
    "zones.csv",
    "zones.gpkg",
    "report.html",
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return damage_by_red(tmp_path_factory.mktemp("model") / "pixels")


def write(path: Path, image: Any, date: str, **place: Any) -> Path:
    profile = {
        "driver": "GTiff",
        "height": SIDE,
        "width": SIDE,
        "count": 3,
        "dtype": "uint8",
        "photometric": "rgb",
        "nodata": 0,
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "crs": UTM,
        "transform": TRANSFORM,
    } | place
    with rasterio.open(path, "w", **profile) as target:
        target.write(image)
        target.update_tags(ACQUISITION_DATE=date)
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Quarters from the left: not damaged, minor damage, major damage, destroyed; the last rows show nothing."""
    folder = tmp_path_factory.mktemp("images")
    before = np.full((3, SIDE, SIDE), 5, np.uint8)
    after = before.copy()
    after[0] = 50 * (1 + np.arange(SIDE) * 4 // SIDE)
    after[:, 340:] = 0
    return write(folder / "pre.tif", before, "2020-01-01"), write(folder / "post.tif", after, "2021-01-01")


def box(row: int, col: int, height: int = 16, width: int = 20) -> Any:
    """A footprint by its first pixel and its size."""
    (x, y), (x2, y2) = TRANSFORM @ (col, row), TRANSFORM @ (col + width, row + height)
    return shapely.box(x, y2, x2, y)


def graded(
    images: tuple[Path, Path], out: Path, footprints: Path, model: Model, *, overwrite: bool = False, **how: Any
) -> DamageRun:
    config = Config.parse({"dates": {"coregister": "off"}, "run": {"overwrite": overwrite}})
    options = CountOptions(cell_m=50.0, **how)
    return map_damage(pair_of([str(path) for path in images]), str(footprints), model, config, out, options)


def layer(path: Path, name: str) -> geopandas.GeoDataFrame:
    return geopandas.read_file(path, layer=name)


AWKWARD = {
    "plain": box(20, 20),
    "bow tie": shapely.Polygon([box(60, 20).exterior.coords[i] for i in (0, 2, 1, 3)]),
    "none": None,
    "empty": shapely.Polygon(),
    "two parts": shapely.MultiPolygon([box(20, 320), box(60, 320)]),
    "flat": shapely.Polygon([(430_020, 8_929_950)] * 4),
    'O\'Brien "Café" 東京 <b>': box(100, 120),
    "no data": box(360, 20),
    "off": box(20, 2_000),
    "deep": shapely.force_3d(box(140, 220), 12.0),
}


def awkward(path: Path, crs: int | None = None) -> Path:
    frame = geopandas.GeoDataFrame({"uid": list(AWKWARD)}, geometry=list(AWKWARD.values()), crs=UTM)
    (frame if crs is None else frame.to_crs(crs)).to_file(path, layer="footprints")
    return path


@pytest.mark.parametrize("crs", [None, 4326, 3857])
def test_each_footprint_is_a_row_whatever_its_shape(
    tmp_path: Path, images: tuple[Path, Path], model: Model, crs: int | None
) -> None:
    zones = tmp_path / "zones.geojson"
    names = geopandas.GeoDataFrame(
        {"name": ["left 'a' \"é\"", "right", "far"], "people": [120, None, 3]},
        geometry=[box(0, 0, 400, 200), box(0, 200, 400, 200), box(0, 3_000, 40, 40)],
        crs=UTM,
    )
    names.to_crs(4326).to_file(zones)
    done = graded(images, tmp_path / "out", awkward(tmp_path / "in.gpkg", crs), model, zones=str(zones))
    assert set(FILES) <= {path.name for path in done.folder.iterdir()}
    assert set(done.document["files"]) == set(FILES)
    found = layer(done.folder / "buildings.gpkg", "buildings")
    assert found["id"].tolist() == list(range(1, len(AWKWARD) + 1))
    assert found["name"].tolist() == list(AWKWARD)
    by_name = found.set_index("name")
    said = {name: row["class"] if row["code"] < 254 else row["reason"] for name, row in by_name.iterrows()}
    assert said == {
        "plain": "no damage",
        "bow tie": "no damage",
        "none": "no polygon",
        "empty": "no polygon",
        "two parts": "destroyed",
        "flat": "no polygon",
        'O\'Brien "Café" 東京 <b>': "minor damage",
        "no data": "no data",
        "off": "off image",
        "deep": "major damage",
    }
    shown = found[~found.geometry.isna()]
    assert shown.geometry.is_valid.all()
    assert not shown.geometry.has_z.any()
    assert set(shown.geom_type) == {"MultiPolygon"}
    # A bow tie is two triangles, each a quarter of the box.
    assert by_name.loc["bow tie", "area_m2"] == pytest.approx(40, rel=5e-3)
    assert by_name.loc["two parts", "area_m2"] == pytest.approx(160, rel=5e-3)
    assert by_name.loc["none", "area_m2"] == 0
    degrees = geopandas.read_file(done.folder / "buildings.geojson")
    assert degrees["name"].tolist() == list(AWKWARD)
    assert degrees.geometry.isna().tolist() == found.geometry.isna().tolist()
    with (done.folder / "buildings.csv").open(encoding="utf-8") as file:
        assert [row["name"] for row in csv.DictReader(file)] == list(AWKWARD)
    left, right, far = (row for _, row in layer(done.folder / "zones.gpkg", "zones").iterrows())
    assert left["name"] == "left 'a' \"é\""
    assert (left["no_damage"], left["minor_damage"], left["destroyed"], left["not_analysed"]) == (2, 1, 0, 1)
    assert (right["destroyed"], right["major_damage"], right["share_destroyed"]) == (1, 1, 0.5)
    assert np.isnan(far["share_destroyed"])
    page = read_page(done.folder / "report.html")
    counts = done.document["counts"]
    assert all(page.row(name)[1] == str(counts[name]) for name in ("no damage", "minor damage", "destroyed", "not analysed"))
    assert {row[0]: row[1] for row in page.rows if row[0] in done.document["not_analysed"]} == {
        reason: str(count) for reason, count in done.document["not_analysed"].items()
    }
    (zone,) = [row for row in page.rows if "left 'a' \"é\"" in row]
    assert zone[-1] == "0.0 %"
    names = {path.name for path in done.folder.iterdir()} - {"report.html"}
    assert {link["href"] for link in page.all("a")} >= {f"./{name}" for name in names}
    assert len(page.all("img")) == 5
    assert len({image["src"] for image in page.all("img")}) == 3


def test_the_same_run_gives_the_same_bytes(tmp_path: Path, images: tuple[Path, Path], model: Model) -> None:
    footprints = awkward(tmp_path / "in.gpkg")
    zones = tmp_path / "zones.gpkg"
    geopandas.GeoDataFrame({"fid": [7]}, geometry=[box(0, 0, 400, 400)], crs=UTM).to_file(zones)
    runs = [graded(images, tmp_path / name, footprints, model, zones=str(zones)).folder for name in ("one", "two")]
    for name in FILES:
        assert (runs[0] / name).read_bytes() == (runs[1] / name).read_bytes(), name
    assert not [path.name for path in runs[0].iterdir() if path.name.startswith(".")]


def test_a_run_leaves_nothing_of_the_one_before(tmp_path: Path, images: tuple[Path, Path], model: Model) -> None:
    footprints = awkward(tmp_path / "in.gpkg")
    geopandas.GeoDataFrame({"id": [7]}, geometry=[box(0, 0, 400, 400)], crs=UTM).to_file(tmp_path / "zones.gpkg")
    folder = graded(images, tmp_path / "out", footprints, model, zones=str(tmp_path / "zones.gpkg")).folder
    keep_figures(folder, {})
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="results of another run"):
        graded(images, tmp_path / "out", footprints, model)
    done = graded(images, tmp_path / "out", footprints, model, overwrite=True)
    assert {path.name for path in done.folder.iterdir()} == {*done.document["files"], "damage.json", "run.json", "notes.txt"}


def test_ids_may_be_missing_or_the_same(tmp_path: Path, images: tuple[Path, Path], model: Model) -> None:
    shapes = [box(20 + 30 * k, 20) for k in range(6)]
    same = geopandas.GeoDataFrame({"uid": ["a", "a", None, "b", "b", ""]}, geometry=shapes, crs=UTM)
    same.to_file(tmp_path / "same.gpkg")
    same[["geometry"]].to_file(tmp_path / "bare.gpkg")
    found = layer(graded(images, tmp_path / "one", tmp_path / "same.gpkg", model).folder / "buildings.gpkg", "buildings")
    assert found["id"].tolist() == [1, 2, 3, 4, 5, 6]
    assert found["name"].tolist() == ["a", "a", "3", "b", "b", ""]
    bare = layer(graded(images, tmp_path / "two", tmp_path / "bare.gpkg", model).folder / "buildings.gpkg", "buildings")
    assert bare["name"].tolist() == ["1", "2", "3", "4", "5", "6"]
    assert (bare["code"] == found["code"]).all()


def test_where_nothing_is_seen_files_are_whole_all_the_same(tmp_path: Path, images: tuple[Path, Path], model: Model) -> None:
    geopandas.GeoDataFrame({"id": [1, 2]}, geometry=[box(20, 3_000), box(90, 3_000)], crs=UTM).to_file(tmp_path / "off.gpkg")
    done = graded(images, tmp_path / "out", tmp_path / "off.gpkg", model)
    assert done.document["counts"]["not analysed"] == 2
    assert done.document["counts"]["share_destroyed"] is None
    json.dumps(done.document, allow_nan=False)
    cells = layer(done.folder / "grid.gpkg", "grid")
    assert cells["total"].sum() == 2
    assert cells["share"].isna().all()
    with rasterio.open(done.folder / "density.tif") as raster:
        assert raster.read(1).max() == 0


def test_zones_and_footprints_of_which_one_has_a_crs_are_refused(tmp_path: Path, images: tuple[Path, Path], model: Model) -> None:
    geopandas.GeoDataFrame({"id": [1]}, geometry=[box(20, 20)], crs=UTM).to_file(tmp_path / "in.gpkg")
    geopandas.GeoDataFrame({"id": [1]}, geometry=[box(0, 0, 400, 400)]).to_file(tmp_path / "zones.gpkg")
    with pytest.raises(ConfigError, match=r"zones\.gpkg: only one of zones and footprints has a CRS"):
        graded(images, tmp_path / "out", tmp_path / "in.gpkg", model, zones=str(tmp_path / "zones.gpkg"))


def test_degrees_across_the_180th_meridian(tmp_path: Path, model: Model) -> None:
    """A scene in degrees that begins in the east and ends in the west; footprints on both sides of it."""
    step = 5e-6
    place = {"crs": "EPSG:4326", "transform": rasterio.Affine(step, 0, 180 - 200 * step, 0, -step, -17.0)}
    after = np.full((3, SIDE, SIDE), 5, np.uint8)
    after[0] = 200
    before = np.full((3, SIDE, SIDE), 5, np.uint8)
    images = (
        write(tmp_path / "pre.tif", before, "2020-01-01", **place),
        write(tmp_path / "post.tif", after, "2021-01-01", **place),
    )
    shapes = [
        shapely.box(180 + (col - 200) * step, -17 - 220 * step, 180 + (col - 180) * step, -17 - 200 * step)
        for col in range(20, 380, 40)
    ]
    shapes = [shapely.transform(s, lambda xy: xy - [360, 0]) if s.bounds[0] > 180 else s for s in shapes]
    geopandas.GeoDataFrame({"id": range(9)}, geometry=shapes, crs=4326).to_file(tmp_path / "in.gpkg")
    done = graded(images, tmp_path / "out", tmp_path / "in.gpkg", model)
    found = layer(done.folder / "buildings.gpkg", "buildings")
    side = pyproj.Geod(ellps="WGS84").inv(180, -17.001, 180 - 20 * step, -17.001)[2]
    high = pyproj.Geod(ellps="WGS84").inv(180, -17.001, 180, -17.001 - 20 * step)[2]
    assert found["area_m2"].to_numpy() == pytest.approx(side * high, rel=1e-3)
    assert set(found["reason"].dropna()) == set(), "those in the west lie on the image, too"
    assert (found["class"] == "destroyed").all()
    cells = layer(done.folder / "grid.gpkg", "grid")
    assert cells.crs.to_epsg() in (32701, 32760)
    left, _, right, _ = cells.total_bounds
    assert right - left < 400
