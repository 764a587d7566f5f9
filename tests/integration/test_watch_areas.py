"""`watch --aoi-column`: of each scene a map of each feature, or of all scenes a mosaic of each, as `segment` makes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from kill_points import command_killed_at
from rasterio.warp import transform_geom
from support import TRANSFORM, UTM, WriteRaster, call_cli, patchy

from geoseg.errors import ConfigError, ReadError
from geoseg.models.model_folder import Model
from geoseg.scenes.names import folder_name
from pipeline.config.sections import Config
from pipeline.infer.receipt import Receipt
from pipeline.infer.workers import LocalWorkers
from pipeline.segment.progress import Quiet
from pipeline.watch.ledger import read_ledger
from pipeline.watch.scan import scan_once
from pipeline.watch.upkeep import forget_removed, would_map

GRID = {"tile": 64, "halo": 0, "chunk": 256}
SECTIONS: dict[str, Any] = {"vector": {"formats": ["geojson"]}, "grid": GRID}
FILES = ("classes.tif", "confidence.tif", "source.tif", "polygons.geojson", "coverage.geojson")
Scan = Callable[..., dict[str, str]]
Areas = Callable[..., Path]
SLASH = "ä/ß .."


@pytest.fixture
def areas(tmp_path: Path) -> Areas:
    """Writes a file of areas: boxes of columns and rows of the first scene, by name."""

    def write(**boxes: tuple[int, int, int, int]) -> Path:
        shapes = [shapely.box(*(TRANSFORM @ (a, d)), *(TRANSFORM @ (c, b))) for a, b, c, d in boxes.values()]
        path = tmp_path / "areas.gpkg"
        path.unlink(missing_ok=True)
        geopandas.GeoDataFrame({"label": list(boxes)}, geometry=shapes, crs=UTM).to_file(path)
        return path

    return write


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., Config]:
    def of(*, mosaic: bool = False, **watch: Any) -> Config:
        area = {"aoi": str(tmp_path / "areas.gpkg"), "aoi_column": "label"}
        more = {"area": area, "run": {"keep": mosaic}, "watch": {"settle": "0s", "mosaic": mosaic} | watch}
        return Config.parse(SECTIONS | more)

    return of


@pytest.fixture
def scan(identity_model: Model, settings: Callable[..., Config], tmp_path: Path) -> Scan:
    """One scan; gives the status of what was tried."""

    def run(progress: Quiet | None = None, *, mosaic: bool = False, **watch: Any) -> dict[str, str]:
        config = settings(mosaic=mosaic, **watch)
        reports = scan_once([str(tmp_path / "in")], identity_model, config, tmp_path / "out", LocalWorkers, progress)
        return {report.scene: report.status for report in reports}

    return run


def at_once(model: Model, folder: Path, out: Path, *more: str | Path) -> dict[str, bytes]:
    """The maps that ``segment`` makes of a folder."""
    args = ["segment", folder / "in", "-m", model.path, "-o", out, "--tile", "64", "--halo", "0", "--chunk", "256"]
    done = call_cli([*args, "--formats", "geojson", "--aoi", folder / "areas.gpkg", "--aoi-column", "label", "-q", *more])
    assert done.returncode == 0, done.stderr
    return maps(out)


def maps(out: Path) -> dict[str, bytes]:
    """The files of all maps, but for those that say when they were made."""
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*")) if path.name in FILES}


def times(out: Path) -> dict[str, int]:
    return {path.relative_to(out).as_posix(): path.stat().st_mtime_ns for path in sorted(out.rglob("*")) if path.name in FILES}


def statuses(out: Path) -> dict[str, str]:
    return {entry["scene"]: entry["status"] for entry in json.loads((out / "index.json").read_text())["scenes"]}


def test_each_scan_maps_what_is_missing_of_each_area(
    put: Callable[..., Path],
    areas: Areas,
    scan: Scan,
    settings: Callable[..., Config],
    identity_model: Model,
    tmp_path: Path,
) -> None:
    out, odd = tmp_path / "out", folder_name(SLASH)
    assert "/" not in odd
    put("a", 0)
    areas(**{"north": (10, 5, 90, 40), SLASH: (60, 50, 140, 95), "away": (5000, 0, 5010, 10)})
    assert scan() == {"north/a": "done", f"{odd}/a": "done", "away/a": "skipped"}
    assert maps(out) == at_once(identity_model, tmp_path, tmp_path / "one")
    assert statuses(out) == statuses(tmp_path / "one")
    assert not (out / "away").exists()
    before = times(out)
    assert scan() == {}
    # A scene more has maps of all areas, and those that were there stay as they are.
    put("sub/b", 80, 1)
    plan = list(would_map([str(tmp_path / "in")], identity_model, settings(), out))
    assert [(line["scene"], line["action"], line["reason"]) for line in plan] == [
        (f"{name}/sub/b", "map", "new") for name in ("north", odd, "away")
    ]
    assert scan() == {"north/sub/b": "done", f"{odd}/sub/b": "done", "away/sub/b": "skipped"}
    assert maps(out) == at_once(identity_model, tmp_path, tmp_path / "two")
    assert times(out) | before == times(out)
    # An area that changes is mapped anew, one that comes is mapped, and maps of one that goes stay.
    areas(**{"north": (10, 5, 60, 30), SLASH: (60, 50, 140, 95), "east": (100, 0, 130, 30)})
    before = {name: time for name, time in times(out).items() if not name.startswith("north")}
    assert scan() == {"north/a": "done", "north/sub/b": "skipped", "east/a": "done", "east/sub/b": "done"}
    assert times(out) | before == times(out)
    wanted = at_once(identity_model, tmp_path, tmp_path / "three")
    assert {name: data for name, data in maps(out).items() if name != "north/sub/b"} | wanted == maps(out)
    # What was damaged is made again, of its area alone.
    (out / odd / "a" / "classes.tif").write_bytes(b"")
    assert scan() == {f"{odd}/a": "done"}
    assert {name: data for name, data in maps(out).items() if name in wanted} == wanted
    assert call_cli(["verify", out, "--recompute", "2"]).returncode == 0
    # What has gone from the source or the file of areas, and has no map, is forgotten.
    with pytest.raises(ConfigError, match="--aoi-column label"):
        forget_removed([str(tmp_path / "in")], Config(), out)
    assert forget_removed([str(tmp_path / "in")], settings(), out) == ["away/a", "away/sub/b"]
    assert scan() == {}


def test_a_scene_that_fails_does_so_in_each_area_and_is_tried_again(
    put: Callable[..., Path], areas: Areas, scan: Scan, identity_model: Model, tmp_path: Path
) -> None:
    out, junk = tmp_path / "out", put("a", 0).with_name("junk.tif")
    junk.write_bytes(b"no raster")
    areas(north=(10, 5, 90, 40), south=(10, 50, 90, 95))
    done = {"north/a": "done", "south/a": "done"}
    failed = {"north/junk": "failed", "south/junk": "failed"}
    assert scan(max_failures=2) == done | failed
    assert scan(max_failures=2) == failed
    assert scan(max_failures=2) == {}
    assert {row.status for name, row in read_ledger(out).items() if name in failed} == {"quarantined"}
    released = call_cli(["watch", out, "--release", "south/junk"])
    assert released.stdout == "south/junk: tried again at the next scan\n"
    put("junk", 20, 3)
    assert scan(max_failures=2) == {"north/junk": "done", "south/junk": "done"}
    assert maps(out) == at_once(identity_model, tmp_path, tmp_path / "wanted")


def test_the_command_and_its_areas_on_the_other_hand(
    put: Callable[..., Path], areas: Areas, identity_model: Model, tmp_path: Path
) -> None:
    put("a", 0)
    area, out = areas(north=(10, 5, 90, 40), away=(900, 0, 910, 10)), tmp_path / "out"
    args = ["watch", tmp_path / "in", "-m", identity_model.path, "-o", out, "--once", "--settle", "0s", "--aoi", area]
    args += ["--tile", "64", "--halo", "0", "--chunk", "256", "--formats", "geojson"]
    assert call_cli([*args, "--aoi-column", "label", "-q"]).returncode == 0
    assert maps(out) == at_once(identity_model, tmp_path, tmp_path / "wanted")
    listed = call_cli(["watch", out, "--list"]).stdout.splitlines()
    assert [line.split()[:2] for line in listed[1:]] == [["away/a", "done"], ["north/a", "done"]]
    for values, said in ((["x", "X"], "one folder"), (["x", "x"], "several features"), (["x", " "], "has no label")):
        frame = geopandas.read_file(area).assign(label=values)
        area.unlink()
        frame.to_file(area)
        bad = call_cli([*args[:5], tmp_path / "bad", *args[6:], "--aoi-column", "label"])
        assert (bad.returncode, bad.stderr.count("\n")) == (2, 1)
        assert said in bad.stderr


class AtChunk(Quiet):
    """Does something once a chunk is done."""

    def __init__(self, action: Callable[[], object]) -> None:
        self._action = action

    def chunk(self, receipt: Receipt) -> None:
        del receipt
        self._action()


@pytest.mark.parametrize("mosaic", [False, True])
def test_a_file_of_areas_that_is_being_written_ends_no_watch(
    mosaic: bool, put: Callable[..., Path], areas: Areas, scan: Scan, tmp_path: Path
) -> None:
    """Unreadable at first it is a wrong call; later it is waited for, also where it changes in the middle of a scan."""
    put("a", 0)
    path, out = tmp_path / "areas.gpkg", tmp_path / "out"
    path.write_bytes(b"SQLite format 3\0 and so on")
    with pytest.raises(ConfigError, match=r"areas\.gpkg"):
        scan(mosaic=mosaic)
    boxes = {"north": (10, 5, 90, 40), "south": (10, 50, 90, 95)}
    areas(**boxes)
    names = [f"{name}/{'mosaic' if mosaic else 'a'}" for name in boxes]
    with pytest.raises(ReadError, match="read anew"):
        scan(AtChunk(path.unlink), mosaic=mosaic)
    with pytest.raises(ReadError, match="could be read before"):
        scan(mosaic=mosaic)
    areas(**boxes)
    assert set(scan(mosaic=mosaic)) <= set(names)
    made = maps(out)
    assert {name.rpartition("/")[0] for name in made} == set(names)
    (path.unlink(), path.write_bytes(b""))
    with pytest.raises(ReadError, match="could be read before"):
        scan(mosaic=mosaic)
    areas(**boxes)
    assert scan(mosaic=mosaic) == {}
    # A feature that goes while another is mapped.
    put("b", 30, 1)
    with pytest.raises(ReadError, match="read anew"):
        scan(AtChunk(lambda: areas(north=boxes["north"])), mosaic=mosaic)
    scan(mosaic=mosaic)
    assert scan(mosaic=mosaic) == {}
    assert {row.status for row in read_ledger(out).values() if row.name.startswith("north")} == {"done"}


def test_mosaics_of_each_area_are_kept_up_to_date(
    put: Callable[..., Path], areas: Areas, scan: Scan, settings: Callable[..., Config], identity_model: Model, tmp_path: Path
) -> None:
    out, odd = tmp_path / "out", folder_name(SLASH)
    for name, col in (("a", 0), ("b", 80)):
        put(name, col, col)
    areas(**{"west": (10, 5, 90, 40), SLASH: (60, 50, 260, 95), "away": (5000, 0, 5010, 10)})
    wanted = {"west/mosaic": "done", f"{odd}/mosaic": "done", "away/mosaic": "skipped"}
    assert scan(mosaic=True) == wanted
    assert maps(out) == at_once(identity_model, tmp_path, tmp_path / "two", "--mosaic")
    assert statuses(out) == wanted == statuses(tmp_path / "two")
    wkt = geopandas.read_file(tmp_path / "areas.gpkg").geometry[0].wkt
    alone = alone_within(identity_model, tmp_path, wkt)
    for name in ("classes", "confidence", "source"):
        with rasterio.open(out / "west" / "mosaic" / f"{name}.tif") as one, rasterio.open(alone / f"{name}.tif") as other:
            assert one.transform == other.transform
            assert np.array_equal(one.read(), other.read())
    told = (alone / "polygons.geojson").read_bytes().replace(b'"mosaic"', b'"west/mosaic"')
    assert (out / "west" / "mosaic" / "polygons.geojson").read_bytes() == told
    before = times(out)
    assert scan(mosaic=True) == {}
    assert times(out) == before
    # A scene that reaches into one of them leaves the others as they are.
    put("c", 170, 5)
    plan = list(would_map([str(tmp_path / "in")], identity_model, settings(mosaic=True), out))
    assert {line["scene"] for line in plan if line["action"] == "map"} == set(wanted)
    assert scan(mosaic=True) == {"west/mosaic": "skipped", f"{odd}/mosaic": "done", "away/mosaic": "skipped"}
    assert {name for name, time in times(out).items() if before.get(name) != time} == {
        name for name in before if name.startswith(odd)
    }
    assert maps(out) == at_once(identity_model, tmp_path, tmp_path / "three", "--mosaic")
    # An area that changes: its mosaic alone is made anew. What was damaged, too, and a scene that can't be used is told once.
    areas(**{"west": (10, 5, 70, 40), SLASH: (60, 50, 260, 95)})
    (out / odd / "mosaic" / "source.tif").unlink()
    (tmp_path / "in" / "junk.tif").write_bytes(b"no raster")
    assert scan(mosaic=True) == {"west/mosaic": "done", f"{odd}/mosaic": "done", "junk": "failed"}
    (tmp_path / "in" / "junk.tif").unlink()
    scan(mosaic=True)
    assert scan(mosaic=True) == {}
    assert maps(out) == at_once(identity_model, tmp_path, tmp_path / "four", "--mosaic")
    assert call_cli(["verify", out, "--recompute", "2"]).returncode == 0
    shown = call_cli(["segment", tmp_path / "in", "-m", identity_model.path, "-o", tmp_path / "new", "--mosaic", "--dry-run"])
    assert shown.returncode == 0
    assert forget_removed([str(tmp_path / "in")], settings(mosaic=True), out) == ["away/mosaic", "junk"]
    assert scan(mosaic=True) == {}


def alone_within(model: Model, folder: Path, wkt: str) -> Path:
    """The mosaic of one area, by itself."""
    out = folder / "alone"
    args = ["segment", folder / "in", "-m", model.path, "-o", out, "--tile", "64", "--halo", "0", "--chunk", "256", "--mosaic"]
    done = call_cli([*args, "--formats", "geojson", "--aoi", f"SRID=32720;{wkt}", "-q"])
    assert done.returncode == 0, done.stderr
    return out / "mosaic"


def test_areas_over_several_zones_have_a_map_of_each(
    put: Callable[..., Path], scan: Scan, identity_model: Model, write_raster: WriteRaster, tmp_path: Path
) -> None:
    """One that lies in both, one in the first: maps of zones and their joined polygons are beside each other in its folder."""
    for zone, seed in ((20, 1), (21, 2)):
        crs = f"EPSG:327{zone}"
        edge = transform_geom("EPSG:4326", crs, {"type": "Point", "coordinates": (-60.0, -9.68)})["coordinates"]
        left = round(edge[0] / 10) * 10 - (600 if zone == 20 else 500)
        place = rasterio.Affine(10, 0, left, 0, -10, round(edge[1] / 10) * 10)
        write_raster(patchy(100, 120, 3, seed), f"{zone}.tif", transform=place, crs=crs)
    shapes = [shapely.box(-60.004, -9.688, -59.996, -9.681), shapely.box(-60.004, -9.688, -60.001, -9.681)]
    geopandas.GeoDataFrame({"label": ["both", "west"]}, geometry=shapes, crs=4326).to_file(tmp_path / "areas.gpkg")
    found = scan(mosaic=True)
    assert found.pop("west/mosaic-EPSG32721", "skipped") == "skipped"
    assert found == dict.fromkeys(["both/mosaic-EPSG32720", "both/mosaic-EPSG32721", "west/mosaic-EPSG32720"], "done")
    out = tmp_path / "out"
    assert (out / "both" / "mosaic-joined" / "polygons.geojson").is_file()
    assert not (out / "west" / "mosaic-joined").exists()
    assert "both/mosaic-joined/polygons.geojson" in (out / "index.html").read_text()
    assert maps(out) == at_once(identity_model, tmp_path, tmp_path / "wanted", "--mosaic")
    assert scan(mosaic=True) == {}
    (out / "both" / "mosaic-joined" / "polygons.geojson").unlink()
    assert set(scan(mosaic=True).values()) == {"skipped"}
    # The scene of the other zone goes, and its map with it.
    (tmp_path / "in" / "21.tif").unlink()
    assert scan(mosaic=True) == {"both/mosaic": "done", "west/mosaic": "done"}
    assert sorted(path.name for path in (out / "both").iterdir()) == ["mosaic"]
    assert maps(out) == at_once(identity_model, tmp_path, tmp_path / "again", "--mosaic")
    assert scan(mosaic=True) == {}


@pytest.mark.slow
@pytest.mark.parametrize("mosaic", [False, True])
def test_a_scan_that_is_killed_goes_on_to_the_same_bytes(
    mosaic: bool, put: Callable[..., Path], areas: Areas, scan: Scan, identity_model: Model, tmp_path: Path
) -> None:
    for name, col in (("a", 0), ("b", 80)):
        put(name, col, col)
    area, out = areas(north=(10, 5, 90, 40), south=(10, 50, 140, 95)), tmp_path / "out"
    own = "mosaic" if mosaic else "a"
    args = ["watch", tmp_path / "in", "-m", identity_model.path, "-o", out, "--once", "--settle", "0s", "--quiet", "--aoi", area]
    args += ["--aoi-column", "label", "--formats", "geojson", "--tile", "64", "--halo", "0", "--chunk", "256"]
    args += ["--mosaic", "--keep"] if mosaic else []
    for place in (f"rename {out}/north/{own}/.run/final/run.json", f"rename {out}/south/{own}/.run/final/classes.tif"):
        command_killed_at(place, args)
    scan(mosaic=mosaic)
    assert scan(mosaic=mosaic) == {}
    assert maps(out) == at_once(identity_model, tmp_path, tmp_path / "wanted", *(["--mosaic"] if mosaic else []))
    assert set(statuses(out).values()) == {"done"}
