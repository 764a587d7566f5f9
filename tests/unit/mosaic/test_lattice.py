"""The lattice: scenes on its pixels are found there whole, and distances from edges are those of the scene."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rasterio import Affine
from support import TRANSFORM, UTM, WriteRaster

from geoseg.crs import crs_of
from geoseg.errors import ConfigError
from geoseg.georeference import Georeference
from geoseg.models.model_folder import Model
from geoseg.scenes.opening import open_scene
from geoseg.scenes.sources import SceneRef
from geoseg.windows import Window
from pipeline.config.sections import Config
from pipeline.mosaic.depth import edge_distances
from pipeline.mosaic.lattice import Lattice, lattice_of
from pipeline.mosaic.scenes import PlacedScene

WKT = crs_of(UTM).to_wkt()


@given(
    st.sampled_from([10.0, 0.3, 15.0, 1 / 3]),
    st.integers(-(10**6), 10**6),
    st.integers(-(10**6), 10**6),
    st.integers(1, 3000),
    st.integers(1, 3000),
    st.floats(0, 0.999),
)
def test_a_scene_fills_whole_pixels(pixel: float, row: int, col: int, height: int, width: int, share: float) -> None:
    lattice = Lattice(WKT, (pixel, pixel), (share * pixel, share * pixel))
    place = lattice.georeference(row, col)
    assert lattice.holds(place, (height, width))
    assert lattice.window(place, (height, width)) == Window.at((row, col), (height, width))
    a, b, c, d, e, f = place.transform
    beside = Georeference((a, b, c + 0.4 * pixel, d, e, f), WKT)
    assert not lattice.holds(beside, (height, width))
    around = lattice.window(beside, (height, width))
    assert (around.col_off, around.width) == (col, width + 1)
    assert Lattice.of(lattice.document()) == lattice


def placed(lattice: Lattice, place: Georeference, shape: tuple[int, int]) -> PlacedScene:
    window = lattice.window(place, shape)
    return PlacedScene(SceneRef("one", ("one.tif",)), None, "", place, shape, window, lattice.holds(place, shape), window)


def test_distances_from_edges() -> None:
    lattice = Lattice(WKT, (10.0, 10.0), (0.0, 0.0))
    scene = placed(lattice, lattice.georeference(-893_000, 43_000), (40, 70))
    assert scene.direct
    distances = edge_distances(scene, lattice, scene.image)
    for row, col in ((0, 0), (3, 60), (20, 35), (39, 69)):
        assert distances[:, row, col].tolist() == sorted([row, 39 - row, col, 69 - col])


def test_distances_in_a_turned_scene_are_those_of_its_own_pixels() -> None:
    """Pixels of 5 m, turned by 30 degrees: the distance of a point from the nearest side, in pixels of 10 m."""
    lattice = Lattice(WKT, (10.0, 10.0), (0.0, 0.0))
    cos, sin = math.cos(math.radians(30)), math.sin(math.radians(30))
    scene = placed(lattice, Georeference((5 * cos, 5 * sin, 430_000.0, 5 * sin, -5 * cos, 8_930_000.0), WKT), (400, 600))
    assert not scene.direct
    distances = edge_distances(scene, lattice, scene.image)
    center = scene.image.height // 2, scene.image.width // 2
    x, y = lattice.georeference(scene.image.row_off, scene.image.col_off).xy(*(np.array([v + 0.5]) for v in center))[0]
    along, down = (x - 430_000) * cos + (y - 8_930_000) * sin, (x - 430_000) * sin - (y - 8_930_000) * cos
    expected = sorted(v / 10 for v in (along, 3000 - along, down, 2000 - down))
    assert distances[:, center[0], center[1]] == pytest.approx(np.floor(expected), abs=1)
    assert (distances[0] < 0).any()


def test_the_lattice_of_a_first_scene(write_raster: WriteRaster, identity_model: Model) -> None:
    """Pixels of the scene stay pixels of the lattice; those of another size or CRS begin at multiples of their size."""
    moved = TRANSFORM @ Affine.translation(0.25, 0.5)
    ref = SceneRef("one", (str(write_raster(np.zeros((70, 90), np.uint8), transform=moved)),))
    scene, card = open_scene(ref.paths, ref.name), identity_model.card
    own = lattice_of(ref, scene, Config(), card)
    assert (own.pixel, own.corner) == ((10.0, 10.0), (2.5, 5.0))
    assert own.holds(scene.georeference, (70, 90))
    same = Config.parse({"scene": {"target_crs": UTM}})
    assert lattice_of(ref, scene, same, card) == own
    resampled = lattice_of(ref, scene, Config.parse({"scene": {"resample": True}}), card.model_copy(update={"gsd_m": 20.0}))
    assert (resampled.pixel, resampled.corner) == ((20.0, 20.0), (0.0, 0.0))
    degrees = lattice_of(ref, scene, Config.parse({"scene": {"target_crs": "EPSG:4326"}}), card)
    assert degrees.corner == (0.0, 0.0)
    assert degrees.pixel == pytest.approx((9e-5, 9e-5), rel=0.03)
    window = degrees.window(scene.georeference, (70, 90))
    assert (window.height, window.width) == pytest.approx((70, 90), abs=3)
    with pytest.raises(ConfigError, match="gsd_m"):
        lattice_of(ref, scene, Config.parse({"scene": {"resample": True}}), card.model_copy(update={"gsd_m": None}))
