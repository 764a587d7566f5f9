"""`--aoi`: inside of the area the bytes are those of a run without it, outside there is no data, and nothing of it is read."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio.raw
import pytest
import rasterio
import rasterio.features
import rasterio.warp
import shapely

import geoseg
from geoseg.codes import NODATA, OUTSIDE_AREA
from geoseg.errors import ConfigError, OutputError, SceneError
from geoseg.models.model_folder import Model
from geoseg.procedural import Frontier
from geoseg.scenes.names import folder_name
from geoseg.scenes.sources import list_scenes
from geoseg.windows import Window
from pipeline.config.sections import Config
from pipeline.infer.chunk import ChunkWorker
from pipeline.infer.storage import open_storage
from pipeline.infer.workers import LocalWorkers
from pipeline.plan.make import make_plan
from pipeline.segment.run import segment_scene
from pipeline.watch.scan import scan_once
from tests.support import TRANSFORM, UTM, WriteRaster, call_cli, contents, patchy

GRID = {"tile": 128, "halo": 16, "chunk": 256}
LAYERS = ("classes", "confidence")


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return np.asarray(dataset.read())


def blob(*, degrees: bool = True) -> Any:
    """A crescent with a hole over the scenes of these tests, and an island."""
    x, y = TRANSFORM @ (350, 280)
    ring = shapely.Point(x, y).buffer(1700).difference(shapely.Point(x + 500, y).buffer(700))
    shape = shapely.union(ring, shapely.box(x + 2700, y + 2200, x + 3003, y + 2500))
    if not degrees:
        return shape
    dense = shapely.segmentize(shape, 50)
    return shapely.geometry.shape(rasterio.warp.transform_geom(UTM, "OGC:CRS84", shapely.geometry.mapping(dense)))


def write_area(path: Path, shapes: list[Any], crs: str = "OGC:CRS84", **columns: list[Any]) -> Path:
    names = list(columns)
    values = [np.array(columns[name], object) for name in names]
    pyogrio.raw.write(
        path, shapely.to_wkb(np.array(shapes, object)), values, names, crs=crs, driver="GPKG", geometry_type="Unknown"
    )
    return path


def inside(shape: Any, raster: Path) -> np.ndarray:
    """The oracle: GDAL's burning of the area in the CRS of the raster."""
    with rasterio.open(raster) as dataset:
        found = rasterio.features.rasterize([(shape, 1)], out_shape=dataset.shape, transform=dataset.transform, dtype="uint8")
    return found.astype(np.bool_)


def segmented(model: Model, scene: Path, out: Path, **sections: Any) -> Path:
    config = Config.parse({"grid": GRID, **sections})
    (ref,), _ = list_scenes([str(scene)])
    assert segment_scene(ref, model, config, out).status == "done"
    return out / ref.name


@pytest.fixture(scope="module")
def frontier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scene") / "frontier.tif"
    Frontier(560, 700).write(path)
    with rasterio.open(path, "r+") as dataset:
        dataset.transform, dataset.crs = TRANSFORM, UTM
    return path


def cut(whole: Path, part: Path, mask: np.ndarray) -> None:
    """All layers are those of the run without the area, then cut by the oracle."""
    for name in LAYERS:
        wanted = np.where(mask, read(whole / f"{name}.tif"), NODATA)
        assert np.array_equal(read(part / f"{name}.tif"), wanted), name


def test_inside_are_the_bytes_of_a_run_without_it(forest: Model, frontier: Path, tmp_path: Path) -> None:
    area = write_area(tmp_path / "area.gpkg", [blob()])
    whole = segmented(forest, frontier, tmp_path / "whole")
    part = segmented(forest, frontier, tmp_path / "part", area={"aoi": str(area)})
    mask = inside(blob(degrees=False), frontier)
    cut(whole, part, mask)
    run, plain = (json.loads((folder / "run.json").read_text()) for folder in (part, whole))
    assert run["area_of_interest"]["pixels"] == mask.sum()
    assert run["area_of_interest"]["outside_pixels"] == (~mask).sum()
    assert sum(entry["pixels"] for entry in run["classes"]) == mask.sum()
    classes = read(part / "classes.tif")[0]
    assert {c["code"]: c["pixels"] for c in run["classes"] if c["code"] != NODATA and c["pixels"]} == {
        int(k): int(n) for k, n in zip(*np.unique(classes[classes != NODATA], return_counts=True), strict=True)
    }
    assert run["chunks"]["tiles"] < plain["chunks"]["tiles"]
    assert "area_of_interest" not in plain
    polygons = geopandas.read_file(part / "polygons.gpkg")
    assert set(np.unique(classes)) >= set(polygons["code"])
    assert polygons.to_crs(UTM).area.sum() == pytest.approx((np.isin(classes, polygons["code"].unique())).sum() * 100, rel=0.01)


def test_coverage_tells_what_lies_outside_from_missing_data(
    identity_model: Model, write_raster: WriteRaster, tmp_path: Path
) -> None:
    image = patchy(560, 700, 6)
    image[200:330, 100:500] = 9
    scene = write_raster(image, nodata=9)
    part = segmented(identity_model, scene, tmp_path, area={"aoi": blob().wkt})
    mask = inside(blob(degrees=False), scene)
    coverage = geopandas.read_file(part / "coverage.geojson").to_crs(UTM)
    codes = rasterio.features.rasterize(
        zip(coverage.geometry, coverage["code"], strict=True), out_shape=mask.shape, transform=TRANSFORM, fill=1, dtype="uint8"
    )
    wanted = np.where(mask, np.where(image == 9, NODATA, 0), OUTSIDE_AREA)
    assert (codes != wanted).sum() == 0
    assert set(coverage["class"]) == {"analysed", "no data", "outside the area of interest"}
    run = json.loads((part / "run.json").read_text())
    assert next(c["pixels"] for c in run["classes"] if c["code"] == NODATA) == (mask & (image == 9)).sum()


@pytest.mark.parametrize("chunk", [256, 512, 4096])
def test_any_chunk_gives_the_same_bytes(forest: Model, frontier: Path, tmp_path: Path, chunk: int) -> None:
    area = {"aoi": blob().wkt}
    vector = {"min_area": "0.3ha"}
    one = segmented(forest, frontier, tmp_path / "one", area=area, vector=vector)
    other = segmented(forest, frontier, tmp_path / "other", area=area, vector=vector, grid=GRID | {"chunk": chunk})
    first, second = contents(one), contents(other)
    assert {name for name in first if first[name] != second[name]} <= {"item.json"}


def test_what_lies_outside_is_not_read(identity_model: Model, write_raster: WriteRaster, tmp_path: Path) -> None:
    scene = write_raster(patchy(1024, 1024, 6))
    corner = shapely.box(*(TRANSFORM @ (700, 900)), *(TRANSFORM @ (900, 700)))
    config = Config.parse({"grid": GRID, "area": {"aoi": f"SRID=32720;{corner.wkt}"}})
    (ref,), _ = list_scenes([str(scene)])
    plan = make_plan(ref, identity_model, config)
    cores = [plan.grid.chunk_core(i) for i in plan.active]
    assert all(core & Window.at((700, 700), (200, 200)) for core in cores)
    with closing(ChunkWorker(plan, open_storage(str(tmp_path)), expect=plan.active)) as worker:
        receipts = [worker.run(i) for i in plan.active]
    # Blocks are read in units of 512 pixels, of which the area touches one.
    assert receipts[-1].decoded == 512**2
    assert sum(receipt.tiles for receipt in receipts) <= 16
    assert plan.estimate.computed_pixels <= 16 * 128**2


def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(forest: Model, frontier: Path, tmp_path: Path) -> None:
    area = {"aoi": str(write_area(tmp_path / "area.gpkg", [blob()]))}
    once = segmented(forest, frontier, tmp_path / "once", area=area)
    (ref,), _ = list_scenes([str(frontier)])

    class Stops(LocalWorkers):
        def submit(self, index: int) -> Any:
            if index >= 4:
                raise KeyboardInterrupt
            return super().submit(index)

    with pytest.raises(KeyboardInterrupt):
        segment_scene(ref, forest, Config.parse({"grid": GRID, "area": area}), tmp_path / "again", open_workers=Stops)
    # The area may have moved meanwhile: it is what it is, not where it lies.
    moved = {"aoi": str(shutil.move(area["aoi"], tmp_path / "moved.gpkg"))}
    again = segmented(forest, frontier, tmp_path / "again", area=moved)
    assert json.loads((again / "run.json").read_text())["identity"] == json.loads((once / "run.json").read_text())["identity"]
    assert contents(again) == contents(once)
    with pytest.raises(OutputError, match="holds results of another run"):
        segmented(forest, frontier, tmp_path / "again")


def test_scenes_of_a_folder_that_lie_outside_are_skipped(
    identity_model: Model, write_raster: WriteRaster, tmp_path: Path
) -> None:
    write_raster(patchy(128, 128, 6), "here.tif")
    write_raster(patchy(128, 128, 6), "there.tif", transform=TRANSFORM @ TRANSFORM.translation(500, 0))
    folder = tmp_path / "in"
    box = "EPSG:32720:430100,8929100,430900,8929900"
    base = ["segment", "-m", identity_model.path, "--aoi", box, "--tile", "128", "--halo", "16"]
    done = call_cli([*base, folder, "-o", tmp_path / "out"])
    assert done.returncode == 0, done.stderr
    index = {entry["scene"]: entry for entry in json.loads((tmp_path / "out" / "index.json").read_text())["scenes"]}
    assert index["here"]["status"] == "done"
    assert index["there"]["status"] == "skipped"
    assert f"area of interest {box} does not touch scene" in index["there"]["reason"]
    assert not (tmp_path / "out" / "there").exists()
    alone = call_cli([*base, folder / "there.tif", "-o", tmp_path / "alone", "--quiet"])
    assert alone.returncode == 1
    assert "does not touch scene" in alone.stderr
    with pytest.raises(SceneError, match="does not touch scene"):
        geoseg.segment(folder / "there.tif", model=identity_model.path, out=tmp_path / "python", aoi=box, tile=128, halo=16)
    bad = call_cli([*base[:3], "--aoi", "1,2,nan,4", folder, "-o", tmp_path / "bad"])
    assert (bad.returncode, bad.stderr.count("\n")) == (2, 1)


def test_python_maps_an_area(identity_model: Model, write_raster: WriteRaster, tmp_path: Path) -> None:
    image = patchy(200, 300, 6)
    scene = write_raster(image)
    area = write_area(tmp_path / "area.gpkg", [shapely.box(*(TRANSFORM @ (50, 150)), *(TRANSFORM @ (250, 50)))], UTM)
    (found,) = geoseg.segment(scene, model=identity_model.path, out=tmp_path / "out", aoi=area, tile=128, halo=16)
    wanted = np.full(image.shape, NODATA, np.uint8)
    wanted[50:150, 50:250] = image[50:150, 50:250]
    assert np.array_equal(found.classes().read(1), wanted)
    of_array = geoseg.segment(image, model=identity_model.path, transform=TRANSFORM, crs=UTM, aoi=area, tile=128, halo=16)
    assert np.array_equal(of_array.classes().read(1), wanted)


def test_a_watched_scene_outside_is_known_and_left_alone(
    identity_model: Model, write_raster: WriteRaster, tmp_path: Path
) -> None:
    write_raster(patchy(128, 128, 6), "here.tif")
    write_raster(patchy(128, 128, 6), "there.tif", transform=TRANSFORM @ TRANSFORM.translation(500, 0))
    area = write_area(tmp_path / "area.gpkg", [shapely.box(430_100, 8_929_100, 430_900, 8_929_900)], UTM)

    def scan() -> dict[str, str]:
        config = Config.parse({"grid": GRID, "area": {"aoi": str(area)}, "watch": {"settle": "0s"}})
        reports = scan_once([str(tmp_path / "in")], identity_model, config, tmp_path / "out", LocalWorkers)
        return {report.scene: report.status for report in reports}

    assert scan() == {"here": "done", "there": "skipped"}
    assert scan() == {}
    entries = {entry["scene"]: entry for entry in json.loads((tmp_path / "out" / "index.json").read_text())["scenes"]}
    assert "does not touch scene" in entries["there"]["reason"]
    area.unlink()
    write_area(area, [shapely.box(430_100, 8_929_100, 440_000, 8_929_900)], UTM)
    assert set(scan()) == {"here", "there"}


def test_vectorize_takes_the_area_as_segment_does(forest: Model, frontier: Path, tmp_path: Path) -> None:
    aoi = blob().wkt
    whole = segmented(forest, frontier, tmp_path / "whole", vector={"formats": []})
    part = segmented(forest, frontier, tmp_path / "part", vector={"min_area": "0.5ha"}, area={"aoi": aoi})
    out = tmp_path / "polygons.gpkg"
    geoseg.vectorize(whole / "classes.tif", out=out, confidence=str(whole / "confidence.tif"), min_area="0.5ha", aoi=aoi)
    found, wanted = (geopandas.read_file(path, layer="polygons") for path in (out, part / "polygons.gpkg"))
    codes = sorted(set(wanted["code"]))
    columns = ["id", "code", "area_m2", "confidence", "geometry"]
    assert found[found["code"].isin(codes)][columns].to_dict("list") == wanted[columns].to_dict("list")
    with pytest.raises(SceneError, match="does not touch scene"):
        geoseg.vectorize(whole / "classes.tif", out=tmp_path / "none.gpkg", aoi="1,2,3,4")


def test_vectorize_gives_each_feature_files_of_its_own(write_raster: WriteRaster, tmp_path: Path) -> None:
    """Those of the feature given alone; one without a pixel is told of, and has no folder."""
    raster = write_raster(patchy(200, 300, 6), "classes.tif")
    corners = {"north": (0, 0), "a/b": (150, 100), "away": (5000, 0)}
    boxes = [shapely.box(*(TRANSFORM @ (x + 10, y + 90)), *(TRANSFORM @ (x + 90, y + 10))) for x, y in corners.values()]
    area, out = write_area(tmp_path / "areas.gpkg", boxes, UTM, label=list(corners)), tmp_path / "out"
    out.mkdir()
    command = ["vectorize", raster, "--aoi", area, "--aoi-column", "label", "-o", out / "p.gpkg", "-o", out / "p.geojson"]
    done = call_cli(command)
    assert done.returncode == 0, done.stderr
    assert "away: skipped" in done.stderr
    assert {path.name for path in out.iterdir()} == {folder_name("north"), folder_name("a/b")}
    for name, box in zip(("north", "a/b"), boxes, strict=False):
        alone = tmp_path / f"{folder_name(name)}.gpkg"
        geoseg.vectorize(raster, out=alone, aoi=f"SRID=32720;{box.wkt}")
        found, wanted = (geopandas.read_file(path, layer="polygons") for path in (out / folder_name(name) / "p.gpkg", alone))
        assert found.equals(wanted)
        assert len(found) > 10
        assert len(geopandas.read_file(out / folder_name(name) / "p.geojson")) == len(found)
    assert call_cli(command).returncode == 2
    again = geoseg.vectorize(raster, out=out / "q.fgb", aoi=area, aoi_column="label")
    assert [path.parent.name for path in again.files] == [folder_name("north"), folder_name("a/b")]
    write_area(tmp_path / "far.gpkg", boxes[2:], UTM, label=["away"])
    far = call_cli(["vectorize", raster, "--aoi", tmp_path / "far.gpkg", "--aoi-column", "label", "-o", out / "r.gpkg"])
    assert far.returncode == 1
    assert not (out / "away").exists()


def test_each_feature_has_a_map_in_a_folder_of_its_name(identity_model: Model, write_raster: WriteRaster, tmp_path: Path) -> None:
    image = patchy(200, 300, 6)
    scene = write_raster(image)
    corners = {"north": (0, 0), "a/b": (150, 100), "away": (5000, 0)}
    boxes = [shapely.box(*(TRANSFORM @ (x + 10, y + 90)), *(TRANSFORM @ (x + 90, y + 10))) for x, y in corners.values()]
    area = write_area(tmp_path / "areas.gpkg", boxes, UTM, label=list(corners))
    command = ["segment", scene, "-m", identity_model.path, "--tile", "128", "--halo", "16", "--aoi", area]
    out = tmp_path / "out"
    done = call_cli([*command, "--aoi-column", "label", "-o", out])
    assert done.returncode == 0, done.stderr
    statuses = {entry["scene"]: entry["status"] for entry in json.loads((out / "index.json").read_text())["scenes"]}
    names = {name: folder_name(name) for name in corners}
    assert json.loads((out / "index.json").read_text())["warnings"] == []
    assert statuses == {
        f"{names['north']}/scene": "done",
        f"{names['a/b']}/scene": "done",
        f"{names['away']}/scene": "skipped",
    }
    for name, (x, y) in list(corners.items())[:2]:
        wanted = np.full(image.shape, NODATA, np.uint8)
        wanted[y + 10 : y + 90, x + 10 : x + 90] = image[y + 10 : y + 90, x + 10 : x + 90]
        assert np.array_equal(read(out / names[name] / "scene" / "classes.tif")[0], wanted)
    verified = call_cli(["verify", out, "--recompute", "2"])
    assert verified.returncode == 0, verified.stdout + verified.stderr
    found = geoseg.segment(scene, model=identity_model.path, out=out, aoi=area, aoi_column="label", tile=128, halo=16)
    assert [one.status for one in found] == ["skipped"] * 3
    for values, said in (
        (["x", "X", "y"], "one folder"),
        (["x", "x", "y"], "several features"),
        (["x", "", "y"], "has no label"),
    ):
        area.unlink()
        write_area(area, boxes, UTM, label=values)
        bad = call_cli([*command, "--aoi-column", "label", "-o", tmp_path / "bad"])
        assert (bad.returncode, bad.stderr.count("\n")) == (2, 1)
        assert said in bad.stderr
    with pytest.raises(ConfigError, match="aoi_column"):
        geoseg.segment(image, model=identity_model.path, pixel_coords=True, aoi=area, aoi_column="label")


def test_polygons_end_at_the_exact_line(forest: Model, frontier: Path, tmp_path: Path) -> None:
    shape = blob(degrees=False)
    results = {}
    for cut in ("pixels", "exact"):
        area = {"aoi": f"SRID=32720;{shape.wkt}", "aoi_cut": cut}
        vector = {"classes": ["forest", "non-forest"]}
        results[cut] = segmented(forest, frontier, tmp_path / cut, area=area, vector=vector)
    pixels, exact = (geopandas.read_file(results[cut] / "polygons.gpkg", layer="polygons") for cut in results)
    classes = read(results["exact"] / "classes.tif")[0]
    assert (results["pixels"] / "classes.tif").read_bytes() == (results["exact"] / "classes.tif").read_bytes()
    assert not exact[["id", "part"]].duplicated().any()
    assert exact.geometry.geom_type.eq("Polygon").all()
    assert exact.geometry.is_valid.all()
    # Together they are the area itself, but where it is narrower than a pixel or the scene holds no data.
    held = shapely.union_all(
        [
            shapely.box(*(TRANSFORM @ (c, r + 1)), *(TRANSFORM @ (c + 1, r)))
            for r, c in zip(*np.nonzero((classes == NODATA) & inside(shape, frontier)), strict=True)
        ]
    )
    wanted = shapely.difference(shape, held)
    found = shapely.union_all(exact.geometry.to_numpy())
    assert shapely.symmetric_difference(found, wanted).area < 1e-3 * wanted.area
    assert found.difference(shape.buffer(1e-6)).area < 1e-3
    assert exact.area.sum() == pytest.approx(found.area, rel=1e-9)
    # Geodesic areas are in proportion to those on the map.
    scale = pixels["area_m2"].sum() / pixels.area.sum()
    assert np.allclose(exact["area_m2"], exact.area * scale, rtol=1e-3, atol=0.1)
    assert np.allclose(exact["perimeter_m"], exact.length, rtol=1e-3)
    assert exact["confidence"].between(0, 100).all()
    out = tmp_path / "file.gpkg"
    whole = segmented(forest, frontier, tmp_path / "whole", vector={"formats": []})
    geoseg.vectorize(
        whole / "classes.tif", out=out, confidence=str(whole / "confidence.tif"), aoi=f"SRID=32720;{shape.wkt}", aoi_cut="exact"
    )
    columns = ["id", "part", "code", "area_m2", "perimeter_m", "confidence", "geometry"]
    assert geopandas.read_file(out, layer="polygons")[columns].to_dict("list") == exact[columns].to_dict("list")
