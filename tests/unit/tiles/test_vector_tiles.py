"""Vector tiles, as GDAL reads them, hold the polygons they were cut from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
import shapely.affinity
from hypothesis import given
from hypothesis import strategies as st

from geoseg.tiles.clipping import clip_rings
from geoseg.tiles.mvt import EXTENT
from geoseg.tiles.polygon_store import PolygonStore, read_polygons
from geoseg.tiles.vector_tiles import MARGIN, VectorTiles
from geoseg.tiles.web_mercator import HALF, Tile, tiles_within
from geoseg.vectors.polygon_file import PolygonFile

COUNT = 300


@pytest.fixture(scope="module")
def shapes() -> np.ndarray:
    """Blobs of 20 m to 4 km with holes, some of several parts, in UTM."""
    rng = np.random.default_rng(3)
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    found = []
    for number in range(COUNT):
        middle = rng.uniform((430_000, 8_900_000), (470_000, 8_930_000))
        radius = rng.lognormal(5, 1.3) * rng.uniform(0.6, 1, len(angles))
        ring = middle + radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        hole = middle + 0.3 * (ring - middle)
        blob = shapely.Polygon(ring, [hole] if number % 3 else [])
        moved = shapely.affinity.translate(blob, 3 * radius.max(), 0)
        found.append(shapely.MultiPolygon([blob, moved]) if number % 10 == 0 else blob)
    return np.array(found, object)


@pytest.fixture(scope="module")
def store(shapes: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> PolygonStore:
    path = tmp_path_factory.mktemp("polygons") / "polygons.gpkg"
    numbers = np.arange(COUNT)
    pyogrio.raw.write(
        path,
        shapely.to_wkb(np.append(shapes, shapely.Point(450_000, 8_910_000))),
        [np.append(numbers, 0), np.append(np.array([f"ü{n}" for n in numbers], object), "")],
        ["code", "text"],
        geometry_type="Unknown",
        driver="GPKG",
        crs="EPSG:32720",
        layer="polygons",
    )
    return read_polygons(PolygonFile.open(path))


def decoded(data: bytes, folder: Path, layer: str = "polygons") -> dict[str, list[object]]:
    """Columns and shapes of a layer, in units of the tile with y downwards, as GDAL reads them."""
    path = folder / "tile.pbf"
    path.write_bytes(data)
    if not data or layer not in pyogrio.list_layers(f"MVT:{path}")[:, 0]:
        return {"mvt_id": [], "shape": []}
    meta, _, geometry, values = pyogrio.raw.read(f"MVT:{path}", layer=layer)
    shapes = shapely.transform(shapely.from_wkb(geometry), lambda xy: np.stack([xy[:, 0], EXTENT - xy[:, 1]], axis=1))
    return {**dict(zip(meta["fields"], (column.tolist() for column in values), strict=True)), "shape": list(shapes)}


def in_tile(shapes: np.ndarray, tile: Tile) -> np.ndarray:
    """The shapes in units of a tile, by pyproj."""
    import pyproj

    move = pyproj.Transformer.from_crs("EPSG:32720", "EPSG:3857", always_xy=True)
    left, _, _, top = tile.box

    def moved(xy: np.ndarray) -> np.ndarray:
        x, y = move.transform(xy[:, 0], xy[:, 1])
        return np.stack([(x - left), (top - y)], axis=1) * (EXTENT / tile.side)

    return shapely.transform(shapes, moved)


def test_the_deepest_tiles_hold_every_polygon_where_it_is(store: PolygonStore, shapes: np.ndarray, tmp_path: Path) -> None:
    assert (len(store), store.left_out) == (COUNT, 1)
    tiles = VectorTiles(store, 10.0, np.arange(COUNT), np.arange(COUNT))
    # GDAL cuts what it reads to the tile itself.
    square, around = shapely.box(0, 0, EXTENT, EXTENT), shapely.box(-MARGIN, -MARGIN, EXTENT + MARGIN, EXTENT + MARGIN)
    seen: set[object] = set()
    chosen = list(tiles_within(store.box, tiles.max_zoom))
    for tile in chosen[:: max(1, len(chosen) // 12)]:
        found = decoded(tiles.tile(tile), tmp_path)
        truth = in_tile(shapes, tile)
        assert set(found["mvt_id"]) >= set(np.flatnonzero(shapely.area(shapely.intersection(truth, square)) > 2).tolist())
        assert set(found["mvt_id"]) <= set(np.flatnonzero(shapely.intersects(truth, around.buffer(2))).tolist())
        for row, text, shape in zip(found["mvt_id"], found.get("text", []), found["shape"], strict=True):
            assert text == f"ü{row}"
            cut = shapely.intersection(truth[row], square)
            # Corners are rounded to whole units.
            assert shapely.area(shapely.symmetric_difference(shapely.make_valid(shape), cut)) <= 1.5 * cut.length + 4
        seen |= set(found["mvt_id"])
    assert len(seen) > COUNT / 10


def test_above_every_class_is_seen_and_no_tile_is_large(store: PolygonStore, tmp_path: Path) -> None:
    tiles = VectorTiles(store, 10.0, np.arange(COUNT) % 7, np.arange(COUNT)[::-1].copy())
    for zoom in range(tiles.max_zoom):
        polygons, dots = [], []
        for tile in tiles_within(store.box, zoom):
            data = tiles.tile(tile)
            polygons += decoded(data, tmp_path)["mvt_id"]
            dots += decoded(data, tmp_path, "dots")["mvt_id"]
            assert len(data) < 1 << 20
        assert {row % 7 for row in polygons + dots} == set(range(7))
        assert not set(polygons) & set(dots)
        if zoom == 0:
            # All lie in one square: of each class the first in the order is left.
            assert not polygons
            assert set(dots) == set(range(COUNT - 7, COUNT))


def test_polygons_across_the_180th_meridian_are_on_both_sides(tmp_path: Path) -> None:
    path = tmp_path / "east.gpkg"
    pyogrio.raw.write(
        path,
        shapely.to_wkb(np.array([shapely.box(179.9, -17, 180.1, -16.8)], object)),
        [np.array([5])],
        ["code"],
        geometry_type="Polygon",
        driver="GPKG",
        crs="OGC:CRS84",
    )
    # In degrees beyond 180 only here; a UTM zone gives what GDAL brings to -179.9.
    store = read_polygons(PolygonFile.open(path))
    tiles = VectorTiles(store, 1000.0, np.array([5]), np.array([0]))
    last = (1 << tiles.max_zoom) - 1
    side = 2 * HALF / (1 << tiles.max_zoom)
    row = int((HALF + 1_900_000) / side)
    west, east = (
        shapely.union_all(
            [s for y in (row - 1, row, row + 1) for s in decoded(tiles.tile(Tile(tiles.max_zoom, x, y)), tmp_path)["shape"]]
        )
        for x in (last, 0)
    )
    assert not west.is_empty
    assert not east.is_empty


@given(
    st.lists(
        st.lists(st.tuples(st.integers(-40, 40), st.integers(-40, 40)), min_size=3, max_size=9),
        min_size=1,
        max_size=5,
    )
)
def test_cut_rings_have_the_area_of_the_intersection(rings: list[list[tuple[int, int]]]) -> None:
    hulls = [shapely.MultiPoint(ring).convex_hull for ring in rings]
    hulls = [hull for hull in hulls if hull.geom_type == "Polygon"]
    points = [np.array(hull.exterior.coords)[:-1] for hull in hulls]
    begin = np.concatenate([[0], np.cumsum([len(p) for p in points])]).astype(np.int64)
    xy = np.concatenate([np.zeros((0, 2)), *points])
    cut, offsets = clip_rings(xy, begin, -10.0, 15.0)
    assert (np.diff(offsets) >= 0).all()
    assert len(offsets) == len(begin)
    for i, hull in enumerate(hulls):
        ring = cut[offsets[i] : offsets[i + 1]]
        area = shapely.Polygon(ring).area if len(ring) > 2 else 0.0
        assert np.isclose(area, hull.intersection(shapely.box(-10, -10, 15, 15)).area, atol=1e-6)
