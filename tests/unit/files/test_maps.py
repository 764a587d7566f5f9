"""The one result that a folder is, or holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from geoseg.errors import ConfigError
from pipeline.files.maps import one_result
from pipeline.files.reviews import LOG, REVIEWS


def place(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).touch()
    return folder


def test_a_run_over_one_scene_is_that_scene(tmp_path: Path) -> None:
    assert one_result(tmp_path / "nothing") == tmp_path / "nothing"
    assert one_result(tmp_path) == tmp_path
    scene = place(tmp_path / "a", "classes.tif")
    place(scene / REVIEWS / "1", "classes.tif")
    place(scene / REVIEWS, LOG)
    # Versions of a review are no results of their own, unless they are named.
    assert one_result(tmp_path) == one_result(scene) == scene
    assert one_result(scene / REVIEWS / "1") == scene / REVIEWS / "1"
    place(tmp_path / "b" / "c", "buildings.gpkg")
    with pytest.raises(ConfigError, match=rf"holds 2 results \({scene}, .*c\); give the folder of one"):
        one_result(tmp_path)
    assert one_result(tmp_path / "b") == tmp_path / "b" / "c"
