"""What stays of results beside an area of interest: nothing outside of it, all inside, wherever the chunk lies."""

from __future__ import annotations

import numpy as np
import pyproj
import shapely
from hypothesis import given
from hypothesis import strategies as st

from geoseg.codes import NODATA
from geoseg.georeference import Georeference
from geoseg.vectors.area_of_interest import area_on
from geoseg.vectors.given_area import GivenArea
from geoseg.windows import Window
from pipeline.plan.within import clear_outside
from tests.support import TRANSFORM, UTM

SHAPE = (90, 130)
PLACE = Georeference(tuple(TRANSFORM)[:6], pyproj.CRS.from_user_input(UTM).to_wkt())
# A ring and an islet, so that rows hold several runs.
RING = shapely.Point(430_400, 8_929_500).buffer(250).difference(shapely.Point(430_420, 8_929_520).buffer(120))
AREA = area_on(
    GivenArea(
        "area", np.array([RING, shapely.box(430_900, 8_929_700, 430_950, 8_929_760)], object), pyproj.CRS.from_user_input(UTM)
    ),
    PLACE,
    SHAPE,
    "scene.tif",
)


@given(st.integers(0, 89), st.integers(0, 129), st.integers(1, 90), st.integers(1, 130))
def test_what_lies_outside_is_no_data(row: int, col: int, height: int, width: int) -> None:
    core = Window.at((row, col), (height, width)) & Window.of(SHAPE)
    assert core is not None
    inside = AREA.mask(core)
    classes = np.random.default_rng(0).integers(0, 250, core.shape, np.uint8)
    scores = np.random.default_rng(1).integers(0, 250, (3, *core.shape), np.uint8)
    wanted = [np.where(inside, layer, NODATA) for layer in (classes, scores)]
    clear_outside(AREA, core, (classes, scores))
    for found, expected in zip((classes, scores), wanted, strict=True):
        np.testing.assert_array_equal(found, expected)
