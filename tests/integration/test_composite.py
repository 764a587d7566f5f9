"""Composites: what NumPy makes of the whole stack, whatever the order of scenes, the windows and the interruptions."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
from PIL import Image
from rasterio.enums import Resampling
from rasterio.warp import reproject
from support import TRANSFORM, UTM, call_cli, patchy, save

import geoseg
import pipeline.composite.composite_plan as planning
from geoseg.errors import ReadError
from geoseg.scenes.sources import list_scenes
from pipeline.composite.imaging import Imager

DATES = ("2019-01-20", "2019-06-05", "2019-07-04", "2019-12-24", "2020-01-11", "2020-07-19", "2020-08-30")
SHAPE = 1300, 600
SIDES = 1100, 400
FINALS = ("composite.tif", "observations/composite_observations.tif", "composite.json")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray, np.ndarray]:
    """A folder of scenes and their masks; the stack (n, bands, h, w) on one lattice, and where each shows the ground."""
    folder = tmp_path_factory.mktemp("scenes")
    rng = np.random.default_rng(5)
    ground = np.stack([patchy(*SHAPE, 90, seed=k) for k in range(4)]).astype(np.uint16) * 20 + 300
    stack, clear = np.zeros((len(DATES), 4, *SHAPE), np.uint16), np.zeros((len(DATES), *SHAPE), bool)
    (folder / "in").mkdir()
    (folder / "masks").mkdir()
    for n, when in enumerate(DATES):
        top, left = (int(k) for k in rng.integers(0, 200, 2))
        rows, cols = slice(top, top + SIDES[0]), slice(left, left + SIDES[1])
        image = (ground[:, rows, cols] + rng.integers(-40, 40, (4, *SIDES))).astype(np.uint16)
        image[:, :30] = 0
        cloud = patchy(*SIDES, 3, seed=100 + n, size=15) == 1
        image[:, cloud] = 9000
        stack[n, :, rows, cols], clear[n, rows, cols] = image, ~cloud & (image > 0).all(axis=0)
        place = TRANSFORM @ rasterio.Affine.translation(left, top)
        facts: dict[str, Any] = {"driver": "GTiff", "height": SIDES[0], "width": SIDES[1], "crs": UTM, "transform": place}
        with rasterio.open(folder / "in" / f"S_{when}.tif", "w", count=4, dtype="uint16", nodata=0, tiled=n % 2, **facts) as file:
            file.write(image)
            file.descriptions = ("red", "green", "blue", "nir")
        with rasterio.open(folder / "masks" / f"S_{when}.tif", "w", count=1, dtype="uint8", **facts) as file:
            file.write(cloud.astype(np.uint8), 1)
    return folder, stack, clear


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read()


def made(scenes: tuple[Path, Any, Any], out: Path, *args: str, inputs: Sequence[Path] = ()) -> Any:
    folder = scenes[0]
    given = [*map(str, inputs or [folder / "in"])]
    done = call_cli(["composite", *given, "--out", str(out), "--clouds", f"{folder}/masks/{{name}}.tif", *args])
    assert done.returncode == 0, done.stderr
    return done


def extent(clear: np.ndarray, place: rasterio.Affine) -> tuple[slice, slice]:
    """Rows and columns of the whole lattice that a result fills."""
    col, row = (round(float(k)) for k in ~TRANSFORM @ (place.c, place.f))
    return slice(row, row + clear.shape[0]), slice(col, col + clear.shape[1])


@pytest.mark.parametrize("method", ["median", "mean"])
def test_a_composite_is_that_of_the_whole_stack(scenes: Any, tmp_path: Path, method: str) -> None:
    _, stack, clear = scenes
    made(scenes, tmp_path / "out", "--method", method)
    with rasterio.open(tmp_path / "out" / "composite.tif") as dataset:
        found, facts = dataset.read(), dataset.profile
        assert dataset.descriptions == ("red", "green", "blue", "nir")
        assert dataset.overviews(1) == [2, 4]
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.tags()["composite_first"] == DATES[0]
    count = read(tmp_path / "out" / "observations" / "composite_observations.tif")[0]
    at = extent(count, facts["transform"])
    masked = np.ma.array(
        stack[(slice(None), slice(None), *at)], mask=np.broadcast_to(~clear[(slice(None), None, *at)], (7, 4, *count.shape))
    )
    wanted = np.rint((np.ma.median if method == "median" else np.ma.mean)(masked, axis=0).filled(0))
    assert (facts["dtype"], facts["nodata"]) == ("uint16", 0)
    assert (found == wanted).all()
    assert (count == clear[(slice(None), *at)].sum(axis=0)).all()
    assert (found[:, count > 0] > 0).all()
    assert not found[:, count == 0].any()
    assert (found < 9000).all()


def test_the_best_pixels_are_whole_observations_with_their_dates(scenes: Any, tmp_path: Path) -> None:
    _, stack, clear = scenes
    for rule in ("nearest", "medoid", "latest"):
        made(scenes, tmp_path / rule, "--method", "best", "--best", rule)
        found, days = read(tmp_path / rule / "composite.tif"), read(tmp_path / rule / "dates" / "composite_dates.tif")[0]
        with rasterio.open(tmp_path / rule / "composite.tif") as dataset:
            at = extent(days, dataset.transform)
        seen = np.zeros(days.shape, int)
        for n, when in enumerate(DATES):
            own = days == int(when.replace("-", ""))
            assert clear[(n, *at)][own].all()
            assert (found[:, own] == stack[(n, slice(None), *at)][:, own]).all()
            seen += own
        assert (seen == clear[(slice(None), *at)].any(axis=0)).all()
        if rule == "latest":
            newest = len(DATES) - 1 - np.argmax(clear[(slice(None), *at)][::-1], axis=0)
            numbers = np.array([int(when.replace("-", "")) for when in DATES])
            assert (days == np.where(seen, numbers[newest], 0)).all()


def test_people_see_what_there_is(scenes: Any, tmp_path: Path) -> None:
    """Pictures of the pixels, a page that stands alone, and a folder that is mapped whole, without what tells of its images."""
    made(scenes, tmp_path / "years", "--period", "year", "--method", "best")
    page = (tmp_path / "years" / "report.html").read_text()
    assert page.count("data:image/") >= 4
    for word in ("composite_2019", "composite_2020", "best (nearest)", "2019-01-20 to 2019-12-24", "Clear observations"):
        assert word in page
    links = re.findall(r'href="([^"#:]+)"', page)
    assert "./observations/composite_2019_observations.tif" in links
    assert all((tmp_path / "years" / link).is_file() for link in links)
    with Image.open(tmp_path / "years" / "previews" / "composite_2019_preview.png") as picture:
        shown = np.asarray(picture)
    data = read(tmp_path / "years" / "composite_2019.tif")
    assert shown.shape == (-(-data.shape[1] // 2), -(-data.shape[2] // 2), 3)
    # White where there is nothing; brightness goes with that of the image.
    squares = np.pad(data, ((0, 0), (0, data.shape[1] % 2), (0, data.shape[2] % 2)), mode="edge")
    squares = squares.reshape(4, shown.shape[0], 2, shown.shape[1], 2)
    nothing, whole = (squares == 0).all(axis=(0, 2, 4)), (squares > 0).all(axis=(0, 2, 4))
    assert (shown[nothing] == 255).all()
    assert np.corrcoef(shown[whole][:, 0], squares[0].mean(axis=(1, 3))[whole])[0, 1] > 0.8
    found, refused = list_scenes([str(tmp_path / "years")])
    assert [ref.name for ref in found] == ["composite_2019", "composite_2020"]
    beside = {Path(one.name).name: one.reason for one in refused}
    for year in (2019, 2020):
        for kind in ("dates", "observations"):
            assert f"tells of its image composite_{year}.tif" in str(beside.pop(f"composite_{year}_{kind}.tif"))
    assert all(".png is not accepted" in str(reason) for reason in beside.values())
    assert {one.status for one in refused} == {"skipped"}
    assert call_cli(["verify", tmp_path / "years"]).returncode == 0
    made(scenes, tmp_path / "flat.tif")
    beside = {path.name for path in tmp_path.iterdir() if path.name.startswith("flat")}
    assert {"flat_preview.png", "flat.report.html"} <= beside
    assert [ref.name for ref in list_scenes([f"{tmp_path}/*.tif"])[0]] == ["flat"]
    # A scene of such a name, of no image, is a scene.
    (tmp_path / "flat.tif").rename(tmp_path / "other.tif")
    assert [ref.name for ref in list_scenes([f"{tmp_path}/*.tif"])[0]] == ["flat_observations", "other"]


def test_bytes_do_not_depend_on_order_or_windows(scenes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(scenes, tmp_path / "one", "--method", "best", "--best", "medoid")
    files = sorted((scenes[0] / "in").glob("*.tif"), reverse=True)
    monkeypatch.setattr(planning, "SIDES", (128,))
    made(scenes, tmp_path / "two", "--method", "best", "--best", "medoid", "--threads", "1", inputs=files)
    one, two = (
        {str(path.relative_to(tmp_path / name)): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in ("one", "two")
    )
    ours = [name for name in one if name not in (".geoseg.json", "run.json")]
    assert {*FINALS} < {*ours}
    assert {name: one[name] for name in ours} == {name: two[name] for name in ours}


def test_a_run_that_was_stopped_goes_on(scenes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(scenes, tmp_path / "whole")
    done: list[Any] = []
    chunk = Imager.chunk

    def failing(self: Imager, window: Any) -> Any:
        if len(done) == 1:
            raise ReadError("the disk has gone")
        done.append(window)
        return chunk(self, window)

    monkeypatch.setattr(Imager, "chunk", failing)
    args = ["composite", str(scenes[0] / "in"), "--out", str(tmp_path / "out"), "--clouds", f"{scenes[0]}/masks/{{name}}.tif"]
    stopped = call_cli([*args, "--threads", "1"])
    assert (stopped.returncode, "the disk has gone" in stopped.stderr) == (1, True)
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    first = done.copy()
    monkeypatch.setattr(Imager, "chunk", lambda self, window: (done.append(window), chunk(self, window))[1])
    assert call_cli(args).returncode == 0
    assert len({*done}) == len(done) > len(first)
    assert all((tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes() for name in FINALS)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    again = call_cli(args)
    assert (again.returncode, again.stderr.startswith("there already: ")) == (0, True)
    other = call_cli([*args, "--least", "2"])
    assert (other.returncode, "exists" in other.stderr) == (2, True)


def test_one_image_a_period_on_one_grid_within_an_area(scenes: Any, tmp_path: Path) -> None:
    _, stack, clear = scenes
    corner = TRANSFORM @ (150, 900)
    box = f"{UTM}:{corner[0]},{corner[1]},{corner[0] + 2000},{corner[1] + 5000}"
    made(scenes, tmp_path / "out", "--period", "season", "--aoi", box, "--least", "2")
    names = sorted(path.name for path in (tmp_path / "out").glob("*.tif"))
    assert names == [f"composite_{key}.tif" for key in ("2019-DJF", "2019-JJA", "2020-DJF", "2020-JJA")]
    rows, cols = slice(400, 900), slice(150, 350)
    for key, some in (("2019-DJF", [0]), ("2019-JJA", [1, 2]), ("2020-DJF", [3, 4]), ("2020-JJA", [5, 6])):
        found = read(tmp_path / "out" / f"composite_{key}.tif")
        ones = clear[some, rows, cols]
        masked = np.ma.array(stack[some, :, rows, cols], mask=np.broadcast_to(~ones[:, None], (len(some), 4, 500, 200)))
        wanted = np.where(ones.sum(axis=0) >= 2, np.rint(np.ma.median(masked, axis=0).filled(0)), 0)
        assert (found == wanted).all()
        item = json.loads((tmp_path / "out" / f"composite_{key}.json").read_text())
        pystac.Item.from_dict(item | {"stac_extensions": []}).validate()
        assert item["properties"]["geoseg:scenes"] == [f"S_{DATES[n]}" for n in sorted(some, reverse=True)]
    assert item["properties"]["start_datetime"] == f"{DATES[5]}T00:00:00Z"
    assert item["properties"]["geoseg:period"] == ["2020-06-01", "2020-08-31"]


def test_scenes_of_other_scales_become_physical_values(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.uint16).reshape(1, 4, 6) + 100
    for name, add in (("A_2020-01-01", 0), ("B_2020-02-01", 1000)):
        facts = {"driver": "GTiff", "count": 1, "height": 4, "width": 6, "dtype": "uint16", "crs": UTM, "transform": TRANSFORM}
        with rasterio.open(tmp_path / f"{name}.tif", "w", **facts) as file:
            file.write(values + add)
            file.scales, file.offsets = (0.0001,), (-0.0001 * add,)
    assert call_cli(["composite", str(tmp_path), "--out", str(tmp_path / "out.tif")]).returncode == 0
    with rasterio.open(tmp_path / "out.tif") as dataset:
        assert (dataset.dtypes, dataset.nodata, dataset.scales) == (("float32",), -9999, (1.0,))
        np.testing.assert_allclose(dataset.read(), values * 0.0001, rtol=1e-6)
    assert json.loads((tmp_path / "out.run.json").read_text())["physical_values"]


def test_scenes_on_other_grids_are_resampled(scenes: Any, tmp_path: Path) -> None:
    first = next((scenes[0] / "in").glob(f"*{DATES[0]}*"))
    with rasterio.open(first) as dataset:
        ground, place, crs = dataset.read().astype(np.float64), dataset.transform, dataset.crs
    half = place @ rasterio.Affine.scale(0.5)
    fine = np.repeat(np.repeat(ground, 2, axis=1), 2, axis=2)[:, 200:1000, 300:700].astype(np.uint16)
    there = half @ rasterio.Affine.translation(300.5, 200.5)
    facts = {"driver": "GTiff", "count": 4, "height": 800, "width": 400, "dtype": "uint16", "nodata": 0, "crs": crs}
    with rasterio.open(tmp_path / "S_2021-01-01.tif", "w", transform=there, **facts) as file:
        file.write(fine)
        file.descriptions = ("red", "green", "blue", "nir")
    geoseg.composite([first, tmp_path / "S_2021-01-01.tif"], out=tmp_path / "out", method="best", best="latest")
    with rasterio.open(tmp_path / "out" / "composite.tif") as dataset:
        found, profile = dataset.read(), dataset.profile
    assert (profile["transform"], profile["width"]) == (place, SIDES[1])
    wanted = np.zeros((4, *SIDES), np.uint16)
    options = {"src_crs": crs, "dst_crs": crs, "src_nodata": 0, "dst_nodata": 0, "resampling": Resampling.average}
    reproject(fine, wanted, src_transform=there, dst_transform=place, **options)
    inner = (slice(None), slice(105, 495), slice(155, 345))
    assert np.abs(found[inner].astype(int) - wanted[inner]).max() <= 1
    outer = (slice(None), slice(600, None), slice(None))
    assert (found[outer] == ground[outer]).all()


def test_a_composite_is_mapped_as_any_scene(scenes: Any, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = save(torch.nn.Conv2d(3, 2, 1), 3, 2, tmp_path / "model")
    made(scenes, tmp_path / "out")
    (found,) = geoseg.segment(
        [tmp_path / "out" / "composite.json"], model=model.path, out=tmp_path / "map", formats=(), rescale="300,2100"
    )
    classes = read(found.folder / "classes.tif")[0]
    assert ((classes == 255) == (read(tmp_path / "out" / FINALS[1])[0] == 0)).all()


def test_one_command_composes_and_maps(scenes: Any, tmp_path: Path) -> None:
    """The bytes are those of the two commands, and a run that was stopped in between goes on."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model, folder, out = save(torch.nn.Conv2d(3, 2, 1), 3, 2, tmp_path / "model"), scenes[0], tmp_path / "out"
    made(scenes, tmp_path / "images", "--period", "year", "--bands", "red,green,blue")
    maps = ["-m", model.path, "--rescale", "300,2100", "--formats", "geojson"]
    assert call_cli(["segment", tmp_path / "images", "-o", tmp_path / "maps", *maps]).returncode == 0
    args = ["segment", folder / "in", "-o", out, *maps, "--composite", "median", "--period", "year", "--bands", "red,green,blue"]
    args += ["--clouds", f"{folder}/masks/{{name}}.tif"]
    planned = call_cli([*args, "--dry-run"])
    assert "composite_2019" in planned.stdout
    assert not out.exists()
    # As if it had been stopped when the images were there, and one map.
    own: dict[str, Any] = {"period": "year", "bands": ["red", "green", "blue"], "clouds": f"{folder}/masks/{{name}}.tif"}
    geoseg.composite(folder / "in", out=out / "composites", **own)
    before = {path: path.stat().st_mtime_ns for path in (out / "composites").iterdir()}
    assert call_cli(args).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in (out / "composites").iterdir()} == before
    for year in ("2019", "2020"):
        name = f"composite_{year}"
        assert (out / "composites" / f"{name}.tif").read_bytes() == (tmp_path / "images" / f"{name}.tif").read_bytes()
        for file in ("classes.tif", "confidence.tif", "polygons.geojson"):
            assert (out / name / file).read_bytes() == (tmp_path / "maps" / name / file).read_bytes()
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == ["composite_2019", "composite_2020", "composites"]
    assert call_cli(["verify", out]).returncode == 0
    again = geoseg.segment(
        folder / "in",
        model=model.path,
        out=out,
        rescale="300,2100",
        formats=["geojson"],
        composite="median",
        **own,
    )
    assert [one.status for one in again] == ["skipped", "skipped"]
    for more, said in (
        (["--mosaic"], "--composite: is one image of all scenes; leave --mosaic out"),
        (["--composite", "mean"], "--overwrite"),
    ):
        refused = call_cli([*args, *more])
        assert refused.returncode != 0
        assert said in refused.stderr
    # Of other periods, nothing is left of these; what somebody has changed is kept.
    args[args.index("year")] = "all"
    note = out / "composite_2019" / "classes.qml"
    note.write_text("mine")
    replaced = call_cli([*args, "--overwrite"])
    assert replaced.returncode == 0, replaced.stderr
    assert "composite_2019, composite_2020: of images that others have replaced, taken away" in replaced.stderr
    left = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if "composite_20" in path.as_posix())
    assert [Path(name).name.partition(".kept-")[0] for name in left] == ["composite_2019", "classes.qml"]
    assert [entry["scene"] for entry in json.loads((out / "index.json").read_text())["scenes"]] == ["composite"]
    for name in ("index.html", "collection.json", "items.parquet"):
        assert b"composite_20" not in (out / name).read_bytes()
    assert call_cli(["verify", out]).returncode == 0


def test_an_output_among_the_scenes_is_none_of_them(scenes: Any, tmp_path: Path) -> None:
    """Run again, nothing is done: composites, and what lies beside them, are no scenes where the output is told."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model, folder = save(torch.nn.Conv2d(3, 2, 1), 3, 2, tmp_path / "model"), tmp_path / "in"
    shutil.copytree(scenes[0] / "in", folder)
    bands = ["--bands", "red,green,blue"]
    maps = ["-m", model.path, "--formats", "geojson", "--rescale", "300,2100", "-o", folder / "maps"]
    commands: tuple[tuple[Sequence[str | Path], str], ...] = (
        (["composite", folder, "-o", folder / "years", "--period", "year"], "there already: 2 images"),
        (["composite", folder, "-o", folder / "one.tif", "--overwrite"], "1 image:"),
        (["segment", folder, *maps, *bands, "--composite", "median", "--period", "year"], "2 skipped"),
        (["segment", folder, *maps, *bands], f"{len(DATES)} skipped"),
    )
    for command, said in commands:
        for again in (False, True):
            done = call_cli(command)
            assert done.returncode == 0, done.stderr
            if again:
                assert said in done.stderr
        for name in ("years", "one.tif", "one.run.json", "one.json"):
            path = folder / name
            if path.is_dir():
                shutil.rmtree(path)
            elif path.exists() and name == "one.tif":
                record = json.loads((folder / "one.run.json").read_text())
                assert len(record["scenes"]) == len(DATES)
        for path in folder.glob("one*"):
            path.unlink()
    watched = call_cli(["watch", folder, *maps, *bands, "--dry-run"])
    assert watched.returncode == 0, watched.stderr
    assert "composite" not in watched.stdout + watched.stderr


REFUSED: list[tuple[Sequence[str], str]] = [
    (["--period", "month"], "neither tags nor name say when it was acquired"),
    (["--bands", "red,swir"], "0 bands are named 'swir'"),
    (["--clouds", "scl"], "no quality layer 'scl'"),
]


@pytest.mark.parametrize(("args", "said"), REFUSED)
def test_what_can_not_be_is_one_sentence(scenes: Any, tmp_path: Path, args: Sequence[str], said: str) -> None:
    first = next((scenes[0] / "in").glob("*.tif"))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "nameless.tif").write_bytes(first.read_bytes())
    done = call_cli(["composite", str(tmp_path / "in"), "--out", str(tmp_path / "out"), *args])
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert not (tmp_path / "out").exists()


def test_landsat_of_35_years(shared: Path, tmp_path: Path) -> None:
    """Pucallpa: what was striped in 2010 is filled from the other years."""
    files = sorted((shared / "data" / "pucallpa_series").glob("*.tif"))
    geoseg.composite(files, out=tmp_path / "out.tif")
    stack = np.stack([read(file) for file in files])
    empty = np.broadcast_to((stack == 0).all(axis=1, keepdims=True), stack.shape)
    wanted = np.rint(np.ma.median(np.ma.array(stack, mask=empty), axis=0).filled(0))
    assert (read(tmp_path / "out.tif") == wanted).all()
