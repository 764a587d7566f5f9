"""Styles in files, and files without them: what programs see that know nothing of QGIS."""

from __future__ import annotations

import json
import sqlite3
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

import geopandas
import pyogrio
import pytest
import rasterio
from support import call_cli, patchy

COLORS = {0: (10, 20, 30), 1: (200, 0, 255), 2: (0, 128, 1)}


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("classes") / "classes.tif"
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "height": 90, "width": 110, "crs": "EPSG:32720"}
    with rasterio.open(path, "w", **profile, transform=rasterio.Affine(10, 0, 430_000, 0, -10, 8_930_000)) as dataset:
        dataset.write(patchy(90, 110, 3, 4, 3.0), 1)
        dataset.write_colormap(1, COLORS)
    return path


def made(classes: Path, out: Path, *options: str) -> Path:
    done = call_cli(["vectorize", classes, "--out", out, *options])
    assert done.returncode == 0, done.stderr
    return out


def test_a_geopackage_without_the_table_has_one_layer(classes, tmp_path):
    """The same features; no program has to choose, and none warns. With the table, the polygons are the first layer."""
    styled, plain = made(classes, tmp_path / "styled.gpkg"), made(classes, tmp_path / "plain.gpkg", "--no-style-table")
    assert pyogrio.list_layers(styled)[:, 0].tolist() == ["polygons", "layer_styles"]
    assert pyogrio.list_layers(plain).tolist() == [["polygons", "Polygon"]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = geopandas.read_file(plain)
    assert found.equals(geopandas.read_file(styled, layer="polygons"))
    with closing(sqlite3.connect(plain)) as connection:
        assert connection.execute("SELECT table_name, data_type FROM gpkg_contents").fetchall() == [("polygons", "features")]


def test_features_have_the_colours_of_their_classes(classes, tmp_path):
    """By the palette of the raster; all else of the features is as without."""
    plain = json.loads(made(classes, tmp_path / "p.geojson").read_text())
    colored = json.loads(made(classes, tmp_path / "c.geojson", "--simplestyle").read_text())
    assert len(plain["features"]) == len(colored["features"]) > 10
    for without, feature in zip(plain["features"], colored["features"], strict=True):
        properties: dict[str, Any] = feature["properties"]
        fill = "#{:02x}{:02x}{:02x}".format(*COLORS[properties["code"]])
        assert (properties.pop("fill"), properties.pop("stroke"), properties.pop("fill-opacity")) == (fill, fill, 0.6)
        assert feature == without


def test_tiles_hold_all_polygons(classes, tmp_path):
    """At the deepest level, as GDAL reads them: each feature of the GeoPackage once its parts are put together."""
    tiled, columns = made(classes, tmp_path / "t.pmtiles"), ["id", "class", "code", "area_m2"]
    wanted = geopandas.read_file(made(classes, tmp_path / "p.gpkg"), layer="polygons")
    # Where GDAL clips to the tile, it loses parts of multipolygons.
    parts = geopandas.read_file(tiled, layer="polygons", CLIP="NO")
    assert parts.geometry.is_valid.all()
    found = parts.dissolve("id").to_crs(wanted.crs).loc[wanted["id"]].reset_index()
    assert found[columns].equals(wanted[columns].astype(found[columns].dtypes))
    assert (found.geometry.hausdorff_distance(wanted.geometry) < 10).all()
    assert call_cli(["vectorize", classes, "--out", tmp_path / "again.pmtiles"]).returncode == 0
    assert (tmp_path / "again.pmtiles").read_bytes() == tiled.read_bytes()
