"""Numbers of units: the estimator of Olofsson, what is known for sure, and intervals that cover it as often as they say."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from geoseg.sampling.design import allocate
from geoseg.sampling.estimators import Sample, accuracy
from geoseg.sampling.totals import number_of

Ints = NDArray[np.int64]


def town(size: int, seed: int) -> tuple[Ints, Ints, Ints, Ints]:
    """Class that is there, mapped class, stratum of class and confidence, and zone of each building."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(4, size, p=[0.6, 0.2, 0.08, 0.12])
    sure = rng.random(size) < 0.7
    wrong = rng.random(size) < np.where(sure, 0.06, 0.35)
    mapped = np.clip(truth + np.where(wrong, rng.choice([-1, 1], size), 0), 0, 3)
    return truth, mapped, 2 * mapped + sure, rng.integers(0, 5, size)


def drawn(stratum: Ints, units: Ints, rng: np.random.Generator) -> tuple[Sample, Ints]:
    at = np.concatenate([rng.choice(np.flatnonzero(stratum == h), n, replace=False) for h, n in enumerate(units)])
    return Sample(stratum[at], np.bincount(stratum, minlength=len(units)).astype(float)), at


def test_of_all_units_it_is_the_share_of_olofsson_times_their_number() -> None:
    truth, mapped, stratum, _ = town(3000, 1)
    sample, at = drawn(stratum, np.full(8, 20), np.random.default_rng(2))
    shares = accuracy(sample, mapped[at], truth[at], 4).shares
    for k in range(4):
        number = number_of(sample, truth[at] == k, np.ones(len(at), bool), 3000)
        assert number.value == pytest.approx(3000 * shares[k].value)
        assert number.se == pytest.approx(3000 * shares[k].se)
        assert number.low < number.value < number.high
    # By hand (Cochran 1977, equations 5.6 and 5.27).
    n, size = 20, sample.size
    p = np.array([(truth[at][sample.stratum == h] == 3).mean() for h in range(8)])
    variance = (size**2 * (1 - n / size) * p * (1 - p) / (n - 1)).sum()
    assert number.value == pytest.approx((size * p).sum())
    assert number.se == pytest.approx(np.sqrt(variance))


def test_one_stratum_of_many_has_wilsons_interval() -> None:
    """With a population so large that the correction is nothing; scipy has the interval."""
    there = np.arange(80) < 12
    sample = Sample(np.zeros(80, np.int64), np.array([1e9]))
    number = number_of(sample, there, np.ones(80, bool), 10**9)
    # The variance is that of n - 1.
    expected = stats.binomtest(12, 80).proportion_ci(method="wilson")
    assert number.low / 1e9 == pytest.approx(expected.low, abs=1e-3)
    assert number.high / 1e9 == pytest.approx(expected.high, abs=1e-3)


def test_of_half_a_population_the_interval_is_that_of_twice_the_sample() -> None:
    """The correction halves the variance, so that the effective size doubles: Wilson's interval of 2 (n - 1), by hand."""
    there = np.arange(80) < 24
    number = number_of(Sample(np.zeros(80, np.int64), np.array([160.0])), there, np.ones(80, bool), 160)
    size, share, z = 2 * 79, 0.3, stats.norm.ppf(0.975)
    middle, half = share + z**2 / (2 * size), z * np.sqrt(share * (1 - share) / size + z**2 / (4 * size**2))
    assert number.low / 160 == pytest.approx((middle - half) / (1 + z**2 / size), abs=1e-6)
    assert number.high / 160 == pytest.approx((middle + half) / (1 + z**2 / size), abs=1e-6)


def test_what_was_drawn_as_a_whole_is_known() -> None:
    truth, _, stratum, zone = town(400, 3)
    sample, at = drawn(stratum, np.bincount(stratum, minlength=8), np.random.default_rng(0))
    for k in range(4):
        for inside in (np.ones(400, bool), zone == 2):
            number = number_of(sample, truth[at] == k, inside[at], int(inside.sum()))
            assert number.value == pytest.approx((truth[inside] == k).sum())
            assert (number.low, number.high) == (pytest.approx(number.value), pytest.approx(number.value))


def test_intervals_hold_no_number_that_the_sample_rules_out() -> None:
    truth, _, stratum, zone = town(300, 4)
    rng = np.random.default_rng(5)
    for _ in range(30):
        sample, at = drawn(stratum, np.minimum(6, np.bincount(stratum, minlength=8)), rng)
        inside = zone == 1
        for k in range(4):
            number = number_of(sample, truth[at] == k, inside[at], int(inside.sum()))
            seen = (truth[at] == k) & inside[at]
            assert seen.sum() <= number.low <= number.value <= number.high <= inside.sum() - (inside[at] & ~seen).sum()
    none = number_of(sample, truth[at] == 0, np.zeros(len(at), bool), 40)
    assert none.units == 0
    assert np.isnan(none.value)


def test_more_units_narrow_the_interval() -> None:
    truth, _, stratum, _ = town(5000, 6)
    widths = []
    for count in (10, 40, 90):
        sample, at = drawn(stratum, np.full(8, count), np.random.default_rng(1))
        number = number_of(sample, truth[at] == 1, np.ones(len(at), bool), 5000)
        widths.append(number.high - number.low)
    assert all(more < less for less, more in pairwise(widths))


@pytest.mark.parametrize(("size", "units", "least"), [(5000, 200, 10), (400, 100, 8)])
def test_intervals_cover_the_truth_in_95_of_100_samples(size: int, units: int, least: int) -> None:
    """In all and in a zone of a fifth; a zone of 80 buildings with some 20 units may be at 88, as docs/change.md says."""
    truth, _, stratum, zone = town(size, 0)
    sizes = np.bincount(stratum, minlength=8)
    wanted = allocate(units, sizes / sizes.sum(), sizes, "proportional", least=least)
    rng, draws = np.random.default_rng(1), 400
    held = {"all": np.zeros(4), "zone": np.zeros(4)}
    for _ in range(draws):
        sample, at = drawn(stratum, wanted, rng)
        for name, inside in (("all", np.ones(size, bool)), ("zone", zone == 0)):
            for k in range(4):
                number = number_of(sample, truth[at] == k, inside[at], int(inside.sum()))
                held[name][k] += number.low - 1e-9 <= (truth[inside] == k).sum() <= number.high + 1e-9
    # Two standard errors of a share of 95 % in 400 draws are 2.2 %.
    assert (held["all"] / draws).min() > 0.925
    assert (held["zone"] / draws).mean() > 0.925
    assert (held["zone"] / draws).min() > 0.85
