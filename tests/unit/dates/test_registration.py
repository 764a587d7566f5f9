"""How far two dates lie apart: measured to parts of a pixel, far ones found, and nothing said where nothing can be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from scipy import ndimage

from geoseg.dates.registration import Registration
from geoseg.errors import GeoreferenceError
from geoseg.scenes.opening import open_scene
from geoseg.scenes.scene import OpenOptions
from geoseg.windows import Window
from pipeline.plan.coregister import refuse_far, registration_of
from tests.support import TRANSFORM, UTM

SIDE = 900


@pytest.fixture(scope="module")
def ground() -> NDArray[np.float64]:
    """Fields with edges, larger than a scene."""
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.normal(size=(1300, 1300)), 6)
    fields = np.digitize(smooth, np.quantile(smooth, [0.2, 0.4, 0.6, 0.8])) * 40.0
    return np.asarray(ndimage.gaussian_filter(fields, 1.0) + 20)


def found(tmp_path: Path, *images: NDArray[Any]) -> Registration:
    scenes = []
    for number, image in enumerate(images):
        path = tmp_path / f"{number}.tif"
        profile = {"driver": "GTiff", "height": SIDE, "width": SIDE, "count": 1, "dtype": "uint8", "crs": UTM}
        with rasterio.open(path, "w", transform=TRANSFORM, **profile) as target:
            target.write(np.clip(np.rint(image), 1, 255).astype(np.uint8), 1)
        scenes.append(open_scene([str(path)], path.stem, OpenOptions()))
    return registration_of(scenes[0], scenes[1], ((0,), (0,)), Window.of((SIDE, SIDE)))


@pytest.mark.parametrize(
    ("rows", "cols"),
    [(0.4, -0.7), (-2.5, 3.3), *(pytest.param(*shift, marks=pytest.mark.slow) for shift in ((0.0, 0.0), (4.8, 1.1)))],
)
def test_parts_of_a_pixel_are_measured_in_another_light(
    tmp_path: Path, ground: NDArray[np.float64], rows: float, cols: float
) -> None:
    moved = ndimage.shift(ground, (-rows, -cols), order=3)[100 : 100 + SIDE, 100 : 100 + SIDE]
    noise = np.random.default_rng(1).normal(0, 3, moved.shape)
    result = found(tmp_path, ground[100 : 100 + SIDE, 100 : 100 + SIDE], 0.6 * moved + 30 + noise)
    assert result.consistent
    assert (result.rows, result.cols) == pytest.approx((rows, cols), abs=0.1)
    assert result.residual is not None
    assert result.residual < 0.2


@pytest.mark.parametrize("shift", [150, *(pytest.param(shift, marks=pytest.mark.slow) for shift in (40, 260))])
def test_dates_that_lie_far_apart_are_refused(tmp_path: Path, ground: NDArray[np.float64], shift: int) -> None:
    result = found(tmp_path, ground[:SIDE, :SIDE], ground[shift : shift + SIDE, shift // 2 : shift // 2 + SIDE])
    assert result.consistent
    assert (result.rows, result.cols) == pytest.approx((shift, shift // 2), abs=1.0)
    scene = open_scene([str(tmp_path / "1.tif")], "1", OpenOptions())
    with pytest.raises(GeoreferenceError, match=r"px off the first date .* the limit is 5 px: .* --max-shift"):
        refuse_far(scene, result, 5.0)


@pytest.mark.slow
def test_what_shows_nothing_or_something_else_is_not_measured(tmp_path: Path, ground: NDArray[np.float64]) -> None:
    flat = np.full((SIDE, SIDE), 100.0)
    rng = np.random.default_rng(2)
    other = ndimage.gaussian_filter(rng.normal(size=flat.shape), 5) * 800 + 120
    first = ground[:SIDE, :SIDE]
    for one, two in (
        (flat, flat),
        (flat, first),
        (first, other),
        (rng.normal(100, 20, flat.shape), rng.normal(100, 20, flat.shape)),
    ):
        assert not found(tmp_path, one, two).consistent
