"""Outlines of buildings: right angles on the ground, bounded, without overlap."""

from __future__ import annotations

import math

import numpy as np
import rasterio.features
import shapely
import shapely.affinity
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyproj import CRS

from geoseg.georeference import Georeference
from geoseg.instances.masks import Masks
from geoseg.instances.tracing import trace_masks
from geoseg.polygons.geometries import from_shapes, to_shapes
from geoseg.polygons.right_angles import MOST_MOVED, REACH, parted, right_angled
from geoseg.polygons.rings import Polygons

PLAIN = Georeference((1, 0, 0, 0, 1, 0), None)
UTM = CRS.from_epsg(32633).to_wkt()


def traced(labels: NDArray[np.int32], georeference: Georeference = PLAIN) -> Polygons:
    masks = Masks.of_labels(labels, int(labels.max()), 0, 0).largest_parts()
    count = len(masks)
    polygons, _ = trace_masks(masks, np.ones(count, np.uint8), np.full((count, 2), 90, np.uint8), labels.shape[1], georeference)
    return polygons


def corners_of(shape: shapely.Polygon) -> NDArray[np.float64]:
    """Angles between consecutive edges, in degrees from 0 to 180."""
    ring = np.asarray(shape.exterior.coords)[:-1]
    ahead, back = np.roll(ring, -1, 0) - ring, np.roll(ring, 1, 0) - ring
    cosine = (ahead * back).sum(1) / np.linalg.norm(ahead, axis=1) / np.linalg.norm(back, axis=1)
    return np.degrees(np.arccos(cosine.clip(-1, 1)))


@settings(max_examples=20)
@given(st.integers(25, 60), st.integers(25, 60), st.floats(0, 90), st.booleans())
def test_a_slanted_house_gets_its_corners_back(length: int, width: int, angle: float, stretched: bool) -> None:
    """Nearer to the truth than its pixels; also where pixels are twice as wide as high on the ground."""
    house = shapely.affinity.rotate(shapely.box(0, 0, length, width), angle)
    house = shapely.affinity.translate(house, 80 - house.centroid.x, 80 - house.centroid.y)
    georeference = PLAIN
    pixels = house
    if stretched:
        georeference = Georeference((1, 0, 5e5, 0, -0.5, 1e6), UTM)
        pixels = shapely.affinity.scale(house, 1, 2, origin=(0, 0))
    labels = rasterio.features.rasterize([(pixels, 1)], out_shape=(330, 160)).astype(np.int32)
    polygons = traced(labels, georeference)
    (found,) = right_angled(polygons, georeference)
    (steps,) = to_shapes(polygons)
    assert found.symmetric_difference(steps).area <= MOST_MOVED * steps.area
    # Along the pixels there is nothing to gain, and pixels are where it is half a pixel off.
    gain = 0.5 if 10 < angle < 80 else 1.0
    assert found.symmetric_difference(pixels).area <= gain * steps.symmetric_difference(pixels).area + 0.01 * pixels.area
    ground = shapely.affinity.scale(found, 1, 0.5, origin=(0, 0)) if stretched else found
    assert len(ground.exterior.coords) == 5
    np.testing.assert_allclose(corners_of(ground), 90, atol=1e-6)


def test_a_court_has_the_angles_of_its_house() -> None:
    house = shapely.affinity.rotate(shapely.box(20, 20, 80, 70).difference(shapely.box(35, 35, 60, 55)), 17)
    labels = rasterio.features.rasterize([(house, 1)], out_shape=(110, 110)).astype(np.int32)
    (found,) = right_angled(traced(labels), PLAIN)
    assert found.symmetric_difference(house).area < 0.02 * house.area
    (court,) = found.interiors
    assert len(court.coords) == len(found.exterior.coords) == 5
    sides = [np.diff(np.asarray(ring.coords)[:2], axis=0)[0] for ring in (found.exterior, court)]
    turn = np.degrees(np.diff([math.atan2(y, x) for x, y in sides]))[0] % 90
    assert min(turn, 90 - turn) < 1e-6


def test_what_is_no_house_stays_as_its_pixels_are() -> None:
    """Small or thin objects, whose angles would move too much of them."""
    labels = np.zeros((60, 60), np.int32)
    labels[3, 3:9] = 1
    for k in range(12):
        labels[20 + k, 10 + 3 * k : 14 + 3 * k] = 2
    polygons = traced(labels)
    found, steps = right_angled(polygons, PLAIN), to_shapes(polygons)
    moved = shapely.area(shapely.symmetric_difference(found, steps)) / shapely.area(steps)
    assert (moved <= MOST_MOVED).all()
    assert shapely.equals(found[1], steps[1])
    assert not len(right_angled(Polygons.empty(), PLAIN))


@settings(max_examples=15)
@given(st.integers(0, 10_000))
def test_neighbours_do_not_overlap_whoever_else_is_looked_at(seed: int) -> None:
    """Discs and blocks that touch; each outline is the same alone with its neighbours as with all."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((120, 120), np.int32)
    rows, cols = np.indices(labels.shape)
    for number in range(1, 30):
        row, col = rng.integers(10, 110, 2)
        turn, high, wide = rng.uniform(0, math.pi), rng.integers(4, 15), rng.integers(4, 15)
        a = (rows - row) * math.cos(turn) + (cols - col) * math.sin(turn)
        b = -(rows - row) * math.sin(turn) + (cols - col) * math.cos(turn)
        labels[(abs(a) < high) & (abs(b) < wide) & (labels == 0)] = number
    _, labels = np.unique(labels, return_inverse=True)
    labels = labels.reshape(rows.shape).astype(np.int32)
    shapes = right_angled(traced(labels), PLAIN)
    order = np.argsort(np.argsort(shapely.area(shapes), kind="stable"))
    every = parted(shapes, order, np.ones(len(shapes), np.bool_))
    assert shapely.is_valid(every).all()
    assert (shapely.area(every) > 0).all()
    own, other = shapely.STRtree(every).query(every)
    common = shapely.area(shapely.intersection(every[own], every[other]))
    assert common[own != other].max(initial=0) < 1e-6
    one = int(rng.integers(len(shapes)))
    near = np.flatnonzero(shapely.dwithin(shapes, shapes[one], 2 * REACH))
    (alone,) = parted(shapes[near], order[near], near == one)
    assert alone == every[one]
    # As our rings, and back.
    assert shapely.equals(to_shapes(from_shapes(every)), every).all()
