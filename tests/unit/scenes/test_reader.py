"""Reading: the same pixels and the same validity as rasterio, each block decoded about once, whatever the windows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import rasterio
from faulty_server import faulty_server
from support import WriteRaster

from geoseg.domain.sampled import WANTED, sampled_cells
from geoseg.errors import GeosegError, ReadError
from geoseg.grid import Grid
from geoseg.scenes.opening import open_scene
from geoseg.scenes.pixels.layout import Key
from geoseg.scenes.pixels.unit_cache import Unit, UnitCache
from geoseg.scenes.reader import SceneReader
from geoseg.scenes.scene import OpenOptions, Scene
from geoseg.windows import Window

OPTIONS = OpenOptions(assume_crs="EPSG:32720", pixel_coords=False)


def opened(path: Path, options: OpenOptions = OPTIONS) -> Scene:
    return open_scene([str(path)], path.stem, options)


def in_windows(scene: Scene, side: int) -> tuple[np.ndarray, np.ndarray]:
    """All pixels and their validity, read window by window."""
    data, valid = [], np.zeros((scene.height, scene.width), np.bool_)
    bands = tuple(range(len(scene.bands)))
    with SceneReader(scene, bands) as reader:
        windows = [
            Window.at((row, col), (min(side, scene.height - row), min(side, scene.width - col)))
            for row in range(0, scene.height, side)
            for col in range(0, scene.width, side)
        ]
        reader.expect(windows)
        for window in windows:
            pixels = reader.read(window)
            if len(data) == 0:
                data = np.zeros((len(bands), scene.height, scene.width), pixels.data.dtype)
            data[(slice(None), *window.slices)] = pixels.data
            valid[window.slices] = pixels.valid
    return np.asarray(data), valid


def test_equal_to_rasterio(shared: Path) -> None:
    """All awkward files that can be opened."""
    checked = 0
    for path in sorted((shared / "data" / "awkward").glob("*.tif")):
        try:
            scene = opened(path)
        except GeosegError:
            continue
        if scene.height * scene.width > 3e6 or scene.files[0].palette:
            continue
        data, valid = in_windows(scene, 200)
        with rasterio.open(path) as dataset:
            indexes = [band.index for band in scene.bands]
            expected, mask = dataset.read(indexes), dataset.dataset_mask() > 0
        if expected.dtype.kind == "f":
            mask &= np.isfinite(expected).all(axis=0)
        np.testing.assert_array_equal(valid, mask, path.name)
        np.testing.assert_array_equal(data[:, valid], expected[:, valid], path.name)
        checked += 1
    assert checked >= 12


@pytest.mark.parametrize("blocks", [(64, 64), (16, 700), (256, 256)])
@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_each_block_is_decoded_about_once(write_raster: WriteRaster, blocks: tuple[int, int], interleave: str) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(1, 255, (3, 700, 700), np.uint8)
    layout = {"blockysize": blocks[0], "blockxsize": blocks[1], "tiled": blocks[1] != 700}
    path = write_raster(image, interleave=interleave, **layout)
    scene = opened(path)
    grid = Grid(700, 700, tile=128, halo=16, stride=1, chunk=300)
    with SceneReader(scene, (0, 1, 2), cache_bytes=1 << 30) as reader:
        windows = [chunk.window for chunk in grid.chunks()]
        reader.expect(windows)
        for window in windows:
            np.testing.assert_array_equal(reader.read(window).data, image[(slice(None), *window.slices)])
        assert reader.stats.decoded_pixels <= 1.1 * 700 * 700 * 3 or reader.stats.decoded_pixels <= 1.1 * 700 * 700


@pytest.mark.parametrize("bands", [(0, 1, 2), (1, 2), (2, 0)])
def test_windows_that_share_units_are_whole(write_raster: WriteRaster, bands: tuple[int, ...]) -> None:
    """What one window needs alone is decoded in its place, what two share is copied; whatever the order of the bands."""
    image = np.random.default_rng(1).integers(1, 60_000, (3, 1536, 1536), np.uint16)
    path = write_raster(image, interleave="pixel", tiled=True, blockxsize=512, blockysize=512)
    windows = [Window.at((0, 0), (1536, 1300)), Window.at((900, 1100), (636, 436))]
    with SceneReader(opened(path), bands) as reader:
        reader.expect(windows)
        found = [reader.read(window).data for window in windows]
    for window, pixels in zip(windows, found, strict=True):
        np.testing.assert_array_equal(pixels, image[(list(bands), *window.slices)])


def test_only_what_no_other_window_needs_is_decoded_in_its_place() -> None:
    places, given = {(0, 0, col): np.zeros((1, 2, 2), np.uint8) for col in range(3)}, {}

    def read(keys: Sequence[Key], into: np.ndarray | None) -> list[Unit]:
        given[keys[0]] = into
        return [Unit(np.ones((1, 2, 2), np.uint8), None, None)]

    for keep, alone in ((False, [(0, 0, 0), (0, 0, 2)]), (True, [])):
        cache = UnitCache(1, 1 << 20, read, lambda _: 1, keep=keep)
        for key in (*places, (0, 0, 1)):
            cache.expect(key)
        for future in cache.request(list(places), places.get):
            assert future.result().data.all()
        cache.close()
        assert [key for key, into in given.items() if into is not None] == alone
        assert all(given[key] is places[key] for key in alone)


def test_alpha_and_mask_are_not_bands(write_raster: WriteRaster) -> None:
    image = np.full((4, 100, 100), 9, np.uint8)
    image[3] = 255
    image[3, :40] = 0
    scene = opened(write_raster(image, photometric="rgb", alpha="yes"))
    assert len(scene.bands) == 3
    _, valid = in_windows(scene, 64)
    assert (~valid[:40]).all()
    assert valid[40:].all()


@pytest.mark.parametrize("kind", ["alpha", "mask", "nodata"])
def test_validity_can_be_ignored(write_raster: WriteRaster, kind: str) -> None:
    image = np.full((4 if kind == "alpha" else 3, 100, 100), 9, np.uint8)
    image[-1, :40] = 0
    path = write_raster(
        image, photometric="rgb", **({"alpha": "yes"} if kind == "alpha" else {"nodata": 9} if kind == "nodata" else {})
    )
    if kind == "mask":
        with rasterio.open(path, "r+") as dataset:
            dataset.write_mask(image[-1] > 0)
    assert not in_windows(opened(path), 64)[1].all()
    scene = opened(path, OpenOptions(ignore_nodata=True))
    data, valid = in_windows(scene, 64)
    assert valid.all()
    np.testing.assert_array_equal(data, image)


def test_sparse_blocks_are_found_without_reading(write_raster: WriteRaster) -> None:
    path = write_raster(np.zeros((1, 64, 64), np.uint8))
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=4096,
        width=4096,
        count=1,
        dtype="uint8",
        tiled=True,
        blockxsize=256,
        blockysize=256,
        sparse_ok=True,
        crs="EPSG:32720",
        transform=rasterio.Affine(10, 0, 0, 0, -10, 9e6),
    ) as dataset:
        dataset.write(np.ones((256, 256), np.uint8), 1, window=rasterio.windows.Window(512, 1024, 256, 256))
    scene = opened(path)
    assert any("255 of 256 blocks were never written" in warning for warning in scene.warnings)
    with SceneReader(scene, (0,)) as reader:
        assert reader.is_empty(Window.of((1024, 4096)))
        assert not reader.is_empty(Window.at((1000, 500), (100, 100)))
        assert reader.stats.decoded_pixels == 0
        assert not reader.read(Window.of((64, 64))).valid.any()


def test_a_file_that_vanishes(write_raster: WriteRaster) -> None:
    path = write_raster(np.ones((1, 300, 300), np.uint8))
    scene = opened(path)
    path.unlink()
    with pytest.raises(ReadError, match=r"scene\.tif.*moved or replaced"):
        SceneReader(scene, (0,))


@pytest.mark.parametrize("side", [33, 100, 250])
def test_warped_pixels_do_not_depend_on_the_windows(write_raster: WriteRaster, side: int) -> None:
    image = np.random.default_rng(0).integers(1, 255, (1, 200, 230), np.uint8)
    scene = opened(write_raster(image), OpenOptions(target_crs="EPSG:4326"))
    whole, valid = in_windows(scene, 10_000)
    data, valid_data = in_windows(scene, side)
    np.testing.assert_array_equal(valid_data, valid)
    np.testing.assert_array_equal(data[:, valid], whole[:, valid])


def test_units_of_a_server_are_read_ahead_within_their_limit(write_raster: WriteRaster) -> None:
    """The same pixels as from disk; each unit is decoded once, also where windows overlap, and what is kept stays bounded."""
    image = np.random.default_rng(0).integers(0, 255, (2100, 2100), np.uint8)
    path = write_raster(image, "ahead.tif", blockxsize=256, blockysize=256)
    windows = [Window.at((row, col), (700, 700)) for row in range(0, 2100, 700) for col in range(0, 2100, 700)]
    for limit in (64 << 20, 600_000):
        with faulty_server(path.parent) as address:
            scene = open_scene([f"{address}/{path.name}"])
            with SceneReader(scene, (0,), threads=8, cache_bytes=limit) as reader:
                reader.expect(windows)
                for window in windows:
                    assert (reader.read(window).data[0] == image[window.slices]).all()
                units = reader._units
                assert not units._early
                assert units._kept_bytes <= limit
                if limit > image.size:
                    assert reader.stats.decoded_pixels == image.size


def test_what_a_look_has_decoded_is_not_decoded_again(write_raster: WriteRaster) -> None:
    image = np.random.default_rng(0).integers(1, 255, (3, 2048, 2048), np.uint8)
    scene, same = (opened(write_raster(image, "looked.tif", blockysize=512, blockxsize=512)) for _ in range(2))
    whole = Window.of((2048, 2048))

    def decoded(one: Scene, bands: tuple[int, ...], *, cache_bytes: int = 1 << 30) -> int:
        with SceneReader(one, bands, cache_bytes=cache_bytes, take_over=True) as reader:
            np.testing.assert_array_equal(reader.read(whole).data, image[list(bands)])
            return reader.stats.decoded_pixels

    for one, bands, cache_bytes, known in (
        (scene, (2, 0), 1 << 30, True),
        (scene, (0, 2), 1 << 30, False),
        (same, (2, 0), 1 << 30, False),
        (scene, (2, 0), 1 << 20, False),
    ):
        looked = sum(pixels.data[0].size for pixels in sampled_cells(scene, (2, 0), 256, hand_on=True))
        assert looked == WANTED * 256**2
        first, again = (decoded(one, bands, cache_bytes=cache_bytes) for _ in range(2))
        # Of half of a megabyte no more than a unit is taken.
        assert first < 0.2 * whole.pixels if known else first >= whole.pixels - 512**2 * (cache_bytes == 1 << 20)
        assert again == whole.pixels
