"""Objects joined over seams are those of the scene, whatever the tiles, the chunks and the order."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given, settings
from numpy.typing import NDArray
from scipy import ndimage

from geoseg.grid import Grid
from geoseg.instances.joining import join_objects, objects_of_tile
from geoseg.instances.objects import Objects


def seen_by_tiles(grid: Grid, truth: NDArray[np.int32]) -> list[Objects]:
    """What a perfect detector finds: in every tile, each object's pixels that the tile sees, numbered anew."""
    found = []
    for tile in grid.tiles():
        window = tile.window & grid.scene
        assert window is not None
        part = truth[window.slices]
        numbers, labels = np.unique(part, return_inverse=True)
        labels = labels.reshape(part.shape).astype(np.int32) + int(numbers[0] != 0)
        count = int(labels.max())
        code = np.ones(count, np.uint8)
        score = np.full(count, 0.9, np.float32)
        found.append(objects_of_tile(grid, tile, labels, code, score, np.full((count, 3), 90, np.uint8)))
    return found


def painted(objects: list[Objects], shape: tuple[int, int]) -> NDArray[np.int32]:
    """Objects as labels, in the order of their first pixels; no pixel may belong to two."""
    every = Objects.concatenate(objects)
    total = np.zeros(shape, np.int32)
    for index in range(len(every)):
        one = np.zeros(shape, np.int32)
        every.masks.take(np.array([index])).paint(one, np.ones(1, np.int32))
        total += one
    assert total.max(initial=0) <= 1, "two objects have a pixel in common"
    labels = np.zeros(shape, np.int32)
    order = np.argsort(every.masks.first_pixels(shape[1]))
    every.masks.take(order).paint(labels, np.arange(1, len(every) + 1, dtype=np.int32))
    return labels


def numbered(truth: NDArray[np.int32]) -> NDArray[np.int32]:
    """Labels numbered in the order of their first pixels."""
    numbers, first, inverse = np.unique(truth, return_index=True, return_inverse=True)
    rank = np.zeros(len(numbers), np.int32)
    there = numbers > 0
    rank[there] = 1 + np.argsort(np.argsort(first[there]))
    return rank[inverse].reshape(truth.shape)


def boxes_scene(seed: int, shape: tuple[int, int], largest: int) -> NDArray[np.int32]:
    """Rectangles, many of which touch, none of which overlap."""
    rng = np.random.default_rng(seed)
    truth = np.zeros(shape, np.int32)
    for number in range(1, 60):
        height, width = rng.integers(2, largest, 2)
        row, col = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        part = truth[row : row + height, col : col + width]
        if part.size and not part.any():
            part[:] = number
    return truth


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    height=st.integers(20, 150),
    width=st.integers(20, 150),
    tile=st.sampled_from([48, 64, 96]),
    halo=st.sampled_from([8, 16]),
    largest=st.integers(4, 16),
    one_shape=st.booleans(),
)
def test_objects_smaller_than_the_halo_are_found_once_and_whole(
    seed: int, height: int, width: int, tile: int, halo: int, largest: int, one_shape: bool
) -> None:
    truth = boxes_scene(seed, (height, width), min(largest, halo))
    grid = Grid(height, width, tile=tile, halo=halo, stride=4, one_shape=one_shape)
    found = list(join_objects(grid, lambda: seen_by_tiles(grid, truth)))
    assert np.array_equal(painted(found, truth.shape), numbered(truth))


# One tile sees all of an object, of which it owns less than the others see of it together.
@example(seed=11282, tile=48, halo=4, one_shape=True)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), tile=st.sampled_from([32, 48]), halo=st.sampled_from([4, 8]), one_shape=st.booleans())
def test_objects_larger_than_tiles_are_joined_from_many_parts(seed: int, tile: int, halo: int, one_shape: bool) -> None:
    rng = np.random.default_rng(seed)
    blobs = ndimage.gaussian_filter(rng.random((170, 190)), 7)
    truth, count = ndimage.label(blobs > np.quantile(blobs, 0.6))
    # A part of an object that a tile sees in several pieces, it can't know to be one; bars and blobs are in one piece.
    truth = np.where(np.isin(truth, [k for k in range(1, count + 1) if _convex(truth == k)]), truth, 0).astype(np.int32)
    truth[100:106, 5:185] = 999
    grid = Grid(*truth.shape, tile=tile, halo=halo, stride=4, one_shape=one_shape)
    found = list(join_objects(grid, lambda: seen_by_tiles(grid, truth)))
    assert np.array_equal(painted(found, truth.shape), numbered(truth))


def _convex(mask: NDArray[np.bool_]) -> bool:
    from skimage.measure import regionprops

    (region,) = regionprops(mask.astype(np.uint8))
    return bool(region.solidity > 0.97) and not mask[95:112].any()


@pytest.mark.parametrize("seed", range(3))
def test_neither_sets_nor_order_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = boxes_scene(seed, (150, 170), 30)
    grid = Grid(150, 170, tile=64, halo=12, stride=4)
    tiles = seen_by_tiles(grid, truth)
    # A detector that errs: masks grow and shrink, scores differ, some objects are missed.
    tiles = [objects.take(np.flatnonzero(rng.random(len(objects)) < 0.9)) for objects in tiles]
    every = Objects.concatenate(list(join_objects(grid, lambda: tiles)))
    reference = painted([every], truth.shape)
    for _ in range(3):
        order = rng.permutation(len(tiles))
        groups = [Objects.concatenate([tiles[i] for i in part]) for part in np.array_split(order, int(rng.integers(1, 6)))]
        assert np.array_equal(painted(list(join_objects(grid, lambda groups=groups: groups)), truth.shape), reference)
