"""Features on both sides of 180 degrees: cut there with their holes, and nothing else about them changed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyproj
import pytest
import shapely

from geoseg.formats.vector import write_features
from geoseg.georeference import Georeference
from geoseg.polygons.block_grid import BlockGrid
from geoseg.polygons.blocks import polygonize_block
from geoseg.polygons.features import FeatureFacts, feature_batches

WGS84, UTM60 = pyproj.CRS("EPSG:4326").to_wkt(), pyproj.CRS("EPSG:32660").to_wkt()


def written(path: Path, classes: np.ndarray, georeference: Georeference) -> dict[int, shapely.Geometry]:
    """The features of class 1 as GeoJSON has them, by id."""
    grid = BlockGrid(*classes.shape, 4096)
    found = polygonize_block(grid, 0, classes, None, georeference, {1})
    facts = FeatureFacts(georeference, {1: "a"}, has_confidence=False, scene="s", acquired=None, model=None, model_sha256=None)
    batches = list(feature_batches(found.closed, found.closed_measures, None, facts))
    write_features(path, "geojson", lambda: batches, georeference, classes.shape)
    return {f["id"]: shapely.geometry.shape(f["geometry"]) for f in json.loads(path.read_text())["features"]}


def rings_with_holes() -> np.ndarray:
    """Three rings around holes: west of the meridian, on it with a hole on each side and one on it, and east."""
    classes = np.zeros((60, 200), np.uint8)
    classes[5:25, 10:40] = 1
    classes[10:20, 20:30] = 0
    classes[5:55, 60:140] = 1
    classes[10:20, 70:80] = classes[10:20, 120:130] = classes[30:40, 90:110] = 0
    classes[30:50, 160:190] = 1
    classes[35:45, 170:180] = 0
    return classes


@pytest.mark.parametrize("west", [179.0, -181.0])
def test_holes_stay_where_they_are(tmp_path: Path, west: float) -> None:
    classes, pixel = rings_with_holes(), 0.01
    georeference = Georeference((pixel, 0, west, 0, -pixel, 10), WGS84)
    shapes = written(tmp_path / "polygons.geojson", classes, georeference)
    assert len(shapes) == 3
    rows, cols = np.indices(classes.shape)
    lon = (west + pixel * (cols + 0.5) + 180) % 360 - 180
    lat = 10 - pixel * (rows + 0.5)
    inside = np.zeros(classes.shape, np.int64)
    for shape in shapes.values():
        assert shape.is_valid
        inside += shapely.contains_xy(shape, lon, lat)
        for part in shapely.get_parts(shape):
            assert shapely.is_ccw(part.exterior)
            assert not any(shapely.is_ccw(hole) for hole in part.interiors)
            assert part.bounds[2] - part.bounds[0] < 1.01
    np.testing.assert_array_equal(inside, classes)
    assert sum(shape.area for shape in shapes.values()) == pytest.approx(classes.sum() * pixel**2)
    # The one in the middle is cut in two; the hole on the meridian opens to it on both sides.
    middle = shapes[5 * 200 + 60]
    assert len(shapely.get_parts(middle)) == 2
    assert sorted(len(part.interiors) for part in shapely.get_parts(middle)) == [1, 1]


def test_a_projection_that_passes_the_meridian_is_wrapped(tmp_path: Path) -> None:
    classes = np.ones((20, 60), np.uint8)
    classes[5:15, 20:40] = 0
    # Zone 60 ends at 180 degrees; the scene goes on for some kilometres.
    to_utm = pyproj.Transformer.from_crs(WGS84, UTM60, always_xy=True)
    x, y = to_utm.transform(180.0, -16.0)
    georeference = Georeference((500.0, 0, x - 15_000, 0, -500.0, y + 5000), UTM60)
    (shape,) = written(tmp_path / "polygons.geojson", classes, georeference).values()
    assert shape.is_valid
    assert (shape.bounds[0], shape.bounds[2]) == (-180, 180)
    assert all(part.bounds[2] - part.bounds[0] < 0.5 for part in shapely.get_parts(shape))
    document = json.loads((tmp_path / "polygons.geojson").read_text())
    west, _, east, _ = document["bbox"]
    assert 179.5 < west < 180
    assert -180 < east < -179.5
    geod = pyproj.Geod(ellps="WGS84")
    area = sum(geod.geometry_area_perimeter(part)[0] for part in shapely.get_parts(shape))
    assert area == pytest.approx(document["features"][0]["properties"]["area_m2"], rel=1e-4)


@pytest.mark.parametrize(
    ("code", "corner", "pixel"), [(3031, (500_000.0, 1_500_000.0), 100.0), (32721, (200_000.0, 3_500_000.0), 50.0)]
)
def test_long_edges_stay_in_their_place(tmp_path: Path, code: int, corner: tuple[float, float], pixel: float) -> None:
    """Straight edges of the CRS are curves in degrees: every edge that is written lies along one within a part of a pixel."""
    crs = pyproj.CRS.from_epsg(code).to_wkt()
    georeference = Georeference((pixel, 0, corner[0], 0, -pixel, corner[1]), crs)
    classes = np.zeros((1500, 1500), np.uint8)
    classes[10:1490, 10:1490] = 1
    (shape,) = written(tmp_path / "polygons.geojson", classes, georeference).values()
    back = pyproj.Transformer.from_crs(WGS84, crs, always_xy=True)
    lonlat = shapely.get_coordinates(shape)
    assert len(lonlat) > 5
    middles = (lonlat[1:] + lonlat[:-1]) / 2
    x, y = back.transform(middles[:, 0], middles[:, 1])
    cols, rows = (np.asarray(x) - corner[0]) / pixel, (corner[1] - np.asarray(y)) / pixel
    away = np.minimum.reduce([np.abs(v - edge) for v in (rows, cols) for edge in (10, 1490)])
    assert away.max() < 0.1
