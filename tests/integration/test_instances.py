"""`geoseg segment` with a model that tells objects apart: each object once, whole, the same whatever the chunks and tiles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import rasterio.features
import shapely
from scipy import ndimage

import geoseg
from geoseg.models.model_folder import Model
from pipeline.evaluate.match import match_files
from tests.houses import image_of, town
from tests.support import TRANSFORM, WriteRaster, call_cli, contents


def segmented(scene: Path, model: Model, out: Path, *options: str) -> Path:
    done = call_cli(["segment", scene, "--model", model.path, "--out", out, "--formats", "geojson,gpkg", "--quiet", *options])
    assert done.returncode == 0, done.stderr
    return out / scene.stem


@pytest.mark.slow
def test_every_house_once_whatever_the_chunks_and_the_tiles(told_model: Model, write_raster: WriteRaster, tmp_path: Path) -> None:
    objects = town(3, (420, 500))
    scene = write_raster(image_of(objects))
    first: dict[str, bytes] | None = None
    for name, options in {
        "whole": ("--tile", "512", "--chunk", "4096"),
        "chunks": ("--tile", "192", "--chunk", "256"),
        "chunks2": ("--tile", "192", "--chunk", "4096"),
        "tiles": ("--tile", "256", "--halo", "40"),
    }.items():
        folder = segmented(scene, told_model, tmp_path / name, *options)
        with rasterio.open(folder / "instances.tif") as dataset:
            numbers, profile = dataset.read(1), dataset.profile
        assert profile["dtype"] == "uint32"
        assert profile["nodata"] == 0
        # One number for each house, and one house for each number.
        pairs = np.unique(np.stack([objects.ravel(), numbers.ravel()]), axis=1).T
        assert len(pairs) == len(np.unique(objects)) == len(np.unique(numbers))
        assert [0, 0] in pairs.tolist()
        with rasterio.open(folder / "classes.tif") as dataset:
            classes = dataset.read(1)
        assert np.array_equal(classes == 2, objects > 0)
        assert np.array_equal(classes[0] == 1, objects[0] == 0)
        found = contents(folder) | {"instances.tif": (folder / "instances.tif").read_bytes()}
        first = first or found
        # Different tiles are another configuration, but this network gives the same.
        assert [key for key in found if found[key] != first[key]] == []


def test_objects_are_cut_at_the_border_of_an_area(told_model: Model, write_raster: WriteRaster, tmp_path: Path) -> None:
    objects = town(3, (420, 500))
    scene = write_raster(image_of(objects))
    x, y = TRANSFORM @ (240, 215)
    area = shapely.Point(x, y).buffer(1500).difference(shapely.Point(x + 300, y + 200).buffer(350))
    mask = rasterio.features.rasterize([area], objects.shape, transform=TRANSFORM, dtype="uint8") == 1
    given = {"model": told_model.path, "tile": 192, "aoi": f"SRID=32720;{area.wkt}"}
    results = [geoseg.segment(scene, out=tmp_path / str(chunk), chunk=chunk, **given)[0] for chunk in (256, 4096)]
    assert len({(result.folder / "instances.tif").read_bytes() for result in results}) == 1
    numbers, classes = (results[0].raster(name).read(1) for name in ("instances", "classes"))
    assert np.array_equal(classes == 255, ~mask)
    assert np.array_equal(classes == 2, (objects > 0) & mask)
    assert not numbers[~mask].any()
    # Each number is one part of a house, and each part has one.
    wanted = 0
    for house in np.unique(objects[mask])[1:].tolist():
        labels, count = ndimage.label((objects == house) & mask)
        wanted += count
        for part in range(1, count + 1):
            (number,) = np.unique(numbers[labels == part])
            assert np.array_equal(numbers == number, labels == part)
    assert wanted == numbers.max() > len(np.unique(objects[mask])) - 1
    frame = results[0].polygons()
    assert np.array_equal(
        rasterio.features.rasterize(
            zip(frame.geometry, frame["instance"], strict=True), objects.shape, transform=TRANSFORM, dtype="uint32"
        ),
        numbers,
    )


def test_polygons_of_objects_are_the_objects(told_model: Model, write_raster: WriteRaster, tmp_path: Path) -> None:
    objects = town(5, (300, 340))
    folder = segmented(write_raster(image_of(objects)), told_model, tmp_path / "out", "--tile", "192")
    frame = geopandas.read_file(folder / "polygons.gpkg")
    numbers, pixels = np.unique(objects[objects > 0], return_counts=True)
    assert len(frame) == len(numbers)
    assert set(frame["class"]) == {"building"}
    assert sorted(frame["area_m2"].round(-1)) == pytest.approx(sorted(100.0 * pixels), rel=2e-3)
    assert frame["score"].between(0.9, 1).all()
    assert (frame["confidence_p10"] <= frame["confidence_p90"]).all()
    with rasterio.open(folder / "instances.tif") as dataset:
        raster, transform = dataset.read(1), dataset.transform
    burnt = rasterio.features.rasterize(
        zip(frame.geometry, frame["instance"], strict=True), out_shape=raster.shape, transform=transform, dtype="int32"
    )
    assert np.array_equal(burnt, raster)
    assert frame.geometry.is_valid.all()
    report: dict[str, Any] = json.loads((folder / "run.json").read_text())
    by_name = {entry["name"]: entry["pixels"] for entry in report["classes"]}
    assert by_name["building"] == int((objects > 0).sum())
    assert sum(by_name.values()) == objects.size


def test_a_house_beside_no_data_and_what_can_not_be_asked_for(
    told_model: Model, forest: Model, write_raster: WriteRaster, tmp_path: Path
) -> None:
    objects = town(7, (200, 220))
    image = image_of(objects)
    image[:, 80:120, 60:90] = 255
    scene = write_raster(image, nodata=255)
    folder = segmented(scene, told_model, tmp_path / "out", "--tile", "192")
    with rasterio.open(folder / "classes.tif") as dataset:
        classes = dataset.read(1)
    with rasterio.open(folder / "instances.tif") as dataset:
        numbers = dataset.read(1)
    assert (classes[80:120, 60:90] == 255).all()
    assert not numbers[80:120, 60:90].any()
    assert np.array_equal((numbers > 0), (classes == 2))
    for model, options, words in (
        (forest, ("--task", "instances"), "tells no objects apart"),
        (told_model, ("--tta", "d4"), "infer.tta"),
        (told_model, ("--simplify", "1"), "vector.simplify"),
    ):
        done = call_cli(["segment", scene, "--model", model.path, "--out", tmp_path / "no", "--quiet", *options])
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
    semantic = segmented(scene, told_model, tmp_path / "semantic", "--task", "semantic")
    assert not (semantic / "instances.tif").exists()


def test_a_panoptic_map_holds_objects_and_regions_whatever_the_chunks_and_the_tiles(
    told_model: Model, write_raster: WriteRaster, tmp_path: Path
) -> None:
    objects = town(3, (420, 500))
    image = image_of(objects)
    # Patches of road, some across the seams of tiles and blocks.
    patches = np.zeros(objects.shape, np.bool_)
    for row, col, height, width in np.random.default_rng(1).integers((30, 0, 1, 1), (410, 490, 12, 12), (150, 4)):
        patches[row : row + height, col : col + width] = True
    image[0][patches & (objects == 0)] = 100
    image[:, 200:240, 200:260] = 255
    scene = write_raster(image, nodata=255)
    least = 30
    first: dict[str, bytes] | None = None
    folders = {
        name: segmented(scene, told_model, tmp_path / name, "--task", "panoptic", "--min-area", f"{100 * least + 50}m2", *options)
        for name, options in {
            "whole": ("--tile", "512", "--chunk", "4096", "--classes", "other,road,building"),
            "chunks": ("--tile", "192", "--chunk", "256", "--classes", "other,road,building"),
            "tiles": ("--tile", "256", "--halo", "40", "--classes", "other,road,building"),
        }.items()
    }
    for folder in folders.values():
        found = contents(folder) | {"panoptic.tif": (folder / "panoptic.tif").read_bytes()}
        first = first or found
        assert [key for key in found if found[key] != first[key]] == []
    folder = folders["chunks"]
    with rasterio.open(folder / "panoptic.tif") as dataset:
        (classes, numbers), profile = dataset.read(), dataset.profile
        assert dataset.descriptions == ("class", "instance")
    with rasterio.open(folder / "classes.tif") as dataset:
        codes = dataset.read(1)
    assert (profile["dtype"], profile["nodata"]) == ("uint32", 2**32 - 1)
    empty = (image == 255).all(axis=0)
    assert np.array_equal(classes == 2**32 - 1, empty)
    assert np.array_equal(numbers == 2**32 - 1, empty)
    assert np.array_equal(np.where(empty, 255, classes), codes)
    assert not (folder / "instances.tif").exists()
    # Regions between objects that are too small are void, and nothing else is.
    truth = np.where(empty, 255, image[0] // 100)
    expected = truth.copy()
    for code in (0, 1):
        regions, count = ndimage.label(truth == code)
        sizes = ndimage.sum_labels(np.ones_like(regions), regions, np.arange(1, count + 1))
        expected[np.isin(regions, 1 + np.flatnonzero(sizes <= least))] = 253
    assert np.array_equal(codes, expected)
    assert (codes == 253).any()
    # Polygons are the segments: each pixel has its class and its number from the one polygon that covers it.
    frame = geopandas.read_file(folder / "polygons.gpkg", layer="polygons")
    assert frame.loc[frame["code"] < 2, "score"].isna().all()
    for column, raster in (("code", codes), ("instance", np.where(empty, 0, numbers))):
        burnt = rasterio.features.rasterize(
            zip(frame.geometry, frame[column], strict=True),
            out_shape=codes.shape,
            transform=profile["transform"],
            fill=0 if column == "instance" else 255,
            dtype="int32",
        )
        assert np.array_equal(burnt, np.where(raster == 253, 255, raster))
    report = json.loads((folder / "run.json").read_text())
    by_name = {entry["name"]: entry["pixels"] for entry in report["classes"]}
    assert by_name["void"] == int((codes == 253).sum())
    assert sum(by_name.values()) == objects.size
    # Objects alone come from the same chunks; regions are not to be had there.
    done = call_cli(["segment", scene, "--model", told_model.path, "--out", tmp_path / "no", "--quiet", "--classes", "road"])
    assert done.returncode != 0
    assert "'road' has no objects; use --task panoptic" in done.stderr


def test_the_shipped_model_finds_the_buildings_that_it_has_not_seen(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / "kampala_buildings"
    done = call_cli(
        [
            "segment",
            folder / "scene.tif",
            "--resample",
            "--model",
            "buildings",
            "--out",
            tmp_path,
            "--formats",
            "gpkg",
            "--quiet",
        ]
    )
    assert done.returncode == 0, done.stderr
    # The blocks that its training held out: rows and columns of the scene at 0.3 m.
    with rasterio.open(tmp_path / "scene" / "classes.tif") as dataset:
        blocks = [(0, 512, 256, 764), (256, 0, 506, 256)]
        corners = [[(left, top), (right, top), (right, bottom), (left, bottom)] for top, left, bottom, right in blocks]
        shapes = [shapely.Polygon([dataset.xy(*corner[::-1], offset="ul") for corner in block]) for block in corners]
        geopandas.GeoSeries(shapes, crs=dataset.crs).to_file(tmp_path / "held.gpkg")
    found = match_files(str(tmp_path / "scene"), str(folder / "buildings.geojson"), within=str(tmp_path / "held.gpkg")).document
    assert found["figures"]["truth"] > 45
    assert found["figures"]["f1"] > 0.6
    assert found["figures"]["merged"] + found["figures"]["split"] < 10


@pytest.mark.slow
def test_right_angles_do_not_depend_on_chunks_and_overlap_nowhere(
    told_model: Model, write_raster: WriteRaster, tmp_path: Path
) -> None:
    objects = town(5, (420, 500))
    scene = write_raster(image_of(objects))
    traced = segmented(scene, told_model, tmp_path / "traced")
    found = [
        segmented(scene, told_model, tmp_path / chunk, "--right-angles", "--tile", "192", "--chunk", chunk)
        for chunk in ("256", "4096")
    ]
    first, second = ((folder / "polygons.geojson").read_bytes() for folder in found)
    assert first == second
    before, after = (geopandas.read_file(f / "polygons.gpkg", layer="polygons") for f in (traced, found[0]))
    assert before["instance"].tolist() == after["instance"].tolist()
    assert before["score"].tolist() == after["score"].tolist()
    assert after.geometry.is_valid.all()
    one, other = after.sindex.query(after.geometry, predicate="intersects")
    common = after.geometry.to_numpy()[one[one != other]]
    area = [a.intersection(b).area for a, b in zip(common, after.geometry.to_numpy()[other[one != other]], strict=True)]
    assert max(area, default=0) < 1e-3
    # Houses of this town lie along the pixels: what is right already stays.
    overlap = before.geometry.intersection(after.geometry).area / before.geometry.union(after.geometry).area
    assert overlap.median() > 0.99
