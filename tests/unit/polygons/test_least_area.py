"""Regions of exactly the least area stay, smaller ones give way to the neighbour with the longest border."""

from __future__ import annotations

import numpy as np
import pyproj
import pytest

from geoseg.georeference import Georeference
from geoseg.polygons.block_grid import BlockGrid
from geoseg.polygons.region_graph import Graph
from geoseg.polygons.sieve import drop_small, sieve_raster

FLAT = Georeference((1.0, 0.0, 0.0, 0.0, 1.0, 0.0), None)


def sieved(classes: np.ndarray, minimum: float, block: int = 4096, place: Georeference = FLAT) -> np.ndarray:
    grid = BlockGrid(*classes.shape, block)

    def read(i: int) -> np.ndarray:
        return np.ascontiguousarray(classes[grid.framed(i).slices])

    sieve = sieve_raster(grid, range(len(grid)), read, place, minimum)
    out = np.empty_like(classes)
    for i in range(len(grid)):
        out[grid.core(i).slices] = sieve.apply(grid, i, read(i))
    return out


@pytest.mark.parametrize("block", [4096, 5])
def test_the_least_area_is_enough(block: int) -> None:
    classes = np.zeros((12, 12), np.uint8)
    classes[2:4, 2:5] = 1  # 6 pixels
    classes[7:10, 4:7] = 2  # 9 pixels
    for minimum, left in ((6, {0, 1, 2}), (6.5, {0, 2}), (9, {0, 2}), (10, {0})):
        assert set(np.unique(sieved(classes, minimum, block))) == left, minimum


@pytest.mark.parametrize("block", [4096, 3])
def test_the_longest_border_takes_over_and_the_smaller_id_of_equals(block: int) -> None:
    classes = np.array(
        [
            [1, 1, 1, 1, 1, 1],
            [1, 1, 1, 1, 1, 1],
            [2, 2, 3, 4, 4, 4],
            [2, 2, 3, 4, 4, 4],
            [2, 2, 2, 4, 4, 4],
        ],
        np.uint8,
    )
    # Class 3 has a border of 1 with class 1 above, 3 with class 2 and 2 with class 4.
    expected = classes.copy()
    expected[classes == 3] = 2
    np.testing.assert_array_equal(sieved(classes, 3, block), expected)
    even = np.array([[1, 1, 3, 4, 4], [1, 1, 3, 4, 4]], np.uint8)
    np.testing.assert_array_equal(sieved(even, 3, block), [[1, 1, 1, 4, 4], [1, 1, 1, 4, 4]])


def test_diagonal_neighbours_are_not_one_region() -> None:
    classes = np.zeros((8, 8), np.uint8)
    classes[1:3, 1:3] = classes[3:5, 3:5] = 1
    assert (sieved(classes, 5) == 0).all()
    classes[2, 3] = 1
    assert (sieved(classes, 5) == classes).all()


@pytest.mark.parametrize("block", [4096, 4])
def test_what_is_no_class_neither_gives_way_nor_takes_over(block: int) -> None:
    classes = np.full((9, 9), 255, np.uint8)
    classes[3:6, 3:6] = 1
    classes[4, 4] = 254
    classes[0, 0] = 2
    np.testing.assert_array_equal(sieved(classes, 50, block), classes)


def test_areas_are_those_on_the_ground() -> None:
    # Pixels of a degree: at 60 degrees north they are half as large as at the equator.
    place = Georeference((1.0, 0, 0, 0, -1.0, 61.0), pyproj.CRS("EPSG:4326").to_wkt())
    classes = np.zeros((61, 4), np.uint8)
    classes[0, 1], classes[60, 1] = 1, 1
    result = sieved(classes, 9e9, place=place)
    assert (result[0, 1], result[60, 1]) == (0, 1)


@pytest.mark.parametrize("block", [4096, 4])
def test_patches_below_the_least_area_are_dropped(block: int) -> None:
    classes = np.zeros((10, 10), np.uint8)
    classes[1:3, 1:4], classes[5:7, 3:8], classes[9, 9] = 1, 1, 2
    grid = BlockGrid(10, 10, block)

    def read(i: int) -> np.ndarray:
        return np.ascontiguousarray(classes[grid.framed(i).slices])

    for minimum, left in ((6, 16), (7, 10), (10, 10), (11, 0)):
        sieve = drop_small(grid, range(len(grid)), read, FLAT, minimum, (1,), 9)
        out = np.empty_like(classes)
        for i in range(len(grid)):
            out[grid.core(i).slices] = sieve.apply(grid, i, read(i))
        assert (out == 1).sum() == left, minimum
        assert (out == 9).sum() == 16 - left
        assert out[9, 9] == 2


def test_what_has_grown_enough_stays() -> None:
    graph = Graph()
    for region, (value, area) in enumerate([(1, 100.0), (2, 3.0), (3, 4.0)]):
        graph.add_region(region, value, area)
    graph.add_border(1, 2, 5.0)
    graph.add_border(0, 2, 2.0)
    # 1 joins 2, which then has 7 and stays.
    assert graph.resolve(7.0) == {1: 3}
    exact = Graph()
    exact.add_region(0, 1, 100.0)
    exact.add_region(1, 2, 7.0)
    exact.add_border(0, 1, 4.0)
    assert exact.resolve(7.0) == {}
