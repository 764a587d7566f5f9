"""Areas by zone: exact on any grid and in any CRS, whatever the file of zones holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyproj
import pytest
import rasterio
import shapely
from rasterio import Affine

from geoseg.errors import ConfigError
from geoseg.scenes.scene import OpenOptions
from pipeline.changes.rates import intervals_of
from pipeline.files.class_rasters import RasterFile, open_class_raster
from pipeline.summarize.zones import Zone, areas_by_zone, check_zones, write_zones
from tests.support import TRANSFORM, UTM, patchy

SHAPE = 90, 130
GRIDS = {
    "north-up": (UTM, TRANSFORM),
    "south-up": (UTM, Affine(10, 0, 430_000, 0, 10, 8_900_000)),
    "rotated": (UTM, TRANSFORM @ Affine.rotation(33) @ Affine.scale(1, 1.7)),
    "degrees": ("EPSG:4326", Affine(1e-4, 0, -63.5, 0, -1.3e-4, -9.5)),
    "rotated degrees": ("EPSG:4326", Affine(1e-4, 0, -63.5, 0, -1.3e-4, -9.5) @ Affine.rotation(-70)),
}


def raster_of(path: Path, grid: str) -> tuple[RasterFile, Any]:
    codes = patchy(*SHAPE, 4, 3)
    codes[20:30, 40:60] = 254
    crs, transform = GRIDS[grid]
    profile = {"driver": "GTiff", "height": SHAPE[0], "width": SHAPE[1], "count": 1, "dtype": "uint8", "crs": crs}
    with rasterio.open(path, "w", transform=transform, **profile) as target:
        target.write(codes, 1)
        target.update_tags(geoseg_scene="map")
    return open_class_raster(str(path), OpenOptions())[0], codes


def zones_file(path: Path, shapes: list[Any], crs: str | None, **columns: list[Any]) -> str:
    geopandas.GeoDataFrame(columns or {"name": [str(i) for i in range(len(shapes))]}, geometry=shapes, crs=crs).to_file(path)
    return str(path)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("zone_crs", ["EPSG:4326", "EPSG:3857"])
def test_areas_are_those_of_the_parts_of_pixels(tmp_path: Path, grid: str, zone_crs: str) -> None:
    raster, codes = raster_of(tmp_path / "map.tif", grid)
    crs, transform = GRIDS[grid]
    rng = np.random.default_rng(1)
    # Stars around some places, in pixels; some reach beyond the raster.
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    inside = [
        shapely.Polygon(np.stack([c + r * np.cos(angles), w + r * np.sin(angles)], axis=1))
        for c, w in rng.uniform((0, 0), SHAPE[::-1], (6, 2))
        for r in [rng.uniform(5, 40, len(angles))]
    ]
    move = pyproj.Transformer.from_crs(crs, zone_crs, always_xy=True)

    def placed(shape: Any) -> Any:
        dense = shapely.segmentize(shape, 1.0)
        return shapely.transform(dense, lambda p: np.stack(move.transform(*(transform @ (p[:, 0], p[:, 1]))), axis=1))

    path = zones_file(tmp_path / "zones.gpkg", [placed(shape) for shape in inside], zone_crs)
    rows, cols = np.indices(SHAPE)
    pixels = shapely.box(cols, rows, cols + 1, rows + 1)
    corners = [transform @ corner for corner in ((0, 0), (SHAPE[1], 0), SHAPE[::-1], (0, SHAPE[0]))]
    outline = shapely.segmentize(shapely.Polygon(corners), abs(transform.a) * 5 or 1e-4)
    lonlat = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    area, _ = pyproj.Geod(ellps="WGS84").geometry_area_perimeter(
        shapely.transform(outline, lambda p: np.stack(lonlat.transform(p[:, 0], p[:, 1]), axis=1))
    )
    for zone, shape in zip(areas_by_zone(raster, path), inside, strict=True):
        share = shapely.area(shapely.intersection(pixels, shape))
        for code in np.unique(codes):
            expected = share[codes == code].sum() * abs(area) / codes.size
            assert zone.area_m2.get(int(code), 0.0) == pytest.approx(expected, rel=2e-3, abs=abs(area) / codes.size * 0.05)


def test_zones_of_the_whole_world_share_a_small_raster_among_them(tmp_path: Path) -> None:
    raster, codes = raster_of(tmp_path / "map.tif", "rotated")
    cells = [shapely.box(lon, lat, lon + 10, lat + 10) for lon in range(-180, 180, 10) for lat in range(-90, 90, 10)]
    whole = areas_by_zone(raster, zones_file(tmp_path / "one.gpkg", [shapely.box(-180, -90, 180, 90)], "EPSG:4326"))[0]
    found = areas_by_zone(raster, zones_file(tmp_path / "cells.gpkg", cells, "EPSG:4326"))
    assert len(found) == len(cells)
    for code in np.unique(codes):
        assert sum(zone.area_m2.get(int(code), 0.0) for zone in found) == pytest.approx(whole.area_m2[int(code)], rel=1e-9)


def test_odd_zones_are_empty_and_what_is_no_zone_is_refused(tmp_path: Path) -> None:
    raster, _ = raster_of(tmp_path / "map.tif", "north-up")
    x, y = TRANSFORM.c, TRANSFORM.f
    all_of_it, bowtie = (
        shapely.box(x, y - 900, x + 1300, y),
        shapely.Polygon([(x, y), (x + 800, y - 800), (x + 800, y), (x, y - 800)]),
    )
    mixed = shapely.GeometryCollection([shapely.box(x, y - 900, x + 10, y)])
    shapes = [
        None,
        shapely.Polygon(),
        shapely.box(x + 1e6, y, x + 2e6, y + 9),
        shapely.box(x - 500, y - 900, x, y),
        bowtie,
        all_of_it,
    ]
    found = areas_by_zone(raster, zones_file(tmp_path / "odd.gpkg", shapes, UTM))
    sums = [sum(zone.area_m2.values()) for zone in found]
    assert sums[:4] == [0, 0, 0, 0]
    assert sums[4] == pytest.approx(800 * 400, rel=2e-3)
    assert sums[5] == pytest.approx(900 * 1300, rel=2e-3)
    table, _ = write_zones(found, {0: "a", 1: "b"}, tmp_path / "out", pyproj.CRS.from_user_input(UTM))
    assert len(table.read_text().splitlines()) == 7
    for shape, crs, text in (
        (shapely.Point(x, y), UTM, "feature 1 is a Point"),
        (mixed, UTM, "feature 1 is a GeometryCollection"),
        (all_of_it, None, "no CRS"),
        (shapely.Polygon(), UTM, "holds no polygons"),
    ):
        path = zones_file(tmp_path / "bad.gpkg", [shape], crs)
        with pytest.raises(ConfigError, match=text):
            areas_by_zone(raster, check_zones(path) and path)


def test_rates_are_those_of_compound_interest_and_sum_up() -> None:
    states = {"before": "forest", "after": "other"}
    changes = {
        "2": {"since": "2000-01-01", "until": "2010-01-01T12:00:00Z", **states},
        "3": {"since": "2010-01-01T12:00:00Z", "until": "2020-01-01", **states},
    }
    rows = intervals_of(changes, {1: 50.0, 2: 30.0, 3: 20.0})
    assert [row["never_lost_before_ha"] for row in rows] == [100.0, 70.0]
    # A date with a time and one without are compared by day.
    assert [row["years"] for row in rows] == pytest.approx([10, 10], abs=0.01)
    assert rows[0]["annual_rate_percent"] == pytest.approx(100 * np.log(0.7) / rows[0]["years"], abs=1e-3)
    assert rows[0]["loss_ha_per_year"] == pytest.approx(3.0, abs=0.01)
    assert all(row["annual_rate_percent"] is None for row in intervals_of(changes, {}))
    # Years are dates: their middles lie as far apart as they do.
    years = {"2": {"since": "1985", "until": "2020", **states}}
    assert intervals_of(years, {1: 50.0, 2: 50.0})[0]["years"] == pytest.approx(35, abs=0.01)


def test_a_zone_knows_its_facts(tmp_path: Path) -> None:
    raster, _ = raster_of(tmp_path / "map.tif", "north-up")
    box = shapely.box(TRANSFORM.c, TRANSFORM.f - 900, TRANSFORM.c + 1300, TRANSFORM.f)
    path = zones_file(tmp_path / "zones.geojson", [box], UTM, name=["Ucayali"], people=[3])
    (zone,) = areas_by_zone(raster, path)
    assert isinstance(zone, Zone)
    assert zone.facts == {"name": "Ucayali", "people": 3}
