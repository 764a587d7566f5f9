"""Vector files and COGs: to the letter of their specifications, also when empty, across the antimeridian, or sparse."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from support import patchy

from geoseg.formats.cog import write_cog
from geoseg.formats.pyramid import Layer
from geoseg.formats.vector import EXTENSIONS, write_features
from geoseg.georeference import Georeference
from geoseg.polygons.block_grid import BlockGrid
from geoseg.polygons.blocks import polygonize_block
from geoseg.polygons.features import FeatureFacts, feature_batches
from geoseg.windows import Window


def placed(transform: tuple[float, float, float, float, float, float], crs: str) -> Georeference:
    return Georeference(transform, rasterio.crs.CRS.from_user_input(crs).to_wkt())


UTM = placed((10.0, 0.0, 500_000.0, 0.0, -10.0, 9_000_000.0), "EPSG:32721")


def batches_of(classes: np.ndarray, georeference: Georeference) -> list[object]:
    grid = BlockGrid(*classes.shape, 4096)
    result = polygonize_block(grid, 0, classes, None, georeference, range(254))
    facts = FeatureFacts(
        georeference,
        {0: "a", 1: "b & 'ç' \"日本\""},
        has_confidence=False,
        scene="s",
        acquired=None,
        model=None,
        model_sha256=None,
    )
    return list(feature_batches(result.closed, result.closed_measures, None, facts))


def read(path: Path) -> geopandas.GeoDataFrame:
    return geopandas.read_parquet(path) if path.suffix == ".parquet" else geopandas.read_file(path, engine="pyogrio")


@pytest.mark.parametrize("name", EXTENSIONS)
@pytest.mark.parametrize("empty", [False, True])
def test_read_back(tmp_path: Path, name: str, empty: bool) -> None:
    batches = [] if empty else batches_of(patchy(60, 70, 2), UTM)
    path = tmp_path / f"polygons{EXTENSIONS[name]}"
    write_features(path, name, lambda: batches, UTM, (60, 70))
    frame = read(path)
    assert set(frame.columns) >= {"id", "class", "area_m2", "confidence", "acquired", "geometry"} or (empty and name == "geojson")
    assert frame.crs.to_epsg() == (4326 if name == "geojson" else 32721)
    assert len(frame) == (0 if empty else sum(b.num_rows for b in batches))
    if not empty:
        assert frame.geometry.is_valid.all()
        assert "b & 'ç' \"日本\"" in set(frame["class"])
    again = tmp_path / "again" / path.name
    again.parent.mkdir()
    write_features(again, name, lambda: batches, UTM, (60, 70))
    assert again.read_bytes() == path.read_bytes()


PLACES = {
    "utm": UTM,
    "south up": placed((10.0, 0.0, 500_000.0, 0.0, 10.0, 9_000_000.0), "EPSG:32721"),
    "rotated": placed((8.66, -5.0, 500_000.0, -5.0, -8.66, 9_000_000.0), "EPSG:32721"),
    "degrees": placed((1e-4, 0.0, 12.0, 0.0, -1e-4, 48.0), "EPSG:4326"),
    "polar": placed((1000.0, 0.0, 100_000.0, 0.0, -1000.0, -200_000.0), "EPSG:3031"),
    "US feet": placed((30.0, 0.0, 980_000.0, 0.0, -30.0, 200_000.0), "EPSG:2263"),
    "web mercator": placed((10.0, 0.0, 1_000_000.0, 0.0, -10.0, 6_000_000.0), "EPSG:3857"),
}


@pytest.mark.parametrize("place", PLACES)
def test_geojson_is_rfc_7946(tmp_path: Path, place: str) -> None:
    georeference = PLACES[place]
    path = tmp_path / "polygons.geojson"
    batches = batches_of(patchy(60, 70, 3), georeference)
    write_features(path, "geojson", lambda: batches, georeference, (60, 70))
    document = json.loads(path.read_text(), parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))
    assert "crs" not in document
    for feature in document["features"]:
        for i, ring in enumerate(feature["geometry"]["coordinates"]):
            assert ring[0] == ring[-1]
            assert shapely.LinearRing(ring).is_ccw == (i == 0)
            assert all(-180 <= x <= 180 and -90 <= y <= 90 for x, y in ring)
    shapes = [shapely.geometry.shape(feature["geometry"]) for feature in document["features"]]
    assert shapely.is_valid(shapes).all()
    # Seven decimals, and the same area as on the ellipsoid by another library.
    assert max(len(str(x).split(".")[-1]) for x, _ in shapely.get_coordinates(shapes[0])) <= 7
    geod = pyproj.Geod(ellps="WGS84" if place != "US feet" else "GRS80")
    stated = [feature["properties"]["area_m2"] for feature in document["features"]]
    measured = [abs(geod.geometry_area_perimeter(shape)[0]) for shape in shapes]
    around = np.array([feature["properties"]["perimeter_m"] for feature in document["features"]])
    # Coordinates are rounded to a centimetre, so areas are uncertain by that much along the border.
    assert (
        np.abs(np.subtract(measured, stated)) <= 0.01 * around + (3e-3 if place == "polar" else 3e-5) * np.array(stated)
    ).all()


def test_geojson_is_split_at_the_antimeridian(tmp_path: Path) -> None:
    georeference = placed((0.01, 0.0, 179.5, 0.0, -0.01, -15.0), "EPSG:4326")
    path = tmp_path / "polygons.geojson"
    batches = batches_of(patchy(100, 100, 2, size=6.0), georeference)
    write_features(path, "geojson", lambda: batches, georeference, (100, 100))
    document = json.loads(path.read_text())
    west, _, east, _ = document["bbox"]
    assert (west, east) == pytest.approx((179.5, -179.5))
    kinds = {feature["geometry"]["type"] for feature in document["features"]}
    assert "MultiPolygon" in kinds
    total = 0.0
    for feature in document["features"]:
        shape = shapely.geometry.shape(feature["geometry"])
        assert shape.is_valid
        assert shape.bounds[2] - shape.bounds[0] < 360.0001
        for part in shapely.get_parts(shape):
            assert part.bounds[2] - part.bounds[0] < 1
            total += part.area
    assert total == pytest.approx(1.0)


@given(st.integers(1, 1500), st.integers(1, 1500), st.integers(0, 99))
@settings(max_examples=10)
def test_cog_is_the_raster(tmp_path_factory: pytest.TempPathFactory, height: int, width: int, seed: int) -> None:
    folder = tmp_path_factory.mktemp("cog")
    codes = np.random.default_rng(seed).integers(0, 3, (-(-height // 8), -(-width // 8))).astype(np.uint8)
    codes = np.kron(codes, np.ones((8, 8), np.uint8))[:height, :width]
    layer = Layer(overview="mode", colormap={0: (1, 2, 3), 1: (4, 5, 6)}, tags={"A": "b"}, description="classes")
    path = folder / "classes.tif"
    window = Window.of((height, width))
    write_cog(path, folder / "levels", codes.shape, UTM, layer, lambda w: codes[w.slices], [window])
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(1), codes)
        assert dataset.nodata == 255
        assert dataset.descriptions == ("classes",)
        for level in range(len(dataset.overviews(1))):
            factor = 2 ** (level + 1)
            with rasterio.open(path, overview_level=level) as overview:
                small = overview.read(1)
                assert small.shape == (-(-height // factor), -(-width // factor))
                if factor <= 8:
                    # Squares of 8 pixels are even, so their overviews are exact.
                    np.testing.assert_array_equal(small, codes[::factor, ::factor])


def test_sparse_cog_is_small(tmp_path: Path) -> None:
    side = 200_000
    codes = patchy(256, 256, 3)
    window = Window.at((40 * 4096, 8 * 4096), (256, 256))

    def read_codes(asked: Window) -> np.ndarray:
        out = np.full(asked.shape, 255, np.uint8)
        out[:256, :256] = codes
        return out

    path = tmp_path / "sparse.tif"
    blocks = [Window.at((40 * 4096, 8 * 4096), (4096, 4096))]
    write_cog(path, tmp_path / "levels", (side, side), UTM, Layer(overview="mode"), read_codes, blocks)
    assert path.stat().st_size < 10e6
    with rasterio.open(path) as dataset:
        asked = rasterio.windows.Window(window.col_off, window.row_off, 256, 256)
        np.testing.assert_array_equal(dataset.read(1, window=asked), codes)
        top = dataset.read(1, out_shape=(390, 390))
    assert 1 <= (top != 255).sum() <= 9


@pytest.mark.parametrize("place", PLACES)
def test_pixel_areas(place: str) -> None:
    """Against the geodesic area of each pixel's outline."""
    georeference = PLACES[place]
    metric = georeference.metric(Window.of((512, 512)), spacing=256)
    assert metric is not None
    geod = pyproj.CRS(georeference.crs).get_geod()
    to_degrees = pyproj.Transformer.from_crs(georeference.crs, pyproj.CRS(georeference.crs).geodetic_crs, always_xy=True)
    rows, cols = np.array([0.0, 1, 1, 0]), np.array([0.0, 0, 1, 1])
    for row, col in ((0, 0), (256, 256), (512, 256)):
        x, y = georeference.xy(rows + row - 0.5, cols + col - 0.5).T
        area, _ = geod.polygon_area_perimeter(*to_degrees.transform(x, y))
        assert metric.area[row // 256, col // 256] == pytest.approx(abs(area), rel=2e-5)
