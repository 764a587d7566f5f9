"""What was measured in a scene is taken up as it was, and measured again where it is of something else or not whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import WriteRaster, patchy

from geoseg.domain.facts import ImageFacts
from geoseg.scenes.opening import open_scene
from pipeline.mosaic import kept_looks
from pipeline.mosaic.kept_looks import KeptLooks
from pipeline.plan.domain import look_at


def same(one: ImageFacts, other: ImageFacts) -> bool:
    cells = all(
        np.array_equal(a.mean, b.mean) and np.array_equal(a.moments, b.moments)
        for a, b in zip(one.cells, other.cells, strict=True)
    )
    return cells and np.array_equal(one.values, other.values) and one.constant == other.constant


def test_what_was_measured_is_taken_up(write_raster: WriteRaster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = open_scene((str(write_raster(patchy(700, 900, 5, 0), "a.tif")),), "a")
    (measured,) = look_at(scene, [0], 1)
    assert len(measured.cells) > 1
    counted: list[str] = []

    def counting(*args: object, **given: object) -> tuple[ImageFacts, ...]:
        counted.append("")
        return look_at(*args, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(kept_looks, "look_at", counting)
    path = tmp_path / "looks.npz"
    for key, times in (("one", 1), ("one", 1), ("other", 2), ("other", 2), ("one", 3)):
        (found,) = KeptLooks(path, key).look(scene, [0], 1)
        assert same(found, measured)
        assert len(counted) == times
    path.write_bytes(path.read_bytes()[:-200])
    (found,) = KeptLooks(path, "one").look(scene, [0], 1)
    assert same(found, measured)
    assert len(counted) == 4
