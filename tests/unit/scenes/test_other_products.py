"""Landsat, HLS and PlanetScope as scenes, and archives: pixels are those of the files, values those of the makers' formulas."""

from __future__ import annotations

import math
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from archive_products import PLANET_NAME, sentinel2_pixels, write_hls, write_landsat, write_planet, write_safe

from geoseg.errors import BandError, SceneError
from geoseg.scenes.bands.choosing import choose_bands
from geoseg.scenes.opening import open_scene
from geoseg.scenes.reader import SceneReader
from geoseg.scenes.scene import Scene
from geoseg.scenes.sources import list_scenes
from geoseg.windows import Window

RANDOM = np.random.default_rng(5)
LANDSAT = {band: RANDOM.integers(7000, 20000, (90, 100)).astype(np.uint16) for band in (1, 2, 3, 4, 5, 6, 7, 10)}
RGB = ("red", "green", "blue")


def pixels_of(scene: Scene, names: tuple[str, ...]) -> np.ndarray:
    bands, _ = choose_bands(scene, names, None)
    with SceneReader(scene, bands) as reader:
        return np.asarray(reader.read(Window.of((scene.height, scene.width))).data)


def scale_of(scene: Scene, name: str) -> tuple[float, float]:
    band = next(band for band in scene.bands if name in (band.name, band.role))
    return band.scale, band.offset


@pytest.mark.parametrize("form", ["txt", "json"])
def test_landsat_of_level_2(tmp_path: Path, form: str) -> None:
    product = write_landsat(tmp_path, LANDSAT, form=form)
    (ref,), refused = list_scenes([str(tmp_path)])
    assert (ref.name, refused) == (product.name, [])
    (mtl,) = product.glob("*_MTL.*")
    assert list_scenes([str(mtl)])[0] == [ref]
    scene = open_scene(ref.paths, ref.name)
    np.testing.assert_array_equal(pixels_of(scene, (*RGB, "nir")), np.stack([LANDSAT[band] for band in (4, 3, 2, 5)]))
    # Not those of level 1, which the metadata hold, too.
    assert scale_of(scene, "b4") == (2.75e-05, -0.2)
    assert scale_of(scene, "thermal") == (0.00341802, 149.0)
    assert [band.name for band in scene.bands] == ["b1", "b2", "b3", "b4", "b5", "b6", "b7", "b10"]
    facts = scene.product
    assert facts is not None
    assert (facts.platform, facts.instruments, facts.level, facts.baseline) == ("Landsat-8", ("OLI", "TIRS"), "L2SP", "02")
    assert (facts.cloud_cover, facts.sun_azimuth, facts.sun_elevation, facts.off_nadir) == (3.25, 319.5, 30.0, 0.001)
    assert scene.acquired == "2023-07-12T14:40:21Z"
    assert [(layer.kind, Path(layer.path).name) for layer in scene.quality] == [("qa", f"{product.name}_QA_PIXEL.TIF")]


def test_landsat_of_level_1_is_divided_by_the_sine_of_the_sun(tmp_path: Path) -> None:
    pan = RANDOM.integers(7000, 20000, (180, 200)).astype(np.uint16)
    scene = open_scene(str(write_landsat(tmp_path, {**LANDSAT, 8: pan}, level="L1TP")))
    sine = math.sin(math.radians(30))
    assert scale_of(scene, "red") == pytest.approx((2e-5 / sine, -0.1 / sine))
    assert scale_of(scene, "thermal") == (3.342e-04, 0.1)
    mean = pan.astype(float).reshape(90, 2, 100, 2).mean(axis=(1, 3))
    assert np.abs(pixels_of(scene, ("pan",))[0] - mean).max() <= 0.5


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('COLLECTION_NUMBER = "02"', 'COLLECTION_NUMBER = "01"', "Collection 2 are taken"),
        ("REFLECTANCE_MULT_BAND_4 = 2.75e-05", "REFLECTANCE_MULT_BAND_4 = NULL", "no scale and offset"),
        ("END_GROUP = LANDSAT_METADATA_FILE", "", "not whole"),
        ("SR_B4.TIF", "../../B4.TIF", "none of its own"),
    ],
)
def test_metadata_of_landsat_that_can_not_be_taken(tmp_path: Path, old: str, new: str, words: str) -> None:
    product = write_landsat(tmp_path, LANDSAT)
    (mtl,) = product.glob("*_MTL.txt")
    text = mtl.read_text()
    assert old in text
    mtl.write_text(text.replace(old, new, 1))
    with pytest.raises(SceneError, match=words):
        open_scene(str(product))


def test_a_folder_with_a_product_and_other_images_loses_none(tmp_path: Path) -> None:
    product = write_landsat(tmp_path, LANDSAT)
    shutil.copy(next(product.glob("*_SR_B4.TIF")), product / "other.tif")
    scenes, _ = list_scenes([str(tmp_path)])
    assert {Path(ref.name).name for ref in scenes} >= {"other"}
    assert len(scenes) > 1


@pytest.mark.parametrize(("sensor", "nir"), [("S30", "B08"), ("L30", "B05")])
def test_hls(tmp_path: Path, sensor: str, nir: str) -> None:
    bands = {band: RANDOM.integers(-50, 5000, (80, 70)).astype(np.int16) for band in ("B02", "B03", "B04", nir)}
    bands[nir][:7] = -9999
    product = write_hls(tmp_path, bands, sensor)
    (ref,), _ = list_scenes([str(tmp_path)])
    scene = open_scene(ref.paths, ref.name)
    assert scene.name == product.name
    np.testing.assert_array_equal(pixels_of(scene, ("nir", "red")), np.stack([bands[nir], bands["B04"]]))
    assert scale_of(scene, "nir") == (0.0001, 0.0)
    with SceneReader(scene, tuple(range(len(scene.bands)))) as reader:
        np.testing.assert_array_equal(reader.read(Window.of((80, 70))).valid, bands[nir] != -9999)
    facts = scene.product
    assert facts is not None
    assert (facts.level, facts.baseline, facts.cloud_cover, facts.sun_elevation) == (sensor, "2.0", 7.0, 48.75)
    assert scene.acquired == "2023-07-11T14:20:21Z"
    assert [layer.kind for layer in scene.quality] == ["fmask"]


@pytest.mark.parametrize(("kind", "count", "red"), [("AnalyticMS_SR", 4, 3), ("AnalyticMS_SR_8b", 8, 6), ("AnalyticMS", 4, 3)])
def test_planetscope(tmp_path: Path, kind: str, count: int, red: int) -> None:
    pixels = RANDOM.integers(1, 5000, (count, 70, 80)).astype(np.uint16)
    pixels[:, :9] = 0
    image = write_planet(tmp_path, pixels, kind=kind)
    (ref,), refused = list_scenes([str(tmp_path)])
    assert [Path(item.paths[0]).name for item in refused] == [f"{PLANET_NAME}_3B_udm2.tif"]
    scene = open_scene(ref.paths, ref.name)
    assert scene.name == image.stem
    np.testing.assert_array_equal(pixels_of(scene, ("red", "nir")), pixels[[red - 1, count - 1]])
    assert scale_of(scene, "red")[0] == pytest.approx(0.0001 if "SR" in kind else red * 1e-5)
    facts = scene.product
    assert facts is not None
    assert (facts.platform, facts.cloud_cover, facts.off_nadir, facts.sun_elevation) == ("PlanetScope-2456", 3.0, 5.0, 48.75)
    assert [layer.kind for layer in scene.quality] == ["udm2"]
    scene.verify_unchanged()


def test_radiances_of_planetscope_need_their_coefficients(tmp_path: Path) -> None:
    image = write_planet(tmp_path, np.ones((4, 70, 80), np.uint16), kind="AnalyticMS", coefficients=False)
    with pytest.raises(SceneError, match="no reflectanceCoefficient of band 1, 2, 3, 4"):
        open_scene(str(image))


def zipped(folder: Path, path: Path, *, method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, Path(folder.name) / file.relative_to(folder))
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("name", ["{}.SAFE.zip", "{}.zip", "{}.ZIP"])
def test_a_zipped_safe_is_the_folder(tmp_path: Path, method: int, name: str) -> None:
    scl = np.ones((30, 30), np.uint8)
    safe = write_safe(tmp_path / "a", sentinel2_pixels(60), scl=scl)
    path = zipped(safe, tmp_path / name.format(safe.stem), method=method)
    (ref,), _ = list_scenes([str(path)])
    assert ref.name == safe.stem
    packed, plain = open_scene(ref.paths, ref.name), open_scene(str(safe))
    np.testing.assert_array_equal(pixels_of(packed, (*RGB, "swir16")), pixels_of(plain, (*RGB, "swir16")))
    assert packed.product == plain.product
    assert packed.path == str(path)
    packed.verify_unchanged()
    listed, _ = list_scenes([str(tmp_path)])
    assert len(listed) == 1 or {item.name for item in listed} >= {f"a/{safe.stem}", safe.stem}


def test_braces_in_the_name_of_an_archive(tmp_path: Path) -> None:
    """GDAL has the path of an archive in braces: those that match are a part of it, and others are refused."""
    whole = zipped(write_safe(tmp_path / "a", sentinel2_pixels(60)), tmp_path / "whole.zip")
    assert open_scene(str(whole.rename(tmp_path / "{1}.zip"))).width == 60
    with pytest.raises(SceneError, match=r"a}b{c\.zip: its path holds braces that don't match.*rename it"):
        open_scene(str((tmp_path / "{1}.zip").rename(tmp_path / "a}b{c.zip")))


@pytest.mark.parametrize("inner", ["", "./", "folder/"])
def test_a_landsat_tar_is_the_folder(tmp_path: Path, inner: str) -> None:
    product = write_landsat(tmp_path / "a", LANDSAT)
    path = tmp_path / f"{product.name}.tar"
    with tarfile.open(path, "w") as archive:
        for file in sorted(product.iterdir()):
            archive.add(file, inner + file.name)
    (ref,), _ = list_scenes([str(path)])
    packed = open_scene(ref.paths, ref.name)
    np.testing.assert_array_equal(pixels_of(packed, RGB), pixels_of(open_scene(str(product)), RGB))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(SceneError, match=r"truncated|no whole tar archive"):
        open_scene(ref.paths)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_in_a_tar(tmp_path: Path, form: int) -> None:
    """The files of a SAFE have paths of more than 100 letters, which GDAL finds in one of the two forms of tar."""
    safe = write_safe(tmp_path / "a", sentinel2_pixels(60))
    path = tmp_path / "safe.tar"
    with tarfile.open(path, "w", format=form) as archive:
        archive.add(safe, safe.name)
    if form == tarfile.GNU_FORMAT:
        np.testing.assert_array_equal(pixels_of(open_scene(str(path)), RGB), pixels_of(open_scene(str(safe)), RGB))
    else:
        with pytest.raises(SceneError, match=r"safe\.tar: GDAL can't find .* form pax.*unpack it, or pack it"):
            open_scene(str(path))


def test_members_that_lead_out_of_an_archive_are_not_seen(tmp_path: Path) -> None:
    product = write_landsat(tmp_path / "a", LANDSAT)
    path = tmp_path / f"{product.name}.tar"
    with tarfile.open(path, "w") as archive:
        for file in sorted(product.iterdir()):
            archive.add(file, ("../" if "SR_B4" in file.name else "") + file.name)
        link = tarfile.TarInfo(f"{product.name}_SR_B4.TIF")
        link.type, link.linkname = tarfile.SYMTYPE, str(next(product.glob("*_SR_B4.TIF")))
        archive.addfile(link)
    with pytest.raises(BandError, match=r"SR_B4\.TIF: is not there"):
        choose_bands(open_scene(str(path)), RGB, None)


def test_archives_that_are_not_whole_or_blow_up(tmp_path: Path) -> None:
    safe = write_safe(tmp_path, sentinel2_pixels(60))
    (red,) = safe.rglob("*_B04_10m.jp2")
    with red.open("ab") as file:
        file.truncate(red.stat().st_size + (8 << 20))
    path = zipped(safe, tmp_path / "bomb.zip", method=zipfile.ZIP_DEFLATED)
    with pytest.raises(SceneError, match=r"its pixels take 7,200; what else it holds is not unpacked"):
        open_scene(str(path))
    red.write_bytes(b"")
    scene = open_scene(str(zipped(safe, tmp_path / "empty.zip")))
    with pytest.raises(BandError, match=r"B04_10m.jp2: an empty file"):
        choose_bands(scene, RGB, None)
    whole = zipped(safe, tmp_path / f"{safe.stem}.zip")
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) * 3 // 4])
    assert [ref.name for ref in list_scenes([str(whole)])[0]] == [safe.stem]
    with pytest.raises(SceneError, match="no whole zip archive"):
        open_scene(str(whole))
