"""`watch --mosaic`: one map of all scenes that are there, made anew only where something has changed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from support import TRANSFORM, WriteRaster, call_cli, patchy

from geoseg.errors import ReadError
from geoseg.models.model_folder import Model
from geoseg.scenes.sources import list_scenes
from pipeline.config.sections import Config
from pipeline.infer.workers import LocalWorkers
from pipeline.mosaic.run import map_mosaic
from pipeline.watch.scan import scan_once
from pipeline.watch.upkeep import would_map

WATCH = {"mosaic": True, "settle": "0s"}
SECTIONS: dict[str, Any] = {"vector": {"formats": ["geojson"]}, "grid": {"tile": 64, "halo": 0, "chunk": 256}}
Scan = Callable[..., dict[str, str]]


@pytest.fixture
def scan(identity_model: Model, tmp_path: Path) -> Scan:
    """One scan; gives the status of what was tried."""

    def run(*sources: Path, **sections: Any) -> dict[str, str]:
        config = Config.parse(SECTIONS | {"run": {"keep": True}, "watch": WATCH} | sections)
        reports = scan_once([str(s) for s in sources], identity_model, config, tmp_path / "out", LocalWorkers)
        return {report.scene: report.status for report in reports}

    return run


@pytest.fixture
def put(write_raster: WriteRaster) -> Callable[..., Path]:
    """Writes a scene of the folder that is watched, so many columns from the first one."""

    def write(name: str, col: int, seed: int = 0) -> Path:
        place = TRANSFORM @ rasterio.Affine.translation(col, 0)
        return write_raster(patchy(100, 120, 3, seed), f"in/{name}.tif", transform=place)

    return write


def at_once(folder: Path, model: Model, out: Path) -> dict[str, bytes]:
    """The mosaic of what is in a folder, made by itself."""
    refs, _ = list_scenes([str(folder)])
    (report,) = map_mosaic(refs, [], model, Config.parse(SECTIONS), out, LocalWorkers)
    assert report.status == "done", report.reason
    return maps(out)


def maps(out: Path) -> dict[str, bytes]:
    folder = out / "mosaic"
    return {name: (folder / name).read_bytes() for name in ("classes.tif", "confidence.tif", "source.tif", "polygons.geojson")}


def index(out: Path) -> dict[str, dict[str, Any]]:
    return {entry["scene"]: entry for entry in json.loads((out / "index.json").read_text())["scenes"]}


def test_each_scan_with_new_scenes_makes_the_mosaic_of_all(
    put: Callable[..., Path], scan: Scan, identity_model: Model, tmp_path: Path
) -> None:
    out, folder = tmp_path / "out", put("a", 0).parent
    put("b", 80, 1)
    assert scan(folder) == {"mosaic": "done"}
    assert maps(out) == at_once(folder, identity_model, tmp_path / "two")
    before = {path: path.stat().st_mtime_ns for path in (out / "mosaic").iterdir()}
    assert scan(folder) == {}
    assert {path: path.stat().st_mtime_ns for path in (out / "mosaic").iterdir()} == before
    put("c", 150, 2)
    put("b", 80, 5)
    plan = list(would_map([str(folder)], identity_model, Config.parse(SECTIONS | {"watch": WATCH}), out))
    assert [(line["scene"], line["action"]) for line in plan] == [("mosaic", "map")]
    assert scan(folder) == {"mosaic": "done"}
    assert maps(out) == at_once(folder, identity_model, tmp_path / "three")
    # A scene that goes is no longer of the map, and files that somebody damages are made again.
    (folder / "a.tif").unlink()
    assert scan(folder) == {"mosaic": "done"}
    grown = maps(out)
    (out / "mosaic" / "classes.tif").write_bytes(b"")
    assert scan(folder) == {"mosaic": "done"}
    assert maps(out) == grown
    assert list(index(out)) == ["mosaic"]
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == ["mosaic"]
    assert json.loads((out / "status.json").read_text())["scenes"] | {"done": 0} == dict.fromkeys(
        json.loads((out / "status.json").read_text())["scenes"], 0
    )


def test_scenes_that_can_not_be_used_are_told_and_hold_up_no_other(
    put: Callable[..., Path], scan: Scan, identity_model: Model, tmp_path: Path
) -> None:
    out, folder = tmp_path / "out", put("a", 0).parent
    (folder / "broken.tif").write_bytes(b"II*\0 no raster")
    put("mosaic", 300)
    assert scan(folder) == {"mosaic": "done", "broken": "failed"}
    assert index(out)["broken"]["status"] == "failed"
    assert [one["name"] for one in json.loads((out / "mosaic" / "run.json").read_text())["scenes"]] == ["a"]
    before = maps(out)
    for _ in range(2):
        assert scan(folder) == {"mosaic": "skipped", "broken": "failed"}
    # Now it is in quarantine, and nothing is tried until it changes.
    assert "quarantine" in index(out)["broken"]["reason"]
    assert scan(folder) == {}
    assert maps(out) == before
    (folder / "broken.tif").unlink()
    put("broken", 60, 4)
    assert scan(folder) == {"mosaic": "done"}
    (folder / "mosaic.tif").unlink()
    assert scan(folder) == {}
    assert maps(out) == at_once(folder, identity_model, tmp_path / "alone")
    assert list(index(out)) == ["mosaic"]


def test_a_mosaic_does_not_shrink_for_what_will_come_back(
    put: Callable[..., Path], scan: Scan, identity_model: Model, tmp_path: Path
) -> None:
    """A scene of it that is being written, and a source that has gone."""
    out, folder = tmp_path / "out", put("a", 0).parent
    put("b", 80, 1)
    far = tmp_path / "far"
    far.mkdir()
    (folder / "b.tif").rename(far / "b.tif")
    assert scan(folder, far) == {"mosaic": "done"}
    made = maps(out)
    put("c", 150, 2)
    put("a", 0, 7)
    later = {"watch": WATCH | {"settle": "1h"}}
    assert scan(folder, far, **later) == {}
    os.utime(folder / "c.tif", (0, 0))
    assert scan(folder, far, **later) == {}
    assert maps(out) == made
    os.utime(folder / "a.tif", (0, 0))
    assert scan(folder, far, **later) == {"mosaic": "done"}
    made = maps(out)
    far.rename(tmp_path / "gone")
    put("d", 200, 3)
    with pytest.raises(ReadError, match="far: no such file"):
        scan(folder, far)
    assert maps(out) == made
    (tmp_path / "gone").rename(far)
    assert scan(folder, far) == {"mosaic": "done"}
    with rasterio.open(out / "mosaic" / "classes.tif") as dataset:
        assert dataset.width == 320


def test_the_command(put: Callable[..., Path], identity_model: Model, tmp_path: Path) -> None:
    folder, out = put("a", 0).parent, tmp_path / "out"
    put("b", 80, 1)
    args = ["watch", folder, "-m", identity_model.path, "-o", out, "--mosaic", "--once", "--settle", "0s", "--tile", "64"]
    assert call_cli([*args, "--combine", "best", "--quiet"]).returncode == 0
    assert json.loads((out / "mosaic" / "run.json").read_text())["mosaic"]["combine"] == "best"
    listed = call_cli(["watch", out, "--list"])
    assert [line.split()[:2] for line in listed.stdout.splitlines()[1:]] == [["a", "done"], ["b", "done"], ["mosaic", "done"]]
    np.testing.assert_equal(call_cli(["watch", out, "--health"]).returncode, 0)
