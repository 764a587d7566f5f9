"""Dates on other grids: what overlaps, what is hidden, whatever the CRS, the type and the extent of each file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.warp import transform_bounds

from geoseg.clouds.hidden import HiddenRaster, MaskRule
from geoseg.dates.stack import align
from geoseg.errors import GeoreferenceError
from geoseg.georeference import Georeference
from geoseg.scenes.opening import open_scene
from geoseg.scenes.overlap import common_window, share_ground
from geoseg.scenes.scene import OpenOptions
from geoseg.windows import Window
from tests.support import TRANSFORM, UTM

SHAPE = 60, 80


def place(transform: Affine, crs: str | None = UTM) -> Georeference:
    return Georeference(tuple(transform)[:6], None if crs is None else rasterio.crs.CRS.from_user_input(crs).to_wkt())


HERE = place(TRANSFORM)


@given(st.floats(-120, 120), st.floats(-120, 120), st.floats(0, 360), st.floats(0.3, 3))
@settings(max_examples=60, deadline=None)
def test_grids_overlap_where_a_pixel_of_one_lies_in_the_other(cols: float, rows: float, angle: float, scale: float) -> None:
    other = TRANSFORM @ Affine.translation(cols, rows) @ Affine.rotation(angle) @ Affine.scale(scale)
    row, col = (part.ravel() + 0.5 for part in np.indices(SHAPE))
    # Centres of its pixels in the first grid.
    xs, ys = (~TRANSFORM @ other) @ (col, row)
    inside = (xs > 0) & (xs < SHAPE[1]) & (ys > 0) & (ys < SHAPE[0])
    common = common_window(HERE, SHAPE, place(other), SHAPE)
    if inside.any():
        assert share_ground(HERE, SHAPE, place(other), SHAPE)
        assert common.col_off <= xs[inside].min() <= xs[inside].max() <= common.col_stop
        assert common.row_off <= ys[inside].min() <= ys[inside].max() <= common.row_stop
    far = np.hypot(xs - np.clip(xs, 0, SHAPE[1]), ys - np.clip(ys, 0, SHAPE[0])).min()
    if far > 2 * scale:
        assert not share_ground(HERE, SHAPE, place(other), SHAPE)


def test_a_world_map_overlaps_and_a_neighbour_does_not() -> None:
    world = place(Affine(1, 0, -180, 0, -1, 90), "EPSG:4326")
    assert share_ground(HERE, SHAPE, world, (180, 360))
    assert share_ground(world, (180, 360), HERE, SHAPE)
    assert common_window(HERE, SHAPE, world, (180, 360)) == Window.of(SHAPE)
    for cols in (SHAPE[1], SHAPE[1] - 1e-7):
        assert not share_ground(HERE, SHAPE, place(TRANSFORM @ Affine.translation(cols, 0)), SHAPE)


def written(path: Path, pixels: NDArray[Any], transform: Affine = TRANSFORM, crs: str | None = UTM, **more: Any) -> str:
    profile = {"driver": "GTiff", "height": pixels.shape[0], "width": pixels.shape[1], "count": 1, "dtype": pixels.dtype.name}
    with rasterio.open(path, "w", **profile, crs=crs, transform=transform, **more) as target:
        target.write(pixels, 1)
    return str(path)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("nodata", [None, 0, 255])
def test_all_values_but_zero_hide_the_ground(tmp_path: Path, dtype: str, nodata: int | None) -> None:
    values = np.random.default_rng(0).choice([0, 1, 127, 255, 30_000], SHAPE)
    pixels = values.astype(np.uint8 if dtype == "uint8" else dtype)
    path = written(tmp_path / "mask.tif", pixels, nodata=nodata)
    window = Window.at((7, 9), (40, 50))
    hidden = HiddenRaster(path, HERE, SHAPE).read(window)
    assert (hidden == (pixels != 0)[window.slices]).all()
    hidden = HiddenRaster(path, HERE, SHAPE, MaskRule((1, 255))).read(window)
    assert (hidden == np.isin(pixels, (1, 255))[window.slices]).all()


@pytest.mark.parametrize("nodata", [None, 0, 255])
def test_what_lies_outside_of_a_mask_is_not_known_to_be_clear(tmp_path: Path, nodata: int | None) -> None:
    pixels = np.zeros((30, 200), np.uint8)
    pixels[:10] = 255
    # Pixels of 5 m that cover the upper half of the scene, and more on both sides.
    fine = TRANSFORM @ Affine.scale(0.5) @ Affine.translation(-20, 0)
    hidden = HiddenRaster(written(tmp_path / "mask.tif", pixels, fine, nodata=nodata), HERE, SHAPE)
    found = np.concatenate([hidden.read(Window.at((row, 0), (20, SHAPE[1]))) for row in (0, 20, 40)])
    expected = np.ones(SHAPE, np.bool_)
    expected[5:15] = False
    assert (found == expected).all()
    left, bottom, right, top = transform_bounds(UTM, "EPSG:4326", *rasterio.open(hidden.path).bounds)
    degrees = rasterio.transform.from_bounds(left - 1e-3, bottom - 1e-3, right + 1e-3, top + 1e-3, 90, 40)
    clear = written(tmp_path / "degrees.tif", np.zeros((40, 90), np.float32), degrees, "EPSG:4326", nodata=nodata)
    assert not HiddenRaster(clear, HERE, SHAPE).read(Window.of((14, SHAPE[1]))).any()


@pytest.mark.parametrize(
    ("shape", "transform", "crs", "text"),
    [
        (SHAPE, TRANSFORM @ Affine.translation(3, 0), None, "without a CRS"),
        ((10, 10), TRANSFORM, None, "without a CRS of 10 x 10 pixels"),
        (SHAPE, TRANSFORM @ Affine.translation(500, 0), UTM, "does not overlap"),
    ],
)
def test_masks_of_another_place_are_refused(
    tmp_path: Path, shape: tuple[int, int], transform: Affine, crs: str | None, text: str
) -> None:
    path = written(tmp_path / "mask.tif", np.zeros(shape, np.uint8), transform, crs)
    with pytest.raises(GeoreferenceError, match=text):
        HiddenRaster(path, HERE, SHAPE)


def test_masks_without_a_crs_are_those_of_the_image_where_size_and_place_agree(tmp_path: Path) -> None:
    pixels = np.eye(*SHAPE, dtype=np.uint8)
    for transform in (TRANSFORM, Affine.identity()):
        path = written(tmp_path / "mask.tif", pixels, transform, None)
        assert (HiddenRaster(path, HERE, SHAPE).read(Window.of(SHAPE)) == (pixels == 1)).all()


def test_dates_without_a_crs_are_compared_only_where_their_sizes_agree(tmp_path: Path) -> None:
    def scene(name: str, shape: tuple[int, int]) -> Any:
        path = written(tmp_path / name, np.ones(shape, np.uint8), crs=None)
        return open_scene([path], name, OpenOptions(pixel_coords=True))

    assert len(align([scene("a.tif", SHAPE), scene("b.tif", SHAPE)])) == 2
    with pytest.raises(GeoreferenceError, match="no CRS"):
        align([scene("a.tif", SHAPE), scene("c.tif", (60, 81))])
