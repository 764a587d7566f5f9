"""The challenge's measures: by their definitions, by counting pairs, and on the challenge's own slices."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import rasterio
import skimage.metrics
from scipy import ndimage

from geoseg.evaluation.isbi import agreement, best_threshold, measure, pixel_error, rand_error, thinned
from geoseg.evaluation.warping import FOUR, simple, warp, warping_error


def cells(seed: int = 0, side: int = 90, border: int = 1) -> np.ndarray:
    """Cells with borders between them."""
    rng = np.random.default_rng(seed)
    centres = rng.random((14, 2)) * side
    rows, cols = np.mgrid[:side, :side]
    distance = np.sort(np.hypot(rows[..., None] - centres[:, 0], cols[..., None] - centres[:, 1]), axis=-1)
    return np.asarray(distance[..., 1] - distance[..., 0] > 2 * border)


def test_pairs_counted_one_by_one() -> None:
    rng = np.random.default_rng(1)
    truth, found = rng.integers(0, 4, (2, 6, 7))
    where = truth > 0
    t, s = truth[where], found[where]
    pairs = list(combinations(range(len(t)), 2))
    # The definition draws with replacement: each pixel is a pair with itself, and each other pair is there twice.
    both, in_t, in_s = (
        2 * sum(rule(a, b) for a, b in pairs) + len(t)
        for rule in (lambda a, b: t[a] == t[b] and s[a] == s[b], lambda a, b: t[a] == t[b], lambda a, b: s[a] == s[b])
    )
    mine = agreement(truth.astype(np.int32), found.astype(np.int32), where)
    assert mine.rand == pytest.approx(2 * both / (in_t + in_s))
    assert mine.rand_split == pytest.approx(both / in_t)
    assert mine.rand_merge == pytest.approx(both / in_s)


def test_scikit_image_agrees() -> None:
    rng = np.random.default_rng(2)
    truth, found = (np.kron(rng.integers(1, 9, (6, 6)), np.ones((5, 5), int)) for _ in range(2))
    mine = agreement(truth.astype(np.int32), found.astype(np.int32), truth > 0)
    # Their under- and oversegmentation: H(truth | map), H(map | truth).
    under, over = skimage.metrics.variation_of_information(found, truth)
    entropy = lambda x: -sum(p * np.log2(p) for p in np.unique(x, return_counts=True)[1] / x.size)  # noqa: E731
    mutual = (entropy(truth) + entropy(found) - under - over) / 2
    assert mine.info == pytest.approx(2 * mutual / (entropy(truth) + entropy(found)))
    assert mine.info_split == pytest.approx(mutual / entropy(found))
    assert mine.info_merge == pytest.approx(mutual / entropy(truth))
    error, precision, recall = skimage.metrics.adapted_rand_error(truth, found, ignore_labels=())
    # They leave out the pairs of pixels with themselves, of which there are 1 in 900.
    assert mine.rand == pytest.approx(1 - error, abs=0.01)
    assert sorted((mine.rand_merge, mine.rand_split)) == pytest.approx(sorted((precision, recall)), abs=0.01)


def test_known_cases() -> None:
    truth = np.ones((20, 41), bool)
    truth[:, 20] = False
    perfect = measure(truth, truth)
    assert (perfect.v_rand, perfect.v_info, perfect.rand_error, perfect.pixel_error, perfect.warping_error) == (1, 1, 0, 0, 0)
    merged = measure(truth, np.ones_like(truth))
    # Two halves as one: every pair of the truth stays together, half of the map's pairs belong together.
    assert (merged.v_rand_split, merged.v_rand_merge, merged.v_info) == pytest.approx((1, 0.5, 0))
    assert (merged.splits, merged.mergers) == (0, 1)
    quarters = truth.copy()
    quarters[10] = False
    split = measure(truth, quarters)
    # The border of the map is an object of its own, one pixel wide.
    assert 0.99 < split.v_rand_merge < 1
    assert split.v_rand_split == pytest.approx(0.5, abs=0.06)
    assert (split.splits, split.mergers) == (2, 0)
    nothing = measure(np.zeros((5, 5), bool), np.zeros((5, 5), bool))
    assert (nothing.v_rand, nothing.pixel_error, nothing.warping_error) == (1, 0, 0)


def test_a_gap_in_a_border_is_a_merger_of_few_pixels() -> None:
    truth = cells(3, border=2)
    found = truth.copy()
    numbers, _ = ndimage.label(truth)
    # A place between two cells, away from the rim.
    between = ~truth & (ndimage.maximum_filter(numbers, 9) > ndimage.minimum_filter(np.where(truth, numbers, 999), 9))
    between[:20] = between[-20:] = between[:, :20] = between[:, -20:] = False
    row, col = np.argwhere(between)[40]
    found[row - 4 : row + 5, col - 4 : col + 5] = True
    figures = measure(truth, found)
    assert figures.pixel_error < 0.01
    assert figures.v_rand < 0.95
    assert figures.mergers >= 1
    assert figures.splits == 0
    assert figures.v_rand_merge < figures.v_rand_split


def test_the_width_of_borders_does_not_count() -> None:
    narrow, wide = cells(3, border=1), cells(3, border=3)
    figures = measure(narrow, wide)
    # Without thinning, the wide borders count as an object that each cell loses pixels to.
    assert figures.v_rand > 0.92 > 1 - figures.rand_error + 0.3
    assert figures.warping_error == figures.splits == figures.mergers == 0
    assert figures.pixel_error > 0.1
    grown = thinned(wide)
    # One pixel of border, and the same objects.
    assert len(np.unique(grown)) - 1 == ndimage.label(wide)[1]
    assert np.array_equal(grown[wide] > 0, np.ones(wide.sum(), bool))
    assert (grown == 0).mean() < 0.7 * (~narrow).mean() + 0.05


def test_simple_points_keep_the_topology() -> None:
    """Against the numbers of regions and holes of the whole image, for every neighbourhood."""
    around = [(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1) if (r, c) != (0, 0)]
    for code in range(256):
        image = np.zeros((5, 5), bool)
        for bit, (row, col) in enumerate(around):
            image[2 + row, 2 + col] = code >> bit & 1
        counts = []
        for value in (False, True):
            image[2, 2] = value
            # Corners that touch the middle by a point alone are regions of their own.
            counts.append((ndimage.label(image)[1], ndimage.label(~image, np.ones((3, 3)))[1]))
        same = counts[0] == counts[1]
        # Neighbours that are connected outside of the neighbourhood have no say: what is simple keeps all counts.
        assert same or not simple()[code]
        if same and simple()[code] == 0:
            # Two changes that make up for each other: a region joined and a hole made.
            assert code.bit_count() > 1


def test_warping_keeps_regions_and_ends_where_nothing_is_simple() -> None:
    truth = cells(5, border=2)
    rng = np.random.default_rng(0)
    found = ndimage.gaussian_filter(truth.astype(float) + rng.normal(0, 0.8, truth.shape), 1) > 0.6
    warped = warp(truth, found)
    assert ndimage.label(warped)[1] == ndimage.label(truth)[1]
    padded_truth, padded = np.pad(~truth, 1, constant_values=True), np.pad(~warped, 1, constant_values=True)
    assert ndimage.label(padded, np.ones((3, 3)))[1] == ndimage.label(padded_truth, np.ones((3, 3)))[1]
    assert np.mean(warped != found) < np.mean(truth != found)
    assert np.array_equal(warp(warped, found), warped)
    share, _, _ = warping_error(truth, found)
    assert share == np.mean(warped != found)


def test_on_the_slices_of_the_challenge(shared: Path) -> None:
    folder = shared / "data" / "isbi2012" / "label"
    files = sorted(folder.iterdir())[:2]
    truth = []
    for path in files:
        with rasterio.open(path) as dataset:
            truth.append(dataset.read(1) > 0)
    one = truth[0]
    assert measure(one, one).v_rand == 1
    # Membranes one pixel wider on each side: other pixels, the same cells but for the smallest.
    wider = measure(one, ndimage.binary_erosion(one, FOUR, border_value=1))
    assert wider.v_rand > 0.97
    assert wider.pixel_error > 0.03
    # The next slice is another picture.
    assert measure(one, truth[1]).v_rand < 0.9
    noise = np.random.default_rng(0).normal(0, 0.05, one.shape)
    blurred = [(t, np.clip(ndimage.gaussian_filter(t.astype(float), 1) + noise, 0, 1)) for t in truth]
    threshold, score = best_threshold(blurred, np.arange(0.1, 1, 0.1))
    others = [np.mean([measure(t, p >= x).v_rand for t, p in blurred]) for x in (0.2, 0.5, 0.8)]
    assert score >= max(others)
    assert 0.1 <= threshold <= 0.95
    assert rand_error(one, one) == pixel_error(one, one) == 0
