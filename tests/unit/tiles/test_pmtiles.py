"""Vector tiles in one file, as GDAL's driver reads them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyogrio
import pyproj
import pytest
import shapely

from geoseg.tiles import pmtiles
from geoseg.tiles.pmtiles import tile_id, write_pmtiles
from geoseg.tiles.polygon_store import polygons_of
from geoseg.tiles.vector_tiles import VectorTiles
from geoseg.tiles.web_mercator import Tile

WEB = pyproj.CRS.from_epsg(3857)
PIXEL = 10.0


def tiles_of(shapes: list[shapely.Polygon], crs: pyproj.CRS = WEB) -> VectorTiles:
    codes = np.arange(len(shapes)) % 3
    values = {"code": codes.tolist(), "class": [f"class {code}" for code in codes], "scene": ["s"] * len(shapes)}
    store = polygons_of([(np.array(shapes, object), values)] if shapes else [], tuple(values), crs)
    return VectorTiles(store, PIXEL, codes, np.arange(len(shapes)), whole=True)


def scattered(count: int, side: float = 40_000.0) -> list[shapely.Polygon]:
    random = np.random.default_rng(3)
    middle = random.uniform(-side, side, (count, 2)) - np.array([7_000_000, 1_000_000])
    return [shapely.box(x, y, x + w, y + h) for (x, y), (w, h) in zip(middle, random.uniform(20, 900, (count, 2)), strict=True)]


def test_numbers_go_along_a_curve() -> None:
    """Those of the specification; on a level, each tile has one, and the next tile is beside it."""
    assert [tile_id(Tile(*zxy)) for zxy in ((0, 0, 0), (1, 0, 0), (1, 0, 1), (1, 1, 1), (1, 1, 0), (2, 0, 0))] == [
        0,
        1,
        2,
        3,
        4,
        5,
    ]
    assert tile_id(Tile(12, 3423, 1763)) == 19078479
    for z in range(7):
        found = {tile_id(Tile(z, x, y)): (x, y) for x in range(1 << z) for y in range(1 << z)}
        begin = sum(4**level for level in range(z))
        assert sorted(found) == list(range(begin, begin + 4**z))
        assert all(math.dist(found[i], found[i + 1]) == 1 for i in range(begin, begin + 4**z - 1))


@pytest.mark.parametrize("root", [16384, 600])
def test_gdal_reads_what_was_put_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: int) -> None:
    """With all entries in the root directory, and with leaves: each polygon in its place, with its attributes."""
    monkeypatch.setattr(pmtiles, "BEGIN", root)
    monkeypatch.setattr(pmtiles, "LEAF", 64)
    shapes = scattered(300)
    path = tmp_path / "a.pmtiles"
    assert write_pmtiles(path, tiles_of(shapes), "map") > 300
    frame = pyogrio.read_dataframe(path, layer="polygons")
    assert frame.crs.to_epsg() == 3857
    for number, parts in frame.groupby("mvt_id"):
        assert set(parts["code"]) == {number % 3}
        assert set(parts["class"]) == {f"class {number % 3}"}
        assert shapely.hausdorff_distance(shapely.union_all(parts.geometry), shapes[number]) < PIXEL
    assert set(frame["mvt_id"]) == set(range(len(shapes)))
    boxes = np.array(pyogrio.read_info(path, layer="polygons", force_total_bounds=True)["total_bounds"])
    assert np.abs(boxes - shapely.total_bounds(shapes)).max() < 2000
    again = tmp_path / "b.pmtiles"
    write_pmtiles(again, tiles_of(shapes), "map")
    assert again.read_bytes() == path.read_bytes()


def test_over_the_180th_meridian_both_sides_are_there(tmp_path: Path) -> None:
    box = shapely.box(700_000, 8_000_000, 900_000, 8_010_000)
    write_pmtiles(tmp_path / "a.pmtiles", tiles_of([box], pyproj.CRS.from_epsg(32760)), "map")
    frame = pyogrio.read_dataframe(tmp_path / "a.pmtiles", layer="polygons").to_crs("EPSG:4326")
    longitudes = frame.geometry.representative_point().x
    assert (longitudes > 178).any()
    assert (longitudes < -178).any()


def test_nothing_is_a_file_without_tiles(tmp_path: Path) -> None:
    path = tmp_path / "a.pmtiles"
    assert write_pmtiles(path, tiles_of([]), "map") == 0
    assert path.read_bytes()[:8] == b"PMTiles\3"
