"""Means of probabilities, against fractions of whole numbers, pixel by pixel."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoseg.inference.decision import Decision
from geoseg.inference.fixed_point import ONE, shares_of, to_bytes
from pipeline.mosaic.combine import Part
from pipeline.mosaic.mean import Mean

SHAPE = 5, 6
FEW = (0, ONE // 4, ONE // 2, ONE)


def decision(scores: int, *, thresholds: bool) -> Decision:
    given = (0.25, 0.75, 0.5)[:scores] if thresholds else None
    return Decision((1.0,) * scores, (0.0,) * scores, given, softmax=scores > 1 and not thresholds)


def expected(parts: list[tuple[int, int, list[int]]], rule: Decision) -> tuple[int, int, int, list[int]]:
    """Class, confidence, index of the part, and percents of one pixel, from each part's class, confidence, and shares."""
    able = [k for k, (code, _, _) in enumerate(parts) if code <= 253]
    if not able:
        code = 254 if any(code == 254 for code, _, _ in parts) else 255
        return code, code, 255, [code] * max(2, len(rule.gain))
    means = [Fraction(sum(parts[k][2][score] for k in able), ONE * len(able)) for score in range(len(rule.gain))]
    if len(means) == 1:
        every = [1 - means[0], means[0]]
        best = [int(means[0] >= Fraction(rule.thresholds_or(0.5)[0]))]
    else:
        every = means
        argmax = rule.softmax and rule.thresholds is None
        reached = [k for k, p in enumerate(means) if argmax or p >= Fraction(rule.thresholds_or(0.5)[k])]
        best = [k for k in reached if means[k] == max(means[i] for i in reached)] or [0]
    part = next((k for k in able if parts[k][0] in best), able[0])
    code = parts[part][0] if parts[part][0] in best else min(best)
    percents = [int(100 * p + Fraction(1, 2)) for p in every]
    if len(able) == 1:
        return parts[able[0]][0], parts[able[0]][1], able[0], percents
    return code, percents[code], part, percents


@pytest.mark.parametrize("scores", [1, 3])
@pytest.mark.parametrize("thresholds", [False, True])
@given(seed=st.integers(0, 10**6), count=st.integers(1, 5))
def test_a_mean_is_that_of_the_numbers(scores: int, thresholds: bool, seed: int, count: int) -> None:
    random, rule = np.random.default_rng(seed), decision(scores, thresholds=thresholds)
    parts, shares = [], []
    for _ in range(count):
        bands = np.stack([random.choice([0, 1, max(1, scores - 1), 254, 255], SHAPE), random.integers(0, 100, SHAPE)])
        parts.append(Part(bands.astype(np.uint8)))
        parts[-1].bands[1][parts[-1].classes > 253] = parts[-1].classes[parts[-1].classes > 253]
        shares.append(random.choice(FEW, (scores, *SHAPE)).astype(np.uint16))
    sums = []
    for order in (range(count), reversed(range(count))):
        mean = Mean.empty(rule, SHAPE)
        for k in order:
            mean.add(shares[k], parts[k].analysed, (slice(None), slice(None)))
        sums.append(mean.sums.copy())
    np.testing.assert_array_equal(*sums)
    bands, chosen = mean.decide(parts, probabilities=True)
    for row, col in np.ndindex(SHAPE):
        said = [
            (int(part.bands[0, row, col]), int(part.bands[1, row, col]), own[:, row, col].tolist())
            for part, own in zip(parts, shares, strict=True)
        ]
        code, confidence, part, percents = expected(said, rule)
        assert bands[:, row, col].tolist() == [code, confidence, *percents]
        assert chosen[row, col] == part


@given(seed=st.integers(0, 10**6))
def test_numbers_are_the_nearest(seed: int) -> None:
    random = np.random.default_rng(seed)
    p = random.random((3, *SHAPE)).astype(np.float32)
    p[0, 0, :2] = 0, 1
    stored = to_bytes(p, np.ones(SHAPE, np.bool_))
    assert (stored[:3] < 254).all()
    assert np.abs(shares_of(stored) / ONE - p).max() <= 0.5001 / ONE + 1e-7
    assert shares_of(stored)[0, 0, :2].tolist() == [0, ONE]
    assert (to_bytes(p, np.zeros(SHAPE, np.bool_)) == 255).all()
