"""Where outlines that people draw may lie."""

from __future__ import annotations

from pathlib import Path

import geopandas
import pytest
import shapely

from geoseg.errors import ConfigError
from geoseg.vectors.polygon_file import PolygonFile
from pipeline.review.decisions import Decision
from pipeline.review.place import Place


def drawn(west: float, south: float, side: float = 1e-3) -> Decision:
    outline = shapely.box(west, south, west + side, south + side)
    return Decision.parse({"action": "redraw", "class": 1, "geometry": outline.__geo_interface__})


def place(tmp_path: Path, crs: str, *boxes: tuple[float, float]) -> Place:
    shapes = [shapely.box(x, y, x + 1e-3, y + 1e-3) for x, y in boxes]
    geopandas.GeoDataFrame(geometry=shapes, crs="EPSG:4326").to_crs(crs).to_file(tmp_path / "f.gpkg")
    found = Place.about(PolygonFile.open(tmp_path / "f.gpkg"))
    assert found is not None
    return found


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:32720", "EPSG:3857"])
def test_near_is_taken_and_elsewhere_is_refused(tmp_path: Path, crs: str) -> None:
    here = place(tmp_path, crs, (-63.64, -9.68), (-63.60, -9.70))
    for west, south in ((-63.64, -9.68), (-63.3, -9.68), (296.36, -9.68), (-63.64, -9.3)):
        here.check(drawn(west, south))
    for west, south in ((-9.68, -63.64), (-63.0, -9.68), (-64.3, -9.68), (-63.64, -9.1), (116.36, 9.68)):
        with pytest.raises(ConfigError, match="longitude first"):
            here.check(drawn(west, south))
    with pytest.raises(ConfigError, match="not where the buildings are"):
        here.check(drawn(-70, -20, 30))
    here.check(Decision.parse({"action": "accept", "polygon": 1}))


def test_longitudes_go_round(tmp_path: Path) -> None:
    here = place(tmp_path, "EPSG:4326", (179.99, -17.0))
    here.check(drawn(-179.9, -17.0))
    here.check(drawn(180.1, -17.0))
    with pytest.raises(ConfigError):
        here.check(drawn(-178.0, -17.0))
    across = place(tmp_path, "EPSG:32760", (179.99, -17.0), (180.05, -17.0))
    across.check(drawn(-179.9, -17.0))
    across.check(drawn(179.9, -17.0))
    with pytest.raises(ConfigError):
        across.check(drawn(0.0, -17.0))
