"""The picture of a map: shades by a table as pixel by pixel, and every outline that is large enough, whatever is left aside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import shapely
from PIL import Image, ImageDraw

from geoseg.formats.preview import SMALLEST_DRAWN_PX, PicturePlace, draw_panels, save_panels, stretched
from geoseg.formats.styles import ClassStyle
from geoseg.georeference import Georeference

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_shades_of_digital_numbers_are_those_of_numbers(dtype: str) -> None:
    image = RNG.normal(120, 40, (3, 90, 80)).clip(0, 255).astype(dtype)
    valid, clear = (RNG.random((90, 80)) < share for share in (0.8, 0.6))
    np.testing.assert_array_equal(stretched(image, valid), stretched(image.astype(np.float64), valid))
    np.testing.assert_array_equal(stretched(image, valid, clear), stretched(image.astype(np.float64), valid, clear))


@pytest.mark.parametrize("angle", [0.0, 0.6])
def test_outlines_that_can_be_seen_are_drawn_and_no_others(tmp_path: Path, angle: float) -> None:
    cos, sin, stride, side = 10 * np.cos(angle), 10 * np.sin(angle), 4, 400
    georeference = Georeference((cos, sin, 5e5, sin, -cos, 9e6), "EPSG:32720")
    sizes = np.concatenate([RNG.uniform(0.5, 2.5, 300) * stride, RNG.uniform(20, 90, 20)])
    corners = RNG.uniform(0, side, (len(sizes), 2))
    squares = corners[:, None] + sizes[:, None, None] * np.array([[0, 0], [0, 1], [1, 1], [1, 0], [0, 0]])
    shapes = shapely.polygons([georeference.xy(square[:, 0], square[:, 1]) for square in squares])
    columns = {"code": pa.array([1] * len(shapes), pa.int16()), "geometry": pa.array(shapely.to_wkb(shapes), pa.binary())}
    batch = pa.record_batch(columns)
    image, classes = np.zeros((3, side // stride, side // stride), np.uint8), np.ones((side // stride,) * 2, np.uint8)
    styles, place = [ClassStyle(1, "forest", "#000000")], PicturePlace(georeference, stride)
    panels = draw_panels(image, classes, styles, [batch.slice(0, 100), batch.slice(100, 0), batch.slice(100)], place)
    expected = Image.fromarray(panels.image)
    for square in squares:
        colrow = square[:, ::-1] / stride
        if np.ptp(colrow, axis=0).max() >= SMALLEST_DRAWN_PX:
            ImageDraw.Draw(expected).line(colrow.ravel().tolist(), fill=(114, 114, 114), width=1)
    assert (np.asarray(expected) != panels.image).any(axis=2).sum() > 40
    assert (np.asarray(expected) == panels.overlay).all(axis=2).mean() > 0.995
    save_panels(tmp_path / "preview.png", panels, place)
    with Image.open(tmp_path / "preview.png") as sheet:
        np.testing.assert_array_equal(np.asarray(sheet)[:, -panels.overlay.shape[1] :], panels.overlay)
