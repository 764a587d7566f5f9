"""geoseg chips: every labelled pixel of real scenes once, where it lies on the ground; whole folders or none."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import rasterio.features
from rasterio.merge import merge
from support import TRANSFORM, WriteRaster, call_cli, patchy

from geoseg.errors import ConfigError, OutputError
from geoseg.scenes.scene import OpenOptions
from pipeline.chips.run import write_chips
from pipeline.chips.settings import ChipOptions, LabelOptions


def index_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "index.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_buildings_by_the_command_line(shared: Path, tmp_path: Path) -> None:
    """Chips of a grid, mosaicked again, are the scene and its burnt labels; the index says where they lie."""
    data = shared / "data" / "kampala_buildings"
    out = tmp_path / "chips"
    done = call_cli(
        [
            "chips",
            "--images",
            data / "scene.tif",
            "--labels",
            data / "buildings.geojson",
            "--outside",
            "0",
            "--size",
            "500",
            "-o",
            out,
        ]
    )
    assert done.returncode == 0, done.stderr
    rows = index_of(out)
    assert f"{len(rows)} chips" in done.stderr
    assert len(rows) == -(-3072 // 500) * -(-2048 // 500)
    for kind in ("image", "label"):
        mosaic, transform = merge([str(out / row[kind]) for row in rows])
        with rasterio.open(data / "scene.tif") as dataset:
            np.testing.assert_allclose(tuple(transform)[:6], tuple(dataset.transform)[:6], rtol=0, atol=1e-6)
            if kind == "image":
                np.testing.assert_array_equal(mosaic, dataset.read())
                continue
            shapes = geopandas.read_file(data / "buildings.geojson").to_crs(dataset.crs).geometry
            expected = rasterio.features.rasterize(shapes, out_shape=dataset.shape, transform=dataset.transform)
            data_there = dataset.dataset_mask() > 0
            np.testing.assert_array_equal(mosaic[0], np.where(data_there, expected, 255))
    document = json.loads((out / "index.geojson").read_text())
    index = geopandas.read_file(out / "index.geojson")
    assert index.crs.to_epsg() == 4326
    assert len(document["features"]) == len(rows)
    for row, outline in zip(rows, index.geometry, strict=True):
        with rasterio.open(out / row["image"]) as dataset:
            there = rasterio.warp.transform_bounds(dataset.crs, 4326, *dataset.bounds)
        np.testing.assert_allclose(outline.bounds, there, atol=1e-9)
        with rasterio.open(out / row["label"]) as dataset:
            labels = dataset.read(1)
        assert dict(part.split(":") for part in row["counts"].split()) == {
            str(code): str(count) for code, count in zip(*np.unique(labels[labels < 255], return_counts=True), strict=True)
        }


def test_rotated_scene_keeps_its_grid(shared: Path, tmp_path: Path) -> None:
    """Drawn chips of a rotated scene, with classes by name, lie on pixels of the scene."""
    data = shared / "data" / "joplin_damage"
    meaning = LabelOptions(column="damage", codes={"destroyed": 1, "no-damage": 0, "un-classified": 255}, outside=2)
    count = write_chips(
        [str(data / "post.tif")],
        [str(data / "post_buildings.geojson")],
        tmp_path / "c",
        meaning=meaning,
        options=ChipOptions(size=128, sampler="class", count=12, seed=3),
    )
    rows = index_of(tmp_path / "c")
    assert 0 < count == len(rows) <= 12
    with rasterio.open(data / "post.tif") as scene:
        for row in rows:
            with rasterio.open(tmp_path / "c" / row["image"]) as chip:
                window = rasterio.windows.Window(int(row["col"]), int(row["row"]), 128, 128)
                np.testing.assert_array_equal(chip.read(), scene.read(window=window))
                np.testing.assert_allclose(tuple(chip.transform)[:6], tuple(scene.window_transform(window))[:6], rtol=1e-12)


def test_nodata_types_and_small_scenes(write_raster: WriteRaster, tmp_path: Path) -> None:
    """Data types and masks go through; what is too small is filled up without data; chips without labels are left out."""
    image = np.random.default_rng(0).integers(1, 60000, (2, 50, 130)).astype(np.uint16)
    image[:, :10] = 0
    labels = patchy(50, 130, 2)
    labels[:, 80:] = 255
    write_raster(image, "a.tif", nodata=0)
    path = write_raster(labels, "../labels/a.tif", nodata=255)
    out = tmp_path / "out"
    options = ChipOptions(size=64)
    assert write_chips([str(tmp_path / "in")], [str(path.parent)], out, options=options) == 3
    with rasterio.open(out / "images" / "a_0_0.tif") as chip:
        assert chip.dtypes == ("uint16", "uint16")
        np.testing.assert_array_equal(chip.read()[:, :50], image[:, :, :64])
        mask = np.zeros((64, 64), np.bool_)
        mask[10:50] = True
        np.testing.assert_array_equal(chip.dataset_mask() > 0, mask)
    with rasterio.open(out / "labels" / "a_0_0.tif") as chip:
        np.testing.assert_array_equal(chip.read(1) != 255, mask)
        np.testing.assert_array_equal(chip.read(1)[mask], labels[10:50, :64].ravel())
    assert [(row["row"], row["col"]) for row in index_of(out)] == [("0", "0"), ("0", "64"), ("0", "66")]
    with pytest.raises(OutputError, match="exists; choose another --out"):
        write_chips([str(tmp_path / "in")], [str(path.parent)], out, options=options)
    strict = ChipOptions(size=64, labelled=0.6)
    assert write_chips([str(tmp_path / "in")], [str(path.parent)], out, options=strict, overwrite=True) == 1
    assert len(list(out.rglob("*.tif"))) == 2


def test_footprints_at_the_antimeridian(write_raster: WriteRaster, tmp_path: Path) -> None:
    """A chip that crosses it has a footprint in two parts, as small as the chip, whichever way the image lies."""
    for name, flip in (("north", -1), ("south", 1)):
        transform = rasterio.Affine(0.01, 0, 179.84, 0, 0.01 * flip, -10)
        image = str(write_raster(patchy(64, 64, 2), f"{name}.tif", crs=4326, transform=transform))
        write_chips([image], [image], tmp_path / name, options=ChipOptions(size=32))
        outlines = geopandas.read_file(tmp_path / name / "index.geojson").geometry
        assert {*outlines.geom_type} == {"Polygon", "MultiPolygon"}
        np.testing.assert_allclose(outlines.area, 0.32**2, rtol=1e-9)


def test_no_folder_is_left_behind(write_raster: WriteRaster, tmp_path: Path) -> None:
    image = str(write_raster(np.ones((1, 64, 64), np.uint8)))
    bare = str(write_raster(np.full((64, 64), 255, np.uint8), "bare/labels.tif"))
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="no chip has labelled pixels, of 1 scene;"):
        write_chips([image], [bare], out)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    for options, message in (
        (ChipOptions(size=0), "a chip has 1 to 16384 pixels a side"),
        (ChipOptions(size=99_999), "a chip has 1 to 16384 pixels a side"),
        (ChipOptions(step=0), "--step 0: is at least 1 pixel"),
        (ChipOptions(sampler="odd"), "choose one of grid, area, class"),
        (ChipOptions(step=3, sampler="area"), "is for --sampler grid"),
    ):
        with pytest.raises(ConfigError, match=message):
            write_chips([image], [bare], out, options=options)
    with pytest.raises(ConfigError, match="say with --classes which code"):
        write_chips([image], [bare], out, meaning=LabelOptions(column="kind"))
    with pytest.raises(ConfigError, match=r"water: code 254 is not within 0..253"):
        write_chips([image], [bare], out, meaning=LabelOptions(codes={"water": 254}))


def test_scenes_of_one_stem(write_raster: WriteRaster, tmp_path: Path) -> None:
    """Scenes of several folders have the labels of their own folders, and none has those of another, or one of two."""
    for number, folder in enumerate(("x", "y"), start=1):
        write_raster(np.full((3, 32, 32), number, np.uint8), f"images/{folder}/a.tif")
        write_raster(np.full((32, 32), number, np.uint8), f"labels/{folder}/a.tif")
    images, labels = [str(tmp_path / "in" / "images")], tmp_path / "in" / "labels"
    write_chips(images, [str(labels)], tmp_path / "chips", options=ChipOptions(size=32))
    assert [(row["scene"], row["counts"]) for row in index_of(tmp_path / "chips")] == [("x/a", "1:1024"), ("y/a", "2:1024")]
    (labels / "y" / "a.tif").rename(labels / "y" / "b.tif")
    with pytest.raises(ConfigError, match="1 of 2 scenes have none, first y/a"):
        write_chips(images, [str(labels)], tmp_path / "none")
    (labels / "y" / "b.tif").rename(labels / "x" / "a.tiff")
    with pytest.raises(ConfigError, match=r"the scene x/a has 2: .*a\.tif, .*a\.tiff; give one"):
        write_chips(images, [str(labels)], tmp_path / "two")


def test_without_a_place(write_raster: WriteRaster, tmp_path: Path) -> None:
    """Images without a place on Earth give chips and an index without footprints."""
    image, labels = patchy(70, 70, 9), patchy(70, 70, 2)
    paths = [str(write_raster(array, name, crs=None, transform=None)) for array, name in ((image, "a.tif"), (labels, "l/a.tif"))]
    out = tmp_path / "out"
    count = write_chips(paths[:1], paths[1:], out, scenes=OpenOptions(pixel_coords=True), options=ChipOptions(size=32, step=19))
    assert count == 9
    assert all(feature["geometry"] is None for feature in json.loads((out / "index.geojson").read_text())["features"])
    with rasterio.open(out / "labels" / "a_38_19.tif") as chip:
        np.testing.assert_array_equal(chip.read(1), labels[38:70, 19:51])


def test_refusals_of_the_command_line(write_raster: WriteRaster, tmp_path: Path) -> None:
    image = write_raster(np.ones((1, 64, 64), np.uint8), transform=TRANSFORM)
    base = ["chips", "--images", image, "--labels", image, "-o", tmp_path / "out"]
    for extra, message in (
        (["--classes", "forest"], "is not TEXT=CODE"),
        (["--outside", "-1"], "neither the code of a class nor ignore"),
    ):
        done = call_cli([*base, *extra])
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
