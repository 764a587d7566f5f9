"""What models get of a product's values: reflectances, their ten thousandfold, or true colour as ESA codes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from archive_products import sentinel2_pixels, write_safe

from geoseg.errors import DtypeError
from geoseg.scenes.bands.value_map import ValueMap, value_map
from geoseg.scenes.opening import open_scene
from geoseg.scenes.scene import Scene

BANDS = ("B02", "B03", "B04", "B08")
DN = np.array([1, 500, 1000, 1001, 2000, 2999, 3000, 4558, 4559, 9000])


def scene_of(folder: Path, level: str, baseline: str, offset: int | None) -> Scene:
    pixels = {band: values for band, values in sentinel2_pixels(60).items() if band in BANDS}
    return open_scene(str(write_safe(folder, pixels, level=level, baseline=baseline, offset=offset)))


def mapped(scene: Scene, dtype: str, values: tuple[float, float] | None, *, physical: bool = False, bands: int = 3) -> ValueMap:
    return value_map(scene, scene.bands[:bands], dtype=dtype, value_range=values, physical=physical, rescale=None)


def given(values: ValueMap, pixels: np.ndarray = DN) -> np.ndarray:
    """What the model gets of pixels of the first band."""
    return np.clip(pixels * values.scale[0] + values.offset[0], values.low, values.high)


@pytest.mark.parametrize(
    ("level", "baseline", "offset"), [("L2A", "05.09", -1000), ("L1C", "04.00", -1000), ("L2A", "03.01", None)]
)
def test_each_form_of_reflectances(tmp_path: Path, level: str, baseline: str, offset: int | None) -> None:
    scene = scene_of(tmp_path, level, baseline, offset)
    reflectance = (DN + (offset or 0)) / 10000
    for values in (mapped(scene, "float32", (0, 1)), mapped(scene, "float32", None, physical=True)):
        np.testing.assert_allclose(given(values), reflectance, atol=1e-12)
    np.testing.assert_allclose(given(mapped(scene, "uint16", (0, 10000))), np.maximum(DN + (offset or 0), 0), atol=1e-8)
    # ESA, Sentinel-2 user guide, definitions: 1 to 255, which stands for 0.3558 (L1C) or 0.2 (L2A).
    end = 0.3558 if level == "L1C" else 0.2
    expected = 1 + 254 * np.clip(reflectance, 0, end) / end
    np.testing.assert_allclose(given(mapped(scene, "uint8", (0, 255))), expected, atol=1e-9)


def test_what_can_not_be_known_is_refused_with_the_option(tmp_path: Path) -> None:
    scene = scene_of(tmp_path, "L2A", "05.09", -1000)
    # Near infrared is in no true-colour image.
    with pytest.raises(DtypeError, match=r"1000,4000 for reflectances of 0 to 0\.3"):
        mapped(scene, "uint8", (0, 255), bands=4)
    with pytest.raises(DtypeError, match="rescale=LOW,HIGH"):
        mapped(scene, "int16", None)
    plain = mapped(scene, "uint16", None)
    assert (plain.scale[0], plain.offset[0]) == (1, 0)
    assert plain.note is not None
    assert "0 being -0.1" in plain.note
