"""First changes against all histories written out, dates that are brought to the light of another, shifts in parts of a pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from histories import by_histories
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from geoseg.dates.radiometry import invariant, lines_of, moments
from geoseg.dates.registration import register, shift_of
from geoseg.dates.series import SeriesFacts, first_changes, how_probable, series_card
from geoseg.errors import ConfigError, SceneError
from geoseg.models.model_folder import Model


@given(st.lists(st.floats(0.001, 0.999), min_size=2, max_size=6), st.floats(0.01, 0.5))
def test_first_changes_sum_over_all_histories(p: list[float], rate: float) -> None:
    scores = first_changes(np.array(p, np.float32)[:, None, None], rate)[:, 0, 0].astype(np.float64)
    probability = np.exp(scores) / np.exp(scores).sum()
    expected = by_histories(p, rate)
    assert np.allclose(probability, expected, atol=1e-5)
    codes = np.arange(2 * len(p), dtype=np.uint8)
    several = np.repeat(np.array(p, np.float32)[:, None], len(codes), axis=1)
    assert np.allclose(how_probable(codes, several, rate), expected, atol=1e-5)


@given(st.integers(2, 120), st.sampled_from([0.0, 0.02, 0.4, 0.5]), st.sampled_from([0.001, 0.1, 0.5]), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_long_series_are_as_sure_as_short_ones(count: int, doubt: float, rate: float, seed: int) -> None:
    """Against the same recursion in logarithms of float64: products over many dates must not run out of numbers."""
    rng = np.random.default_rng(seed)
    p = np.abs(rng.integers(0, 2, count) - np.clip(doubt + rng.normal(0, 0.01, count), 1e-6, 1 - 1e-6)).astype(np.float32)
    found = first_changes(p[:, None], rate)[:, 0].astype(np.float64)
    p = np.clip(p, np.float32(1e-6), np.float32(1 - 1e-6)).astype(np.float64)
    seen = np.log(np.stack([1 - p, p], axis=1))
    step = np.log([[1 - rate, rate], [rate, 1 - rate]])
    after = np.zeros((count, 2))
    for t in range(count - 2, -1, -1):
        after[t] = np.logaddexp.reduce(step + seen[t + 1] + after[t + 1], axis=1)
    expected = np.empty(2 * count)
    for state, first in ((0, 1 + count), (1, 2)):
        stayed = np.cumsum(seen[:, state]) + np.arange(count) * step[0, 0]
        expected[state] = stayed[-1]
        expected[first : first + count - 1] = stayed[:-1] + step[0, 1] + seen[1:, 1 - state] + after[1:, 1 - state]
    found, expected = (x - np.logaddexp.reduce(x) for x in (found, expected))
    assert np.allclose(np.exp(found), np.exp(expected), atol=2e-3)
    assert np.exp(found[expected.argmax()]) == pytest.approx(np.exp(found).max(), rel=1e-2)


def test_two_dates_at_a_rate_of_one_half_are_the_product_of_both() -> None:
    p, q = np.float32(0.8), np.float32(0.3)
    scores = np.exp(first_changes(np.array([p, q])[:, None], 0.5)[:, 0])
    assert np.allclose(scores / scores.sum(), [(1 - p) * (1 - q), p * q, p * (1 - q), (1 - p) * q], atol=1e-6)


def test_one_odd_date_makes_no_change() -> None:
    steady, once = [0.95, 0.95, 0.2, 0.95, 0.95], [0.95, 0.95, 0.2, 0.1, 0.1]
    found = [first_changes(np.array(p, np.float32)[:, None], 0.05)[:, 0].argmax() for p in (steady, once)]
    assert found == [1, 3]  # stable; lost between the second and the third date


def test_the_card_of_a_series_says_what_its_classes_are(forest: Model) -> None:
    facts = SeriesFacts(("1990-01-01", "2000-01-01", "2010-01-01"), 1, 0.1)
    card, changes = series_card(forest.card, facts)
    assert [c.value for c in card.classes] == list(range(6))
    assert len({c.name for c in card.classes}) == len({c.color for c in card.classes}) == 6
    assert card.bands == tuple(f"{band}@{t}" for t in (1, 2, 3) for band in forest.card.bands)
    assert (changes[3].since, changes[3].until, changes[3].before) == ("2000-01-01", "2010-01-01", "forest")
    assert (changes[4].since, changes[4].after) == ("1990-01-01", "forest")
    with pytest.raises(ConfigError, match="give fewer dates"):
        series_card(forest.card, SeriesFacts(tuple(map(str, range(128))), 1, 0.1))


def test_invariant_pixels_give_the_line_between_two_dates() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(100, 30, (3, 20000))
    first[1] += 0.5 * first[0]
    gains, offsets = np.array([0.7, 1.3, 1.1]), np.array([12.0, -20.0, 5.0])
    second = (first - offsets[:, None]) / gains[:, None] + rng.normal(0, 1.0, first.shape)
    changed = rng.random(20000) < 0.3
    second[:, changed] = rng.normal(180, 40, (3, int(changed.sum())))
    same = invariant(first, second)
    assert (same & changed).sum() < 0.02 * same.sum()
    lines = np.array(lines_of(first[:, same], second[:, same]))
    assert np.allclose(lines[:, 0], gains, rtol=0.02)
    assert np.allclose(lines[:, 1], offsets, atol=3)
    # Means and deviations alone are misled by what has changed.
    assert np.abs(np.array(moments(first, second))[:, 0] - gains).max() > 0.1
    with pytest.raises(SceneError, match="have not changed"):
        invariant(first[:, :150], second[:, :150])


@pytest.mark.parametrize("shift", [(0.0, 0.0), (2.3, -1.6), (-0.4, 0.25), (6.0, 3.5)])
def test_shifts_are_found_in_parts_of_a_pixel(shared: Path, shift: tuple[float, float]) -> None:
    with rasterio.open(shared / "data" / "joplin_damage" / "pre.tif") as scene:
        image = scene.read([1, 2, 3]).astype(np.float64).mean(axis=0)[200:520, 300:620]
    rows, cols = shift
    # Another light, and noise.
    moved = 0.6 * ndimage.shift(image, (-rows, -cols), order=3, mode="reflect") + 30
    moved += np.random.default_rng(1).normal(0, 3, moved.shape)
    valid = np.ones(image.shape, np.bool_)
    valid[:40, :60] = False
    found = shift_of(image, moved, valid)
    assert found is not None
    assert np.hypot(found[0] - rows, found[1] - cols) < 0.15
    assert shift_of(image, np.random.default_rng(2).normal(0, 1, image.shape), valid) is None


def test_windows_that_disagree_are_no_shift() -> None:
    agreed = register([(1.0, 2.0), (1.1, 2.0), (0.9, 2.1), (7.0, -5.0)])
    assert agreed.consistent
    assert (agreed.windows, agreed.agreeing) == (4, 3)
    assert np.hypot(agreed.rows - 1.0, agreed.cols - 2.0) < 0.2
    assert not register([(0, 0), (5, 5), (-5, 3), (9, -2)]).consistent
    assert not register([(0, 0)]).consistent


def test_most_windows_decide() -> None:
    agreed = [(1.0, -2.0)] * 4
    for others, consistent in ((3, True), (4, False), (5, False)):
        far = [(10.0 * (k + 1), -7.0 * k) for k in range(others)]
        found = register([*agreed, *far])
        assert found.windows == 4 + others
        assert found.consistent == consistent
        if consistent:
            assert (found.rows, found.cols, found.agreeing) == (1.0, -2.0, 4)
    assert not register(agreed[:2]).consistent
    # The median may lie among a few that agree, with as many on either side.
    around = register([(-20.0, 0.0), (-10.0, 0.0), (0.0, 0.0), (0.2, 0.0), (-0.2, 0.0), (10.0, 0.0), (20.0, 0.0)])
    assert (around.windows, around.agreeing, around.consistent) == (7, 3, False)
