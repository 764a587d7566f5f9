"""Small copies of images: the right pixels in the right place, in seconds."""

from __future__ import annotations

import time

import numpy as np
import pytest
import rasterio

from geoseg.errors import SceneTooLargeError
from pipeline.files import overviews as shrink
from pipeline.files.overviews import shrunken

PLACE = rasterio.Affine(10.0, 2.0, 430_000.0, 2.0, -10.0, 8_930_000.0)


def write(path, array, **more):
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=len(array),
        height=array.shape[1],
        width=array.shape[2],
        dtype=array.dtype,
        crs="EPSG:32720",
        transform=PLACE,
        nodata=0,
        tiled=True,
        blockxsize=64,
        blockysize=64,
        compress="deflate",
        interleave="pixel",
        **more,
    ) as dataset:
        dataset.write(array)


@pytest.mark.parametrize("levels", [[], [2, 4]])
def test_a_copy_shows_the_pixels_of_its_place(tmp_path, levels):
    rows, cols = np.mgrid[:700, :500].astype(np.uint16)
    array = np.stack([rows + 1, cols + 1, rows + cols + 1])
    array[:, :175] = 0
    path = tmp_path / "image.tif"
    write(path, array)
    if levels:
        with rasterio.open(path, "r+") as dataset:
            dataset.build_overviews(levels, rasterio.enums.Resampling.nearest)
    pixels, valid, place, crs = shrunken(str(path), 140)
    assert pixels.shape == (3, 140, 100)
    assert crs.to_epsg() == 32720
    assert valid[:35].sum() == 0
    assert valid[35:].all()
    # The middle of each pixel of the copy lies in the pixel that it shows, or one of an overview beside it.
    col, row = (v + 0.5 for v in np.meshgrid(np.arange(100), np.arange(140)))
    there = ~PLACE @ (place @ (col, row))
    near = 4.01 if levels else 0.51
    assert np.abs(there[1] - (pixels[0] - 0.5))[valid].max() <= near
    assert np.abs(there[0] - (pixels[1] - 0.5))[valid].max() <= near


def test_what_is_smaller_stays(tmp_path):
    array = np.arange(1, 31, dtype=np.uint8).reshape(1, 5, 6)
    write(tmp_path / "image.tif", array)
    pixels, valid, place, _ = shrunken(str(tmp_path / "image.tif"), 100)
    np.testing.assert_array_equal(pixels, array)
    assert valid.all()
    assert tuple(place) == tuple(PLACE)


def test_each_block_is_decoded_about_once(tmp_path):
    array = np.random.default_rng(0).integers(1, 255, (3, 3072, 3072), dtype=np.uint8)
    write(tmp_path / "image.tif", array)
    with rasterio.open(tmp_path / "image.tif") as dataset:
        start = time.process_time()
        dataset.read()
        whole = time.process_time() - start
    start = time.process_time()
    shrunken(str(tmp_path / "image.tif"), 1024)
    assert time.process_time() - start < 8 * whole + 0.5


def test_too_large_without_overviews_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(shrink, "LARGEST_PLAIN_PX", 50)
    write(tmp_path / "image.tif", np.ones((1, 60, 40), np.uint8))
    with pytest.raises(SceneTooLargeError, match=r"60 x 40 pixels without overviews .* gdaladdo"):
        shrunken(str(tmp_path / "image.tif"), 30)
