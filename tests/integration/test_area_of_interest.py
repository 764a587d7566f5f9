"""`--aoi`: inside of the area the bytes are those of a run without it, outside there is no data, and nothing of it is read."""

from __future__ import annotations

import json
import shutil
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
from geoseg.errors import OutputError, SceneError
from geoseg.models.model_folder import Model
from geoseg.procedural import Frontier
from geoseg.scenes.sources import list_scenes
from pipeline.config.sections import Config
from pipeline.infer.chunk import ChunkWorker
from pipeline.infer.workers import LocalWorkers
from pipeline.segment.folder import segment_folder
from pipeline.segment.run import segment_scene
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
