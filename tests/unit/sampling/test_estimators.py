"""The worked examples of the papers to their printed digits, and intervals that cover the truth as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from geoseg.codes import MAX_CLASS
from geoseg.errors import ConfigError
from geoseg.procedural import Frontier
from geoseg.sampling.design import allocate, expected_se, size_for
from geoseg.sampling.estimators import Accuracy, Sample, accuracy, accuracy_of_blocks, most_unseen, ratio, shares_of_blocks
from geoseg.windows import Window

OLOFSSON = np.array([[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]])
"""Map classes (rows) deforestation, forest gain, stable forest, stable non-forest (Olofsson et al. 2014, Table 8)."""
PIXELS = np.array([200_000, 150_000, 3_200_000, 6_450_000])
HECTARES = 0.09


def of_counts(counts: NDArray[np.int64], size: NDArray[np.int64], *, correction: bool = False) -> Accuracy:
    mapped, reference = (index.repeat(counts.ravel()) for index in (g.ravel() for g in np.indices(counts.shape)))
    return accuracy(Sample(mapped, size.astype(float), correction), mapped, reference, len(counts))


def test_the_example_of_olofsson_2014() -> None:
    found = of_counts(OLOFSSON, PIXELS)

    def both(estimates: tuple) -> list[tuple[float, float]]:
        return [(round(e.value, 2), round(1.96 * e.se, 2)) for e in estimates]

    assert both(found.users) == [(0.88, 0.07), (0.73, 0.10), (0.93, 0.04), (0.96, 0.02)]
    # Half widths are those of equation 7 for these counts; see below.
    assert both(found.producers) == [(0.75, 0.21), (0.85, 0.25), (0.93, 0.03), (0.96, 0.02)]
    assert both((found.overall,)) == [(0.95, 0.02)]
    area = [share.times(PIXELS.sum()) for share in found.shares]
    assert round(area[0].value) == 235_086
    assert [round(a.value * HECTARES) for a in area] == [21_158, 11_686, 285_770, 581_386]
    assert [round(1.96 * a.se * HECTARES) for a in area] == [6_158, 3_756, 15_510, 16_282]
    assert np.round(found.proportions[0], 4).tolist() == [0.0176, 0.0, 0.0013, 0.0011]


def test_the_sample_size_of_olofsson_2014() -> None:
    weight, users = PIXELS / PIXELS.sum(), np.array([0.70, 0.60, 0.90, 0.95])
    deviation = np.sqrt(users * (1 - users))
    total = size_for(weight, deviation, 0.01)
    assert total == 641
    assert allocate(total, weight, PIXELS, "equal").tolist() == [161, 160, 160, 160]
    # Proportional: 13, 10, 205, 413 in the paper.
    assert allocate(total, weight, PIXELS, "proportional").tolist() == [13, 10, 205, 413]
    # 75 for the rare classes, the rest in proportion: 75, 75, 165, 325 in the paper, rounded to fives.
    assert np.abs(allocate(640, weight, PIXELS, "proportional", least=75) - [75, 75, 165, 325]).max() <= 3


def stehman() -> tuple[Sample, NDArray[np.int64], NDArray[np.int64]]:
    """Stehman 2014, Table 2: strata, map and reference of 40 pixels."""
    strata = "A" * 10 + "B" * 10 + "C" * 10 + "D" * 10
    mapped = "A" * 7 + "B" * 3 + "A" + "B" * 11 + "C" * 6 + "BB" + "D" * 10
    reference = "AAAAACBABCA" + "B" * 5 + "AABB" + "C" * 5 + "DDBBA" + "D" * 7 + "CCB"
    codes = [np.array(["ABCD".index(c) for c in text]) for text in (strata, mapped, reference)]
    return Sample(codes[0], np.array([40_000.0, 30_000, 20_000, 10_000])), codes[1], codes[2]


def test_the_example_of_stehman_2014() -> None:
    found = accuracy(*stehman(), 4)
    assert round(found.overall.value, 2) == 0.63
    assert round(found.overall.se, 3) == 0.085
    assert round(found.users[1].value, 3) == 0.574
    assert round(found.users[1].se, 3) == 0.125
    assert round(found.producers[1].value, 3) == 0.794
    assert round(found.producers[1].se, 3) == 0.117  # the paper prints 0.1165
    assert round(found.shares[0].value, 2) == 0.35
    assert round(found.shares[0].se, 3) == 0.082
    assert round(found.shares[2].value, 2) == 0.20
    assert round(found.shares[2].se, 3) == 0.064
    assert round(found.proportions[1, 2], 2) == 0.08


def test_producers_accuracy_is_equation_7_of_olofsson() -> None:
    found, n = of_counts(OLOFSSON, PIXELS), OLOFSSON.sum(axis=1)
    for j in range(4):
        column, users = OLOFSSON[:, j], OLOFSSON[j, j] / n[j]
        total = (PIXELS * column / n).sum()
        p = PIXELS[j] * users / total
        others = [i for i in range(4) if i != j]
        inner = sum(PIXELS[i] ** 2 * (column[i] / n[i]) * (1 - column[i] / n[i]) / (n[i] - 1) for i in others)
        variance = (PIXELS[j] ** 2 * (1 - p) ** 2 * users * (1 - users) / (n[j] - 1) + p**2 * inner) / total**2
        assert found.producers[j].value == pytest.approx(p)
        assert found.producers[j].se == pytest.approx(np.sqrt(variance))


def test_too_few_units_and_impossible_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 2"):
        Sample(np.array([0, 0, 1]), np.array([10.0, 10.0]))
    with pytest.raises(ConfigError, match="3 units in the sample, and 2 in all"):
        Sample(np.array([0, 0, 0]), np.array([2.0]))
    with pytest.raises(ConfigError, match="give fewer"):
        allocate(100, np.array([0.5, 0.5]), np.array([10, 20]), "proportional")
    with pytest.raises(ConfigError, match="the strata have 30 in all; give fewer"):
        allocate(10**30, np.array([0.5, 0.5]), np.array([10, 20]), "proportional")
    with pytest.raises(ConfigError, match="give 100 or more"):
        allocate(60, np.array([0.5, 0.5]), np.array([1000, 2000]), "proportional", least=50)
    # A stratum that is smaller than its share gives all it has.
    assert allocate(100, np.array([0.5, 0.5]), np.array([10, 2000]), "equal").tolist() == [10, 90]


def test_allocations_hold_their_bounds_whatever_the_strata() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        size = rng.integers(1, 300, rng.integers(2, 7)) ** rng.integers(1, 3)
        weight, deviation, least = size / size.sum(), rng.uniform(0.05, 0.5, len(size)), int(rng.integers(2, 60))
        floor = np.minimum(max(least, 2), size)
        total = int(rng.integers(floor.sum(), size.sum() + 1))
        for how in ("equal", "proportional", "neyman"):
            units = allocate(total, weight, size, how, deviation=deviation, least=least)  # type: ignore[arg-type]
            assert units.sum() == total
            assert (units >= floor).all()
            assert (units <= size).all()
    # A stratum at its size and one below its least: what is left belongs to the second.
    assert allocate(56, np.array([0.9, 0.1]), np.array([5, 1000]), "proportional", least=50).tolist() == [5, 51]


def test_neyman_is_the_allocation_of_the_least_standard_error() -> None:
    weight, size, deviation = np.array([0.05, 0.25, 0.7]), np.array([5000, 25_000, 70_000]), np.array([0.5, 0.4, 0.1])
    least = expected_se(weight, deviation, size, allocate(600, weight, size, "neyman", deviation=deviation))
    others = [(a, b, 600 - a - b) for a in range(20, 300, 5) for b in range(20, 560 - a, 5)]
    assert least <= min(expected_se(weight, deviation, size, np.array(units)) for units in others) + 1e-6
    best = allocate(size_for(weight, deviation, 0.01, 1e5), weight, size, "neyman", deviation=deviation)
    assert expected_se(weight, deviation, size, best) == pytest.approx(0.01, rel=2e-3)


def test_what_no_unit_showed_is_possible_up_to_a_share() -> None:
    # Clopper and Pearson 1934: none of 50 is up to 0.0711.
    assert most_unseen(np.ones(1), np.array([50.0])) == pytest.approx(1 - 0.025 ** (1 / 50))
    rng = np.random.default_rng(1)
    for _ in range(20):
        weight, units = rng.random(3), rng.integers(4, 60, 3).astype(float)
        # The bound is the best of all shares under which such a sample is not too improbable: brute force over two of them.
        a, b = np.meshgrid(np.linspace(0, 0.95, 400), np.linspace(0, 0.95, 400))
        rest = 0.025 / ((1 - a) ** units[0] * (1 - b) ** units[1])
        c = np.where(rest <= 1, 1 - np.minimum(rest, 1) ** (1 / units[2]), np.nan)
        best = np.nanmax((weight[0] * a + weight[1] * b + weight[2] * c) / weight.sum())
        assert best <= most_unseen(weight, units) + 1e-12
        assert best == pytest.approx(most_unseen(weight, units), abs=3e-3)
    assert most_unseen(np.array([0.0, 1.0]), np.array([5.0, 10.0])) == pytest.approx(1 - 0.025**0.1)
    assert most_unseen(np.zeros(2), np.array([5.0, 10.0])) == 0


def test_units_that_all_agree_do_not_make_an_interval_of_no_width() -> None:
    mapped = np.arange(3).repeat(50)
    found = accuracy(Sample(mapped, np.array([1e6, 1e5, 1e5])), mapped, mapped, 4)
    for estimate in (found.overall, *found.users[:3], *found.producers[:3]):
        assert (estimate.value, estimate.se) == (1.0, 0.0)
        assert 0.9 < estimate.interval[0] < 0.96
        assert estimate.interval[1] == 1
    # The class that nobody has seen may hide in the large stratum.
    assert found.shares[3].value == found.shares[3].se == found.shares[3].interval[0] == 0
    assert found.shares[3].interval[1] == pytest.approx(most_unseen(np.array([1e6, 1e5, 1e5]), np.full(3, 50.0)))
    assert np.isnan(found.users[3].value)
    # Nothing can hide where all was seen.
    seen = accuracy(Sample(mapped, np.full(3, 50.0)), mapped, mapped, 3)
    assert seen.overall.interval == (1.0, 1.0)


def test_intervals_stay_within_what_is_possible() -> None:
    mapped = np.array([0] * 50 + [1] * 50)
    reference = mapped.copy()
    reference[0] = 1
    found = accuracy(Sample(mapped, np.array([1e5, 1e5])), mapped, reference, 2)
    assert found.users[0].value + 1.96 * found.users[0].se > 1
    assert found.users[0].cut
    assert found.users[0].interval[1] == 1
    assert found.shares[0].times(5e6).interval[1] <= 5e6
    rare = Sample(np.zeros(100, np.int64), np.array([1e6]))
    only = ratio(rare, (np.arange(100) == 0).astype(float), np.ones(100))
    assert only.times(1e4).interval[0] == 0


def test_a_stratum_of_one_unit_is_known_and_adds_no_error() -> None:
    stratum, y = np.array([0, 1, 1, 1, 1]), np.array([1.0, 0, 1, 0, 0])
    for correction in (True, False):
        found = ratio(Sample(stratum, np.array([1.0, 99.0]), correction), y, np.ones(5))
        assert found.value == pytest.approx((1 + 99 * 0.25) / 100)
        rest = 1 - 4 / 99 if correction else 1
        assert found.se == pytest.approx(np.sqrt(99**2 * rest * y[1:].var(ddof=1) / 4) / 100, rel=0.05)


def blocks_of(rng: np.random.Generator, count: int, classes: int, side: int) -> NDArray[np.int64]:
    """(n, K, K) pixels of blocks of unequal size by map and reference, with errors that come together."""
    tables = []
    for _ in range(count):
        share = rng.dirichlet(np.full(classes, 0.4))
        right = rng.beta(4, 1)
        cell = np.diag(share) * right + np.outer(share, rng.dirichlet(np.ones(classes))) * (1 - right)
        tables.append(
            rng.multinomial(int(rng.integers(side, side * side)), (cell / cell.sum()).ravel()).reshape(classes, classes)
        )
    return np.array(tables)


def test_blocks_give_the_whole_error_matrix_as_stehman_1997_computes_it() -> None:
    rng = np.random.default_rng(3)
    tables, stratum, size = blocks_of(rng, 60, 3, 20), np.repeat([0, 1], 30), np.array([400.0, 90.0])
    found = accuracy_of_blocks(Sample(stratum, size), tables, tables * 100.0)
    assert (found.counts == tables.sum(axis=0)).all()

    def oracle(y: NDArray[np.int64], x: NDArray[np.int64]) -> tuple[float, float]:
        """Expanded totals, and the variance from the covariance matrix of each stratum."""
        expand = size[stratum] / 30
        value = (expand * y).sum() / (expand * x).sum()
        variance = 0.0
        for h in (0, 1):
            c = np.cov(y[stratum == h], x[stratum == h])
            variance += size[h] * (size[h] - 30) / 30 * (c[0, 0] + value**2 * c[1, 1] - 2 * value * c[0, 1])
        return value, np.sqrt(variance) / (expand * x).sum()

    right, whole = np.einsum("nii->n", tables), tables.sum(axis=(1, 2))
    pairs = [(found.overall, right, whole)]
    for k in range(3):
        pairs.append((found.users[k], tables[:, k, k], tables[:, k].sum(axis=1)))
        pairs.append((found.producers[k], tables[:, k, k], tables[:, :, k].sum(axis=1)))
        pairs.append((found.shares[k], tables[:, :, k].sum(axis=1), whole))
    for estimate, y, x in pairs:
        assert (estimate.value, estimate.se) == pytest.approx(oracle(y, x), rel=1e-9)
    assert found.proportions.sum() == pytest.approx(1)
    assert found.proportions[1, 2] == pytest.approx(oracle(tables[:, 1, 2], whole)[0])
    # From shares alone, the same areas.
    shares = shares_of_blocks(Sample(stratum, size), tables.sum(axis=1) / whole[:, None], whole.astype(float))
    assert [s.se for s in shares] == pytest.approx([s.se for s in found.shares])


def test_blocks_of_one_pixel_are_points() -> None:
    sample, mapped, reference = stehman()
    tables = np.zeros((40, 4, 4), np.int64)
    tables[np.arange(40), mapped, reference] = 1
    points, blocks = accuracy(sample, mapped, reference, 4), accuracy_of_blocks(sample, tables, tables * 1.0)
    assert (points.counts == blocks.counts).all()
    for one, other in zip(
        (points.overall, *points.users, *points.producers), (blocks.overall, *blocks.users, *blocks.producers), strict=True
    ):
        assert (one.value, one.se) == pytest.approx((other.value, other.se), nan_ok=True)


DRAWS = 1000


@pytest.fixture(scope="module")
def truth_and_map() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Changes of a procedural place, and a map with errors as networks make them: borders, and losses where there are none."""
    before, after = (Frontier(768, 768, 3, collar=False, years=years).window(Window.of((768, 768)))[1] for years in (0, 9))
    known = (before <= MAX_CLASS) & (after <= MAX_CLASS)
    truth = np.where(known, np.array([[0, 3], [2, 1]], np.uint8)[np.where(known, before, 0), np.where(known, after, 0)], 255)
    mapped = np.roll(truth, (1, 2), (0, 1))
    noise = np.random.default_rng(0).random((96, 96)).repeat(8, axis=0).repeat(8, axis=1)
    mapped = np.where((mapped == 1) & (noise > 0.985), 2, mapped)
    return truth.astype(np.uint8), np.where(truth == 255, 255, np.where(mapped == 255, 1, mapped)).astype(np.uint8)


def covered(estimates: list, true: float) -> float:
    return float(np.mean([low <= true <= high for low, high in (e.interval for e in estimates)]))


@pytest.mark.parametrize("kind", ["stratified", "other strata", "simple random", "blocks"])
def test_intervals_cover_the_truth_as_often_as_they_say(
    truth_and_map: tuple[NDArray[np.uint8], NDArray[np.uint8]], kind: str
) -> None:
    truth, mapped = truth_and_map
    inside = truth != 255
    share = (truth[inside] == 2).mean()
    rng = np.random.default_rng(5)
    found = []
    if kind == "blocks":
        side = 16
        cells = [a.reshape(48, side, 48, side).transpose(0, 2, 1, 3).reshape(-1, side * side) for a in (truth, mapped)]
        area = (cells[0] != 255).sum(axis=1).astype(float)
        there = area > 0
        shares = np.stack([(cells[0] == k).sum(axis=1) for k in range(4)], axis=1)[there] / area[there, None]
        area = area[there]
        for _ in range(DRAWS):
            units = rng.choice(len(area), 300, replace=False)
            sample = Sample(np.zeros(len(units), np.int64), np.array([len(area)], float))
            found.append(shares_of_blocks(sample, shares[units], area[units])[2])
    else:
        flat_truth, flat_map = truth[inside].astype(np.int64), mapped[inside].astype(np.int64)
        # Losses that the map has missed lie beside those that it has: without a stratum around them, a unit of the large stratum
        # of stable forest decides, and intervals cover the truth in nine of ten samples only.
        around = ndimage.binary_dilation(mapped == 2, iterations=4)[inside] & (flat_map == 1)
        strata = {
            "stratified": np.where(around, 4, flat_map),
            "other strata": np.roll(flat_map, 700),
            "simple random": np.zeros_like(flat_map),
        }[kind]
        _, strata = np.unique(strata, return_inverse=True)
        size = np.bincount(strata)
        members = [np.flatnonzero(strata == h) for h in range(len(size))]
        counts = {"stratified": 120, "other strata": 150, "simple random": 700}[kind]
        for _ in range(DRAWS):
            units = np.concatenate([rng.choice(m, min(counts, len(m)), replace=False) for m in members])
            sample = Sample(strata[units], size.astype(float))
            found.append(
                accuracy(sample, flat_map[units], flat_truth[units], 4).shares[2]
                if kind == "simple random"
                else ratio(sample, (flat_truth[units] == 2).astype(float), np.ones(len(units)))
            )
    assert np.mean([e.value for e in found]) == pytest.approx(share, abs=4 * np.std([e.value for e in found]) / np.sqrt(DRAWS))
    assert 0.93 <= covered(found, share) <= 0.97


def test_intervals_of_accuracies_from_blocks_cover_the_truth_as_often_as_they_say(
    truth_and_map: tuple[NDArray[np.uint8], NDArray[np.uint8]],
) -> None:
    truth, mapped = truth_and_map
    side = 16
    cells = [a.reshape(48, side, 48, side).transpose(0, 2, 1, 3).reshape(-1, side * side) for a in (truth, mapped)]
    tables = np.zeros((len(cells[0]), 4, 4), np.int64)
    for unit, (there, said) in enumerate(zip(*cells, strict=True)):
        np.add.at(tables[unit], (said[there != 255], there[there != 255]), 1)
    tables = tables[tables.sum(axis=(1, 2)) > 0]
    with_loss = (tables[:, 2].sum(axis=1) > 0).astype(np.int64)
    members = [np.flatnonzero(with_loss == h) for h in (0, 1)]
    size = np.array([len(m) for m in members], float)
    whole = tables.sum(axis=0)
    true = {
        "overall": np.trace(whole) / whole.sum(),
        "users": whole[2, 2] / whole[2].sum(),
        "producers": whole[2, 2] / whole[:, 2].sum(),
        "shares": whole[:, 2].sum() / whole.sum(),
    }
    rng = np.random.default_rng(7)
    found: dict[str, list] = {name: [] for name in true}
    for _ in range(DRAWS):
        units = np.concatenate([rng.choice(m, min(150, len(m) // 2), replace=False) for m in members])
        drawn = accuracy_of_blocks(Sample(with_loss[units], size), tables[units], tables[units].astype(float))
        found["overall"].append(drawn.overall)
        for name in ("users", "producers", "shares"):
            found[name].append(getattr(drawn, name)[2])
    assert {name: covered(found[name], share) for name, share in true.items()} == {
        name: pytest.approx(0.95, abs=0.02) for name in true
    }
