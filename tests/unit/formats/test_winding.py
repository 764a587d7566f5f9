"""The sense of rings in files, whichever way the rows go: outer ones counter-clockwise, holes clockwise."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np
import pyproj
import pytest
import shapely

from geoseg.formats.vector import EXTENSIONS, write_features
from geoseg.georeference import Georeference
from geoseg.polygons.block_grid import BlockGrid
from geoseg.polygons.blocks import polygonize_block
from geoseg.polygons.features import FeatureFacts, feature_batches

UTM = pyproj.CRS("EPSG:32721").to_wkt()
TRANSFORMS = {
    "north up": (10.0, 0.0, 500_000.0, 0.0, -10.0, 9_000_000.0),
    "south up": (10.0, 0.0, 500_000.0, 0.0, 10.0, 9_000_000.0),
    "mirrored": (-10.0, 0.0, 500_000.0, 0.0, -10.0, 9_000_000.0),
    "turned": (6.0, 8.0, 500_000.0, 8.0, -6.0, 9_000_000.0),
}


@pytest.mark.parametrize("kind", EXTENSIONS)
@pytest.mark.parametrize("way", TRANSFORMS)
def test_outer_rings_are_counter_clockwise_and_holes_are_not(tmp_path: Path, way: str, kind: str) -> None:
    georeference = Georeference(TRANSFORMS[way], UTM)
    classes = np.zeros((12, 15), np.uint8)
    classes[2:10, 2:12] = 1
    classes[4:7, 5:9] = 0
    found = polygonize_block(BlockGrid(12, 15), 0, classes, None, georeference, {1})
    facts = FeatureFacts(georeference, {1: "a"}, has_confidence=False, scene="s", acquired=None, model=None, model_sha256=None)
    batches = list(feature_batches(found.closed, found.closed_measures, None, facts))
    path = tmp_path / f"a{EXTENSIONS[kind]}"
    write_features(path, kind, lambda: batches, georeference, classes.shape)
    frame = geopandas.read_parquet(path) if kind == "parquet" else geopandas.read_file(path)
    (polygon,) = shapely.get_parts(frame.geometry.to_numpy())
    if kind != "fgb":  # GDAL turns the rings of FlatGeobuf as that format wants them
        assert shapely.is_ccw(polygon.exterior)
        assert [shapely.is_ccw(hole) for hole in polygon.interiors] == [False]
    if kind != "geojson":
        corners = [(2, 2), (2, 12), (10, 12), (10, 2)]
        a, b, c, d, e, f = TRANSFORMS[way]
        expected = shapely.Polygon(
            [(a * col + b * row + c, d * col + e * row + f) for row, col in corners],
            [[(a * col + b * row + c, d * col + e * row + f) for row, col in [(4, 5), (4, 9), (7, 9), (7, 5)]]],
        )
        assert shapely.normalize(polygon) == shapely.normalize(expected)
        assert frame["area_m2"][0] == pytest.approx(68 * 100, rel=2e-3)
        assert frame["perimeter_m"][0] == pytest.approx(50 * 10, rel=2e-3)
