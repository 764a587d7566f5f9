"""Labels as vector files that are not as expected: features without an area, layers, other CRSs, edges."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import struct
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyproj
import pytest
import rasterio
import rasterio.features
import shapely
from label_files import CODES, FOREST, GRID, RIGHT, SIDE, UTM, compared, features, legend, raster, training
from rasterio.transform import Affine, from_origin

from geoseg.clouds.opening import HiddenPolygons
from geoseg.codes import UNLABELLED
from geoseg.errors import GeosegError
from geoseg.georeference import Georeference
from geoseg.labels.labels import open_labels
from geoseg.polygons.placing import polygons_of
from geoseg.windows import Window
from pipeline.evaluate.match import match_files
from pipeline.evaluate.run import evaluate
from pipeline.evaluate.settings import MatchOptions, MeasureOptions, TruthOptions
from pipeline.summarize.zones import check_zones
from pipeline.train.data import open_data
from pipeline.train.recipe import Recipe
from tests.support import call_cli

LINE = shapely.LineString([(500000, 5399500), (500600, 5399500)])
POINT = shapely.Point(500455, 5399455)
BOW = shapely.Polygon(
    [(500100, 5399700), (500300, 5399700), (500300, 5399900), (500100, 5399900), (500100, 5399500), (500100, 5399700)]
)
SPIKE = shapely.Polygon(
    [(500100, 5399700), (500300, 5399700), (500300, 5399900), (500600, 5399900), (500300, 5399900), (500100, 5399900)]
)
FLAT = shapely.Polygon([(500000, 5399500), (500600, 5399500), (500300, 5399500)])
EIGHT = shapely.Polygon([(500100, 5399900), (500300, 5399700), (500300, 5399900), (500100, 5399700)])
HIGH = shapely.force_3d(FOREST, 250.0)
SHAPES: dict[str, tuple[list[Any], str | None]] = {
    "a polygon": ([FOREST], None),
    "several parts": ([shapely.MultiPolygon([FOREST, shapely.box(500400, 5399500, 500500, 5399600)])], None),
    "heights": ([HIGH], None),
    "a collection": ([shapely.GeometryCollection([FOREST, LINE, POINT])], None),
    "a collection in a collection": ([shapely.GeometryCollection([shapely.GeometryCollection([FOREST, LINE])])], None),
    "a ring with a spike": ([SPIKE], None),
    "a ring with a tail": ([BOW], None),
    "an eight": ([EIGHT], None),
    "no area": ([FOREST, FLAT], None),
    "lines beside": ([FOREST, LINE, LINE], "2 of 3 features are no polygons and are left out: 2 LineString"),
    "points beside": ([FOREST, POINT], "1 of 2 features are no polygons and are left out: 1 Point"),
    "no geometry": ([FOREST, None], "1 of 2 features are no polygons and are left out: 1 without a geometry"),
    "an empty polygon": ([FOREST, shapely.Polygon()], "1 of 2 features .* 1 without a geometry"),
    "nothing but empty ones": ([shapely.Polygon(), None], "2 of 2 features .* 2 without a geometry"),
}


PLACE = Georeference(tuple(GRID)[:6], rasterio.crs.CRS.from_user_input(UTM).to_wkt())


def burnt(path: str, **options: Any) -> np.ndarray:
    labels = open_labels(
        path, PLACE, SIDE, SIDE, {"": 1, "forest": 1, "other": 0}, **({"column": "class", "outside": 0} | options)
    )
    return labels.read(Window.of((SIDE, SIDE)))[0]


@pytest.mark.parametrize("touched", [False, True])
@pytest.mark.parametrize("kind", SHAPES)
def test_only_what_has_an_area_is_burnt(tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str, touched: bool) -> None:
    shapes, words = SHAPES[kind]
    areas = [shapely.buffer(shapely.make_valid(shapely.force_2d(s)), 0) for s in shapes if s is not None]
    kept = [
        part
        for area in [*areas, *[FOREST] * ("collection" in kind)]
        for part in shapely.get_parts(area)
        if part.geom_type == "Polygon" and part.area
    ]
    right = rasterio.features.rasterize(kept, (SIDE, SIDE), transform=GRID, all_touched=touched) if kept else np.zeros_like(CODES)
    empty = any(shape is None or shape.is_empty for shape in shapes)
    for ending in (".gpkg", ".geojson") if empty else (".gpkg", ".geojson", ".fgb"):
        caplog.clear()
        path = features(tmp_path / f"labels{ending}", shapes)
        if ending == ".geojson":
            # GeoJSON is in degrees, where corners on borders of pixels fall to either side.
            assert (burnt(path, all_touched=touched) != right).mean() < 0.04
        else:
            np.testing.assert_array_equal(burnt(path, all_touched=touched), right)
        if words:
            assert re.search(words, caplog.text)
    assert {shape.geom_type for shape in polygons_of(np.array(shapes, object))} <= {"Polygon", "MultiPolygon"}


def test_features_without_an_area_alone_are_refused(tmp_path: Path) -> None:
    for shapes, words in (([LINE], "1 LineString"), ([POINT, POINT], "2 Point"), ([shapely.MultiPoint([POINT])], "1 MultiPoint")):
        with pytest.raises(GeosegError, match=rf"labels.gpkg: holds no polygons \({words}\); labels are polygons"):
            burnt(features(tmp_path / "labels.gpkg", shapes))


@pytest.mark.parametrize("ending", [".geojson", ".gpkg", ".fgb", ".shp", ".parquet"])
def test_a_file_of_nothing_is_that(tmp_path: Path, ending: str) -> None:
    """In every format, whatever columns it lacks: as truth, as labels, as objects, as what hides the ground."""
    path = tmp_path / f"none{ending}"
    if ending == ".geojson":
        path.write_text('{"type":"FeatureCollection","features":[]}')
    else:
        features(path, [])
    assert not burnt(str(path)).any()
    assert (burnt(str(path), outside=UNLABELLED) == UNLABELLED).all()
    found = compared(tmp_path, str(path), column="class", outside="other")
    assert found["confusion"] == [[3200, 400], [0, 0]]
    one = features(tmp_path / "one.gpkg", [FOREST])
    figures = [match_files(*pair).document["figures"] for pair in ((one, str(path)), (str(path), one), (str(path), str(path)))]
    assert [(f["found"], f["truth"], f["matched"], f["f1"]) for f in figures] == [(1, 0, 0, 0.0), (0, 1, 0, 0.0), (0, 0, 0, None)]
    assert not HiddenPolygons(str(path), PLACE, (SIDE, SIDE)).read(Window.of((SIDE, SIDE))).any()


def test_an_empty_file_among_others_ends_nothing(tmp_path: Path) -> None:
    for name, codes in (("a", CODES), ("b", CODES * 0)):
        raster(tmp_path / "maps" / f"{name}.tif", codes, after=legend("other", "forest"))
    features(tmp_path / "truth" / "a.gpkg", [FOREST])
    (tmp_path / "truth" / "b.geojson").write_text('{"type":"FeatureCollection","features":[]}')
    for outside, right in (("other", [[6800, 0], [0, 400]]), ("unlabelled", [[0, 0], [0, 400]])):
        found = evaluate(
            [str(tmp_path / "maps")],
            str(tmp_path / "truth"),
            truth_options=TruthOptions(column="class", outside=outside),
            options=MeasureOptions(boundary=()),
        ).document
        assert found["confusion"] == right
    (tmp_path / "truth" / "b.geojson").write_bytes(b"")
    with pytest.raises(GeosegError, match=r"b\.geojson: .*empty"):
        evaluate(
            [str(tmp_path / "maps")],
            str(tmp_path / "truth"),
            truth_options=TruthOptions(column="class"),
            options=MeasureOptions(boundary=()),
        )


def test_metres_in_a_file_of_degrees_are_refused(tmp_path: Path) -> None:
    """A GeoJSON file that names no CRS is in degrees; programs write metres into it all the same."""
    path = tmp_path / "metres.geojson"
    path.write_text(geopandas.GeoSeries([FOREST]).to_json())
    for read in (lambda: burnt(str(path)), lambda: match_files(str(path), str(path)), lambda: check_zones(str(path))):
        with pytest.raises(GeosegError, match="are no longitudes and latitudes"):
            read()


def test_polygons_that_lie_elsewhere_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = features(tmp_path / "labels.gpkg", [shapely.box(0, 0, 10, 10), shapely.box(20, 20, 30, 30)])
    assert not burnt(path).any()
    assert "none of its 2 polygons lies on the image" in caplog.text
    raster(tmp_path / "far.tif", CODES, transform=from_origin(700000, 5400000, 10, 10))
    labels = open_labels(str(tmp_path / "far.tif"), PLACE, SIDE, SIDE, {"0": 0, "1": 1})
    assert (labels.read(Window.of((SIDE, SIDE)))[0] == UNLABELLED).all()
    assert "far.tif: labels no pixel of the image" in caplog.text


@pytest.mark.filterwarnings("ignore:Measured")
@pytest.mark.parametrize(("code", "extra"), [(2003, 1), (3003, 2)])
def test_measures_along_lines_are_ignored(tmp_path: Path, code: int, extra: int) -> None:
    """XYM and XYZM in a GeoPackage, whose binary is written here by hand."""
    path = features(tmp_path / "labels.gpkg", [FOREST])
    ring = shapely.get_coordinates(FOREST)
    points = b"".join(struct.pack(f"<{2 + extra}d", *xy, *[7.0] * extra) for xy in ring)
    blob = b"GP\x00\x01" + struct.pack("<i", 32633) + struct.pack("<BIII", 1, code, 1, len(ring)) + points
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type='trigger'").fetchall():
            connection.execute(f'DROP TRIGGER "{name}"')
        connection.execute("UPDATE labels SET geom = ?", (blob,))
        connection.execute("UPDATE gpkg_geometry_columns SET m = 1, z = ?", (extra - 1,))
        connection.commit()
    np.testing.assert_array_equal(burnt(path), CODES)


@pytest.fixture
def layered(tmp_path: Path) -> str:
    path = tmp_path / "labels.gpkg"
    columns = {"class": ["forest"], "damage": ["none"], "id": [7]}
    aoi = geopandas.GeoDataFrame(columns, geometry=[shapely.box(500000, 5399400, 500600, 5400000)], crs=UTM)
    aoi.to_file(path, layer="aoi")
    aoi.assign(geometry=[FOREST]).to_file(path, layer="labels", mode="a")
    return str(path)


def test_a_layer_is_named_in_one_way_everywhere(tmp_path: Path, layered: str) -> None:
    named = f"{layered}|layername=labels"
    one = features(tmp_path / "one.gpkg", [FOREST])
    image = raster(tmp_path / "image.tif", np.zeros((3, SIDE, SIDE), np.uint8), photometric="RGB")
    later = raster(tmp_path / "later.tif", np.ones((3, SIDE, SIDE), np.uint8), photometric="RGB")
    path = raster(tmp_path / "map.tif", CODES, after=legend("other", "forest"))
    ev = ["evaluate", "--pred", path, "--column", "class", "--outside", "other", "--boundary", "none", "--overwrite"]
    chips = ["chips", "--images", image, "--size", "32", "--overwrite"]
    for args, flag in (
        (ev, "--truth"),
        (["match", one], None),
        (chips, "--labels"),
        ([*chips, "--labels", path], "--ignore"),
        (["train-damage", image, later, "--overwrite"], "--labels"),
        (["match", one, one], "--within"),
    ):
        out = [] if args[0] == "match" else ["--out", str(tmp_path / "out")]
        done = call_cli([*args, *([flag] if flag else []), layered, *out])
        assert done.returncode in (1, 2), (args, done.stderr)
        assert "holds 2 layers (aoi, labels)" in done.stderr, (args, done.stderr)
        done = call_cli([*args, *([flag] if flag else []), named, *out])
        assert "layers" not in done.stderr
        assert "no such" not in done.stderr, (args, done.stderr)
        if args[0] != "train-damage":
            assert done.returncode == 0, (args, done.stderr)
        if args is ev:
            assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["confusion"] == RIGHT
    check_zones(named)
    assert HiddenPolygons(named, PLACE, (SIDE, SIDE)).read(Window.of((SIDE, SIDE))).sum() == 400
    for wrong, words in ((f"{layered}|layername=Labels", "holds no layer Labels; it has aoi, labels"), (layered, "say which: '")):
        with pytest.raises(GeosegError, match=words):
            burnt(wrong)
    literal = Path(features(tmp_path / "plain.gpkg", [FOREST])).rename(tmp_path / "a|layername=b.gpkg")
    np.testing.assert_array_equal(burnt(str(literal)), CODES)


def test_data_of_another_layer_are_other_data(tmp_path: Path, layered: str) -> None:
    recipe = training(tmp_path, CODES)
    text, marks = recipe.read_text(), []
    for layer in ("aoi", "labels"):
        recipe.write_text(
            text.replace(f'"{tmp_path}/masks"', f'"{layered}|layername={layer}", column = "class", outside = "other"')
        )
        marks.append(open_data(Recipe.read(recipe)).fingerprint)
    assert marks[0] != marks[1]


def test_tables_of_styles_are_no_layers(tmp_path: Path) -> None:
    path = features(tmp_path / "labels.gpkg", [FOREST])
    geopandas.GeoDataFrame({"style": ["x"]}, geometry=[POINT], crs=UTM).to_file(path, layer="layer_styles", mode="a")
    np.testing.assert_array_equal(burnt(path), CODES)


BENT: dict[str, tuple[str, Affine, str, Any]] = {
    "1 degree": (UTM, from_origin(498500, 5401500, 10, 10), "EPSG:4326", shapely.box(14.5, 48.0, 15.5, 48.745)),
    "6 degrees": (UTM, from_origin(498500, 5401500, 10, 10), "EPSG:4326", shapely.box(12, 48.0, 18, 48.745)),
    "Mercator": ("EPSG:3035", from_origin(4500000, 2900000, 30, 30), "EPSG:3857", shapely.box(1e6, 5e6, 2e6, 6300000)),
    "UTM to degrees": ("EPSG:4326", from_origin(15.0, 48.80, 1e-3, 1e-3), UTM, shapely.box(300000, 5000000, 900000, 5390000)),
    "the world": (UTM, from_origin(498500, 5401500, 10, 10), "EPSG:4326", shapely.box(-180, -90, 180, 90)),
    "the world at the 180th meridian": (
        "EPSG:32760",
        from_origin(800000, 8000000, 100, 100),
        "EPSG:4326",
        shapely.box(-180, -90, 180, 90),
    ),
    "beside the 180th meridian": (
        "EPSG:32760",
        from_origin(800000, 8000000, 100, 100),
        "EPSG:4326",
        shapely.box(-180, -80, -178, 0),
    ),
    "on the other side of the Earth": (UTM, from_origin(498500, 5401500, 10, 10), "EPSG:4326", shapely.box(-170, -40, -160, -30)),
    "over the 180th meridian in degrees": (
        "EPSG:4326",
        from_origin(179, 10, 1e-2, 1e-2),
        "EPSG:4326",
        shapely.box(-180, 8, -179, 9),
    ),
    "over it from another CRS": (
        "EPSG:4326",
        from_origin(179, 10, 1e-2, 1e-2),
        "EPSG:32601",
        shapely.box(200000, 800000, 400000, 1000000),
    ),
    "the world over it": ("EPSG:4326", from_origin(179, 10, 1e-2, 1e-2), "EPSG:4326", shapely.box(-180, -90, 180, 90)),
    "a pole": ("EPSG:3413", from_origin(-150000, 150000, 1000, 1000), "EPSG:4326", shapely.box(-180, 89, 180, 90)),
    "a raster turned": (
        UTM,
        Affine.translation(498500, 5401500) @ Affine.rotation(30) @ Affine.scale(10, -10),
        "EPSG:4326",
        shapely.box(14, 48.0, 16, 48.745),
    ),
}


@pytest.mark.parametrize("kind", BENT)
def test_edges_follow_their_own_crs(tmp_path: Path, kind: str) -> None:
    """The oracle asks each pixel: its middle, in the CRS of the labels, lies in the polygon or not."""
    crs, transform, own, shape = BENT[kind]
    side = 300
    place = Georeference(tuple(transform)[:6], rasterio.crs.CRS.from_user_input(crs).to_wkt())
    path = features(tmp_path / "labels.gpkg", [shape], own)
    found = open_labels(path, place, side, side, {"": 1}, outside=0).read(Window.of((side, side)))[0]
    rows, cols = np.mgrid[:side, :side] + 0.5
    xy = transform @ (cols, rows)
    x, y = pyproj.Transformer.from_crs(crs, own, always_xy=True).transform(*xy)
    if own == "EPSG:4326":
        x = (x + 180) % 360 - 180
    right = shapely.intersects_xy(shape, x, y)
    assert (found != right).sum() <= 30
    assert right.any() == ("other side" not in kind)


def test_objects_of_long_edges_keep_their_area(tmp_path: Path) -> None:
    """``match`` takes areas on the ground: a box of one degree overlaps its own parts as pyproj's geodesics say."""
    geod = pyproj.Geod(ellps="WGS84")
    box = shapely.box(14.5, 48.0, 15.5, 48.745)
    dense = shapely.segmentize(box, 1e-3)
    features(tmp_path / "long.gpkg", [box], "EPSG:4326"), features(tmp_path / "dense.gpkg", [dense], "EPSG:4326")
    area = abs(geod.geometry_area_perimeter(dense)[0])
    result = match_files(
        str(tmp_path / "long.gpkg"), str(tmp_path / "dense.gpkg"), MatchOptions(sizes=[area * 0.9999, area * 1.0001])
    )
    assert result.pairs[0][2] == pytest.approx(1, abs=1e-6)
    assert [row["truth"] for row in result.document["sizes"]] == [0, 1, 0]
