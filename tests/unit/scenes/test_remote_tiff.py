"""GeoTIFFs on a server: the same facts and pixels as from a file, whatever its form; in few requests, and from nowhere else."""

from __future__ import annotations

import io
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from faulty_server import faulty_server
from hypothesis import given
from hypothesis import strategies as st
from rasterio.enums import ColorInterp
from support import LIMIT_S, WriteRaster

from geoseg.errors import NotARasterError, ReadError, SceneTooLargeError, TruncatedError
from geoseg.scenes.opening import open_scene
from geoseg.scenes.pixels.file_pixels import FilePixels
from geoseg.scenes.pixels.layout import Layout
from geoseg.scenes.ranges.range_client import RangeClient
from geoseg.scenes.ranges.remote_tiff import GAP, MOST_MERGED, merged, remote_tiff
from geoseg.scenes.reader import SceneReader
from geoseg.scenes.scene import OpenOptions, Scene
from geoseg.tiff import TILE_OFFSETS, read_structure
from geoseg.windows import Window

HEIGHT, WIDTH = 333, 411
FORMS: dict[str, dict[str, Any]] = {
    "deflate": {"compress": "deflate", "predictor": 2},
    "floats": {"compress": "zstd", "predictor": 3, "dtype": "float32"},
    "lzw by bands": {"compress": "lzw", "interleave": "band"},
    "plain strips": {"compress": "none", "tiled": False, "blockysize": 7},
    "one strip": {"compress": "deflate", "tiled": False, "blockysize": HEIGHT},
    "lerc": {"compress": "lerc", "max_z_error": 0},
    "lerc with zstd": {"compress": "lerc_zstd", "interleave": "band"},
    "jpeg": {"compress": "jpeg", "photometric": "ycbcr", "interleave": "pixel", "dtype": "uint8"},
    "webp": {"compress": "webp", "webp_lossless": True, "interleave": "pixel", "dtype": "uint8"},
    "big": {"bigtiff": "yes", "compress": "deflate"},
    "big-endian": {"endianness": "big", "compress": "deflate", "predictor": 2},
    "12 bits": {"nbits": 12, "compress": "deflate"},
    "nodata": {"nodata": 7, "compress": "deflate"},
    "sparse": {"nodata": 7, "sparse_ok": True, "compress": "deflate"},
    "sparse without nodata": {"sparse_ok": True, "compress": "deflate", "interleave": "band"},
    "cog": {"driver": "COG", "compress": "deflate", "blocksize": 128, "overviews": "auto"},
    "palette": {"count": 1, "dtype": "uint8", "photometric": "palette"},
}


def write(path: Path, form: dict[str, Any]) -> None:
    profile = {
        "driver": "GTiff", "height": HEIGHT, "width": WIDTH, "count": 3, "dtype": "uint16", "crs": "EPSG:32720", "tiled": True,
        "transform": rasterio.Affine(10, 0, 6e5, 0, -10, 9e6), "blockxsize": 64, "blockysize": 32,
    } | form  # fmt: off
    if profile["driver"] == "COG":
        del profile["tiled"], profile["blockxsize"], profile["blockysize"]
    rows, cols = np.mgrid[:HEIGHT, :WIDTH]
    noise = np.random.default_rng(0).integers(0, 9, (profile["count"], HEIGHT, WIDTH))
    image = ((rows // 9 + cols // 5) % 200 + noise).astype(profile["dtype"])
    with rasterio.open(path, "w", **profile) as dataset:
        if form.get("sparse_ok"):
            dataset.write(image[:, 64:192, 64:256], window=rasterio.windows.Window(64, 64, 192, 128))
        else:
            dataset.write(image)
        if form.get("photometric") == "palette":
            dataset.write_colormap(1, {i: (i, 255 - i, 7, 255) for i in range(256)})
        else:
            dataset.update_tags(1, wavelength="0.49")
            dataset.set_band_description(1, "blue")


def facts(scene: Scene) -> Scene:
    """What does not depend on where its files lie, nor on what only a file on this machine is looked at for."""
    files = tuple(replace(file, path="") for file in scene.files)
    return replace(scene, files=files, fingerprint="", modified=None)


@pytest.mark.parametrize("form", FORMS)
def test_a_server_gives_what_the_file_holds(tmp_path: Path, form: str) -> None:
    path = tmp_path / "scene.tif"
    write(path, FORMS[form])
    windows = [
        Window.of((HEIGHT, WIDTH)),
        Window.at((31, 63), (2, 2)),
        Window.at((100, 5), (90, 400)),
        Window.at((332, 410), (1, 1)),
    ]
    with rasterio.open(path) as dataset:
        image = dataset.read()
    with faulty_server(tmp_path) as address:
        scene, local = open_scene([f"{address}/scene.tif"]), open_scene([str(path)])
        assert ("never written" in "".join(scene.warnings)) == ("sparse" in form)
        assert facts(scene) == facts(local)
        bands = range(len(scene.bands))
        with SceneReader(scene, bands, threads=8) as reader, SceneReader(local, bands) as disk:
            for window in windows:
                found, expected = reader.read(window), disk.read(window)
                np.testing.assert_array_equal(found.data, expected.data)
                np.testing.assert_array_equal(found.valid, expected.valid)
                if form != "palette":
                    np.testing.assert_array_equal(found.data, image[(slice(None), *window.slices)])
        # One band of several, out of their order.
        with SceneReader(scene, (len(bands) - 1,)) as reader, SceneReader(local, (len(bands) - 1,)) as disk:
            np.testing.assert_array_equal(reader.read(windows[2]).data, disk.read(windows[2]).data)


@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_alpha_and_mask_of_a_server(write_raster: WriteRaster, interleave: str) -> None:
    image = np.random.default_rng(0).integers(0, 255, (4, 200, 300), np.uint8)
    image[3] = np.where(image[3] > 99, 255, 0)
    path = write_raster(image, interleave=interleave)
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    masked = path.with_name("masked.tif")
    profile = {"driver": "GTiff", "height": 200, "width": 300, "count": 3, "dtype": "uint8", "tiled": True, "crs": "EPSG:32720"}
    transform = rasterio.Affine(10, 0, 6e5, 0, -10, 9e6)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            masked, "w", **profile, transform=transform, interleave=interleave, blockxsize=64, blockysize=64
        ) as dataset,
    ):
        dataset.write(image[:3])
        dataset.write_mask(image[3])
    with faulty_server(path.parent) as address:
        for name in (path.name, masked.name):
            scene = open_scene([f"{address}/{name}"])
            assert len(scene.bands) == 3
            with SceneReader(scene, (0, 2)) as reader:
                found = reader.read(Window.at((10, 20), (150, 250)))
            np.testing.assert_array_equal(found.data, image[(slice(0, 3, 2), slice(10, 160), slice(20, 270))])
            np.testing.assert_array_equal(found.valid, image[3, 10:160, 20:270] > 0)


VIEWS = {"another CRS": {"target_crs": "EPSG:4326"}, "coarser": {"resample": 35.0}, "finer": {"resample": 4.0}}


@pytest.mark.parametrize("options", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("form", ["nodata", "lzw by bands", "palette", "jpeg", "cog", "sparse"])
def test_a_server_gives_what_the_file_holds_on_another_grid(tmp_path: Path, form: str, options: dict[str, Any]) -> None:
    path = tmp_path / "scene.tif"
    write(path, FORMS[form])
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
        if masked := form in ("lzw by bands", "palette", "jpeg"):
            dataset.write_mask((np.indices((HEIGHT, WIDTH)) // 13).sum(axis=0) % 3 > 0)
    how = OpenOptions(**options)
    with faulty_server(tmp_path) as address:
        scene, local = open_scene([f"{address}/scene.tif"], options=how), open_scene([str(path)], options=how)
        assert facts(scene) == facts(local)
        bands = range(len(scene.bands))
        windows = [Window.of((scene.height, scene.width)), Window.at((31, 17), (20, 50))]
        with SceneReader(scene, bands, threads=4) as reader, SceneReader(local, bands) as disk:
            for window in windows:
                found, expected = reader.read(window), disk.read(window)
                np.testing.assert_array_equal(found.data, expected.data)
                np.testing.assert_array_equal(found.valid, expected.valid)
                assert not masked or not found.valid.all()


def test_a_mask_that_can_not_be_got_is_an_error_and_not_all_data(tmp_path: Path) -> None:
    path = tmp_path / "scene.tif"
    write(path, FORMS["deflate"])
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(np.zeros((HEIGHT, WIDTH), bool))
    with faulty_server(tmp_path) as address:
        scene = open_scene([f"{address}/scene.tif"], options=OpenOptions(target_crs="EPSG:4326"))
        pixels, layout = FilePixels(scene), Layout.of(scene, 0, scene.bands)
        assert pixels.read(layout, Window.of((64, 64)))[1] is not None
        mask = read_structure(path).mask
        assert mask is not None
        # Its blocks lie behind what was read of the file at first, and are not there any more.
        path.write_bytes(path.read_bytes()[: int(mask.offsets[mask.offsets > 0].min())])
        with pytest.raises(ReadError, match=r"416|shorter"):
            pixels.read(layout, Window.at((100, 100), (64, 64)))
        pixels.close()


@pytest.mark.parametrize("mode", ["short=2", "reset=2", "503every=2"])
def test_a_mask_whose_directory_comes_at_the_second_try_is_not_all_data(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "scene.tif"
    write(path, FORMS["plain strips"])
    mask = (np.indices((HEIGHT, WIDTH)) // 13).sum(axis=0) % 3 > 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(mask)
    with faulty_server(tmp_path, mode) as address:
        scene = open_scene([f"{address}/scene.tif"])
        assert scene.files[0].validity == "mask"
        with SceneReader(scene, (0,)) as reader:
            np.testing.assert_array_equal(reader.read(Window.of((HEIGHT, WIDTH))).valid, mask)


class Counting(ThreadingHTTPServer):
    """Serves one file, and counts."""

    daemon_threads = True

    def __init__(self, content: bytes, together: int = 1) -> None:
        super().__init__(("127.0.0.1", 0), CountingHandler)
        self.together = threading.Barrier(together)
        """So many requests are answered once all of them are there."""
        self.content, self.asked, self.connections, self.lock = content, 0, 0, threading.Lock()


class CountingHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Counting

    def setup(self) -> None:
        with self.server.lock:
            self.server.connections += 1
        super().setup()

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.asked += 1
        self.server.together.wait(LIMIT_S)
        first, last = (int(text) for text in self.headers["Range"].removeprefix("bytes=").split("-"))
        content = self.server.content
        body = content[first : last + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{first + len(body) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_requests_and_connections_are_few(write_raster: WriteRaster) -> None:
    """One request to open; one a row of tiles to read, over no more connections than threads; nothing twice."""
    image = np.random.default_rng(0).integers(0, 1 << 12, (1024, 1024), np.uint16)
    path = write_raster(image, driver="COG", tiled=None, blockxsize=None, blockysize=None, blocksize=128)
    with Counting(path.read_bytes()) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        scene = open_scene([f"http://127.0.0.1:{server.server_port}/scene.tif"])
        assert server.asked == 1
        with SceneReader(scene, (0,), threads=2) as reader:
            np.testing.assert_array_equal(reader.read(Window.of((1024, 1024))).data[0], image)
        assert server.asked == 1 + 1024 // 128
        assert server.connections <= 1 + 2
        server.shutdown()


def test_files_of_a_scene_are_asked_for_at_once(write_raster: WriteRaster) -> None:
    path = write_raster(np.ones((64, 64), np.uint16))
    with Counting(path.read_bytes(), together=4) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        scene = open_scene([f"http://127.0.0.1:{server.server_port}/{name}.tif" for name in "abcd"])
        assert len(scene.bands) == server.asked == 4
        server.shutdown()


def test_an_archive_on_a_server_is_to_be_downloaded() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("S2.SAFE/MTD_MSIL2A.xml", "<a/>")
    with Counting(buffer.getvalue()) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(NotARasterError, match="an archive, none of which is read from a server; download it"):
            open_scene([f"http://127.0.0.1:{server.server_port}/S2.SAFE.zip"])
        server.shutdown()


def test_what_lies_side_by_side_and_is_expected_soon_is_one_request(write_raster: WriteRaster) -> None:
    """Four units of half a MiB are read at once, each is decoded once, and nothing beyond what is expected is asked for."""
    image = np.random.default_rng(0).integers(0, 1 << 12, (512, 8192), np.uint16)
    path = write_raster(image, tiled=True, blockxsize=256, blockysize=256, compress="deflate")
    windows = [Window.at((0, col), (256, 1024)) for col in range(0, 7168, 1024)]
    with Counting(path.read_bytes()) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        scene = open_scene([f"http://127.0.0.1:{server.server_port}/scene.tif"])
        before = server.asked
        with SceneReader(scene, (0,), threads=4) as reader:
            reader.expect(windows)
            for window in windows:
                np.testing.assert_array_equal(reader.read(window).data[0], image[window.slices])
            assert reader.stats.decoded_pixels == 7 * 256 * 1024
        assert server.asked - before == 1 + 2
        with SceneReader(scene, (0,), threads=4) as reader:
            # What a window holds is read at once, too, though nothing was expected; not what lies beside it.
            np.testing.assert_array_equal(reader.read(Window.at((0, 0), (256, 3000))).data[0], image[:256, :3000])
            assert reader.stats.decoded_pixels == 3 * 256 * 1024
        # The directories are read anew by a second reader.
        assert server.asked - before == 1 + 2 + 2
        server.shutdown()


@pytest.mark.parametrize("mode", ["ok", "503every=3", "short=2", "reset=3"])
def test_overlapping_windows_of_units_that_were_read_at_once(write_raster: WriteRaster, mode: str) -> None:
    """The pixels of the file, whether units come together or alone; those that windows share are kept, and only those."""
    image = np.random.default_rng(0).integers(0, 1 << 12, (700, 5000), np.uint16)
    path = write_raster(image, tiled=True, blockxsize=256, blockysize=256, compress="deflate", nodata=7)
    windows = [
        Window.between(max(0, row - 40), min(700, row + 390), max(0, col - 40), min(5000, col + 1290))
        for row in range(0, 700, 350)
        for col in range(0, 5000, 1250)
    ]
    with faulty_server(path.parent, mode) as address:
        scene = open_scene([f"{address}/{path.name}"])
        with SceneReader(scene, (0,), threads=8) as reader:
            reader.expect(windows)
            for window in windows:
                found = reader.read(window)
                np.testing.assert_array_equal(found.data[0], image[window.slices])
                np.testing.assert_array_equal(found.valid, image[window.slices] != 7)
                units = reader._units
                kept = [future.result().data for key, future in units._units.items() if key not in units._early]
                # None holds the others of its reading in memory.
                assert all(data is not None and data.base is None for data in kept)
            assert reader.stats.decoded_pixels == image.size
            assert reader._units._kept_bytes == 0


def test_a_damaged_block_spoils_its_own_window_only(write_raster: WriteRaster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geoseg.scenes.reader.TRIES", 2)
    image = np.random.default_rng(0).integers(0, 1 << 12, (256, 4096), np.uint16)
    path = write_raster(image, tiled=True, blockxsize=256, blockysize=256, compress="deflate")
    main, data = read_structure(path).main, bytearray(path.read_bytes())
    place = int(main.offsets[9])
    data[place : place + 200] = bytes(200)
    path.write_bytes(data)
    windows = [Window.at((0, col), (256, 1024)) for col in range(0, 4096, 1024)]
    with faulty_server(path.parent) as address:
        scene = open_scene([f"{address}/{path.name}"])
        with SceneReader(scene, (0,), threads=4, mask_bad_blocks=True) as reader:
            reader.expect(windows)
            for window in windows:
                found, bad = reader.read(window), np.zeros((256, 4096), np.bool_)
                bad[:, 9 * 256 : 10 * 256] = True
                bad = bad[window.slices]
                assert (found.bad is None) == (not bad.any())
                np.testing.assert_array_equal(found.valid, ~bad)
                np.testing.assert_array_equal(found.data[0][~bad], image[window.slices][~bad])


def test_redirects_are_followed_and_credentials_stay(write_raster: WriteRaster) -> None:
    image = np.arange(200 * 300, dtype=np.uint16).reshape(200, 300)
    path = write_raster(image)
    with faulty_server(path.parent, "moved") as address:
        # The server denies what comes with the credentials of another.
        scene = open_scene([f"{address.replace('//', '//user:pass@')}/{path.name}"])
        with SceneReader(scene, (0,)) as reader:
            np.testing.assert_array_equal(reader.read(Window.of((200, 300))).data[0], image)
    for mode, words in (("elsewhere", "not HTTP"), ("circle", "redirects")):
        with faulty_server(path.parent, mode) as address, pytest.raises(ReadError, match=words):
            RangeClient(f"{address}/{path.name}").get(0, 10)


def test_a_damaged_directory_asks_for_nothing_beyond_the_file(write_raster: WriteRaster) -> None:
    path = write_raster(np.ones((256, 256), np.uint8), compress="none")
    data = bytearray(path.read_bytes())
    offsets = read_structure(path).main.entries[TILE_OFFSETS].raw
    place = data.index(offsets)
    data[place : place + 4] = (1 << 31).to_bytes(4, "little")
    path.write_bytes(data)
    with faulty_server(path.parent) as address:
        with pytest.raises(TruncatedError, match="truncated: block 0,0 ends at byte"):
            open_scene([f"{address}/{path.name}"])
        remote = remote_tiff(f"{address}/{path.name}")
        assert remote is not None
        with pytest.raises(ReadError, match="directory is damaged"):
            remote.excerpt(Window.of((64, 64)), (1,))
        remote.excerpt(Window.at((64, 64), (64, 64)), (1,))
        remote.close()


def test_what_is_refused_of_files_is_refused_of_servers(write_raster: WriteRaster) -> None:
    path = write_raster(np.ones((256, 256), np.uint8), compress="none")
    whole = path.read_bytes()
    with faulty_server(path.parent) as address:
        for size in (len(whole) - 1, len(whole) // 2, 200):
            path.write_bytes(whole[:size])
            for place in (f"{address}/{path.name}", str(path)):
                with pytest.raises(TruncatedError, match="truncated"):
                    open_scene([place])
        path.write_bytes(whole)
        for place in (f"{address}/{path.name}", str(path)):
            with pytest.raises(SceneTooLargeError, match="one block is"):
                open_scene([place], options=OpenOptions(max_block_bytes=1000))


SPANS = st.lists(st.tuples(st.integers(0, 40 << 20), st.integers(1, 9 << 20)), max_size=30)


@given(SPANS)
def test_what_is_merged_holds_each_block_once(blocks: list[tuple[int, int]]) -> None:
    spans = merged([(first, count, (0, number)) for number, (first, count) in enumerate(blocks)])
    assert sorted(key[1] for _, _, own in spans for _, _, key in own) == list(range(len(blocks)))
    for first, count, own in spans:
        assert all(first <= start and start + length <= first + count for start, length, _ in own)
        assert count <= MOST_MERGED or len(own) == 1
    assert [first for first, *_ in spans] == sorted(first for first, *_ in spans)
    alone = merged([(0, 10, (0, 0)), (10 + GAP, 10, (1, 0)), (21 + 2 * GAP, 5, (0, 2))])
    assert [[key for *_, key in own] for *_, own in alone] == [[(0, 0), (1, 0)], [(0, 2)]]
