"""How sure changes between class maps are: by all histories of presence, window by window, on any grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from histories import by_histories
from numpy.typing import NDArray
from support import TRANSFORM, UTM

from geoseg.clouds.hidden import MaskRule
from geoseg.clouds.opening import open_mask
from geoseg.scenes.scene import OpenOptions
from geoseg.windows import Window
from pipeline.changes.class_dates import FirstChanges, open_class_dates

SHAPE = 120, 150
Codes = NDArray[np.uint8]


def written(path: Path, data: Codes, name: str, transform: Any = TRANSFORM, **tags: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    facts: dict[str, Any] = {"driver": "GTiff", "count": 1, "dtype": "uint8", "crs": UTM, "transform": transform, "nodata": 255}
    with rasterio.open(path, "w", height=data.shape[0], width=data.shape[1], **facts) as file:
        file.write(data, 1)
        file.descriptions = (name,)
        file.update_tags(**tags)
        file.update_tags(1, class_0="other", class_1="forest", class_2="water")
    return path


def folder_of(folder: Path, codes: Codes, sure: Codes, transform: Any = TRANSFORM) -> Path:
    """A map of this program, as far as it is read here."""
    tags = {"geoseg_scene": folder.name, "geoseg_model": "any 1"}
    written(folder / "confidence.tif", sure, "confidence", transform, **tags)
    return written(folder / "classes.tif", codes, "classes", transform, **tags)


def drawn(seed: int, shape: tuple[int, int] = SHAPE) -> tuple[Codes, Codes]:
    """Classes with holes, and their confidence; what people have corrected has none."""
    rng = np.random.default_rng(seed)
    codes = rng.choice(np.array([0, 1, 1, 2, 254, 255], np.uint8), shape)
    sure = rng.integers(0, 101, shape).astype(np.uint8)
    sure[rng.random(shape) < 0.1] = 254
    return codes, np.where(codes > 253, codes, sure)


@pytest.mark.parametrize(("count", "rate"), [(2, 0.5), (2, 0.1), (4, 0.1)])
def test_confidence_is_that_of_all_histories(tmp_path: Path, count: int, rate: float) -> None:
    maps = [drawn(seed) for seed in range(count)]
    paths = [str(folder_of(tmp_path / f"m{t}", *one)) for t, one in enumerate(maps)]
    # The second map has pixels twice as large, which lie between those of the first.
    coarse, sure = (layer[10:110:2, 20:140:2] for layer in maps[1])
    place = TRANSFORM @ rasterio.Affine.translation(20, 10) @ rasterio.Affine.scale(2)
    folder_of(tmp_path / "m1", coarse, sure, place)
    seen = [np.full(SHAPE, 255, np.uint8) for _ in range(2)]
    for layer, part in zip(seen, (coarse, sure), strict=True):
        layer[10:110, 20:140] = part.repeat(2, 0).repeat(2, 1)
    maps[1] = seen[0], seen[1]
    clouds = np.zeros(SHAPE, np.uint8)
    clouds[:40, 100:] = 1
    mask = written(tmp_path / "clouds.tif", clouds, "clouds")
    dates = open_class_dates(paths, "forest", OpenOptions())
    here = dates[0].raster
    hidden = [open_mask(str(mask), here.georeference, here.shape, MaskRule((1,), None)), *[None] * (count - 1)]
    found = FirstChanges(dates, hidden, rate)
    assert found.has_confidence
    whole = Window.of(SHAPE)
    codes, confidence = found.classes(whole), found.confidence(whole)
    known = [one[0] <= 253 for one in maps]
    known[0] = known[0] & (clouds == 0)
    p = [
        np.where(there, np.where(layer == 1, q, 1 - q), 0.5)
        for there, (layer, q) in zip(known, ((c, np.where(s <= 100, s / 100, 1.0)) for c, s in maps), strict=True)
    ]
    cells = np.argwhere(codes <= 253)
    assert 0.2 * codes.size < len(cells) < codes.size
    for row, col in cells[:: 1 if count == 2 else 7].tolist():
        chances = np.clip([one[row, col] for one in p], 1e-6, 1 - 1e-6)
        expected = by_histories(chances, rate)[codes[row, col]]
        assert abs(confidence[row, col] - 100 * expected) <= 0.5 + 1e-3
        if rate == 0.5:
            both = np.prod(
                [max(q, 1 - q) if (q > 0.5) == (maps[t][0][row, col] == 1) else min(q, 1 - q) for t, q in enumerate(chances)]
            )
            assert expected == pytest.approx(both)
    assert (confidence[codes > 253] == codes[codes > 253]).all()
    # In whatever windows it is read.
    for part in whole.parts(47):
        assert (found.confidence(part) == confidence[part.slices]).all()


def test_maps_that_are_certain_make_changes_that_are(tmp_path: Path) -> None:
    maps = [drawn(seed)[0] for seed in range(2)]
    sure = [np.where(codes > 253, codes, np.uint8(100)) for codes in maps]
    paths = [str(folder_of(tmp_path / f"m{t}", *one)) for t, one in enumerate(zip(maps, sure, strict=True))]
    whole = Window.of(SHAPE)
    certain = FirstChanges(open_class_dates(paths, "forest", OpenOptions()), [None, None], 0.1)
    codes = certain.classes(whole)
    assert (certain.confidence(whole) == np.where(codes > 253, codes, 100)).all()
    (tmp_path / "m1" / "confidence.tif").unlink()
    plain = FirstChanges(open_class_dates(paths, "forest", OpenOptions()), [None, None], 0.1)
    assert not plain.has_confidence
    assert (codes == plain.classes(whole)).all()
    assert (plain.confidence(whole) == 255).all()
