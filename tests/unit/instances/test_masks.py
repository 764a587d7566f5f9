"""Masks as runs are the masks that they were made of."""

from __future__ import annotations

import itertools

import hypothesis.strategies as st
import numpy as np
from affine import Affine
from hypothesis import given, settings
from numpy.typing import NDArray
from scipy import ndimage

from geoseg.evaluation.instances import Overlaps, match
from geoseg.georeference import Georeference
from geoseg.instances.masks import Masks
from geoseg.instances.objects import Objects
from geoseg.instances.tracing import trace_masks
from geoseg.windows import Window

ROW, COL = 7, 11


def labels_of(seed: int, height: int, width: int, count: int) -> NDArray[np.int32]:
    rng = np.random.default_rng(seed)
    return ndimage.zoom(rng.integers(0, count + 1, (height, width)), 2, order=0).astype(np.int32)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), height=st.integers(1, 12), width=st.integers(1, 12), count=st.integers(1, 6))
def test_runs_hold_what_labels_hold(seed: int, height: int, width: int, count: int) -> None:
    labels = labels_of(seed, height, width, count)
    masks = Masks.of_labels(labels, count, ROW, COL)
    arrays = [labels == k for k in range(1, count + 1)]
    painted = np.zeros_like(labels)
    masks.paint(painted, np.arange(1, count + 1, dtype=np.int32), ROW, COL)
    assert np.array_equal(painted, labels)
    assert masks.pixels.tolist() == [int(a.sum()) for a in arrays]
    for array, box, first in zip(arrays, masks.boxes.tolist(), masks.first_pixels(100).tolist(), strict=True):
        rows, cols = np.nonzero(array)
        if len(rows):
            assert box == [rows.min() + ROW, rows.max() + 1 + ROW, cols.min() + COL, cols.max() + 1 + COL]
            assert first == (rows[0] + ROW) * 100 + cols[0] + COL
        else:
            assert first == -1
    parts = masks.largest_parts()
    for array, pixels in zip(arrays, parts.pixels.tolist(), strict=True):
        sizes = np.bincount(ndimage.label(array)[0].ravel())[1:]
        assert pixels == sizes.max(initial=0)
    again = Objects.from_bytes(
        Objects(
            masks,
            np.ones(count, np.uint8),
            np.ones(count, np.float32),
            np.ones((count, 3), np.uint8),
            np.zeros(count, np.int64),
            np.zeros(count, np.bool_),
        ).to_bytes()
    )
    assert np.array_equal(again.masks.runs, masks.runs)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), top=st.integers(0, 20), left=st.integers(0, 20), side=st.integers(1, 15))
def test_set_operations_are_those_of_arrays(seed: int, top: int, left: int, side: int) -> None:
    a, b = labels_of(seed, 10, 10, 1), labels_of(seed + 1, 10, 10, 1)
    both = Masks.concatenate([Masks.of_labels(a, 1), Masks.of_labels(b, 1)])
    window = Window.at((top, left), (side, side))
    inside = np.zeros((40, 40), np.bool_)
    inside[window.slices] = True
    inside = inside[:20, :20]
    corners = np.array([[top, top + side, left, left + side]] * 2, np.int32)
    pair = np.array([0]), np.array([1])
    assert both.common_pixels(*pair).tolist() == [int((a & b).sum())]
    assert both.pixels_within(np.array([0, 1]), corners).tolist() == [int((v[inside] > 0).sum()) for v in (a, b)]
    for runs, expected in (
        (Masks.union([both[0], both[1]]), (a | b) > 0),
        (Masks.difference(both[0], both[1]), (a > 0) & (b == 0)),
        (Masks.clip(both[0], window), (a > 0) & inside),
    ):
        painted = np.zeros((20, 20), np.int32)
        Masks.of_runs([runs]).paint(painted, np.ones(1, np.int32))
        assert np.array_equal(painted > 0, expected)
        # Runs that touch are one, so that equal masks are equal arrays.
        assert np.array_equal(runs, Masks.of_labels(expected.astype(np.int32), 1)[0])


def test_matches_are_those_of_a_search_over_all_pairs() -> None:
    # Squares of 6 pixels moved by one: five of seven columns are common. Some are halved, some are lost.
    truth = np.kron(np.arange(1, 50).reshape(7, 7), np.ones((6, 6), np.int32)).astype(np.int32)
    found = np.roll(truth, 1, axis=1)
    lower = np.arange(42)[:, None] % 6 >= 3
    found[(truth % 5 == 0) | (lower & (found % 3 == 1))] = 0
    a, b = Masks.of_labels(found, 49), Masks.of_labels(truth, 49)
    pairs = {
        (i, j)
        for i in range(49)
        for j in range(49)
        if ((found == i + 1) & (truth == j + 1)).sum() >= 0.5 * max(1, ((found == i + 1) | (truth == j + 1)).sum())
    }
    matches = match(Overlaps.of_masks(a, b), np.linspace(1, 0, 49))
    assert {*zip(matches.found.tolist(), matches.truth.tolist(), strict=True)} == pairs
    assert 20 < len(pairs) < 40
    assert matches.f1 == 2 * len(pairs) / 98


def test_traced_outlines_burn_to_the_masks() -> None:
    import rasterio.features
    import shapely

    labels, count = ndimage.label(labels_of(9, 30, 40, 1))
    masks = Masks.of_labels(labels.astype(np.int32), count, 5, 9)
    georeference = Georeference((1.0, 0.0, 0.0, 0.0, -1.0, 0.0), None)
    confidence = np.full((count, 2), 80, np.uint8)
    polygons, measures = trace_masks(masks, np.ones(count, np.uint8), confidence, 1000, georeference)
    data, offsets = polygons.wkb(georeference)
    shapes = shapely.from_wkb([data[a:b].tobytes() for a, b in itertools.pairwise(offsets)])
    assert shapely.is_valid(shapes).all()
    burnt = rasterio.features.rasterize(
        zip(shapes, range(1, count + 1), strict=True), out_shape=(80, 100), transform=Affine(1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
    )
    expected = np.zeros((80, 100), np.int32)
    masks.paint(expected, np.arange(1, count + 1, dtype=np.int32))
    assert np.array_equal(burnt, expected)
    assert measures.pixels.tolist() == masks.pixels.tolist()
    assert measures.anchor.tolist() == masks.first_pixels(1000).tolist()
