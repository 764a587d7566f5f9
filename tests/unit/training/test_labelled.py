"""Labelled scenes: the values that inference sees, padding past the edge, real data of several kinds; what data is like."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.features
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support import TRANSFORM, UTM, WriteRaster, patchy

from geoseg.codes import UNLABELLED
from geoseg.errors import BandError, ConfigError, DtypeError, GeoreferenceError, GeosegError
from geoseg.georeference import Georeference
from geoseg.labels.coco import mask_labels
from geoseg.labels.images import read_image
from geoseg.labels.labels import open_labels
from geoseg.scenes.opening import open_scene
from geoseg.scenes.scene import OpenOptions
from geoseg.training.data.chips import Chip, ChipSource
from geoseg.training.data.labelled import LabelledImage, LabelledScene, Values
from geoseg.training.data.statistics import measure, percentiles
from geoseg.windows import Window

RGB = Values(("red", "green", "blue"), "uint8", (0, 255))
GRAY = Values(("gray",), "uint8", (0, 255))


def scene_of(
    image: Path | Sequence[Path], labels: Path | None, codes: dict[str, int], values: Values, **options: Any
) -> LabelledScene:
    paths = [str(image)] if isinstance(image, Path) else [str(path) for path in image]
    names = options.pop("band_names", ())
    given_labels = {key: options.pop(key) for key in ("column", "outside") if key in options}
    scene = open_scene(paths, Path(paths[0]).stem, OpenOptions(), band_names=names)
    found = None
    if labels is not None:
        found = open_labels(str(labels), scene.georeference, scene.height, scene.width, codes, **given_labels)
    return LabelledScene(scene, found, values, **options)


def whole_of(source: ChipSource) -> Chip:
    return source.read(Window.of((source.height, source.width)))


def assert_padded(chip: Chip, whole: Chip, window: Window) -> None:
    """A chip is the window of the whole, surrounded by what is neither valid nor labelled."""
    pad = 200
    shifted = slice(window.row_off + pad, window.row_stop + pad), slice(window.col_off + pad, window.col_stop + pad)

    def cut(values: np.ndarray, fill: float) -> np.ndarray:
        around = [(0, 0)] * (values.ndim - 2) + [(pad, pad)] * 2
        return np.pad(values, around, constant_values=fill)[(..., *shifted)]

    np.testing.assert_array_equal(chip.image, cut(whole.image, 0))
    np.testing.assert_array_equal(chip.valid, cut(whole.valid, False))
    np.testing.assert_array_equal(chip.labels, cut(whole.labels, UNLABELLED))
    if whole.rasters is not None:
        assert chip.rasters is not None
        np.testing.assert_array_equal(chip.rasters, cut(whole.rasters, np.nan))


def test_forest_is_what_rasterio_reads(shared: Path) -> None:
    folder = shared / "data" / "amazon_forest" / "val"
    image = min(folder.glob("*/*.tif") if not list(folder.glob("*.tif")) else folder.glob("*.tif"))
    mask = folder / "masks" / image.name
    source = scene_of(image, mask, {"0": 0, "1": 1}, RGB)
    chip = whole_of(source)
    with rasterio.open(image) as dataset, rasterio.open(mask) as labels:
        np.testing.assert_array_equal(chip.image, dataset.read())
        expected = labels.read(1)
    np.testing.assert_array_equal(chip.labels, np.where(expected <= 1, expected, UNLABELLED))
    assert chip.image.dtype == np.float32
    assert chip.valid.all()
    assert source.georeference is not None


@pytest.fixture(scope="module")
def patchy_scene(tmp_path_factory: pytest.TempPathFactory) -> LabelledScene:
    """A scene with nodata, labels, a raster to regress on another grid, and borders that are not labelled."""
    folder = tmp_path_factory.mktemp("scene")
    labels = patchy(90, 130, 3, size=5)
    image = np.random.default_rng(0).integers(1, 255, (1, 90, 130)).astype(np.uint8)
    image[0, 30:50, 100:] = 0
    height = np.arange(45 * 65, dtype=np.float32).reshape(1, 45, 65)
    for name, array, transform, nodata in (
        ("image", image, TRANSFORM, 0),
        ("labels", labels[None], TRANSFORM, None),
        ("height", height, TRANSFORM * rasterio.Affine.scale(2), None),
    ):
        with rasterio.open(
            folder / f"{name}.tif",
            "w",
            driver="GTiff",
            count=1,
            height=array.shape[1],
            width=array.shape[2],
            dtype=array.dtype,
            crs=UTM,
            transform=transform,
            nodata=nodata,
            tiled=True,
            blockxsize=32,
            blockysize=32,
        ) as dataset:
            dataset.write(array)
    codes = {"0": 0, "1": 1, "2": 2}
    return scene_of(folder / "image.tif", folder / "labels.tif", codes, GRAY, border=2, rasters=[str(folder / "height.tif")])


@settings(max_examples=80)
@given(st.integers(-60, 140), st.integers(-60, 180), st.integers(1, 100), st.integers(1, 100))
def test_any_window(patchy_scene: LabelledScene, row: int, col: int, height: int, width: int) -> None:
    window = Window.at((row, col), (height, width))
    assert_padded(patchy_scene.read(window), whole_of(patchy_scene), window)


def test_nodata_and_borders(patchy_scene: LabelledScene) -> None:
    """Nothing is learned from pixels without data, nor from those around borders between classes."""
    chip = whole_of(patchy_scene)
    hole = np.zeros(chip.valid.shape, np.bool_)
    hole[30:50, 100:] = True
    np.testing.assert_array_equal(chip.valid, ~hole)
    assert (chip.image[:, hole] == 0).all()
    assert (chip.labels[hole] == UNLABELLED).all()
    labels = patchy(90, 130, 3, size=5)
    kept = chip.labels != UNLABELLED
    assert 0.2 < kept.mean() < 0.95
    np.testing.assert_array_equal(chip.labels[kept], labels[kept])
    change = np.zeros(labels.shape, np.bool_)
    change[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    assert not (change & kept).any()


def test_regression_raster_lies_where_it_does_on_the_ground(patchy_scene: LabelledScene) -> None:
    """Bilinear on a grid twice as fine: a plane stays a plane."""
    chip = whole_of(patchy_scene)
    assert chip.rasters is not None
    rows, cols = (np.mgrid[:90, :130] + 0.5) / 2 - 0.5
    np.testing.assert_allclose(chip.rasters[0][2:-2, 2:-2], (rows * 65 + cols)[2:-2, 2:-2], atol=0.01)


def test_threads_and_pickles_read_the_same(patchy_scene: LabelledScene) -> None:
    windows = [Window.at((r, c), (40, 40)) for r in range(-20, 90, 15) for c in range(-20, 130, 15)]
    expected = [patchy_scene.read(window) for window in windows]
    again = pickle.loads(pickle.dumps(patchy_scene))
    with ThreadPoolExecutor(4) as pool:
        for chips in (list(pool.map(patchy_scene.read, windows)), list(pool.map(again.read, windows))):
            for chip, want in zip(chips, expected, strict=True):
                np.testing.assert_array_equal(chip.image, want.image)
                np.testing.assert_array_equal(chip.labels, want.labels)


def test_band_files_and_rescaling(write_raster: WriteRaster) -> None:
    """Bands of several files in the order of the model; values as the user maps them, clipped to the model's range."""
    rng = np.random.default_rng(0)
    bands = rng.integers(0, 4000, (2, 70, 80)).astype(np.uint16)
    files = [write_raster(bands[k], name) for k, name in enumerate(("S_B04.tif", "S_B03.tif"))]
    labels = write_raster(patchy(70, 80, 2), "labels.tif")
    values = Values(("green", "red"), "uint8", (0, 255))
    source = scene_of(files, labels, {"0": 0, "1": 1}, values, band_names=("red", "green"), rescale=(1000, 3000))
    expected = np.clip((bands[::-1].astype(np.float64) - 1000) * 255 / 2000, 0, 255)
    np.testing.assert_allclose(whole_of(source).image, expected, atol=1e-3)
    with pytest.raises(DtypeError, match="uint16 pixels, but the model takes uint8"):
        scene_of(files, labels, {"0": 0}, values, band_names=("red", "green"))


def test_damage_in_a_rotated_grid(shared: Path) -> None:
    """Labels and pixels of a rotated scene belong together: destroyed buildings, by name."""
    folder = shared / "data" / "joplin_damage"
    codes = {"no-damage": 0, "minor-damage": 1, "major-damage": 2, "destroyed": 3}
    source = scene_of(folder / "post.tif", folder / "post_buildings.geojson", codes, RGB, column="damage", outside=4)
    chip = source.read(Window.at((300, 400), (256, 256)))
    with rasterio.open(folder / "post.tif") as dataset:
        np.testing.assert_array_equal(chip.image, dataset.read(window=rasterio.windows.Window(400, 300, 256, 256)))
    assert {3, 4} <= {*np.unique(chip.labels).tolist()}
    assert chip.objects is not None
    assert ((chip.objects > 0) == (chip.labels < 4)).all()


def test_awkward_scenes_are_read_or_refused(shared: Path) -> None:
    """No awkward file gives a chip that disagrees with itself: pixels without data are zero, finite and not labelled."""
    read = refused = 0
    for path in sorted((shared / "data" / "awkward").glob("*.tif")):
        try:
            scene = open_scene([str(path)], path.stem, OpenOptions(pixel_coords=True))
            values = Values(tuple(band.label for band in scene.bands), scene.dtype)
            chosen = [str(k + 1) for k in range(len(scene.bands))]
            source = LabelledScene(scene, None, values, chosen=chosen)
            chip = source.read(Window.at((scene.height - 50, -20), (100, 100)))
        except GeosegError:
            refused += 1
            continue
        read += 1
        assert chip.image.shape == (len(scene.bands), 100, 100)
        assert np.isfinite(chip.image).all(), path.name
        assert (chip.image[:, ~chip.valid] == 0).all(), path.name
        assert not chip.valid[:, :20].any()
        assert (chip.labels == UNLABELLED).all()
    assert read > 15
    assert refused > 0


def test_plain_images_of_real_data(shared: Path) -> None:
    """JPEG with one-bit masks, and slices of a stack whose labels are 0 and 255."""
    chips = shared / "data" / "deepglobe_forest" / "chips"
    mask = min(chips.glob("*_mask_*.png"))
    image = chips / mask.name.replace("_mask_", "_sat_").replace(".png", ".jpg")
    source = LabelledImage(str(image), mask_labels(str(mask), {"0": 0, "1": 1}), RGB)
    chip = whole_of(source)
    np.testing.assert_array_equal(chip.image, np.asarray(Image.open(image)).transpose(2, 0, 1))
    np.testing.assert_array_equal(chip.labels, np.asarray(Image.open(mask)).astype(np.uint8))
    window = Window.at((-10, 200), (100, 100))
    assert_padded(source.read(window), chip, window)
    stack = shared / "data" / "isbi2012"
    cells = LabelledImage(
        str(stack / "image" / "3.png"), mask_labels(str(stack / "label" / "3.png"), {"255": 1, "0": 0}), GRAY, border=1
    )
    truth = np.asarray(Image.open(stack / "label" / "3.png"))
    got = whole_of(cells)
    kept = got.labels != UNLABELLED
    assert 0.4 < kept.mean() < 0.98
    np.testing.assert_array_equal(got.labels[kept], (truth == 255)[kept])


def test_plain_images_keep_their_bits(tmp_path: Path) -> None:
    """Colours of 16 bits are not cut to 8; a TIFF may have any number of bands."""
    pixels = np.random.default_rng(0).integers(0, 65535, (5, 20, 30)).astype(np.uint16)
    for name, driver, count in (("a.png", "PNG", 3), ("b.tif", "GTiff", 5)):
        with rasterio.open(tmp_path / name, "w", driver=driver, count=count, height=20, width=30, dtype="uint16") as dataset:
            dataset.write(pixels[:count])
        np.testing.assert_array_equal(read_image(str(tmp_path / name)), pixels[:count])
    with pytest.raises(BandError, match="uint16 pixels, but the network takes uint8"):
        LabelledImage(str(tmp_path / "a.png"), None, RGB)
    with pytest.raises(GeoreferenceError, match="labels of 3 x 3 pixels for an image of 20 x 30"):
        LabelledImage(str(tmp_path / "a.png"), np.zeros((3, 3), np.uint8), Values(RGB.bands, "uint16"))


class Memory:
    """A source of given pixels."""

    def __init__(self, image: np.ndarray, valid: np.ndarray, labels: np.ndarray) -> None:
        self.name, self.georeference = "memory", None
        self.height, self.width = valid.shape
        self._chip = image.astype(np.float32), valid, labels

    georeference: Georeference | None

    def read(self, window: Window) -> Chip:
        image, valid, labels = (values[(..., *window.slices)] for values in self._chip)
        return Chip(image, valid, labels)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 1e4]), st.integers(1, 3))
def test_statistics_equal_numpy(seed: int, level: float, bands: int) -> None:
    """Over valid pixels only, in parts of any size, also where the level dwarfs the deviation."""
    rng = np.random.default_rng(seed)
    sources, values, labels = [], [], []
    for height, width in ((17, 30), (1030, 9)):
        image = level + rng.normal(size=(bands, height, width)) * rng.uniform(0.5, 2, (bands, 1, 1))
        valid = rng.random((height, width)) < 0.7
        codes = rng.choice([0, 1, 2, UNLABELLED], (height, width)).astype(np.uint8)
        sources.append(Memory(np.where(valid, image, 0), valid, np.where(valid, codes, UNLABELLED).astype(np.uint8)))
        values.append(image.astype(np.float32)[:, valid].astype(np.float64))
        labels.append(codes[valid])
    areas = [(0, Window.of((17, 30))), (1, Window.of((500, 9))), (1, Window.at((500, 0), (530, 9)))]
    found = measure(sources, areas, 3)
    every = np.concatenate(values, axis=1)
    np.testing.assert_allclose(found.mean, every.mean(axis=1), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.stddev, every.std(axis=1), rtol=1e-6)
    assert found.valid == every.shape[1]
    assert found.counts == tuple((np.concatenate(labels) == k).sum() for k in range(3))


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([256, 65536]))
def test_percentiles_of_whole_numbers_are_exact(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    image = np.minimum(rng.exponential(levels / 20, (2, 50, 61)), levels - 1).astype(np.int64)
    valid = rng.random((50, 61)) < 0.6
    source = Memory(np.where(valid, image, 0), valid, np.zeros(valid.shape, np.uint8))
    shares = [0.02, 0.5, 0.98, 1.0]
    got = percentiles([source], [(0, Window.of((50, 61)))], shares)
    np.testing.assert_array_equal(got, np.quantile(image[:, valid], shares, axis=1, method="inverted_cdf").T)


def test_percentiles_of_fractions() -> None:
    image = np.random.default_rng(0).normal(size=(2, 60, 70)).astype(np.float32)
    source = Memory(image, np.ones((60, 70), np.bool_), np.zeros((60, 70), np.uint8))
    got = percentiles([source], [(0, Window.of((60, 70)))], [0.02, 0.98])
    expected = np.quantile(image.reshape(2, -1), [0.02, 0.98], axis=1, method="inverted_cdf").T
    np.testing.assert_allclose(got, expected, atol=8 / 65536)


def test_no_valid_pixel() -> None:
    source = Memory(np.zeros((1, 5, 5)), np.zeros((5, 5), np.bool_), np.zeros((5, 5), np.uint8))
    for call in (
        lambda: measure([source], [(0, Window.of((5, 5)))], 2),
        lambda: percentiles([source], [(0, Window.of((5, 5)))], [0.5]),
    ):
        with pytest.raises(ConfigError, match="none of the scenes to train on has a valid pixel"):
            call()
