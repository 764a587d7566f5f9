"""The worked examples of the papers to their printed digits, and intervals that cover the truth as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from geoseg.codes import MAX_CLASS
from geoseg.errors import ConfigError
from geoseg.procedural import Frontier
from geoseg.sampling.design import allocate, size_for
from geoseg.sampling.estimators import Accuracy, Sample, accuracy, ratio, shares_of_blocks
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
    with pytest.raises(ConfigError, match="give 100 or more"):
        allocate(60, np.array([0.5, 0.5]), np.array([1000, 2000]), "proportional", least=50)
    # A stratum that is smaller than its share gives all it has.
    assert allocate(100, np.array([0.5, 0.5]), np.array([10, 2000]), "equal").tolist() == [10, 90]


DRAWS = 1000


@pytest.fixture(scope="module")
def truth_and_map() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Changes of a procedural place, and a map with errors of a kind that networks make: borders, and losses where there are none."""
    before, after = (Frontier(768, 768, 3, collar=False, years=years).window(Window(0, 0, 768, 768))[1] for years in (0, 9))
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
            "stratified": np.where(around, 4, flat_map), "other strata": np.roll(flat_map, 700), "simple random": np.zeros_like(flat_map),
        }[kind]  # fmt: skip
        _, strata = np.unique(strata, return_inverse=True)
        size = np.bincount(strata)
        members = [np.flatnonzero(strata == h) for h in range(len(size))]
        counts = {"stratified": 120, "other strata": 150, "simple random": 700}[kind]
        for _ in range(DRAWS):
            units = np.concatenate([rng.choice(m, min(counts, len(m)), replace=False) for m in members])
            sample = Sample(strata[units], size.astype(float))
            found.append(accuracy(sample, flat_map[units], flat_truth[units], 4).shares[2] if kind == "simple random" else
                         ratio(sample, (flat_truth[units] == 2).astype(float), np.ones(len(units))))  # fmt: skip
    assert np.mean([e.value for e in found]) == pytest.approx(share, abs=4 * np.std([e.value for e in found]) / np.sqrt(DRAWS))
    assert 0.93 <= covered(found, share) <= 0.97
