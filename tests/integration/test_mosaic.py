"""Mosaics: pieces of a scene give the map of the whole, in whatever order and over however many runs they arrive."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import rasterio.features
import shapely
from rasterio.warp import transform
from scipy import ndimage
from support import FINALS, LIMIT_S, ROOT, TRANSFORM, UTM, call_cli, patchy, save

import geoseg
from geoseg.errors import SceneError
from geoseg.models.model_folder import Model
from geoseg.scenes.sources import SceneRef
from pipeline.config.sections import Config
from pipeline.files.owned import FileFacts, sealed
from pipeline.infer.receipt import Receipt
from pipeline.infer.workers import LocalWorkers
from pipeline.mosaic.run import map_mosaic
from pipeline.plan.inputs import scenes_to_map
from pipeline.segment.progress import Quiet

SETTINGS = {"grid": {"tile": 96, "halo": "exact", "chunk": 256}, "infer": {"threads": 1}}
SHAPE = 300, 400
Write = Callable[..., Path]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Two layers that look two pixels far each, with biases: what pads an image is not what is computed beyond it."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(3)
    layers = (torch.nn.Conv2d(3, 6, 5, padding=2), torch.nn.ReLU(), torch.nn.Conv2d(6, 3, 5, padding=2))
    return save(torch.nn.Sequential(*layers), 3, 3, tmp_path_factory.mktemp("models") / "two-layers")


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.stack([patchy(*SHAPE, 200, seed=k, size=2.0) for k in range(3)])


@pytest.fixture
def write(tmp_path: Path, image: np.ndarray) -> Write:
    """Writes the part of the image in some rows and columns where it lies."""

    def cut(
        name: str, rows: tuple[int, int], cols: tuple[int, int], *, data: np.ndarray | None = None, **profile: object
    ) -> Path:
        path = tmp_path / "in" / f"{name}.tif"
        path.parent.mkdir(exist_ok=True)
        part = (image if data is None else data)[:, slice(*rows), slice(*cols)]
        place = TRANSFORM @ rasterio.Affine.translation(cols[0], rows[0])
        given = {"driver": "GTiff", "count": 3, "dtype": "uint8", "crs": UTM, "transform": place} | profile
        with rasterio.open(path, "w", height=part.shape[1], width=part.shape[2], **given) as dataset:
            dataset.write(part)
        return path

    return cut


@pytest.fixture
def pieces(write: Write, model: Model) -> list[Path]:
    """Four parts of the image that overlap by twice the exact halo."""
    halo = model.card.exact_halo
    assert halo is not None
    rows, cols = [(0, 140 + halo), (140 - halo, 300)], [(0, 210 + halo), (210 - halo, 400)]
    return [write(f"piece-{i}{j}", r, c) for i, r in enumerate(rows) for j, c in enumerate(cols)]


class Counting(Quiet):
    """Counts the chunks that were computed or combined, and those that were there."""

    def __init__(self) -> None:
        self.computed, self.combined, self.decoded = 0, 0, 0

    def chunk(self, receipt: Receipt) -> None:
        self.decoded += receipt.decoded
        if "combine" in receipt.seconds:
            self.combined += 1
        else:
            self.computed += 1


def made(scenes: Sequence[Path], model: Model, out: Path, progress: Quiet | None = None, **sections: dict[str, object]) -> Path:
    """The folder of a mosaic."""
    config = Config.parse(SETTINGS | {name: SETTINGS.get(name, {}) | own for name, own in sections.items()})
    refs = [SceneRef(path.stem, (str(path),)) for path in scenes]
    (report,) = map_mosaic(refs, [], model, config, out, LocalWorkers, progress)
    assert report.status in ("done", "skipped"), report.reason
    return out / "mosaic"


def pixels(folder: Path, name: str = "classes") -> np.ndarray:
    with rasterio.open(folder / f"{name}.tif") as dataset:
        return np.asarray(dataset.read(1))


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in (*FINALS, "source.tif")}


def shapes(folder: Path) -> list[tuple[int, str]]:
    features = json.loads((folder / "polygons.geojson").read_text())["features"]
    return sorted((f["properties"]["code"], json.dumps(f["geometry"])) for f in features)


EDGE = {"order": "distance-to-edge"}


def test_pieces_are_the_whole(pieces: list[Path], write: Write, model: Model, tmp_path: Path) -> None:
    whole = made([write("whole", (0, 300), (0, 400))], model, tmp_path / "whole")
    together = made(pieces, model, tmp_path / "pieces", mosaic=EDGE)
    assert pixels(whole).shape == SHAPE
    for name in ("classes", "confidence"):
        np.testing.assert_array_equal(pixels(together, name), pixels(whole, name))
    assert shapes(together) == shapes(whole)
    assert len(shapes(whole)) > 100
    # Each pixel is of the piece in which it lies deepest; the order of the pieces by name is that of reading.
    source = pixels(together, "source")
    assert source.dtype == np.uint16
    halves = (np.arange(300) >= 140)[:, None] * 2 + (np.arange(400) >= 210)[None]
    assert (source != halves).sum() == 0
    record = json.loads((together / "run.json").read_text())
    assert [scene["name"] for scene in record["scenes"]] == ["piece-00", "piece-01", "piece-10", "piece-11"]
    assert (record["scene"], record["status"]) == ("mosaic", "done")


def test_pieces_are_the_whole_for_a_network_that_downsamples(write: Write, tmp_path: Path) -> None:
    """Pieces are cut anywhere; what is mapped of each begins at a multiple of the stride on the lattice."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(5)
    layers = (torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.MaxPool2d(4), torch.nn.ReLU(), torch.nn.Conv2d(4, 4, 3, padding=1))
    network = torch.nn.Sequential(*layers, torch.nn.Upsample(scale_factor=4), torch.nn.Conv2d(4, 3, 3, padding=1))
    model = save(network, 3, 3, tmp_path / "strided", stride=4)
    halo = model.card.exact_halo
    assert halo is not None
    assert model.card.stride == 4
    rows, cols = [(3, 141 + halo), (141 - halo, 299)], [(1, 211 + halo), (211 - halo, 398)]
    pieces = [write(f"piece-{i}{j}", r, c) for i, r in enumerate(rows) for j, c in enumerate(cols)]
    whole = made([write("whole", (3, 299), (1, 398))], model, tmp_path / "whole")
    together = made(pieces, model, tmp_path / "pieces", mosaic=EDGE)
    for name in ("classes", "confidence"):
        np.testing.assert_array_equal(pixels(together, name), pixels(whole, name))
    assert shapes(together) == shapes(whole)


def test_a_scene_alone_on_its_own_phase_is_its_map(write: Write, model: Model, tmp_path: Path) -> None:
    """Where the scene begins at a corner of a tile of the lattice, the mosaic of it alone has the tiles of its own map."""
    step = 96 - 2 * model.card.exact_halo
    left, top = round(TRANSFORM.c / 10), round(-TRANSFORM.f / 10)
    scene = write("alone", (-top % step, 300), (-left % step, 400))
    out = made([scene], model, tmp_path / "one")
    args = ["segment", scene, "-m", model.path, "-o", tmp_path / "own", "--tile", "96", "--halo", "exact", "--quiet"]
    assert call_cli(args).returncode == 0
    for name in ("classes", "confidence"):
        np.testing.assert_array_equal(pixels(out, name), pixels(tmp_path / "own" / "alone", name))
    assert shapes(out) == shapes(tmp_path / "own" / "alone")


def test_neither_the_order_of_arrival_nor_chunks_change_a_byte(pieces: list[Path], model: Model, tmp_path: Path) -> None:
    first = contents(made(pieces, model, tmp_path / "first"))
    for number, some in enumerate(list(itertools.permutations(pieces))[5::9]):
        assert contents(made(some, model, tmp_path / f"order-{number}")) == first
    other = made(pieces[::-1], model, tmp_path / "chunks", grid={"chunk": 1024})
    assert contents(other) == first


MEAN = {"combine": "mean", "order": "name"}


@pytest.mark.parametrize("mosaic", [EDGE, {"combine": "best"}, {"combine": "majority", "order": "name"}, EDGE | MEAN])
def test_more_scenes_give_the_map_of_all_at_once(
    mosaic: dict[str, object], pieces: list[Path], model: Model, tmp_path: Path
) -> None:
    at_once = contents(made(pieces, model, tmp_path / "at-once", mosaic=mosaic))
    counts = []
    for arrived in ([pieces[3]], [pieces[1], pieces[3]], pieces):
        counting = Counting()
        grown = made(arrived, model, tmp_path / "grown", counting, mosaic=mosaic, run={"keep": True})
        counts.append(counting)
    assert contents(grown) == at_once
    # Each scene is computed once, in the run that it comes with.
    alone = Counting()
    made(pieces, model, tmp_path / "counted", alone, mosaic=mosaic)
    assert sum(counting.computed for counting in counts) == alone.computed
    again = Counting()
    made(pieces, model, tmp_path / "grown", again, mosaic=mosaic, run={"keep": True})
    assert (again.computed, again.combined) == (0, 0)


def test_a_new_scene_recombines_what_it_touches(write: Write, model: Model, tmp_path: Path) -> None:
    grid = {"chunk": 256, "tile": 64, "halo": 0}
    whole, patch = write("a", (0, 300), (0, 400)), write("b", (30, 50), (30, 50))
    made([whole], model, tmp_path / "out", grid=grid, run={"keep": True})
    folder = tmp_path / "out" / "mosaic" / ".run" / "mosaic"
    before = {path.name: path.stat().st_mtime_ns for path in (folder / "combined").glob("*.json")}
    assert len(before) >= 4
    out = made([whole, patch], model, tmp_path / "out", grid=grid, run={"keep": True})
    after = {path.name: path.stat().st_mtime_ns for path in (folder / "combined").glob("*.json")}
    same = before.keys() & after.keys()
    assert len(same) == len(before) - 1
    assert all(before[name] == after[name] for name in same)
    assert contents(out) == contents(made([whole, patch], model, tmp_path / "at-once", grid=grid))


def test_a_kill_at_any_time_costs_no_byte(pieces: list[Path], model: Model, tmp_path: Path) -> None:
    whole = contents(made(pieces, model, tmp_path / "whole"))
    command = [sys.executable, "-m", "pipeline", "segment", *map(str, pieces), "-m", str(model.path), "--mosaic"]
    command += ["-o", str(tmp_path / "killed"), "--tile", "96", "--halo", "exact", "--chunk", "256", "--threads", "1", "--quiet"]
    work = tmp_path / "killed" / "mosaic" / ".run"
    for wanted in ("mosaic/*/chunks/*.tif", "chunks/*.tif"):
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
        deadline = time.monotonic() + LIMIT_S
        while not list(work.glob(wanted)) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait(LIMIT_S) == -signal.SIGKILL
    counting = Counting()
    assert contents(made(pieces, model, tmp_path / "killed", counting)) == whole
    assert not (tmp_path / "killed" / "mosaic" / ".run").exists()


def test_newest_first_and_holes_are_filled(write: Write, image: np.ndarray, model: Model, tmp_path: Path) -> None:
    """Where the newer scene has no data, the older one shows; where neither has, there is none."""
    holed, older = image.copy(), image[:, ::-1].copy()
    holed[:, 40:120, 50:150] = 0
    older[:, 60:80, 60:90] = 0
    new = write("new-20240601", (0, 200), (0, 300), data=np.maximum(holed, 0), nodata=0)
    old = write("old-20200601", (0, 300), (0, 250), data=older, nodata=0)
    out = made([old, new], model, tmp_path / "both")
    alone = {path.stem: made([path], model, tmp_path / path.stem) for path in (new, old)}
    newest, oldest = (np.full(SHAPE, 255, np.uint8) for _ in range(2))
    newest[:200, :300], oldest[:300, :250] = pixels(alone[new.stem]), pixels(alone[old.stem])
    expected = np.where(newest != 255, newest, oldest)[:300, :300]
    np.testing.assert_array_equal(pixels(out), expected)
    source = pixels(out, "source")
    np.testing.assert_array_equal(source, np.where(newest != 255, 0, np.where(oldest != 255, 1, 65535))[:300, :300])
    assert (expected == 255).any()
    by_name = made([new, old], model, tmp_path / "by-name", mosaic={"order": "name"})
    np.testing.assert_array_equal(pixels(by_name), expected)


def test_the_mean_is_that_of_the_probabilities_of_the_scenes(write: Write, image: np.ndarray, tmp_path: Path) -> None:
    """The oracle: PyTorch over each scene, and NumPy. The order of arrival changes no byte, nor do runs with more scenes."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(3)
    layers = (torch.nn.Conv2d(3, 6, 5, padding=2), torch.nn.ReLU(), torch.nn.Conv2d(6, 3, 5, padding=2))
    network = torch.nn.Sequential(*layers)
    thresholds = (0.3, 0.35, 0.45)
    facts = {"scaling": [{"mean": 100.0, "stddev": 40.0}] * 3, "thresholds": thresholds}
    model = save(network, 3, 3, tmp_path / "soft", **facts)
    places = {"a": (slice(0, 300), slice(0, 400)), "b": (slice(0, 200), slice(0, 300)), "c": (slice(100, 300), slice(120, 400))}
    images = {name: np.maximum(1, np.roll(image, 97 * k, axis=2))[:, *places[name]] for k, name in enumerate(places)}
    images["b"][:, 150:180, 100:200] = 0
    scenes = []
    for name, (rows, cols) in places.items():
        whole = np.zeros((3, *SHAPE), np.uint8)
        whole[:, rows, cols] = images[name]
        scenes.append(write(name, (rows.start, rows.stop), (cols.start, cols.stop), data=whole, nodata=0))
    sums, count, near = np.zeros((3, *SHAPE)), np.zeros(SHAPE, int), np.zeros(SHAPE, np.bool_)
    for name, (rows, cols) in places.items():
        scores = network((torch.from_numpy(images[name][None].astype(np.float32)) - 100) / 40)
        valid = (images[name] != 0).any(axis=0)
        # What lies around edges, or around what is no data, is filled in by rules of the reader.
        near[rows, cols] |= ~ndimage.binary_erosion(valid, iterations=4, structure=np.ones((3, 3)))
        sums[:, rows, cols] += torch.softmax(scores, dim=1)[0].detach().numpy() * valid
        count[rows, cols] += valid
    mean = sums / np.maximum(1, count)
    able = np.where(mean >= np.array(thresholds)[:, None, None], mean, 0)
    expected = np.where(count > 0, able.argmax(axis=0), 255)
    first, second = np.sort(able, axis=0)[:0:-1]
    close = ((first > 0) & (first - second < 1e-4)) | (np.abs(mean - np.array(thresholds)[:, None, None]) < 1e-4).any(axis=0)
    told = {"mosaic": MEAN, "infer": {"probabilities": True}}
    out = made(scenes, model, tmp_path / "out", **told)
    sure = ~near & ~close & (count > 0)
    assert sure.mean() > 0.75, [near.mean(), close.mean()]
    assert (count[sure] > 1).sum() > 50_000
    np.testing.assert_array_equal(pixels(out)[sure], expected[sure])
    np.testing.assert_array_equal(pixels(out)[count == 0], 255)
    of_class = np.take_along_axis(mean, np.minimum(expected, 2)[None], axis=0)[0]
    assert np.abs(pixels(out, "confidence")[sure] - 100 * of_class[sure]).max() < 0.51
    with rasterio.open(out / "probabilities.tif") as dataset:
        assert np.abs(dataset.read()[:, sure] - 100 * mean[:, sure]).max() < 0.51
    # The mean is no scene's own map, and source.tif names scenes that agree with it.
    best = pixels(made(scenes, model, tmp_path / "best", mosaic={"combine": "best", "order": "name"}))
    assert (best != pixels(out)).sum() > 100
    kept = tmp_path / "kept"
    for some in ([scenes[2]], [scenes[0], scenes[2]], scenes[::-1]):
        grown = made(some, model, kept, **told, run={"keep": True})
    assert contents(grown) == contents(out)
    assert (grown / "probabilities.tif").read_bytes() == (out / "probabilities.tif").read_bytes()


def test_what_failed_in_one_scene_is_of_another_or_not_analysed(
    write_raster: Callable[..., Path], poison_model: Model, tmp_path: Path
) -> None:
    bad = np.full((64, 192), 10, np.uint8)
    bad[10, 100] = 220
    place = TRANSFORM @ rasterio.Affine.translation(0, 0)
    scenes = [
        write_raster(bad, "bad.tif", transform=place),
        write_raster(np.full((64, 120), 10, np.uint8), "good.tif", transform=place),
    ]
    config = Config.parse({"grid": {"tile": 64, "halo": 0, "chunk": 256}, "mosaic": {"order": "name"}})
    refs = [SceneRef(path.stem, (str(path),)) for path in scenes]
    (report,) = map_mosaic(refs, [], poison_model, config, tmp_path / "out", LocalWorkers)
    assert report.status == "partial"
    assert report.reason is not None
    assert "bad: " in report.reason
    classes, source = (pixels(tmp_path / "out" / "mosaic", name) for name in ("classes", "source"))
    failed = classes == 254
    assert failed.any()
    assert (source[failed] == 65535).all()
    assert not failed[:, :120].any()
    assert {0, 1} >= set(np.unique(source[~failed]))


def test_other_pixels_are_resampled_onto_those_of_the_first(write: Write, model: Model, tmp_path: Path) -> None:
    first = write("a", (0, 150), (0, 200))
    shifted = write("b", (0, 150), (150, 350), transform=TRANSFORM @ rasterio.Affine.translation(150.5, 0.25))
    out = made([shifted, first], model, tmp_path / "out", mosaic=EDGE)
    record = json.loads((out / "run.json").read_text())
    assert [scene["resampled"] for scene in record["scenes"]] == [False, True]
    assert any("resampled onto the pixels of the mosaic: b" in note for note in record["warnings"])
    assert pixels(out).shape == (151, 351)
    source = pixels(out, "source")
    assert (source[20:130, :150] == 0).all()
    assert (source[20:130, 210:350] == 1).all()
    # Between them, the line on which a pixel is equally far from the edges of both.
    middle = np.argmax(source[75] == 1)
    assert abs(middle - 175.25) <= 1


def test_several_crs_want_one(write: Write, model: Model, tmp_path: Path) -> None:
    here = write("a", (0, 100), (0, 100))
    lon, lat = transform(UTM, "EPSG:4326", [TRANSFORM.c + 500], [TRANSFORM.f])
    there = write("b", (0, 100), (0, 100), crs="EPSG:4326", transform=rasterio.Affine(9e-5, 0, lon[0], 0, -9e-5, lat[0]))
    args = ["segment", here, there, "-m", model.path, "-o", tmp_path / "out", "--mosaic", "--tile", "256", "--quiet"]
    refused = call_cli(args)
    assert refused.returncode == 1
    assert "EPSG:32720: a; EPSG:4326: b" in refused.stderr
    assert "--target-crs" in refused.stderr
    assert call_cli([*args, "--target-crs", UTM]).returncode == 0
    record = json.loads((tmp_path / "out" / "mosaic" / "run.json").read_text())
    assert [scene["resampled"] for scene in record["scenes"]] == [False, True]
    source = pixels(tmp_path / "out" / "mosaic", "source")
    assert {0, 1} <= set(np.unique(source))


def check_joined(folders: Sequence[Path], joined: Path, meridian: float) -> None:
    """All ground of the maps of zones by class, each polygon one over the meridian; at the 180th it ends, as GeoJSON wants."""
    maps = [geopandas.read_file(folder / "polygons.geojson") for folder in folders]
    for whole in (geopandas.read_file(joined / "polygons.geojson"), geopandas.read_file(joined / "polygons.gpkg")):
        assert whole.crs.is_geographic
        assert whole.is_valid.all()
        assert whole["id"].is_unique
        pixel, on_it = 10 / 111_000, shapely.LineString([(meridian, -90), (meridian, 90)])
        _, south, _, north = np.array([one.total_bounds for one in maps]).T
        length, over = north.max() - south.min(), 0
        for name in sorted(set(whole["class"])):
            before = [one.geometry[one["class"] == name] for one in maps]
            after = whole.geometry[whole["class"] == name]
            # Neither is a place in two polygons, nor is there more or less of a class than slivers along the meridian.
            assert after.area.sum() == pytest.approx(shapely.union_all(after.values).area, rel=1e-9)
            assert abs(after.area.sum() - sum(one.area.sum() for one in before)) < length * pixel
            strip = shapely.box(meridian - pixel, -90, meridian + pixel, 90)
            old, new = (shapely.union_all(np.concatenate(parts)) for parts in ([one.values for one in before], [after.values]))
            assert shapely.difference(shapely.symmetric_difference(old, new), strip).area < 1e-3 * new.area
            if abs(meridian) == 180:
                assert len(after) == sum(map(len, before))
                continue
            edges = shapely.intersection(after.boundary.values, on_it)
            sides = after.bounds[["minx", "maxx"]].to_numpy()
            touching = {
                (i, j)
                for i in np.flatnonzero(sides[:, 1] == meridian)
                for j in np.flatnonzero(sides[:, 0] == meridian)
                if edges[i].intersection(edges[j]).length > 1e-7
            }
            assert not touching
            over += int(((sides[:, 0] < meridian - pixel) & (sides[:, 1] > meridian + pixel)).sum())
        assert (over > 0) == (abs(meridian) != 180)
        assert (len(whole) < sum(map(len, maps))) == (over > 0)
        sums = whole.groupby("class")["area_m2"].sum()
        for name, area in sums.items():
            assert area == pytest.approx(sum(one.loc[one["class"] == name, "area_m2"].sum() for one in maps), rel=1e-3)


@pytest.mark.parametrize(("zones", "row"), [((20, 21), 8_930_000), pytest.param((60, 1), 8_130_000, marks=pytest.mark.slow)])
def test_scenes_of_two_zones_map_all_ground_once(
    zones: tuple[int, int], row: int, write: Write, image: np.ndarray, model: Model, tmp_path: Path
) -> None:
    """Two scenes a zone reach over the meridian between them, also the 180th: each place is of one map, and all are mapped."""
    meridian = zones[0] * 6 - 180
    scenes, places = [], {}
    for zone, shift in ((zones[0], -250), (zones[0], -120), (zones[1], -130), (zones[1], -60)):
        crs = f"EPSG:327{zone:02d}"
        (x,), _ = transform("EPSG:4326", crs, [meridian], [transform(crs, "EPSG:4326", [5e5], [row])[1][0]])
        place = rasterio.Affine(10, 0, round(x / 10) * 10 + shift * 10, 0, -10, row + shift)
        scenes.append(write(f"s{zone}-{-shift}", (0, 300), (0, 300), crs=crs, transform=place, dtype="uint8"))
        places[scenes[-1].stem] = crs, place
    names = [f"mosaic-EPSG327{zone:02d}" for zone in sorted(zones)]
    maps = geoseg.segment(
        scenes, model=model.path, out=tmp_path / "out", mosaic=True, tile=96, halo="exact", chunk=256, order="distance-to-edge"
    )
    assert [one.name for one in maps] == names
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == {*names, "mosaic-joined"}
    check_joined([tmp_path / "out" / name for name in names], tmp_path / "out" / "mosaic-joined", meridian)
    page = (tmp_path / "out" / "index.html").read_text()
    assert "mosaic-EPSG" in page
    assert 'href="./mosaic-joined/polygons.geojson"' in page
    assert call_cli(["verify", tmp_path / "out"]).returncode == 0
    # Places all over both: of how many maps and of how many scenes is each?
    grid_lon, grid_lat = np.meshgrid(np.linspace(-0.03, 0.03, 181), np.linspace(-0.04, 0.012, 150))
    (lat,) = transform(f"EPSG:327{zones[0]:02d}", "EPSG:4326", [5e5], [row])[1]
    lons, lats = (meridian + grid_lon.ravel() + 180) % 360 - 180, lat + grid_lat.ravel()

    def values(crs: str, place: rasterio.Affine, data: np.ndarray) -> np.ndarray:
        x, y = transform("EPSG:4326", crs, lons, lats)
        cols, rows = (np.floor(v).astype(int) for v in ~place @ (np.array(x), np.array(y)))
        inside = (rows >= 0) & (cols >= 0) & (rows < data.shape[0]) & (cols < data.shape[1])
        out = np.full(len(lons), 255, np.int64)
        out[inside] = data[rows[inside], cols[inside]]
        return out

    whole = np.zeros((300, 300), np.uint8)
    whole[:3], whole[-3:], whole[:, :3], whole[:, -3:] = 255, 255, 255, 255
    seen = np.any([values(crs, place, whole) == 0 for crs, place in places.values()], axis=0)
    mapped = []
    for zone, folder in zip(sorted(zones), names, strict=True):
        with rasterio.open(tmp_path / "out" / folder / "classes.tif") as dataset:
            assert dataset.crs == rasterio.CRS.from_epsg(32700 + zone)
            mapped.append(values(f"EPSG:327{zone:02d}", dataset.transform, dataset.read(1)) != 255)
        assert json.loads((tmp_path / "out" / folder / "run.json").read_text())["scene"] == folder
    # Within a pixel of the meridian a pixel of each may hold a place, or of none.
    clear = np.abs(grid_lon.ravel()) > 1.5e-4
    assert not (mapped[0] & mapped[1])[clear].any()
    assert (mapped[0] | mapped[1])[seen & clear].all()
    east = mapped[sorted(zones).index(zones[1])]
    assert (east == (grid_lon.ravel() > 0))[seen & clear].all()
    assert east.sum() > 1000
    assert (seen & ~east).sum() > 1000


def test_maps_of_other_zones_are_refused_or_replaced(write: Write, model: Model, tmp_path: Path) -> None:
    """Neither a map of all beside those of zones is left, nor joined polygons of maps that have gone."""
    out, zones = tmp_path / "out", {}
    for zone, shift in ((20, -250), (21, -60)):
        (x,), _ = transform(
            "EPSG:4326", f"EPSG:327{zone}", [-60], [transform("EPSG:32720", "EPSG:4326", [5e5], [8_930_000])[1][0]]
        )
        place = rasterio.Affine(10, 0, round(x / 10) * 10 + shift * 10, 0, -10, 8_930_000)
        zones[zone] = write(f"s{zone}", (0, 300), (0, 300), crs=f"EPSG:327{zone}", transform=place)

    def segment(*scenes: Path, **settings: object) -> list[str]:
        given = {"tile": 96, "halo": "exact", "chunk": 256, "formats": ["geojson"]}
        geoseg.segment(list(scenes), model=model.path, out=out, mosaic=True, **{**given, **settings})
        entries = [entry["scene"] for entry in json.loads((out / "index.json").read_text())["scenes"]]
        folders = sorted(path.name for path in out.iterdir() if path.is_dir())
        assert entries == [name for name in folders if (out / name / "run.json").exists()]
        assert ("mosaic-joined/" in (out / "index.html").read_text() if (out / "index.html").exists() else False) == (
            "mosaic-joined" in folders
        )
        return folders

    both = ["mosaic-EPSG32720", "mosaic-EPSG32721", "mosaic-joined"]
    assert segment(*zones.values()) == both
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != "index.json"}
    for settings in ({}, {"target_crs": "EPSG:32720"}):
        with pytest.raises(SceneError, match=r"holds mosaic-EPSG3272.*these scenes are mapped as one.*overwrite"):
            segment(*([zones[20]] if not settings else zones.values()), **settings)
        assert all(path.read_bytes() == data for path, data in before.items())
    # Nobody has listed a file of somebody: it stays.
    (out / "mosaic-EPSG32721" / "mine.txt").write_text("mine")
    assert segment(zones[20], overwrite=True) == ["mosaic", "mosaic-EPSG32721"]
    assert [path.name for path in (out / "mosaic-EPSG32721").iterdir()] == ["mine.txt"]
    (out / "mosaic-EPSG32721" / "mine.txt").unlink()
    (out / "mosaic-EPSG32721").rmdir()
    with pytest.raises(SceneError, match="holds a mosaic of one CRS, and these scenes are of 2 UTM zones"):
        segment(*zones.values())
    assert segment(*zones.values(), overwrite=True) == both
    again = {path: path.read_bytes() for path in before if path.suffix in (".tif", ".geojson")}
    assert again == {path: before[path] for path in again}
    # Without polygons to read there is nothing to join.
    assert segment(*zones.values(), overwrite=True, formats=[]) == both[:2]


def test_the_door_of_the_library_and_what_is_checked_later(pieces: list[Path], model: Model, tmp_path: Path) -> None:
    maps = geoseg.segment(pieces, model=model.path, out=tmp_path / "out", mosaic=True, tile=256, chunk=256, combine="best")
    assert [one.name for one in maps] == ["mosaic"]
    assert (maps[0].folder / "source.tif").is_file()
    assert json.loads((tmp_path / "out" / "index.json").read_text())["scenes"][0]["status"] == "done"
    assert call_cli(["verify", tmp_path / "out"]).returncode == 0
    shown = call_cli(["segment", *pieces, "-m", model.path, "-o", tmp_path / "new", "--mosaic", "--dry-run", "--tile", "256"])
    assert shown.returncode == 0
    assert "4 scenes as one" in shown.stdout
    assert not (tmp_path / "new").exists()


def test_the_index_of_a_mosaic_makes_it_again(pieces: list[Path], write: Write, model: Model, tmp_path: Path) -> None:
    """Its scenes as a table, which is read instead of them: those elsewhere are not even opened."""
    far = write("zz-far", (0, 40), (380, 400))
    whole = made([far, *pieces], model, tmp_path / "whole")
    frame = geopandas.read_parquet(whole / "scenes.parquet")
    assert sorted(frame["id"]) == sorted(path.stem for path in (far, *pieces))
    for one in frame.to_crs(UTM).itertuples():
        with rasterio.open(tmp_path / "in" / f"{one.id}.tif") as dataset:
            assert one.geometry.symmetric_difference(shapely.box(*dataset.bounds)).area < 1e-3 * one.geometry.area
    area = {"aoi": area_text()}
    cut = made(pieces, model, tmp_path / "cut", area=area)
    far.unlink()
    config = Config.parse(SETTINGS | {"area": area})
    scenes, refused = scenes_to_map([str(whole / "scenes.parquet")], config, model.card.bands)
    assert not refused
    assert [ref.paths for ref in scenes] == [(str(path),) for path in sorted(pieces)]
    # Also where its folder is a link to one elsewhere.
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (whole.rename(tmp_path / "elsewhere" / "deep" / "mosaic"), whole.symlink_to(tmp_path / "elsewhere" / "deep" / "mosaic"))
    assert scenes_to_map([str(whole / "scenes.parquet")], config, model.card.bands) == (scenes, [])
    (report,) = map_mosaic(scenes, refused, model, config, tmp_path / "again", LocalWorkers)
    assert report.status == "done"
    again = tmp_path / "again" / "mosaic"
    np.testing.assert_array_equal(pixels(again), pixels(cut))
    np.testing.assert_array_equal(pixels(again, "source"), pixels(cut, "source"))
    assert call_cli(["verify", tmp_path / "again"]).returncode == 0


def recomputed(out: Path, *more: str | Path, code: int = 0) -> dict[str, Any]:
    """What is told of all chunks computed anew."""
    done = call_cli(["verify", out, "--json", "--recompute", "1000", *more])
    assert done.returncode == code, done.stdout + done.stderr
    return dict(json.loads(done.stdout)["recomputed"])


def reseal(folder: Path) -> None:
    """What somebody does who changes files and wants nobody to notice."""
    document = json.loads((folder / "run.json").read_text())
    document["files"] = {name: FileFacts.of(folder / name).to_json() for name in document["files"]}
    (folder / "run.json").write_text(json.dumps(sealed(document)))


def test_chunks_of_a_mosaic_are_computed_anew(pieces: list[Path], write: Write, model: Model, tmp_path: Path) -> None:
    """From the scenes wherever they are, also one of other pixels; a pixel of a raster and a hash that differ are found."""
    odd = write("odd", (0, 90), (100, 250), transform=TRANSFORM @ rasterio.Affine.translation(100.4, 0.3))
    mosaic, kept = EDGE | {"combine": "mean"}, {"keep": True}
    made(pieces[:2], model, tmp_path / "out", mosaic=mosaic, run=kept)
    told = {"mosaic": mosaic, "run": kept, "infer": {"probabilities": True}, "area": {"aoi": area_text()}}
    out = made([*pieces, odd], model, tmp_path / "probabilities", **told)
    every = [*json.loads((out / "chunks.json").read_text())["chunks"]]
    found = recomputed(out)
    assert found["compared"] == found["population"] == len(every) > 4
    assert found["sentence"].endswith("all equal (seed " + str(found["seed"]) + "): these are all")
    machines = json.loads((out / "chunks.json").read_text())["machines"]
    assert len(machines) == 1
    assert machines[0].startswith("onnxruntime ")
    # Made in two runs, of which the second has taken up what the first has kept.
    grown = made([*pieces, odd], model, tmp_path / "out", mosaic=mosaic, run=kept)
    assert recomputed(grown)["compared"] > 4
    # Elsewhere by now.
    (tmp_path / "moved").mkdir()
    os.rename(tmp_path / "in", tmp_path / "moved" / "in")
    assert "can't be computed anew" in recomputed(tmp_path / "out", code=3)["missed"][0]
    assert recomputed(tmp_path / "out", "--source", tmp_path / "moved" / "in")["compared"] > 4
    os.rename(tmp_path / "moved" / "in", tmp_path / "in")
    # Changed, and sealed again.
    with rasterio.open(grown / "source.tif", "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
        numbers = dataset.read(1)
        numbers[10, 10] = (numbers[10, 10] + 1) % 5
        dataset.write(numbers, 1)
    document = json.loads((grown / "chunks.json").read_text())
    document["chunks"][-1][6] = "0" * 64
    (grown / "chunks.json").write_text(json.dumps(document))
    reseal(grown)
    assert call_cli(["verify", grown]).returncode == 0
    first, last = recomputed(grown, code=1)["differing"]
    assert "source.tif holds others there" in first
    assert "its pixels are others" in last
    # Another machine has made one of the scenes: not damage.
    document["machines"] = [machines[0] + " and another"]
    (grown / "chunks.json").write_text(json.dumps(document))
    reseal(grown)
    again = recomputed(grown, code=3)
    assert (len(again["rounding"]), again["differing"]) == (2, [])
    # Another image by now.
    with rasterio.open(pieces[3], "r+") as dataset:
        dataset.write(dataset.read()[:, ::-1])
    assert "piece-11.tif: has changed since it was mapped" in recomputed(grown, code=3)["missed"][0]


def area_text() -> str:
    """A crescent over where the four pieces meet, and an island in the last one."""
    x, y = TRANSFORM @ (205, 145)
    ring = shapely.Point(x, y).buffer(900).difference(shapely.Point(x + 300, y).buffer(400))
    return f"SRID=32720;{shapely.union(ring, shapely.box(x + 1305, y - 1303, x + 1555, y - 1100)).wkt}"


def burned(shape: tuple[int, int]) -> np.ndarray:
    """The oracle: GDAL's burning of the area."""
    geometry = shapely.from_wkt(area_text().partition(";")[2])
    return np.asarray(rasterio.features.rasterize([geometry], shape, transform=TRANSFORM)).astype(np.bool_)


@pytest.mark.parametrize("mosaic", [EDGE, {"combine": "majority", "order": "name"}, MEAN])
def test_in_an_area_are_the_pixels_of_a_mosaic_without_it(
    mosaic: dict[str, object], pieces: list[Path], write: Write, model: Model, tmp_path: Path
) -> None:
    all_of_it, part = Counting(), Counting()
    whole = made(pieces, model, tmp_path / "whole", all_of_it, mosaic=mosaic)
    far = write("zz-far", (0, 40), (380, 400))
    cut = made([far, *pieces], model, tmp_path / "cut", part, mosaic=mosaic, area={"aoi": area_text()})
    inside = burned(SHAPE)
    for name in ("classes", "confidence", "source"):
        nothing = 65535 if name == "source" else 255
        np.testing.assert_array_equal(pixels(cut, name), np.where(inside, pixels(whole, name), nothing))
    record = json.loads((cut / "run.json").read_text())
    assert record["area_of_interest"]["pixels"] == inside.sum()
    assert sum(entry["pixels"] for entry in record["classes"]) == inside.sum()
    assert [scene["name"] for scene in record["scenes"]] == [path.stem for path in pieces]
    assert any("left out: zz-far" in note for note in record["warnings"])
    coverage = json.loads((cut / "coverage.geojson").read_text())["features"]
    assert {f["properties"]["class"] for f in coverage} == {"analysed", "outside the area of interest"}
    # Less is read, and chunks without a pixel of the area are none of the work.
    assert 0 < part.decoded < all_of_it.decoded
    one_chunk = made(pieces, model, tmp_path / "one", mosaic=mosaic, area={"aoi": area_text()}, grid={"chunk": 4096})
    assert contents(one_chunk) == contents(cut)


def test_a_mosaic_of_an_area_grows_to_the_one_of_all_at_once(pieces: list[Path], model: Model, tmp_path: Path) -> None:
    """Also where the map then begins elsewhere; another area is another map."""
    keep, area = {"keep": True}, {"aoi": area_text()}
    at_once = contents(made(pieces, model, tmp_path / "at-once", area=area))
    counting = Counting()
    made([pieces[3], pieces[1]], model, tmp_path / "grown", counting, run=keep, area=area)
    grown = made(pieces, model, tmp_path / "grown", counting, run=keep, area=area)
    assert contents(grown) == at_once
    once = Counting()
    made(pieces, model, tmp_path / "counted", once, area=area)
    assert counting.computed == once.computed
    args = ["segment", *pieces, "-m", model.path, "--mosaic", "--tile", "96", "--halo", "exact", "--quiet"]
    (left, top), (right, bottom) = TRANSFORM @ (20, 20), TRANSFORM @ (90, 90)
    other = call_cli([*args, "-o", tmp_path / "grown", "--aoi", f"{UTM}:{left},{bottom},{right},{top}"])
    assert other.returncode == 1
    assert "holds results of another run (other scene, grid, area" in other.stderr
    nowhere = call_cli([*args, "-o", tmp_path / "nowhere", "--aoi", "10,10,11,11"])
    assert nowhere.returncode == 1
    assert "does not touch" in nowhere.stderr


def test_what_clouds_hide_in_one_scene_is_of_another(write: Write, image: np.ndarray, model: Model, tmp_path: Path) -> None:
    """Where all are hidden the map is not analysed, and coverage says why; a scene of other pixels has its clouds, too."""
    new, old = write("new-20240601", (0, 300), (0, 300)), write("old-20200601", (0, 300), (100, 400))
    odd = write("odd-20190601", (0, 300), (0, 400), transform=TRANSFORM @ rasterio.Affine.translation(0.5, 0.5))
    hidden = {new: (slice(50, 200), slice(80, 260)), old: (slice(100, 250), slice(0, 120)), odd: (slice(120, 170), slice(0, 230))}
    for path, where in hidden.items():
        with rasterio.open(path) as dataset:
            profile = {**dataset.profile, "count": 1}
        mask = np.zeros((profile["height"], profile["width"]), np.uint8)
        mask[where] = 1
        (tmp_path / "masks").mkdir(exist_ok=True)
        with rasterio.open(tmp_path / "masks" / path.name, "w", **profile) as dataset:
            dataset.write(mask, 1)
    clouds = {"clouds": str(tmp_path / "masks" / "{name}.tif")}
    clear = [made([path], model, tmp_path / path.stem) for path in (new, old)]
    out = made([new, old], model, tmp_path / "both", scene=clouds)
    newest, oldest = (np.full(SHAPE, 255, np.uint8) for _ in range(2))
    newest[:, :300], oldest[:, 100:] = pixels(clear[0]), pixels(clear[1])
    newest[50:200, 80:260], oldest[100:250, 100:220] = 254, 254
    expected = np.where(newest <= 253, newest, np.where(oldest <= 253, oldest, np.minimum(newest, oldest)))
    np.testing.assert_array_equal(pixels(out), expected)
    record = json.loads((out / "run.json").read_text())
    assert record["clouds"]["pixels"] == (expected == 254).sum() > 0
    assert record["status"] == "done"
    coverage = json.loads((out / "coverage.geojson").read_text())["features"]
    assert {f["properties"]["class"] for f in coverage} == {"analysed", "cloud"}
    three = pixels(made([new, old, odd], model, tmp_path / "three", scene=clouds))[:300, :400]
    assert (three[125:165, 105:215] == 254).all()
    filled = (expected == 254) & (three <= 253)
    assert filled[175:195, 105:215].all()


def test_polygons_know_the_scenes_and_dates_of_their_pixels(
    write: Write, image: np.ndarray, model: Model, tmp_path: Path
) -> None:
    """The oracle: what GDAL burns of each polygon, in the raster of scenes."""
    cuts = {"a-20200601": (0, 180), "b-20220601": (150, 290), "c": (260, 400)}
    smooth = ndimage.gaussian_filter(image.astype(np.float64), (0, 9, 9))
    smooth = np.clip(128 + 60 * (smooth - smooth.mean()) / smooth.std(), 0, 255).astype(np.uint8)
    scenes = [write(name, (0, 300), cols, data=smooth) for name, cols in cuts.items()]
    formats = ["geojson", "gpkg", "fgb", "parquet"]
    out = made(scenes, model, tmp_path / "out", mosaic=EDGE, vector={"formats": formats})
    source, names, dates = pixels(out, "source"), list(cuts), ["2020-06-01", "2022-06-01", None]
    found = {
        name: geopandas.read_parquet(out / f"polygons.{name}")
        if name == "parquet"
        else geopandas.read_file(out / f"polygons.{name}")
        for name in formats
    }
    found = {name: table.fillna({"dates": ""}) for name, table in found.items()}
    seen = set()
    for row in found["gpkg"].itertuples():
        inside = rasterio.features.rasterize([row.geometry], SHAPE, transform=TRANSFORM).astype(np.bool_)
        numbers = np.unique(source[inside]).tolist()
        assert row.scenes == ", ".join(names[number] for number in numbers)
        known = sorted(dates[number] or "" for number in numbers if dates[number])
        assert row.dates == "/".join(dict.fromkeys([known[0], known[-1]]) if known else ())
        seen.add(row.scenes)
    assert len(seen) >= 5
    for name in formats:
        columns = found[name].sort_values("id")[["id", "scenes", "dates"]].to_dict("list")
        assert columns == found["gpkg"].sort_values("id")[["id", "scenes", "dates"]].to_dict("list")


def test_what_reads_results_takes_those_of_a_mosaic(pieces: list[Path], write: Write, model: Model, tmp_path: Path) -> None:
    """A delivery, an evaluation against the map of the whole, and a sample with its areas."""
    out = made(pieces, model, tmp_path / "maps", mosaic={"order": "name"})
    whole = made([write("whole", (0, 300), (0, 400))], model, tmp_path / "whole") / "classes.tif"
    delivery, sample = tmp_path / "delivery", tmp_path / "sample.gpkg"
    for command in (
        ["deliver", out, "-o", delivery, "--event", "Test"],
        ["evaluate", "-p", out / "classes.tif", "-t", whole, "-o", tmp_path / "evaluation"],
        ["sample", out / "classes.tif", "-o", sample, "--size", "200"],
        ["area", "--map", out / "classes.tif", "--sample", sample, "--reference", whole],
    ):
        said = call_cli(command)
        assert said.returncode == 0, said.stderr
    assert set(geopandas.list_layers(delivery / "delivery.gpkg")["name"]) >= {"source", "observedEvent", "imageFootprint"}
    assert f"a mosaic of {len(pieces)} scenes" in (delivery / "README.txt").read_text()
