"""Composites of arrays, against NumPy's masked arrays and SciPy's distances."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from geoseg.dates.composites import best_observation, mean_of, median_of, picked, stored

KINDS = ("uint8", "uint16", "int16", "float32", "int32")


@pytest.fixture(params=KINDS)
def stack(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
    """Nine observations of three bands, extremes of the type among them, each pixel clear in none to all."""
    rng = np.random.default_rng(7)
    values = rng.integers(0, 255, (9, 3, 20, 30)).astype(request.param)
    if values.dtype.kind in "iu":
        limits = np.iinfo(values.dtype)
        values[rng.random(values.shape) < 0.1] = limits.max
        values[rng.random(values.shape) < 0.1] = limits.min
    return values, rng.random((9, 20, 30)) < np.linspace(0, 1, 30)


def masked(stack: np.ndarray, clear: np.ndarray) -> np.ma.MaskedArray:
    return np.ma.array(stack.astype(np.float64), mask=np.broadcast_to(~clear[:, None], stack.shape))


def test_medians_and_means_are_those_of_masked_arrays(stack: tuple[np.ndarray, np.ndarray]) -> None:
    values, clear = stack
    known = clear.any(axis=0)
    assert not known.all()
    for ours, theirs in ((median_of, np.ma.median), (mean_of, np.ma.mean)):
        found, wanted = ours(values, clear), theirs(masked(values, clear), axis=0)
        np.testing.assert_allclose(found[:, known], wanted.data[:, known], rtol=1e-12)
        assert np.isnan(found[:, ~known]).all()


def test_the_best_observation_has_the_least_distances(stack: tuple[np.ndarray, np.ndarray]) -> None:
    values, clear = stack
    medians = np.ma.median(masked(values, clear), axis=0)
    nearest, medoid, latest = (best_observation(values, clear, rule) for rule in ("nearest", "medoid", "latest"))
    for row, col in np.ndindex(clear.shape[1:]):
        (ones,) = np.nonzero(clear[:, row, col])
        if not len(ones):
            assert nearest[row, col] == medoid[row, col] == latest[row, col] == -1
            continue
        points = values[ones, :, row, col].astype(np.float64)
        to_all = cdist(points, points).sum(axis=1)
        to_median = cdist(points, medians.data[None, :, row, col])[:, 0]
        assert latest[row, col] == ones[0]
        for found, distance in ((medoid, to_all), (nearest, to_median)):
            assert found[row, col] in ones
            np.testing.assert_allclose(distance[list(ones).index(found[row, col])], distance.min(), rtol=1e-12)
    chosen = picked(values, medoid)
    assert all((chosen[:, r, c] == values[medoid[r, c], :, r, c]).all() for r, c in np.argwhere(medoid >= 0)[::7])


def test_a_median_keeps_its_neighbours_and_an_outlier_has_no_weight() -> None:
    values = np.array([10, 12, 250, 11], np.uint8).reshape(4, 1, 1, 1)
    assert median_of(values, np.ones((4, 1, 1), bool)).item() == 11.5
    # Of equally good ones the first: 11 and 12 are both half a step from the median.
    assert best_observation(values, np.ones((4, 1, 1), bool), "nearest").item() == 1


def test_what_is_stored_is_rounded_and_never_no_data() -> None:
    values = np.array([[[0.5, 1.5, 0.2, 7.0]], [[0.4, 2.5, 9.0, 7.0]]])
    out, moved = stored(values, np.array([[True, True, True, False]]), "uint8", 0)
    assert out.tolist() == [[[1, 2, 0, 0]], [[1, 2, 9, 0]]]
    assert moved == 1
    whole = np.full((1, 1, 1), 255, np.uint8)
    assert stored(whole, np.ones((1, 1), bool), "uint8", 255)[0].item() == 254
    floats, moved = stored(np.full((2, 1, 1), -9999.0), np.ones((1, 1), bool), "float32", -9999)
    assert moved == 1
    assert (floats > -9999).all()
