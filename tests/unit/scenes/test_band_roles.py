"""Names, wavelengths and colours of bands: what they say, and which of them is believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from support import WriteRaster

from geoseg.errors import BandError
from geoseg.scenes.bands.alpha import is_mask
from geoseg.scenes.bands.choosing import choose_bands
from geoseg.scenes.bands.platforms import platform_of
from geoseg.scenes.bands.roles import roles_of
from geoseg.scenes.opening import open_scene
from geoseg.scenes.reader import SceneReader
from geoseg.scenes.scene import OpenOptions, Scene
from geoseg.windows import Window

RGB = ("red", "green", "blue")
SHAPE = (70, 80)


@pytest.mark.parametrize(
    ("names", "platform", "roles"),
    [
        # Sentinel-2 MSI: B2 490, B3 560, B4 665, B8 842, B8A 865 nm; Landsat 8 OLI: B2 blue … B5 near infrared.
        (("B02", "B03", "B04", "B08"), None, ("blue", "green", "red", "nir")),
        (("B2", "B3", "B4", "B8A"), None, ("blue", "green", "red", "nir08")),
        (("SR_B2", "SR_B3", "SR_B4", "SR_B5"), "Landsat 8 and 9", ("blue", "green", "red", "nir")),
        (("SR_B1", "SR_B2", "SR_B3", "SR_B4"), "Landsat 4 to 7", ("blue", "green", "red", "nir")),
        # Without the satellite, B2 is blue or green.
        (("B2", "B3", "B4", "B5"), None, (None, None, None, None)),
        (("Red", "near-infrared", "B4 (Green)", "coastal_blue"), None, ("red", "nir", "green", "coastal")),
        (("red edge 1", "RedEdge2", "665 nm", "Blue (0.49 µm)"), None, ("rededge1", "rededge2", "red", "blue")),
        (("Band 1", "", "gray", "layer_3"), None, (None, None, None, None)),
        (("R", "G", "B", "N"), None, ("red", "green", "blue", "nir")),
        (("B02_10m", "S2_B4", "sentinel-2 B08", "MSI_B03"), None, ("blue", "red", "nir", "green")),
        (("VRE1", "nearinfrared", "IR", "Band 2: Green"), None, ("rededge1", "nir", "nir", "green")),
        (("490", "560", "665", "842"), None, ("blue", "green", "red", "nir")),
        (("2019", "2020", "2021", "2022"), None, (None, None, None, None)),
        (("1", "2", "3", "4"), None, (None, None, None, None)),
    ],
)
def test_names_of_bands(names: Sequence[str], platform: str | None, roles: Sequence[str | None]) -> None:
    assert tuple(role.name for role in roles_of(names, [{}] * len(names), platform)) == tuple(roles)


@pytest.mark.parametrize(
    ("tags", "role"),
    [
        ({"CENTRAL_WAVELENGTH_UM": "0.842"}, "nir"),
        ({"wavelength": "665"}, "red"),
        ({"wavelength": "0.56", "wavelength_units": "Micrometers"}, "green"),
        ({"WAVELENGTH": "492.4 nm"}, "blue"),
        ({"eo:common_name": "swir22"}, "swir22"),
        ({"BandName": "B8A"}, "nir08"),
        ({"center_wavelength_nm": "665"}, "red"),
        ({"CenterWavelength": "0.56 um"}, "green"),
        ({"BAND": "B04"}, "red"),
        ({"description": "Near Infrared"}, "nir"),
        ({"STATISTICS_MEAN": "842"}, None),
    ],
)
def test_tags_of_bands(tags: Mapping[str, str], role: str | None) -> None:
    assert [r.name for r in roles_of([None], [tags], "Sentinel-2")] == [role]


@pytest.mark.parametrize(
    "tags",
    [
        {"Band_1": "blue", "Band_2": "green", "Band_3": "red", "Band_4": "nir"},
        {"band names": "{B02, B03, B04, B08}"},
        {"wavelength": "{490, 560, 665, 842}", "wavelength_units": "Nanometers"},
        {"wavelengths": "0.49,0.56,0.665,0.842", "wavelength units": "Micrometers"},
    ],
)
def test_tags_of_a_file_that_tell_of_its_bands(write_raster: WriteRaster, tags: Mapping[str, str]) -> None:
    path = stack(write_raster)
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(**tags)
    assert [band.role for band in opened(path).bands] == ["blue", "green", "red", "nir"]


def test_lists_of_another_length_say_nothing(write_raster: WriteRaster) -> None:
    path = stack(write_raster)
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(band_names="B02,B03", Band_9="red", wavelength="490")
    assert [band.role for band in opened(path).bands] == [None] * 4


def test_the_satellite_of_a_file() -> None:
    assert platform_of(["S2A_MSIL2A_20240101T000000_R054_T20MPA"]) == "Sentinel-2"
    assert platform_of(["x", "LC08_L2SP_001062_20200815"]) == "Landsat 8 and 9"
    assert platform_of(["landsat-5"]) == "Landsat 4 to 7"
    assert platform_of(["politics_2", "s22_site"]) is None
    assert platform_of(["S2A_x", "LC08_y"]) is None


def opened(path: Path, **options: object) -> Scene:
    return open_scene([str(path)], path.stem, OpenOptions(**options))  # type: ignore[arg-type]


def stack(
    write_raster: WriteRaster,
    names: Sequence[str | None] = (),
    *,
    last: np.ndarray | None = None,
    tags: Sequence[Mapping[str, str]] = (),
    dtype: str = "uint8",
    **profile: object,
) -> Path:
    """Four bands, of which each pixel of band k holds k times 10 and a little noise; written as most programs do."""
    noise = np.random.default_rng(0).integers(0, 9, (4, *SHAPE))
    data = (np.arange(1, 5)[:, None, None] * 10 + noise).astype(dtype)
    if last is not None:
        data[3] = last
    path = write_raster(data, **profile)
    with rasterio.open(path, "r+") as dataset:
        for index, name in enumerate(names, 1):
            if name is not None:
                dataset.set_band_description(index, name)
        for index, own in enumerate(tags, 1):
            dataset.update_tags(index, **own)
    return path


@pytest.mark.parametrize(
    ("names", "tags", "numbers"),
    [
        (("B02", "B03", "B04", "B08"), (), (3, 2, 1)),
        (("blue", "green", "red", "NIR"), (), (3, 2, 1)),
        (("near infrared", "red", "green", "blue"), (), (2, 3, 4)),
        ((), [{"wavelength": str(nm)} for nm in (490, 560, 665, 842)], (3, 2, 1)),
        ((), [{"eo:common_name": name} for name in ("blue", "green", "red", "nir")], (3, 2, 1)),
        ((None, None, None, "NIR"), (), (1, 2, 3)),
    ],
)
def test_names_beat_the_colours_that_gdal_gives(
    write_raster: WriteRaster, names: Sequence[str | None], tags: Sequence[Mapping[str, str]], numbers: tuple[int, ...]
) -> None:
    path = stack(write_raster, names, tags=tags)
    with rasterio.open(path) as dataset:
        # GDAL's own default, which nobody chose.
        assert dataset.colorinterp == (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
        expected = dataset.read(list(numbers))
    scene = opened(path)
    bands, notes = choose_bands(scene, RGB, None)
    with SceneReader(scene, bands) as reader:
        pixels = reader.read(Window.of(SHAPE))
    np.testing.assert_array_equal(pixels.data, expected)
    assert pixels.valid.all()
    assert ("by their names or wavelengths" in " ".join(notes)) == (numbers != (1, 2, 3))
    assert "not taken as a mask" in " ".join(scene.warnings)


@pytest.mark.parametrize("names", [(), ("rouge", "vert", "bleu", "pir")])
def test_what_is_taken_by_default_is_told(write_raster: WriteRaster, names: Sequence[str]) -> None:
    found, notes = choose_bands(opened(stack(write_raster, names)), RGB, None)
    assert found == (0, 1, 2)
    assert "red is band 1, green is band 2, blue is band 3" in " ".join(notes)
    assert ("their names (rouge, vert, bleu, pir) say nothing" in " ".join(notes)) == bool(names)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("SR_B2", "SR_B3", "SR_B4", "SR_B5"), "bands=3,2,1 if the image is of Sentinel-2 or Landsat 8 and 9"),
        (("B2", "B3", "B4", "B8"), "bands=3,2,1 if the image is of Sentinel-2"),
        (("SR_B5", "SR_B4", "SR_B3", "SR_B2"), "bands=2,3,4"),
    ],
)
def test_colours_that_no_satellite_gives_such_bands_are_not_believed(
    write_raster: WriteRaster, names: Sequence[str], words: str
) -> None:
    with pytest.raises(BandError, match=words):
        choose_bands(opened(stack(write_raster, names)), RGB, None)
    # Landsat 8 and Sentinel-2 have red, green and blue there.
    assert choose_bands(opened(stack(write_raster, ("B4", "B3", "B2", None))), RGB, None)[0] == (0, 1, 2)


def test_infrared_that_is_0_is_data_warped_or_not(write_raster: WriteRaster) -> None:
    infrared = np.random.default_rng(1).integers(0, 200, SHAPE).astype(np.uint8)
    infrared[:30] = 0
    for names in (("B02", "B03", "B04", "B08"), ()):
        path = stack(write_raster, names, last=infrared)
        for options in ({}, {"target_crs": "EPSG:32720"}):
            scene = opened(path, **options)
            with SceneReader(scene, (0, 1, 2)) as reader:
                assert reader.read(Window.of(SHAPE)).valid.mean() > 0.99
            assert len(scene.bands) == 4


@pytest.mark.parametrize("believed", [0, 255])
def test_alpha_that_holds_a_mask_is_believed(write_raster: WriteRaster, believed: int) -> None:
    mask = np.full(SHAPE, 255, np.uint8)
    mask[:20] = believed
    scene = opened(stack(write_raster, last=mask))
    with SceneReader(scene, (0, 1, 2)) as reader:
        np.testing.assert_array_equal(reader.read(Window.of(SHAPE)).valid, mask > 0)
    assert choose_bands(scene, RGB, None) == ((0, 1, 2), ())
    assert not scene.warnings


def test_values_of_masks() -> None:
    rng = np.random.default_rng(0)
    smooth = np.concatenate([np.zeros(500), np.full(480, 255), rng.integers(1, 255, 20)]).astype(np.uint8)
    assert is_mask(smooth)
    assert is_mask(np.array([0, 1, 1, 0]))
    assert not is_mask(rng.integers(0, 256, 1000).astype(np.uint8))
    assert not is_mask(np.concatenate([np.zeros(9000, np.uint8), rng.integers(20, 90, 1000).astype(np.uint8)]))


@pytest.mark.parametrize(
    ("names", "tags", "colors", "words"),
    [
        (("red", "green", "blue", "nir"), [{"wavelength": "842"}], None, "its wavelength of 842 nm says nir"),
        (("B04", "B03", "B02", "B08"), (), ("blue", "green", "red", "undefined"), "its colour interpretation says blue"),
    ],
)
def test_sources_that_differ_are_refused(
    write_raster: WriteRaster, names: Sequence[str], tags: Sequence[Mapping[str, str]], colors: Sequence[str] | None, words: str
) -> None:
    path = stack(write_raster, names, tags=tags)
    if colors is not None:
        with rasterio.open(path, "r+") as dataset:
            dataset.colorinterp = [ColorInterp[color] for color in colors]
    with pytest.raises(BandError, match=words) as error:
        choose_bands(opened(path), RGB, None)
    assert "bands=1,2,3" in str(error.value)
    assert choose_bands(opened(path), RGB, ["3", "2", "1"])[0] == (2, 1, 0)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("B2", "B3", "B4", "B8"), "bands=3,2,1 if the image is of Sentinel-2"),
        (("blue", "green", "red", "red"), "the numbers of red, green, blue|bands=3,2,1"),
        (("nir", "x", "y", "z"), "the numbers of red, green, blue in this order"),
        (("nir", "red", "green", "x"), "the numbers of red, green, blue in this order; none is known to be blue"),
    ],
)
def test_the_example_follows_the_names(write_raster: WriteRaster, names: Sequence[str], words: str) -> None:
    path = stack(write_raster, names, photometric="minisblack", dtype="uint16")
    with pytest.raises(BandError, match=words):
        choose_bands(opened(path), RGB, None)


def test_infrared_in_the_place_of_red_gets_no_example(write_raster: WriteRaster) -> None:
    path = write_raster(np.ones((3, *SHAPE), np.uint8), photometric="rgb")
    with rasterio.open(path, "r+") as dataset:
        dataset.descriptions = ("NIR", "Red", "Green")
    with pytest.raises(BandError, match="none is known to be blue") as error:
        choose_bands(opened(path), RGB, None)
    assert "bands=" not in str(error.value)


def test_a_last_band_that_has_a_name_is_declared(write_raster: WriteRaster) -> None:
    path = stack(write_raster, ("B02", "B03", "B04", "B08"), dtype="uint16", photometric="minisblack")
    assert not any("not declared" in note for note in opened(path).warnings)


def test_other_bands_are_not_taken_in_order(write_raster: WriteRaster) -> None:
    path = stack(write_raster, ("nir", "swir1", "swir2", "x"), photometric="minisblack", dtype="uint16")
    with pytest.raises(BandError, match="is not clear"):
        choose_bands(opened(path), ("red", "green", "blue", "coastal"), None)
    nir = stack(write_raster, ("B8A", "B04", "B03", "B02"), photometric="minisblack", dtype="uint16")
    assert choose_bands(opened(nir), (*RGB, "nir"), None)[0] == (1, 2, 3, 0)


@pytest.mark.parametrize("options", [{}, {"target_crs": "EPSG:32720"}])
def test_a_value_that_the_user_calls_no_data(write_raster: WriteRaster, options: dict[str, str]) -> None:
    data = np.random.default_rng(0).integers(0, 255, (3, *SHAPE)).astype(np.uint8)
    data[:, :25] = 255
    data[0, 40:] = 255
    path = write_raster(data, nodata=0, photometric="rgb")
    scene = opened(path, nodata=(255.0,), **options)
    with SceneReader(scene, (0, 1, 2)) as reader:
        # A pixel is data where any of its bands is.
        np.testing.assert_array_equal(reader.read(Window.of(SHAPE)).valid, ~(data == 255).all(axis=0))
    if not options:
        with SceneReader(opened(path, nodata=(255.0, 1.0, 2.0)), (0,)) as reader:
            np.testing.assert_array_equal(reader.read(Window.of(SHAPE)).valid, data[0] != 255)
        for bad, words in (((1.0, 2.0), "gives 2 values"), ((300.0,), "does not fit"), ((0.5,), "does not fit")):
            with pytest.raises(BandError, match=words):
                opened(path, nodata=bad)
