"""Which pixels are data, against rasterio's own masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window as RasterioWindow
from support import WriteRaster

from geoseg.scenes.opening import open_scene
from geoseg.scenes.reader import Pixels, SceneReader
from geoseg.scenes.scene import OpenOptions
from geoseg.tiff import read_structure
from geoseg.windows import Window

SHAPE = (130, 150)


def read(paths: list[Path], bands: tuple[int, ...], options: OpenOptions | None = None) -> Pixels:
    scene = open_scene([str(path) for path in paths], "scene", options or OpenOptions())
    with SceneReader(scene, bands) as reader:
        return reader.read(Window.of(SHAPE))


def image(bands: int, dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4, (bands, *SHAPE)).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
def test_a_pixel_is_data_where_any_band_is(write_raster: WriteRaster, dtype: str) -> None:
    path = write_raster(image(3, dtype), nodata=2)
    pixels = read([path], (0, 1, 2))
    with rasterio.open(path) as dataset:
        mask, data = dataset.dataset_mask() > 0, dataset.read()
    assert 0.9 < mask.mean() < 1
    np.testing.assert_array_equal(pixels.valid, mask)
    np.testing.assert_array_equal(pixels.data[:, mask], data[:, mask])


def test_nan_and_infinity_in_any_band_are_no_data(write_raster: WriteRaster) -> None:
    data = image(2, "float32")
    data[0, 3, 4], data[1, 5, 6], data[1, 7, 8] = np.nan, np.inf, -np.inf
    for nodata in (None, float("nan")):
        pixels = read([write_raster(data, nodata=nodata)], (0, 1))
        assert np.argwhere(~pixels.valid).tolist() == [[3, 4], [5, 6], [7, 8]]


@pytest.mark.parametrize("inside", [True, False])
def test_masks_and_alpha(write_raster: WriteRaster, inside: bool) -> None:
    hidden = np.zeros(SHAPE, np.bool_)
    hidden[20:50, 30:90] = True
    path = write_raster(image(3), "mask.tif", photometric="rgb")
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(~hidden)
    np.testing.assert_array_equal(read([path], (0, 1, 2)).valid, ~hidden)
    alpha = np.concatenate([image(3), np.where(hidden, 0, 200).astype(np.uint8)[None]])
    path = write_raster(alpha, "alpha.tif", photometric="rgb", alpha="yes")
    pixels = read([path], (0, 1, 2))
    np.testing.assert_array_equal(pixels.valid, ~hidden)
    np.testing.assert_array_equal(pixels.data, alpha[:3])


def test_of_several_files_all_must_hold_data(write_raster: WriteRaster) -> None:
    first, second = image(1), image(1)[:, ::-1].copy()
    paths = [write_raster(first, "a_B02.tif", nodata=1), write_raster(second, "a_B03.tif", nodata=3)]
    pixels = read(paths, (0, 1))
    np.testing.assert_array_equal(pixels.valid, (first[0] != 1) & (second[0] != 3))


@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("nodata", [None, 2])
def test_blocks_that_were_never_written_are_no_data(tmp_path: Path, interleave: str, nodata: int | None) -> None:
    path, data = tmp_path / "sparse.tif", image(2)
    profile = {
        "driver": "GTiff",
        "height": SHAPE[0],
        "width": SHAPE[1],
        "count": 2,
        "dtype": "uint8",
        "crs": "EPSG:32720",
        "transform": rasterio.Affine(10, 0, 0, 0, -10, 9e6),
        "tiled": True,
        "blockxsize": 32,
        "blockysize": 32,
        "sparse_ok": True,
        "interleave": interleave,
        "nodata": nodata,
    }
    expected = np.zeros(SHAPE, np.bool_)
    with rasterio.open(path, "w", **profile) as dataset:
        for row, col, bands in ((32, 64, [1, 2]), (96, 128, [1, 2]), (64, 0, [1])):
            rows, cols = slice(row, min(row + 32, SHAPE[0])), slice(col, min(col + 32, SHAPE[1]))
            part = data[[b - 1 for b in bands], rows, cols]
            dataset.write(part, bands, window=RasterioWindow(col, row, part.shape[2], part.shape[1]))
            # With bands apart a block counts where it was written of any: GDAL reads the others as 0 or their nodata value.
            expected[rows, cols] = True
    # GDAL reads blocks that are absent as 0, or as the file's nodata value, which what a user says is not.
    told = read([path], (0, 1), OpenOptions(nodata=(3.0,)))
    np.testing.assert_array_equal(told.valid, expected & (told.data != 3).any(axis=0))
    if nodata is not None:
        with rasterio.open(path) as dataset:
            expected &= dataset.dataset_mask() > 0
    np.testing.assert_array_equal(read([path], (0, 1)).valid, expected)


@pytest.mark.parametrize(
    "options", [{}, {"bigtiff": "yes"}, {"endianness": "big"}, {"interleave": "band"}, {"tiled": False}], ids=str
)
def test_the_directory_is_read_as_gdal_reads_it(write_raster: WriteRaster, options: dict[str, object]) -> None:
    path = write_raster(image(3, "uint16"), **options)
    structure = read_structure(path)
    main = structure.main
    assert structure.missing() is None
    with rasterio.open(path) as dataset:
        assert main.shape == dataset.shape
        assert main.block_shape == dataset.block_shapes[0]
        planes, rows, cols = main.blocks
        offsets, counts = (x.reshape(planes, rows, cols) for x in (main.offsets, main.byte_counts))
        for band in range(planes):
            for row in range(rows):
                for col in range(cols):
                    where = dataset.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=band + 1)
                    size = dataset.get_tag_item(f"BLOCK_SIZE_{col}_{row}", "TIFF", bidx=band + 1)
                    assert (str(offsets[band, row, col]), str(counts[band, row, col])) == (where, size)
    assert structure.big == ("bigtiff" in options)
