"""Counts by cell, and densities."""

from __future__ import annotations

import math
import sqlite3
import xml.etree.ElementTree as ET
from contextlib import closing

import numpy as np
import pyogrio.raw
import pyproj
import pytest
import rasterio
import shapely

from geoseg.errors import ConfigError
from geoseg.summaries.cells import Tally, add_kernels, cell_boxes, metric_crs
from pipeline.summarize.cells import write_grid
from pipeline.summarize.density import write_density

RNG = np.random.default_rng(5)


@pytest.fixture
def features():
    xy = RNG.normal((500_000, 5_000_000), 700, (3000, 2))
    return xy, RNG.integers(0, 4, 3000), np.round(RNG.random(3000) * 200, 2)


@pytest.mark.parametrize("batch", [1, 7, 3000])
def test_cells_are_those_of_counting_one_by_one(features, batch):
    xy, codes, area = features
    xy, codes, area = xy[:400], codes[:400], area[:400]
    tally = Tally(250.0)
    for i in range(0, len(xy), batch):
        tally.add(xy[i : i + batch], codes[i : i + batch], area[i : i + batch])
    cells = tally.cells()
    wanted: dict[tuple[int, int, int], list[float]] = {}
    for (x, y), code, size in zip(xy, codes, area, strict=True):
        entry = wanted.setdefault((math.floor(y / 250), math.floor(x / 250), int(code)), [0, 0.0])
        entry[0] += 1
        entry[1] += size
    found = {
        (int(r), int(c), code): [int(n), float(a)]
        for r, c, counts, areas in zip(cells.row, cells.col, cells.count, cells.area_m2, strict=True)
        for code, n, a in zip(cells.codes, counts, areas, strict=True)
        if n
    }
    assert found.keys() == wanted.keys()
    for key, (count, size) in wanted.items():
        assert found[key] == [count, pytest.approx(size, abs=1e-6)]
    assert cells.count.sum() == 400
    boxes = cell_boxes(cells)
    assert len(np.unique(boxes, axis=0)) == len(boxes)
    assert shapely.area(shapely.union_all(shapely.box(*boxes.T))) == 250.0**2 * len(boxes)


def test_the_share_leaves_out_what_was_not_analysed():
    tally = Tally(10.0)
    tally.add(np.array([[1, 1], [2, 2], [3, 3], [11, 1]], float), np.array([3, 0, 9, 9]))
    share = tally.cells().share([3], [9])
    assert share[0] == 0.5
    assert np.isnan(share[1])


def test_far_cells_and_bad_sides_are_refused():
    with pytest.raises(ConfigError, match="above 0"):
        Tally(0)
    with pytest.raises(ConfigError, match="larger cells"):
        Tally(0.001).add(np.array([[500_000.0, 5_000_000.0]]), np.array([0]))


def test_the_crs_is_the_utm_zone_or_of_equal_area():
    assert metric_crs(9.0, 48.0).to_epsg() == 32632
    assert metric_crs(-63.5, -9.7).to_epsg() == 32720
    assert "Equal Area" in metric_crs(9.0, 48.0, 20.0).coordinate_operation.method_name
    assert "Equal Area" in metric_crs(9.0, 88.0).coordinate_operation.method_name


@pytest.mark.parametrize(("pixel", "radius"), [(20.0, 100.0), (7.0, 50.0), (50.0, 20.0)])
def test_density_is_the_same_in_blocks_and_adds_up(features, pixel, radius):
    xy = features[0][:300]
    margin = math.ceil(radius / pixel) + 1
    left, top = xy[:, 0].min() - margin * pixel, xy[:, 1].max() + margin * pixel
    shape = (int((top - xy[:, 1].min()) / pixel) + 2 * margin, int((xy[:, 0].max() - left) / pixel) + 2 * margin)
    whole = np.zeros(shape)
    add_kernels(whole, (left, top), (0, 0), xy, pixel, radius)
    assert whole.sum() * pixel**2 / 1e6 == pytest.approx(300, rel=1e-12)
    for side in (16, 33):
        parts = np.zeros(shape)
        for row in range(0, shape[0], side):
            for col in range(0, shape[1], side):
                block = np.zeros(parts[row : row + side, col : col + side].shape)
                for some in (xy[:100], xy[100:]):
                    add_kernels(block, (left, top), (row, col), some, pixel, radius)
                parts[row : row + side, col : col + side] = block
        np.testing.assert_array_equal(parts, whole)


def test_density_is_the_kernel_of_the_book():
    pixel, radius = 1.0, 60.0
    image = np.zeros((150, 150))
    add_kernels(image, (0.0, 150.0), (0, 0), np.array([[75.5, 75.5]]), pixel, radius)
    rows, cols = np.mgrid[:150, :150]
    distance = np.hypot(cols + 0.5 - 75.5, 150 - rows - 0.5 - 75.5)
    wanted = 3 / (math.pi * radius**2) * np.maximum(0, 1 - (distance / radius) ** 2) ** 2 * 1e6
    np.testing.assert_allclose(image, wanted, rtol=1e-4)


@pytest.fixture
def file(features, tmp_path):
    xy, codes, area = features
    names = np.array(["no damage", "major damage", "destroyed", "not analysed"], object)[codes]
    path = tmp_path / "buildings.gpkg"
    boxes = shapely.box(xy[:, 0] - 5, xy[:, 1] - 5, xy[:, 0] + 5, xy[:, 1] + 5)
    pyogrio.raw.write(
        path,
        shapely.to_wkb(boxes),
        [names, codes, area],
        ["class", "code", "area_m2"],
        layer="buildings",
        geometry_type="Polygon",
        crs="EPSG:32632",
        driver="GPKG",
    )
    return path


def test_files_say_what_was_counted(file, features, tmp_path):
    _, codes, area = features
    report = write_grid(file, tmp_path / "grid.gpkg", ["destroyed"], side_m=500, without=["not analysed"])
    assert (report.features, report.of_interest, report.crs) == (3000, (codes == 2).sum(), "EPSG:32632")
    meta, _, _, values = pyogrio.raw.read(tmp_path / "grid.gpkg", layer="grid")
    columns = dict(zip(meta["fields"], values, strict=True))
    assert columns["total"].sum() == 3000
    assert columns["n_destroyed"].sum() == columns["affected"].sum() == (codes == 2).sum()
    assert columns["analysed"].sum() == (codes != 3).sum()
    assert columns["total_area_m2"].sum() == pytest.approx(area.sum())
    known = columns["analysed"] > 0
    np.testing.assert_allclose(columns["share"][known], columns["affected"][known] / columns["analysed"][known], atol=1e-4)
    first = (tmp_path / "grid.gpkg").read_bytes()
    write_grid(file, tmp_path / "grid.gpkg", ["destroyed"], side_m=500, without=["not analysed"])
    assert (tmp_path / "grid.gpkg").read_bytes() == first
    with closing(sqlite3.connect(tmp_path / "grid.gpkg")) as connection:
        (style,) = connection.execute("SELECT styleQML FROM layer_styles WHERE f_table_name = 'grid'").fetchone()
    assert "IS NULL" in style, "cells where nothing was analysed are shown"

    density = write_density(file, tmp_path / "density.tif", ["destroyed"], radius_m=50, pixel_m=1)
    with rasterio.open(tmp_path / "density.tif") as dataset:
        image = dataset.read(1)
        assert dataset.crs.to_epsg() == 32632
        assert dataset.overviews(1)
        assert max(dataset.shape) > 4096, "several squares"
    assert density.points == (codes == 2).sum()
    look = ET.parse(tmp_path / "density.qml").getroot()
    assert [float(item.attrib["value"]) for item in look.iter("item")][-1] == pytest.approx(float(image.max()), rel=1e-6)
    assert np.where(image < 0, 0, image).sum(dtype=np.float64) / 1e6 == pytest.approx(density.points, rel=1e-5)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_both_sides_of_the_180th_meridian_are_one_place(tmp_path):
    to = pyproj.Transformer.from_crs(32760, 4326, always_xy=True)
    middle = pyproj.Transformer.from_crs(4326, 32760, always_xy=True).transform(180.0, -17.0)
    rng = np.random.default_rng(5)
    xy = rng.uniform(-900, 900, (200, 2)) + middle
    boxes = shapely.box(xy[:, 0] - 5, xy[:, 1] - 5, xy[:, 0] + 5, xy[:, 1] + 5)
    lonlat = shapely.transform(boxes, lambda p: np.stack(to.transform(p[:, 0], p[:, 1]), axis=1))
    wide = shapely.bounds(lonlat)[:, 2] - shapely.bounds(lonlat)[:, 0] > 180
    halves = shapely.multipolygons([shapely.box(179.99998, -17.0, 180, -16.9999), shapely.box(-180, -17.0, -179.99998, -16.9999)])
    lonlat[wide] = halves
    lonlat[0] = halves
    reports = []
    for name, shapes, crs in (("metres.gpkg", boxes, "EPSG:32760"), ("degrees.gpkg", lonlat, "EPSG:4326")):
        pyogrio.raw.write(
            tmp_path / name,
            shapely.to_wkb(shapes),
            [np.full(200, "destroyed", object)],
            ["class"],
            layer="b",
            geometry_type="Unknown",
            crs=crs,
            driver="GPKG",
        )
        out = tmp_path / f"grid_{name}"
        reports.append(write_grid(tmp_path / name, out, ["destroyed"], side_m=100))
        left, bottom, right, top = pyogrio.read_info(out, layer="grid", force_total_bounds=True)["total_bounds"]
        assert max(right - left, top - bottom) <= 2100, "cells lie together"
        density = write_density(tmp_path / name, tmp_path / "d.tif", ["destroyed"], radius_m=100)
        assert (density.points, max(density.shape) < 150) == (200, True)
    assert reports[0].features == reports[1].features == 200
    assert reports[0].crs == reports[1].crs == "EPSG:32760"
    assert reports[0].cells == pytest.approx(reports[1].cells, abs=4)


def test_a_missing_column_is_named(file, tmp_path):
    with pytest.raises(ConfigError, match="no column grade; it has class, code"):
        write_grid(file, tmp_path / "grid.gpkg", ["destroyed"], side_m=500, column="grade")
