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
from kill_points import command_killed_at
from rasterio.warp import transform as warp_points
from support import WriteRaster, call_cli, patchy

from geoseg.errors import ReadError
from geoseg.models.model_folder import Model
from geoseg.scenes.sources import list_scenes
from pipeline.config.sections import Config
from pipeline.infer.workers import LocalWorkers
from pipeline.mosaic.run import map_mosaic
from pipeline.watch.scan import scan_once
from pipeline.watch.upkeep import forget_removed, would_map
from pipeline.watch.upkeep import list_scenes as list_scenes_of

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
    made = call_cli([*args, "--combine", "best"])
    assert made.returncode == 0
    # The scenes and the mosaic, one after the other.
    told = [line.partition(":")[0] for line in made.stderr.splitlines() if line.startswith("[")]
    assert told == ["[1/3] a", "[2/3] b", "[3/3] mosaic"]
    assert json.loads((out / "mosaic" / "run.json").read_text())["mosaic"]["combine"] == "best"
    listed = call_cli(["watch", out, "--list"])
    assert [line.split()[:2] for line in listed.stdout.splitlines()[1:]] == [["a", "done"], ["b", "done"], ["mosaic", "done"]]
    np.testing.assert_equal(call_cli(["watch", out, "--health"]).returncode, 0)


@pytest.fixture
def put_in_zone(write_raster: WriteRaster, tmp_path: Path) -> Callable[..., Path]:
    """Writes a scene of a UTM zone, so many pixels from the meridian on its west (its first column)."""

    def write(name: str, zone: int, west_of: int, shift: int, seed: int = 0) -> Path:
        crs = f"EPSG:327{zone:02d}"
        (x,), _ = warp_points("EPSG:4326", crs, [west_of], [warp_points(crs, "EPSG:4326", [5e5], [8_930_000])[1][0]])
        place = rasterio.Affine(10, 0, round(x / 10) * 10 + shift * 10, 0, -10, 8_930_000)
        return write_raster(patchy(100, 120, 3, seed), f"in/{name}.tif", transform=place, crs=crs)

    return write


def all_bytes(out: Path) -> dict[str, bytes]:
    """The files of the maps and of what joins them, but for those that say when they were made."""
    wanted = ("classes.tif", "confidence.tif", "source.tif", "polygons.geojson", "coverage.geojson")
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in sorted(out.glob("mosaic*/*")) if path.name in wanted}


def all_at_once(folder: Path, model: Model, out: Path) -> dict[str, bytes]:
    refs, _ = list_scenes([str(folder)])
    reports = map_mosaic(refs, [], model, Config.parse(SECTIONS), out, LocalWorkers)
    assert {report.status for report in reports} == {"done"}
    return all_bytes(out)


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.is_file()}


def folders(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir() if path.is_dir())


def test_scenes_of_several_zones_keep_a_map_a_zone(
    put_in_zone: Callable[..., Path], scan: Scan, identity_model: Model, tmp_path: Path
) -> None:
    """A zone that comes adds a map, one that goes takes its map with it; each time all are as those of all scenes at once."""
    out, folder = tmp_path / "out", put_in_zone("a", 20, -60, -150).parent
    assert scan(folder) == {"mosaic": "done"}
    put_in_zone("b", 21, -60, -40, 1)
    zones = {"mosaic-EPSG32720": "done", "mosaic-EPSG32721": "done"}
    plan = list(would_map([str(folder)], identity_model, Config.parse(SECTIONS | {"watch": WATCH}), out))
    assert [(line["scene"], line["action"]) for line in plan] == [("mosaic", "map")]
    assert scan(folder) == zones
    assert folders(out) == [*zones, "mosaic-joined"]
    assert all_bytes(out) == all_at_once(folder, identity_model, tmp_path / "two")
    assert index(out).keys() == zones.keys()
    assert "mosaic-joined/polygons.geojson" in (out / "index.html").read_text()
    assert [(one.name, one.status) for one in list_scenes_of([out])] == [(name, "done") for name in ("a", "b", "mosaic", *zones)]
    assert scan(folder) == {}
    # One that reaches into one zone alone leaves the other map as it is.
    west = times(out / "mosaic-EPSG32720")
    put_in_zone("c", 21, -60, 60, 2)
    assert scan(folder) == zones | {"mosaic-EPSG32720": "skipped"}
    assert times(out / "mosaic-EPSG32720") == west
    assert all_bytes(out) == all_at_once(folder, identity_model, tmp_path / "three")
    # The row of all maps stands for them, and is not forgotten.
    config = Config.parse(SECTIONS | {"watch": WATCH})
    assert forget_removed([str(folder)], config, out, only_say=True) == []
    # Of a map and of the joined polygons, what is damaged is made anew.
    (out / "mosaic-EPSG32721" / "classes.tif").write_bytes(b"")
    assert scan(folder) == zones | {"mosaic-EPSG32720": "skipped"}
    (out / "mosaic-joined" / "polygons.geojson").unlink()
    assert scan(folder) == dict.fromkeys(zones, "skipped")
    assert scan(folder) == {}
    assert all_bytes(out) == all_at_once(folder, identity_model, tmp_path / "again")
    put_in_zone("d", 22, -54, -40, 3)
    assert scan(folder) == zones | {"mosaic-EPSG32720": "skipped", "mosaic-EPSG32722": "done"}
    assert all_bytes(out) == all_at_once(folder, identity_model, tmp_path / "four")
    for name in ("b", "c", "d"):
        (folder / f"{name}.tif").unlink()
    assert scan(folder) == {"mosaic": "done"}
    # What somebody has done to a map stays.
    assert [path.name.partition(".kept-")[0] for path in (out / "mosaic-EPSG32721").iterdir()] == ["classes.tif"]
    assert folders(out) == ["mosaic", "mosaic-EPSG32721"]
    assert list(index(out)) == ["mosaic"]
    assert maps(out) == at_once(folder, identity_model, tmp_path / "one")
    assert scan(folder) == {}


@pytest.mark.slow
def test_a_scan_that_is_killed_while_maps_change_places_costs_no_byte(
    put_in_zone: Callable[..., Path], scan: Scan, identity_model: Model, tmp_path: Path
) -> None:
    """From one map to one a zone and back: whenever it is killed, the next scan ends with what is made at once."""
    out, folder = tmp_path / "out", put_in_zone("a", 20, -60, -150).parent
    assert scan(folder) == {"mosaic": "done"}
    one = maps(out)
    put_in_zone("b", 21, -60, -40, 1)
    two = all_at_once(folder, identity_model, tmp_path / "two")
    args = ["watch", folder, "-m", identity_model.path, "-o", out, "--mosaic", "--once", "--settle", "0s", "--keep", "--quiet"]
    args += ["--formats", "geojson", "--tile", "64", "--halo", "0", "--chunk", "256"]

    for place in (
        "rename " + str(out / "mosaic-EPSG32721" / ".run" / "final" / "run.json"),
        "rename " + str(out / ".mosaic-joined."),
        "unlink " + str(out / "mosaic" / "classes.tif"),
    ):
        command_killed_at(place, args)
        scan(folder)
        assert all_bytes(out) == two
        assert folders(out) == ["mosaic-EPSG32720", "mosaic-EPSG32721", "mosaic-joined"]
        assert scan(folder) == {}
        if place.startswith("unlink"):
            break
        (folder / "b.tif").rename(tmp_path / "b.tif")
        assert scan(folder) == {"mosaic": "done"}
        (tmp_path / "b.tif").rename(folder / "b.tif")
    (folder / "b.tif").unlink()
    command_killed_at(f"unlink {out}/mosaic-EPSG32720/classes.tif", args)
    scan(folder)
    assert folders(out) == ["mosaic"]
    assert maps(out) == one
    assert list(index(out)) == ["mosaic"]
    assert scan(folder) == {}
