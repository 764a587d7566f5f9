"""Decisions are burnt window by window as over the whole raster at once, and only where they may be."""

from __future__ import annotations

import tempfile

import numpy as np
import rasterio.features
import shapely
from hypothesis import given
from hypothesis import strategies as st
from rasterio.transform import Affine

from geoseg.codes import NODATA, NOT_ANALYSED
from geoseg.georeference import Georeference
from geoseg.windows import Window
from pipeline.review.burned import Burn, BurnStore, burnt

SIDE = 40
PLACE = Georeference((10.0, 0.0, 430_000.0, 0.0, -10.0, 8_930_000.0), "EPSG:32720")
corner = st.integers(0, 2 * SIDE)
# No vertex on a line of pixel centres: there it is a matter of rounding which side a pixel is on.
shapes = st.lists(
    st.tuples(corner, corner, corner, corner, st.sampled_from([0, 1, 2, 7, NOT_ANALYSED]), st.booleans()), min_size=1, max_size=6
)


@given(shapes, st.integers(5, 17), st.integers(0, 99))
def test_windows_are_parts_of_the_whole_and_gdal_agrees(drawn: list[tuple], side: int, seed: int) -> None:
    classes = np.random.default_rng(seed).choice(np.array([0, 1, 2, NOT_ANALYSED, NODATA], np.uint8), (SIDE, SIDE))
    burns = []
    for left, top, width, height, code, by_hand in drawn:
        x, y = 430_000 + 5.0 * left, 8_930_000 - 5.0 * top
        box = shapely.box(x + 1, y - 5.0 * height - 2, x + 5.0 * width + 2, y - 1)
        burns.append(Burn(box, code, by_hand))
    expected, free = classes.copy(), classes < NOT_ANALYSED
    for burn in burns:
        inside = rasterio.features.rasterize([(burn.shape, 1)], classes.shape, transform=Affine(*PLACE.transform)) > 0
        inside &= classes != NODATA
        free |= inside & burn.drawn
        expected[inside & free] = burn.code
    whole = Window.of(classes.shape)
    with tempfile.TemporaryFile() as file:
        store = BurnStore(PLACE, file)
        store.add(burns)
        found = burnt(classes, whole, store)
        parts = np.empty_like(classes)
        for window in whole.parts(side):
            parts[window.slices] = burnt(classes[window.slices], window, store)
    np.testing.assert_array_equal(parts, found)
    np.testing.assert_array_equal(found, expected)
