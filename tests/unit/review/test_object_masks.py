"""Masks of objects are the pixels that have their number, and edits change what they say and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from scipy import ndimage

from geoseg.instances.masks import Masks
from geoseg.windows import Window
from pipeline.review.objects.object_masks import STRIP, ObjectMasks
from pipeline.review.objects.object_replay import Edits
from tests.support import TRANSFORM, UTM, patchy


def numbered(path: Path, height: int, width: int) -> np.ndarray:
    """Regions with numbers that have gaps, some of which reach over the strips in which they are read."""
    regions, _ = ndimage.label(patchy(height, width, 3, 1, 12.0) == 1)
    numbers = np.where(regions > 0, regions * 7 + 5, 0).astype(np.uint32)
    # A strip without a pixel of none.
    numbers[STRIP : 2 * STRIP][numbers[STRIP : 2 * STRIP] == 0] = 3
    profile = {"driver": "GTiff", "height": height, "width": width, "count": 1, "dtype": "uint32", "crs": UTM, "nodata": 0}
    with rasterio.open(path, "w", transform=TRANSFORM, **profile) as dataset:
        dataset.write(numbers, 1)
    return numbers


def test_masks_are_the_pixels_of_each_number(tmp_path: Path) -> None:
    numbers = numbered(tmp_path / "instances.tif", 2 * STRIP + 70, 190)
    found = ObjectMasks.read(tmp_path / "instances.tif")
    assert sorted(found.runs) == np.unique(numbers[numbers > 0]).tolist()
    assert any((runs[0, 0] < STRIP) and (runs[-1, 0] >= STRIP) for runs in found.runs.values())
    for number, runs in found.runs.items():
        mask = np.zeros(numbers.shape, np.bool_)
        for row, start, stop in runs.tolist():
            mask[row, start:stop] = True
        np.testing.assert_array_equal(mask, numbers == number)
        assert (np.diff(runs[:, 0]) >= 0).all()
    ids, boxes = found.boxes()
    for number, box in zip(ids.tolist(), boxes.tolist(), strict=True):
        rows, cols = np.nonzero(numbers == number)
        assert box == [rows.min(), rows.max() + 1, cols.min(), cols.max() + 1]


def test_edits_are_what_numpy_makes_of_them() -> None:
    rng = np.random.default_rng(2)
    classes = patchy(120, 150, 4, 5, 8.0).astype(np.uint8)
    classes[:20, :30], classes[50:70, 40:90] = 255, 254
    expected, edits = classes.copy(), Edits()
    seen = classes != 254
    for k in range(40):
        mask = np.zeros(classes.shape, np.int32)
        row, col, height, width = rng.integers((0, 0, 5, 5), (110, 140, 60, 60))
        mask[row : row + height, col : col + width] = 1
        drawn, code = bool(k % 3), int(rng.integers(0, 6))
        edits.add(Masks.of_labels(mask, 1)[0], code, drawn=drawn)
        inside = (mask == 1) & (classes != 255)
        if drawn:
            # What was not analysed is free once somebody has drawn there.
            seen |= inside
        expected[inside & seen] = code
    whole = edits.on(classes, Window.of(classes.shape))
    np.testing.assert_array_equal(whole, expected)
    part = Window.between(30, 90, 25, 130)
    np.testing.assert_array_equal(edits.on(classes[30:90, 25:130], part), expected[30:90, 25:130])
    np.testing.assert_array_equal(Edits().on(classes, Window.of(classes.shape)), classes)
