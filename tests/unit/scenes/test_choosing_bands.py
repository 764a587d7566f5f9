"""Which bands a model gets, and how their values become those that it takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from support import WriteRaster

from geoseg.errors import BandError, ConfigError, DtypeError
from geoseg.scenes.bands.choosing import choose_bands
from geoseg.scenes.bands.value_map import value_map
from geoseg.scenes.opening import open_scene
from geoseg.scenes.reader import SceneReader
from geoseg.scenes.scene import OpenOptions, Scene
from geoseg.windows import Window

WANTED = ("red", "green", "blue")
WHOLE = Window.of((20, 30))


def opened(path: Path) -> Scene:
    return open_scene([str(path)], path.stem, OpenOptions())


def five_bands(write_raster: WriteRaster, names: tuple[str, ...] = ("", "nir", "Red", "green", "BLUE")) -> Path:
    path = write_raster(np.random.default_rng(0).integers(0, 255, (5, 20, 30), np.uint8), photometric="minisblack")
    with rasterio.open(path, "r+") as dataset:
        for index, name in enumerate(names, start=1):
            dataset.set_band_description(index, name)
    return path


@pytest.mark.parametrize(
    ("chosen", "numbers"), [(["3", "1", "5"], [3, 1, 5]), (["nir", "1", "BLUE"], [2, 1, 5]), (None, [3, 4, 5])]
)
def test_the_bands_that_are_read_are_those_that_rasterio_reads(
    write_raster: WriteRaster, chosen: list[str] | None, numbers: list[int]
) -> None:
    path = five_bands(write_raster)
    scene = opened(path)
    bands, _ = choose_bands(scene, WANTED, chosen)
    with rasterio.open(path) as dataset, SceneReader(scene, bands) as reader:
        np.testing.assert_array_equal(reader.read(WHOLE).data, dataset.read(numbers))


def test_colours_and_order_where_names_say_nothing(write_raster: WriteRaster) -> None:
    path = write_raster(np.zeros((3, 20, 30), np.uint8), photometric="rgb")
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = (ColorInterp.blue, ColorInterp.green, ColorInterp.red)
    assert choose_bands(opened(path), WANTED, None) == ((2, 1, 0), ())
    plain = write_raster(np.zeros((3, 20, 30), np.uint8), "plain.tif", photometric="minisblack")
    bands, notes = choose_bands(opened(plain), WANTED, None)
    assert bands == (0, 1, 2)
    assert "in the order of the file" in notes[0]


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        (["0", "1", "2"], "no band 0"),
        (["6", "1", "2"], "no band 6"),
        (["1", "2"], "2 bands"),
        (["1", "2", "thermal"], "0 bands are named"),
    ],
)
def test_bands_that_are_not_there(write_raster: WriteRaster, chosen: list[str], words: str) -> None:
    with pytest.raises(BandError, match=words):
        choose_bands(opened(five_bands(write_raster)), WANTED, chosen)


def test_what_is_not_clear_is_not_guessed(write_raster: WriteRaster) -> None:
    with pytest.raises(BandError, match="is not clear"):
        choose_bands(opened(five_bands(write_raster, ("red", "red", "green", "blue", ""))), WANTED, None)
    with pytest.raises(BandError, match="the file has 1"):
        choose_bands(opened(write_raster(np.zeros((20, 30), np.uint8))), WANTED, None)


def mapped(scene: Scene, pixels: np.ndarray, **options: object) -> np.ndarray:
    """Pixels (C, n) as the model gets them."""
    given = {"dtype": "uint8", "value_range": (0.0, 255.0), "physical": False, "rescale": None} | options
    values = value_map(scene, scene.bands, **given)  # type: ignore[arg-type]
    scale, offset = np.array(values.scale)[:, None], np.array(values.offset)[:, None]
    return np.clip(pixels * scale + offset, values.low, values.high)


def test_values_are_rescaled_to_the_range_of_the_model(write_raster: WriteRaster) -> None:
    scene = opened(write_raster(np.zeros((2, 20, 30), np.uint16)))
    got = mapped(scene, np.array([[100.0, 200, 300, 1000], [0, 1000, 2000, 5000]]), rescale=[(100, 300), (0, 2000)])
    np.testing.assert_allclose(got, [[0, 127.5, 255, 255], [0, 127.5, 255, 255]])
    for bad in ([(5, 5), (0, 1)], [(0, 1), (9, 1)]):
        with pytest.raises(ConfigError, match="above the lower"):
            mapped(scene, np.zeros((2, 1)), rescale=bad)


def test_scale_and_offset_of_the_file_count_once(write_raster: WriteRaster) -> None:
    path = write_raster(np.zeros((2, 20, 30), np.uint16))
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (0.0001, 0.0002), (-0.1, 0.3)
    got = mapped(opened(path), np.array([[2000.0], [1000.0]]), physical=True, value_range=(0.0, 1.0))
    np.testing.assert_allclose(got, [[0.1], [0.5]])


def test_other_types_are_never_cast(write_raster: WriteRaster) -> None:
    scene = opened(write_raster(np.zeros((1, 20, 30), np.uint16)))
    with pytest.raises(DtypeError, match="uint16 pixels, but the model takes uint8"):
        mapped(scene, np.zeros((1, 1)))
    with pytest.raises(DtypeError, match="no scale and offset"):
        mapped(scene, np.zeros((1, 1)), physical=True)
