"""Sentinel-2 products as scenes: pixels are those of the files, values those of ESA's formula, and faults are named."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from archive_products import SIZES, sentinel2_pixels, write_jp2, write_safe
from canary import canary
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from geoseg.errors import BandError, GeosegError, SceneError
from geoseg.scenes.bands.choosing import choose_bands
from geoseg.scenes.opening import open_scene
from geoseg.scenes.reader import SceneReader
from geoseg.scenes.scene import OpenOptions, Scene
from geoseg.scenes.sources import list_scenes
from geoseg.windows import Window

SIDE = 180
RGB = ("red", "green", "blue")


@pytest.fixture(scope="module")
def safe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An L2A product of baseline 05.09."""
    scl = np.random.default_rng(1).integers(0, 12, (SIDE // 2, SIDE // 2)).astype(np.uint8)
    return write_safe(tmp_path_factory.mktemp("safe"), sentinel2_pixels(SIDE), scl=scl)


@pytest.fixture
def copy(safe: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(safe, tmp_path / safe.name))


def pixels_of(scene: Scene, names: tuple[str, ...], window: Window) -> tuple[np.ndarray, np.ndarray]:
    bands, _ = choose_bands(scene, names, None)
    with SceneReader(scene, bands) as reader:
        pixels = reader.read(window)
    return pixels.data, pixels.valid


def test_bands_of_10_m_are_read_as_stored(safe: Path) -> None:
    scene, stored = open_scene(str(safe)), sentinel2_pixels(SIDE)
    assert (scene.name, scene.height, scene.width, scene.pixel_size) == (safe.stem, SIDE, SIDE, pytest.approx(10, rel=1e-3))
    assert [band.name for band in scene.bands] == [band.lower() for band in SIZES if band != "B10"]
    window = Window.at((40, 17), (130, 101))
    data, valid = pixels_of(scene, RGB, window)
    np.testing.assert_array_equal(data, np.stack([stored[band] for band in ("B04", "B03", "B02")])[:, *window.slices])
    np.testing.assert_array_equal(valid, (stored["B02"] > 0)[window.slices])
    scene.verify_unchanged()


def test_coarser_bands_are_interpolated_as_gdal_does(safe: Path) -> None:
    """The oracle is GDAL's warp over the whole band, with 0 as no data."""
    scene = open_scene(str(safe))
    window = Window.of((SIDE, SIDE))
    data, valid = pixels_of(scene, ("swir16", "b01"), window)
    for values, band, size in zip(data, ("B11", "B01"), (20, 60), strict=True):
        (path,) = safe.rglob(f"*_{band}_{size}m.jp2")
        grid = {"transform": scene.georeference.transform, "height": SIDE, "width": SIDE}
        with (
            rasterio.open(path) as file,
            WarpedVRT(
                file,
                crs=file.crs,
                transform=rasterio.Affine(*grid["transform"]),
                height=SIDE,
                width=SIDE,
                resampling=Resampling.bilinear,
                src_nodata=0,
                add_alpha=True,
            ) as warped,
        ):
            expected, there = warped.read(1), warped.read(2) > 0
        np.testing.assert_array_equal(values[valid], expected[valid])
        assert (there | ~valid).all()
    # In the middle between centres of pixels the value is their mean.
    stored = sentinel2_pixels(SIDE)["B11"].astype(float)
    by_hand = 0.75 * stored[3, 4] + 0.25 * stored[3, 5]
    by_hand = 0.75 * by_hand + 0.25 * (0.75 * stored[4, 4] + 0.25 * stored[4, 5])
    assert abs(float(data[0, 7, 9]) - by_hand) <= 0.5


def test_a_model_of_20_m_gets_a_grid_of_20_m(safe: Path) -> None:
    """Finer bands are the mean of the pixels that a coarser one covers."""
    scene, stored = open_scene(str(safe), options=OpenOptions(pixel_size=20)), sentinel2_pixels(SIDE)
    assert (scene.height, scene.width) == (SIDE // 2, SIDE // 2)
    data, valid = pixels_of(scene, ("b05", "b04"), Window.of((SIDE // 2, SIDE // 2)))
    np.testing.assert_array_equal(data[0], stored["B05"])
    mean = stored["B04"].astype(float).reshape(SIDE // 2, 2, SIDE // 2, 2).mean(axis=(1, 3))
    assert np.abs(data[1][valid] - mean[valid]).max() <= 0.5
    assert open_scene(str(safe), options=OpenOptions(pixel_size=30)).height == SIDE // 2
    assert open_scene(str(safe), options=OpenOptions(pixel_size=0.3)).height == SIDE


@pytest.mark.parametrize(
    ("level", "baseline", "offset", "expected"),
    [("L2A", "03.01", None, 0.0), ("L2A", "04.00", -1000, -0.1), ("L2A", "05.11", -500, -0.05), ("L1C", "05.00", -1000, -0.1)],
)
def test_the_offset_is_that_of_the_baseline(
    tmp_path: Path, level: str, baseline: str, offset: int | None, expected: float
) -> None:
    pixels = {band: values for band, values in sentinel2_pixels(60).items() if band in ("B02", "B03", "B04", "B10")}
    scene = open_scene(str(write_safe(tmp_path, pixels, level=level, baseline=baseline, offset=offset)))
    assert {(band.scale, band.offset) for band in scene.bands} == {(1e-4, expected)}
    assert {band.quantity for band in scene.bands} == {f"{'surface' if level == 'L2A' else 'top-of-atmosphere'} reflectance"}
    assert scene.product is not None
    assert (scene.product.level, scene.product.baseline) == (level, baseline)


def test_facts(safe: Path) -> None:
    scene = open_scene(str(safe))
    facts = scene.product
    assert facts is not None
    assert scene.acquired == facts.acquired == "2023-07-11T14:20:21Z"
    assert (facts.platform, facts.instruments, facts.level, facts.baseline) == ("Sentinel-2B", ("MSI",), "L2A", "05.09")
    assert facts.cloud_cover == pytest.approx(12.345678)
    assert (facts.sun_azimuth, facts.sun_elevation, facts.off_nadir) == (38.5, 48.75, 5.0)
    # The mean of directions, not of numbers.
    assert facts.view_azimuth == pytest.approx(10)
    assert [layer.kind for layer in scene.quality] == ["scl"]
    with rasterio.open(scene.quality[0].path) as file:
        assert file.shape == (SIDE // 2, SIDE // 2)
    wavelengths = {band.name: band.wavelength for band in scene.bands}
    assert wavelengths["b8a"] == pytest.approx(0.8647)


def test_a_folder_of_products_is_as_many_scenes(safe: Path, tmp_path: Path) -> None:
    for number in range(3):
        shutil.copytree(safe, tmp_path / f"d{number}" / f"S2A_MSIL2A_2023071{number}T1.SAFE")
    shutil.copytree(safe, tmp_path / "S2B.safe")
    scenes, refused = list_scenes([str(tmp_path)])
    assert [ref.name for ref in scenes] == ["S2B", *(f"d{number}/S2A_MSIL2A_2023071{number}T1" for number in range(3))]
    assert not refused
    for text in (f"{safe}/", str(safe / "MTD_MSIL2A.xml")):
        (alone,), _ = list_scenes([text])
        assert (alone.name, alone.paths) == (safe.stem, (str(safe),))


def test_a_band_that_is_not_there_is_missed_by_whom_it_concerns(copy: Path) -> None:
    (red,) = copy.rglob("*_B04_10m.jp2")
    (coast,) = copy.rglob("*_B01_60m.jp2")
    (nir,) = copy.rglob("*_B08_10m.jp2")
    red.write_bytes(b"")
    coast.unlink()
    data = nir.read_bytes()
    nir.write_bytes(data[: len(data) * 2 // 3])
    scene = open_scene(str(copy))
    choose_bands(scene, ("green", "blue"), None)
    for name, words in (
        ("red", "B04_10m.jp2: an empty file"),
        ("b01", "B01_60m.jp2: is not there"),
        ("nir", "B08_10m.jp2: truncated"),
    ):
        with pytest.raises(BandError, match=words):
            choose_bands(scene, (name,), None)
        with pytest.raises(BandError, match=words):
            choose_bands(scene, ("one",), (name,))


METADATA = [
    ("BOA_ADD_OFFSET", "OTHER", "comes with offsets"),
    ('band_id="3">-1000', 'band_id="3">nan', "no offset"),
    ('band_id="3">-1000', 'band_id="3">1e9', "no offset"),
    ('band_id="3">', 'band_id="33">', "no offset"),
    (">10000</BOA", ">0</BOA", "BOA_QUANTIFICATION_VALUE is '0'"),
    ("<IMAGE_FILE>GRANULE/", "<IMAGE_FILE>../GRANULE/", "none of its own"),
    ("<IMAGE_FILE>GRANULE/", "<IMAGE_FILE>/etc/", "none of its own"),
    ("<IMAGE_FILE>GRANULE/", "<IMAGE_FILE>/vsicurl/http://127.0.0.1:9/", "none of its own"),
    ("          </Granule>", '</Granule><Granule granuleIdentifier="other"></Granule>', "2 tiles"),
    ("</n1:General_Info>", "", "not XML that can be taken"),
    ('standalone="no"?>', 'standalone="no"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>', "document type"),
    ("<Product_Info>", "<Product_Info>" + "<a>" * 200 + "</a>" * 200, "nested too deep"),
]


@pytest.mark.parametrize(("old", "new", "words"), METADATA)
def test_metadata_that_can_not_be_taken(safe: Path, tmp_path: Path, old: str, new: str, words: str) -> None:
    folder = tmp_path / safe.name
    folder.mkdir()
    (folder / "GRANULE").symlink_to(safe / "GRANULE")
    text = (safe / "MTD_MSIL2A.xml").read_text()
    assert old in text
    (folder / "MTD_MSIL2A.xml").write_text(text.replace(old, new))
    with pytest.raises(SceneError, match=words):
        open_scene(str(folder))


def test_links_do_not_lead_out_of_a_product(safe: Path, copy: Path) -> None:
    (own,) = copy.rglob("*_B04_10m.jp2")
    (other,) = safe.rglob("*_B04_10m.jp2")
    own.unlink()
    own.symlink_to(other)
    scene = open_scene(str(copy))
    with pytest.raises(BandError, match="is not there"):
        choose_bands(scene, ("red",), None)


def test_a_product_without_metadata_or_of_the_old_format(copy: Path) -> None:
    (copy / "MTD_MSIL2A.xml").rename(copy / "S2A_OPER_MTD_SAFL1C_PDMC_20160605T232310_R010_V20160605.xml")
    with pytest.raises(SceneError, match="before December 2016"):
        open_scene(str(copy))
    next(copy.glob("S2A_OPER*")).unlink()
    with pytest.raises(SceneError, match=r"MTD_MSIL2A\.xml is not there"):
        open_scene(str(copy))


def test_names_of_files_may_differ_in_case(copy: Path) -> None:
    for path in list(copy.rglob("*.jp2")):
        path.rename(path.with_suffix(".JP2"))
    data, _ = pixels_of(open_scene(str(copy)), RGB, Window.of((9, 9)))
    np.testing.assert_array_equal(data[0], sentinel2_pixels(SIDE)["B04"][:9, :9])


def test_a_classification_that_is_not_whole_is_left_out_and_told(copy: Path) -> None:
    (scl,) = copy.rglob("*_SCL_20m.jp2")
    scl.write_bytes(scl.read_bytes()[:-200])
    scene = open_scene(str(copy))
    assert scene.quality == ()
    assert scene.product is not None
    assert [(band.name, "SCL_20m.jp2: truncated" in band.reason) for band in scene.product.absent] == [("scl", True)]


def test_a_change_of_any_image_is_noticed(copy: Path) -> None:
    scene = open_scene(str(copy))
    (own,) = copy.rglob("*_B12_20m.jp2")
    write_jp2(own, sentinel2_pixels(SIDE, seed=3)["B12"], 20)
    with pytest.raises(GeosegError, match="changed while it was read"):
        scene.verify_unchanged()


@pytest.mark.parametrize("name", ["a.jp2", "A.JP2"])
def test_a_jp2_alone(tmp_path: Path, name: str) -> None:
    values = np.random.default_rng(0).integers(0, 255, (150, 200)).astype(np.uint8)
    write_jp2(tmp_path / name, values, 10)
    (ref,), refused = list_scenes([str(tmp_path)])
    assert not refused
    scene = open_scene(ref.paths, ref.name)
    with SceneReader(scene, (0,)) as reader:
        np.testing.assert_array_equal(reader.read(Window.at((20, 10), (70, 90))).data[0], values[20:90, 10:100])
    data = (tmp_path / name).read_bytes()
    for share in np.linspace(0.02, 0.98, 25):
        (tmp_path / name).write_bytes(data[: int(len(data) * share)])
        with pytest.raises(SceneError, match="truncated"):
            open_scene(ref.paths)
    (tmp_path / name).write_text("<VRTDataset/>")
    with pytest.raises(SceneError, match="a VRT"):
        open_scene(ref.paths)


def test_a_jp2_that_names_its_crs_by_an_address_asks_nobody(tmp_path: Path) -> None:
    path = tmp_path / "a.jp2"
    profile = {"driver": "JP2OpenJPEG", "height": 64, "width": 64, "count": 1, "dtype": "uint8", "crs": "EPSG:32720"}
    with rasterio.open(path, "w", **profile, transform=rasterio.Affine(10, 0, 0, 0, -10, 0), GeoJP2="NO", GMLJP2="YES") as file:
        file.write(np.ones((1, 64, 64), np.uint8))
    data, name = path.read_bytes(), b"urn:ogc:def:crs:EPSG::32720"
    assert name in data
    (tmp_path / "c").write_text("EPSG:3857")
    with canary(tmp_path) as server, contextlib.chdir(tmp_path):
        for other in (server.address, "./c"):
            path.write_bytes(data.replace(name, other.encode().ljust(len(name), b"/" if "http" in other else b" ")))
            with pytest.raises(SceneError, match="no CRS"):
                open_scene(str(path))
        assert not server.asked
