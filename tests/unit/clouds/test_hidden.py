"""What hides the ground: bits and classes of quality layers, polygons, growing; on any grid, by any window."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.features
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio import Affine
from scipy import ndimage

from geoseg.arrays import Bools
from geoseg.clouds.growing import Grown, grown
from geoseg.clouds.opening import open_source
from geoseg.clouds.quality_rules import QUALITY
from geoseg.errors import ConfigError, GeoreferenceError
from geoseg.georeference import Georeference
from geoseg.instances.cutting import cut_hidden
from geoseg.instances.masks import Masks
from geoseg.instances.objects import Objects
from geoseg.scenes.clouds import CloudFile, CloudLayer
from geoseg.scenes.products.product_facts import QualityKind
from geoseg.scenes.products.quality import QualityLayer
from geoseg.windows import Window
from tests.support import TRANSFORM, UTM

SHAPE = 60, 80
WHOLE = Window.of(SHAPE)
HERE = Georeference(tuple(TRANSFORM)[:6], rasterio.crs.CRS.from_user_input(UTM).to_wkt())


def layer_of(path: Path, kind: QualityKind, data: NDArray[Any], transform: Affine = TRANSFORM) -> QualityLayer:
    bands = data if data.ndim == 3 else data[None]
    profile = {"driver": "GTiff", "count": len(bands), "height": bands.shape[1], "width": bands.shape[2], "dtype": bands.dtype}
    with rasterio.open(path, "w", **profile, crs=UTM, transform=transform) as target:
        target.write(bands)
    return QualityLayer(kind=kind, path=str(path), driver="GTiff")


def hides(layer: QualityLayer, *classes: str) -> Bools:
    return open_source(CloudLayer(layer=layer, classes=classes), HERE, SHAPE).read(WHOLE)


# Landsat Collection 2, QA_PIXEL, from the tables of the product guide; what stands beside each is what they say of it.
LANDSAT = {
    21824: "",  # clear, all confidences low
    21888: "",  # clear water
    21952: "",  # water, clear
    30048: "snow",
    22080: "",  # a mid confidence of clouds, and no flag
    22144: "",
    22280: "cloud",
    23888: "shadow",
    23952: "shadow",
    24088: "cloud shadow",
    54596: "cirrus",
    55052: "cloud cirrus",
    21826: "dilated",
    1: "fill",
}
BITS = {"fill": 0, "dilated": 1, "cirrus": 2, "cloud": 3, "shadow": 4, "snow": 5}


@pytest.mark.parametrize("classes", [(), ("cloud",), ("5",), ("snow", "shadow")])
def test_bits_of_landsat(tmp_path: Path, classes: tuple[str, ...]) -> None:
    known = {value: words.split() for value, words in LANDSAT.items()}
    values = np.random.default_rng(0).choice(list(known), SHAPE).astype(np.uint16)
    asked = {BITS.get(name, 5) for name in classes} or {1, 2, 3, 4}
    expected = np.zeros(SHAPE, np.bool_)
    for value, words in known.items():
        assert {BITS[word] for word in words} == {bit for bit in range(6) if value >> bit & 1}
        expected[values == value] = bool({BITS[word] for word in words} & {*asked, 0})
    np.testing.assert_array_equal(hides(layer_of(tmp_path / "qa.tif", "qa", values), *classes), expected)


def test_classes_of_sentinel_on_a_coarser_grid(tmp_path: Path) -> None:
    classes = np.arange(30 * 40).reshape(30, 40).astype(np.uint8) % 12
    layer = layer_of(tmp_path / "scl.tif", "scl", classes, TRANSFORM @ Affine.scale(2))
    fine = classes.repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(hides(layer), np.isin(fine, [0, 1, 3, 8, 9, 10]))
    np.testing.assert_array_equal(hides(layer, "snow", "9"), np.isin(fine, [0, 1, 9, 11]))
    with pytest.raises(ConfigError, match="'smoke' is none of this quality layer; it has 2 dark, 3 shadow"):
        hides(layer, "smoke")


def test_bits_of_harmonized_scenes(tmp_path: Path) -> None:
    values = np.arange(SHAPE[0] * SHAPE[1]).reshape(SHAPE).astype(np.uint8)
    expected = np.array([bool({1, 2, 3} & {bit for bit in range(8) if v >> bit & 1}) for v in range(256)])
    expected[255] = True
    np.testing.assert_array_equal(hides(layer_of(tmp_path / "f.tif", "fmask", values)), expected[values])


def test_usable_data_masks(tmp_path: Path) -> None:
    bands = np.random.default_rng(0).integers(0, 2, (8, *SHAPE)).astype(np.uint8)
    layer = layer_of(tmp_path / "udm2.tif", "udm2", bands)
    np.testing.assert_array_equal(hides(layer), bands[0] == 0)
    np.testing.assert_array_equal(hides(layer, "cloud", "light haze"), (bands[5] == 1) | (bands[3] == 1))


def test_what_a_layer_does_not_reach_is_not_known_to_be_clear(tmp_path: Path) -> None:
    layer = layer_of(tmp_path / "scl.tif", "scl", np.full((20, 80), 4, np.uint8))
    assert (hides(layer) == (np.arange(60) >= 20)[:, None]).all()
    away = layer_of(tmp_path / "away.tif", "scl", np.full((20, 80), 4, np.uint8), TRANSFORM @ Affine.translation(500, 0))
    with pytest.raises(GeoreferenceError, match="does not overlap"):
        hides(away)


def test_every_default_is_a_class_of_its_layer() -> None:
    for kind, rule in QUALITY.items():
        assert set(rule.default) <= {number for _, number in rule.names} | set(rule.unknown), kind


def test_polygons_hide_the_pixels_whose_centres_they_cover(tmp_path: Path) -> None:
    ring = [(430_101, 8_929_950), (430_555, 8_929_888), (430_404, 8_929_502), (430_101, 8_929_950)]
    shape = {"type": "Polygon", "coordinates": [ring]}
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32720"}}
    feature = {"type": "Feature", "properties": {}, "geometry": shape}
    path = tmp_path / "clouds.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": [feature]}))
    expected = rasterio.features.rasterize([shape], SHAPE, transform=TRANSFORM) == 1
    assert expected.any()
    np.testing.assert_array_equal(open_source(CloudFile(path=str(path)), HERE, SHAPE).read(WHOLE), expected)


class Whole:
    """A mask in memory."""

    def __init__(self, hidden: Bools) -> None:
        self.hidden = hidden

    def read(self, window: Window) -> Bools:
        return self.hidden[window.slices]


@given(
    st.integers(0, 1 << 30),
    st.sampled_from([0.001, 0.02, 0.6]),
    st.floats(0.2, 30),
    st.sampled_from([1.0, 1.0, 2.0, 0.37]),
    st.tuples(st.integers(0, 50), st.integers(0, 70), st.integers(1, 60), st.integers(1, 80)),
)
@settings(max_examples=80, deadline=None)
def test_clouds_grow_as_far_in_any_window(
    seed: int, share: float, reach: float, ratio: float, part: tuple[int, int, int, int]
) -> None:
    hidden = np.random.default_rng(seed).random(SHAPE) < share
    # In units of a col, in which rows are ``ratio`` times as far apart.
    far = ndimage.distance_transform_edt(~hidden, sampling=(ratio, 1.0)) if hidden.any() else np.full(SHAPE, np.inf)
    expected = far <= reach + 1e-7
    window = Window.at(part[:2], part[2:]) & WHOLE
    assert window is not None
    found = Grown(Whole(hidden), SHAPE, (reach / ratio, reach)).read(window)
    np.testing.assert_array_equal(found, expected[window.slices])


def test_the_end_of_the_reach_is_hidden() -> None:
    hidden = np.zeros((31, 31), np.bool_)
    hidden[15, 15] = True
    rows, cols = np.indices(hidden.shape) - 15
    for reach in (1, 3, 5, 10, 13):
        np.testing.assert_array_equal(grown(hidden, (reach, reach)), rows**2 + cols**2 <= reach**2)


def test_objects_are_cut_and_nothing_else_of_them_changes() -> None:
    rng = np.random.default_rng(0)
    labels = np.kron(rng.integers(0, 2, (6, 8)), np.ones((10, 10), np.int64)).astype(np.int32)
    labels, count = ndimage.label(labels)
    hidden = ndimage.binary_dilation(rng.random(SHAPE) < 0.004, iterations=4)
    hidden[labels == 2] = True
    masks = Masks.of_labels(labels.astype(np.int32), count)
    numbers = np.arange(count)
    objects = Objects(
        masks,
        numbers.astype(np.uint8),
        numbers.astype(np.float32),
        np.repeat(numbers[:, None], 3, axis=1).astype(np.uint8),
        numbers,
        numbers > 3,
    )
    cut = cut_hidden(objects, Whole(hidden).read, WHOLE)
    painted = np.zeros(SHAPE, np.int32)
    cut.masks.paint(painted, (cut.tile + 1).astype(np.int32))
    np.testing.assert_array_equal(painted, np.where(hidden, 0, labels))
    assert len(cut) == len(np.unique(painted)) - 1 < count
    np.testing.assert_array_equal(cut.score, cut.tile.astype(np.float32))
