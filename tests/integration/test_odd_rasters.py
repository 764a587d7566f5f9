"""Rasters that people really have: blocks left out, palettes, several images, masks of several bands."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from PIL import Image
from support import TRANSFORM, UTM, WriteRaster, call_cli

from geoseg.clouds.hidden import HiddenRaster, MaskRule
from geoseg.errors import BandError, GeosegError, NotARasterError, ReadError
from geoseg.georeference import Georeference
from geoseg.scenes.gdal import IMAGES, open_picture, open_raster
from geoseg.scenes.opening import open_scene
from geoseg.scenes.reader import Pixels, SceneReader
from geoseg.scenes.scene import OpenOptions
from geoseg.windows import Window
from pipeline.files.class_rasters import open_class_raster

SIDE = 96
WHOLE = Window.of((SIDE, SIDE))
RNG = np.random.default_rng(0)


def read(path: Path, bands: Sequence[int] = (0, 1, 2), **options: Any) -> Pixels:
    scene = open_scene([str(path)], "scene", OpenOptions(**options))
    with SceneReader(scene, bands) as reader:
        return reader.read(Window.of((scene.height, scene.width)))


# ---- blocks that were left out


@pytest.mark.parametrize("nodata", [None, 0, 7])
@pytest.mark.parametrize("tiled", [True, False])
@pytest.mark.parametrize("asked", [(0, 1, 2), (3,), (3, 0)])
def test_a_block_that_one_band_lacks_is_data(
    write_raster: WriteRaster, nodata: int | None, tiled: bool, asked: tuple[int, ...]
) -> None:
    data = RNG.integers(20, 200, (4, SIDE, SIDE)).astype(np.uint8)
    # Left out of the file: what is 0, or the nodata value. One block lacks all bands.
    data[3, :64] = nodata or 0
    data[:, 64:, 64:] = nodata or 0
    layout = {"tiled": True, "blockxsize": 32, "blockysize": 32} if tiled else {"tiled": False, "blockysize": 32}
    path = write_raster(data, interleave="band", sparse_ok=True, nodata=nodata, photometric="minisblack", alpha="no", **layout)
    found = read(path, asked)
    with rasterio.open(path) as dataset:
        truth = dataset.read([b + 1 for b in asked])
        masks = dataset.read_masks([b + 1 for b in asked]).any(axis=0)
    absent = np.zeros((SIDE, SIDE), np.bool_)
    if tiled:
        absent[64:, 64:] = True
    valid = masks & ~absent
    np.testing.assert_array_equal(found.valid, valid)
    np.testing.assert_array_equal(found.data[:, valid], truth[:, valid])


def test_what_is_left_out_of_some_bands_is_told(write_raster: WriteRaster) -> None:
    data = np.full((2, 128, 64), 5, np.uint8)
    data[1, :64] = 0
    scene = open_scene([str(write_raster(data, interleave="band", sparse_ok=True))], "scene", OpenOptions())
    assert any("1 of 2 blocks were never written in some of the bands" in note for note in scene.warnings)


@pytest.mark.parametrize("interleave", ["band", "pixel"])
def test_masks_and_overviews_of_sparse_files_change_nothing(write_raster: WriteRaster, interleave: str) -> None:
    data = RNG.integers(1, 200, (3, 256, 256)).astype(np.uint8)
    data[0, :64] = 0
    path = write_raster(data, interleave=interleave, sparse_ok=True, photometric="rgb")
    hidden = np.zeros((256, 256), np.bool_)
    hidden[10:200, 30:90] = True
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(~hidden)
        dataset.build_overviews([2, 4])
    found = read(path)
    np.testing.assert_array_equal(found.valid, ~hidden)
    np.testing.assert_array_equal(found.data, data)


# ---- palettes and few bits


def table(count: int, *, alpha: Mapping[int, int] | None = None) -> dict[int, tuple[int, int, int, int]]:
    rng = np.random.default_rng(count)
    return {i: (*(int(v) for v in rng.integers(0, 256, 3)), (alpha or {}).get(i, 255)) for i in range(count)}


def palette_file(write_raster: WriteRaster, codes: np.ndarray, colors: Mapping[int, Any], **profile: Any) -> Path:
    path = write_raster(codes, photometric="palette", **profile)
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, colors)
    return path


@pytest.mark.parametrize(("bits", "dtype"), [(1, "uint8"), (2, "uint8"), (4, "uint8"), (8, "uint8"), (16, "uint16")])
@pytest.mark.parametrize("warp", [False, True])
def test_palettes_of_any_depth(write_raster: WriteRaster, bits: int, dtype: str, warp: bool) -> None:
    codes = RNG.integers(0, 2**bits, (SIDE, SIDE)).astype(dtype)
    colors = table(2**bits)
    given = {"nbits": bits} if bits < 8 else {}
    path = palette_file(write_raster, codes, colors, **given)
    found = read(path, **({"target_crs": UTM, "resample": 10.0} if warp else {}))
    truth = np.array([colors[i][:3] for i in range(2**bits)], np.uint8)[codes].transpose(2, 0, 1)
    assert found.valid.all()
    np.testing.assert_array_equal(found.data, truth)


@pytest.mark.parametrize("warp", [False, True])
def test_transparent_colours_are_no_data(tmp_path: Path, write_raster: WriteRaster, warp: bool) -> None:
    codes = RNG.integers(0, 6, (SIDE, SIDE)).astype(np.uint8)
    colors = table(6)
    path = palette_file(write_raster, codes, colors)
    # TIFF keeps no transparency: notes beside it do.
    entries = "".join(f'<Entry c1="{r}" c2="{g}" c3="{b}" c4="{0 if i == 4 else a}"/>' for i, (r, g, b, a) in colors.items())
    virtual = tmp_path / "in" / "scene.vrt"
    rasterio.shutil.copy(path, virtual, driver="VRT")
    text = virtual.read_text()
    start, stop = text.index("<ColorTable>"), text.index("</ColorTable>")
    virtual.write_text(text[:start] + f"<ColorTable>{entries}" + text[stop:])
    options: dict[str, Any] = {"allow_vrt": True} | ({"target_crs": UTM, "resample": 10.0} if warp else {})
    np.testing.assert_array_equal(read(virtual, **options).valid, codes != 4)
    assert read(virtual, ignore_nodata=True, **options).valid.all()


@pytest.mark.parametrize("warp", [False, True])
def test_palettes_with_nodata_and_masks(write_raster: WriteRaster, warp: bool) -> None:
    codes = RNG.integers(0, 6, (SIDE, SIDE)).astype(np.uint8)
    warped = {"target_crs": UTM, "resample": 10.0} if warp else {}
    path = palette_file(write_raster, codes, table(6), nodata=2)
    np.testing.assert_array_equal(read(path, **warped).valid, codes != 2)
    np.testing.assert_array_equal(read(path, nodata=(3.0,), **warped).valid, codes != 3)
    hidden = np.zeros((SIDE, SIDE), np.bool_)
    hidden[20:50, 30:90] = True
    path = palette_file(write_raster, codes, table(6), name="masked.tif")
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(~hidden)
    np.testing.assert_array_equal(read(path, **warped).valid, ~hidden)


def test_a_palette_with_an_alpha_band(write_raster: WriteRaster) -> None:
    codes = RNG.integers(0, 6, (SIDE, SIDE)).astype(np.uint8)
    alpha = np.where(np.arange(SIDE) < 40, 0, 255).astype(np.uint8)[None].repeat(SIDE, 0)
    colors = table(6)
    path = palette_file(write_raster, np.stack([codes, alpha]), colors, alpha="yes")
    found = read(path)
    np.testing.assert_array_equal(found.valid, alpha > 0)
    np.testing.assert_array_equal(found.data[0], np.array([colors[i][0] for i in range(6)])[codes])


def test_indices_beyond_the_palette_are_black_as_gdal_shows_them(write_raster: WriteRaster) -> None:
    codes = np.array([[0, 1, 200, 255]], np.uint8).repeat(4, 0)
    found = read(palette_file(write_raster, codes, {0: (9, 9, 9, 255), 1: (8, 7, 6, 255)}))
    assert found.data[:, 0].T.tolist() == [[9, 9, 9], [8, 7, 6], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("bits", [1, 4, 8, 12, 16])
def test_white_that_is_0(write_raster: WriteRaster, bits: int) -> None:
    values = RNG.integers(0, 2**bits if bits != 8 else 254, (SIDE, SIDE)).astype(np.uint8 if bits <= 8 else np.uint16)
    path = write_raster(values, photometric="miniswhite", **({"nbits": bits} if bits not in (8, 16) else {}))
    most = 2**bits - 1
    found = read(path)
    for band in found.data:
        np.testing.assert_array_equal(band, 255 * (most - values.astype(int)) // most)
    if bits > 8:
        return
    # As a class raster its values are its codes.
    raster, _ = open_class_raster(str(path), OpenOptions())
    np.testing.assert_array_equal(raster.classes(WHOLE), values)


@pytest.mark.parametrize(("bits", "dtype"), [(2, "uint8"), (4, "uint8"), (12, "uint16")])
def test_few_bits_are_told(write_raster: WriteRaster, bits: int, dtype: str) -> None:
    values = RNG.integers(0, 2**bits, (SIDE, SIDE)).astype(dtype)
    path = write_raster(values, nbits=bits, photometric="minisblack")
    scene = open_scene([str(path)], "scene", OpenOptions())
    assert any(f"have {bits} bits" in note and f"rescale=0,{2**bits - 1}" in note for note in scene.warnings)
    np.testing.assert_array_equal(read(path, (0,)).data[0], values)


def test_one_bit_is_black_and_white(write_raster: WriteRaster) -> None:
    values = RNG.integers(0, 2, (SIDE, SIDE)).astype(np.uint8)
    path = write_raster(values, nbits=1, photometric="minisblack")
    np.testing.assert_array_equal(read(path).data, 255 * values[None].repeat(3, 0))
    np.testing.assert_array_equal(open_class_raster(str(path), OpenOptions())[0].classes(WHOLE), values)


def test_brightness_that_runs_backwards_is_told(write_raster: WriteRaster) -> None:
    scene = open_scene(
        [str(write_raster(RNG.random((SIDE, SIDE)).astype(np.float32), photometric="miniswhite"))], "s", OpenOptions()
    )
    assert any("MINISWHITE" in note for note in scene.warnings)


# ---- several images in a file


def pages(path: Path, images: Sequence[np.ndarray], **profile: Any) -> Path:
    for number, data in enumerate(images):
        given = {
            "driver": "GTiff",
            "count": len(data),
            "height": data.shape[1],
            "width": data.shape[2],
            "dtype": data.dtype.name,
            "crs": UTM,
            "transform": TRANSFORM,
        }
        with rasterio.open(path, "w", **given | profile | ({"APPEND_SUBDATASET": "YES"} if number else {})) as dataset:
            dataset.write(data)
    return path


def subfile_types(path: Path, kinds: Sequence[int]) -> Path:
    """Give the images of a classic little-endian file a NewSubfileType (254): their directories are written anew at its end."""
    data = bytearray(path.read_bytes())
    link = 4
    for kind in kinds:
        (offset,) = struct.unpack_from("<I", data, link)
        (count,) = struct.unpack_from("<H", data, offset)
        entries, following = data[offset + 2 : offset + 2 + 12 * count], data[offset + 2 + 12 * count : offset + 6 + 12 * count]
        struct.pack_into("<I", data, link, len(data))
        data += struct.pack("<HHHII", count + 1, 254, 4, 1, kind) + entries
        link = len(data)
        data += following
    path.write_bytes(data)
    return path


ONE, RGB = np.ones((1, 60, 60), np.uint8), np.full((3, 30, 40), 9, np.uint8)


@pytest.mark.parametrize("images", [[ONE, ONE], [ONE, RGB], [RGB, ONE, RGB], [ONE] * 9])
def test_a_file_of_several_images_is_refused_with_a_list_of_them(tmp_path: Path, images: list[np.ndarray]) -> None:
    path = pages(tmp_path / "pages.tif", images)
    openers: dict[str, Callable[[], object]] = {
        "scene": lambda: open_scene([str(path)], "scene", OpenOptions()),
        "class raster": lambda: open_class_raster(str(path), OpenOptions()),
        "labels": lambda: open_raster(path, IMAGES),
        "mask": lambda: HiddenRaster(str(path), Georeference(tuple(TRANSFORM)[:6], UTM), (60, 60)),
    }
    for opener in openers.values():
        with pytest.raises(NotARasterError, match=rf"a TIFF of {len(images)} images \(1: \d+ x \d+ px, \d bands?;") as caught:
            opener()
        assert "gdal_translate (or rio convert) GTIFF_DIR:" in str(caught.value)
        assert all(f"{data.shape[1]} x {data.shape[2]} px, {len(data)} band" in str(caught.value) for data in images[:6])


def test_the_command_line_refuses_several_images(tmp_path: Path) -> None:
    path = pages(tmp_path / "pages.tif", [ONE, ONE])
    done = call_cli(["vectorize", path, "--out", tmp_path / "out.gpkg"])
    assert done.returncode != 0
    assert "a TIFF of 2 images" in done.stderr
    assert not (tmp_path / "out.gpkg").exists()


@pytest.mark.parametrize("kind", [1, 4], ids=["reduced resolution", "mask"])
def test_previews_and_masks_are_no_images(tmp_path: Path, kind: int) -> None:
    second = np.ones((1, 60, 60) if kind == 4 else (1, 20, 20), np.uint8)
    path = subfile_types(pages(tmp_path / "pages.tif", [ONE, second], nbits=1 if kind == 4 else None), [0, kind])
    assert open_scene([str(path)], "scene", OpenOptions()).height == 60


def test_overviews_and_masks_are_no_images(write_raster: WriteRaster) -> None:
    path = write_raster(RNG.integers(0, 9, (1, 256, 256)).astype(np.uint8))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(np.ones((256, 256), np.bool_))
        dataset.build_overviews([2, 4])
    assert read(path, (0,)).valid.all()


def test_a_preview_that_comes_first_is_not_taken_for_the_image(tmp_path: Path) -> None:
    path = subfile_types(pages(tmp_path / "pages.tif", [np.ones((1, 20, 20), np.uint8), ONE]), [1, 0])
    with pytest.raises(NotARasterError, match="its first image is a preview of 20 x 20 px"):
        open_scene([str(path)], "scene", OpenOptions())


def test_moving_pictures_are_refused(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((20, 20), value, np.uint8)) for value in (0, 90, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(ReadError, match="a moving picture of 3 images"):
        open_picture(str(tmp_path / "a.gif"))


# ---- masks of several bands

UDM2 = ("clear", "snow", "shadow", "light_haze", "heavy_haze", "cloud", "confidence", "unusable")
HERE = Georeference(tuple(TRANSFORM)[:6], rasterio.crs.CRS.from_string(UTM).to_wkt())


def udm2(write_raster: WriteRaster, names: Sequence[str] | None, **profile: Any) -> tuple[str, np.ndarray]:
    cloud = np.zeros((SIDE, SIDE), np.bool_)
    cloud[:20, :20] = True
    bands = np.zeros((8, SIDE, SIDE), np.uint8)
    bands[0], bands[5], bands[6] = ~cloud, cloud, 90
    path = write_raster(bands, "udm2.tif", photometric="minisblack", **profile)
    if names is not None:
        with rasterio.open(path, "r+") as dataset:
            dataset.descriptions = tuple(names)
    return str(path), cloud


@pytest.mark.parametrize(
    ("names", "rule"),
    [
        (UDM2, MaskRule()),
        (UDM2, MaskRule((0,))),
        (UDM2, MaskRule((), "cloud")),
        (UDM2, MaskRule((1,), "6")),
        (None, MaskRule((0,), "1")),
        (None, MaskRule((), "6")),
        ([name.upper() for name in UDM2], MaskRule()),
    ],
)
def test_usable_data_masks_hide_the_clouds(write_raster: WriteRaster, names: Sequence[str] | None, rule: MaskRule) -> None:
    path, cloud = udm2(write_raster, names)
    hidden = HiddenRaster(path, HERE, (SIDE, SIDE), rule)
    np.testing.assert_array_equal(hidden.read(WHOLE), cloud)
    assert (hidden.note is not None) == (rule.band is None)


def test_a_mask_of_several_bands_on_another_grid(write_raster: WriteRaster) -> None:
    path, cloud = udm2(write_raster, UDM2, transform=TRANSFORM @ rasterio.Affine.translation(10, 0))
    hidden = HiddenRaster(path, HERE, (SIDE, SIDE)).read(WHOLE)
    np.testing.assert_array_equal(hidden[:, 10:], cloud[:, :-10])
    assert hidden[:, :10].all()


@pytest.mark.parametrize(
    ("names", "band", "words"),
    [
        (None, None, "a mask of 8 bands"),
        (UDM2, "fog", "none of them is 'fog'"),
        (UDM2, "9", "6 cloud"),
        (["x"] * 8, None, "mask_band"),
    ],
)
def test_masks_of_which_no_band_is_meant_are_refused(
    write_raster: WriteRaster, names: Sequence[str] | None, band: str | None, words: str
) -> None:
    path, _ = udm2(write_raster, names)
    with pytest.raises(BandError, match=words):
        HiddenRaster(path, HERE, (SIDE, SIDE), MaskRule((), band))


def test_four_bands_that_gdal_calls_rgba_are_four(write_raster: WriteRaster) -> None:
    data = np.zeros((4, SIDE, SIDE), np.uint8)
    data[3] = RNG.integers(0, 250, (SIDE, SIDE))
    data[1, :30] = 1
    path = write_raster(data)
    with pytest.raises(BandError, match="4 bands"):
        HiddenRaster(str(path), HERE, (SIDE, SIDE))
    np.testing.assert_array_equal(HiddenRaster(str(path), HERE, (SIDE, SIDE), MaskRule((), "2")).read(WHOLE), data[1] == 1)


@pytest.mark.parametrize(
    ("values", "rule", "refused"),
    [
        ([0, 4, 5, 6, 8, 9, 11], MaskRule(), True),  # Sentinel-2's scene classification
        ([0, 4, 5, 6, 8, 9, 11], MaskRule((8, 9)), False),
        ([21824, 21826, 22280, 23888, 54596], MaskRule(), True),  # Landsat's flags
        ([0, 1], MaskRule(), False),
        ([0, 1, 2], MaskRule(), False),  # clouds, shadows
        ([255], MaskRule(), False),
    ],
)
def test_classifications_are_not_taken_for_masks(
    write_raster: WriteRaster, values: Sequence[int], rule: MaskRule, refused: bool
) -> None:
    data = RNG.choice(np.array(values, np.uint16), (SIDE, SIDE))
    path = str(write_raster(data))
    if refused:
        with pytest.raises(GeosegError, match="mask_values"):
            HiddenRaster(path, HERE, (SIDE, SIDE), rule)
    else:
        expected = np.isin(data, rule.values) if rule.values else data != 0
        np.testing.assert_array_equal(HiddenRaster(path, HERE, (SIDE, SIDE), rule).read(WHOLE), expected)


def test_masks_are_looked_at_before_anything_is_computed(tmp_path: Path, write_raster: WriteRaster) -> None:
    path, _ = udm2(write_raster, None)
    data = RNG.integers(30, 120, (3, SIDE, SIDE)).astype(np.uint8)
    dates = [write_raster(data, name, photometric="rgb") for name in ("a.tif", "b.tif")]
    out = tmp_path / "out"
    done = call_cli(["deforestation", *dates, "--model", "amazon-forest", "--masks", f"none,{path}", "--out", out])
    assert done.returncode != 0
    assert "a mask of 8 bands" in done.stderr
    assert not list(out.rglob("classes.tif"))


def test_masks_that_are_pictures(tmp_path: Path) -> None:
    """A PNG with a palette is one band of indices; one of colours has three, of which none is meant."""
    codes = np.zeros((SIDE, SIDE), np.uint8)
    codes[:20, :30] = 1
    image = Image.fromarray(codes, mode="P")
    image.putpalette([0, 0, 0, 255, 255, 255])
    image.save(tmp_path / "palette.png")
    Image.fromarray(255 * codes).convert("RGB").save(tmp_path / "colours.png")
    place = Georeference((1.0, 0.0, 0.0, 0.0, 1.0, 0.0), None)
    np.testing.assert_array_equal(HiddenRaster(str(tmp_path / "palette.png"), place, (SIDE, SIDE)).read(WHOLE), codes == 1)
    with pytest.raises(BandError, match="a mask of 3 bands"):
        HiddenRaster(str(tmp_path / "colours.png"), place, (SIDE, SIDE))
    by_band = HiddenRaster(str(tmp_path / "colours.png"), place, (SIDE, SIDE), MaskRule((), "1"))
    np.testing.assert_array_equal(by_band.read(WHOLE), codes == 1)


# ---- values of another type than the model's


@pytest.mark.parametrize(
    ("dtype", "scale", "words"),
    [("uint16", None, "0,3000"), ("uint16", 1e-4, "by the file's own scale and offset 0,3000"), ("float32", None, "0..1 0,0.3")],
)
def test_values_of_another_type_name_the_products_scale_first(
    write_raster: WriteRaster, dtype: str, scale: float | None, words: str
) -> None:
    path = write_raster(np.ones((3, SIDE, SIDE), dtype), photometric="rgb")
    if scale is not None:
        with rasterio.open(path, "r+") as dataset:
            dataset.scales = [scale] * 3
    done = call_cli(["segment", path, "-m", "amazon-forest", "-o", path.parent / "out"])
    assert done.returncode == 1
    assert words in done.stderr
    assert done.stderr.index(words) < done.stderr.index("--rescale auto")


# ---- trainings that end between two checks


@pytest.mark.parametrize(("steps", "checks"), [(2, [2]), (4, [4]), (6, [4, 6])])
def test_the_last_step_is_checked_whatever_their_number(tmp_path: Path, steps: int, checks: list[int]) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("lightning")
    from training_toy import main

    threads = torch.get_num_threads()
    try:
        main(tmp_path, {"steps": steps})
        written = (tmp_path / "checkpoints" / "last.ckpt").stat().st_mtime_ns
        # Started again, it is finished, and stays so.
        main(tmp_path, {"steps": steps})
    finally:
        torch.set_num_threads(threads)
    rows = (tmp_path / "curve.csv").read_text().splitlines()
    place = rows[0].split(",").index("step")
    assert [int(row.split(",")[place]) for row in rows[1:]] == checks
    assert (tmp_path / "checkpoints" / "last.ckpt").stat().st_mtime_ns == written
    for name in ("best.ckpt", "last.ckpt"):
        state = torch.load(tmp_path / "checkpoints" / name, weights_only=True)
        assert state["global_step"] in checks
    assert state["global_step"] == steps
