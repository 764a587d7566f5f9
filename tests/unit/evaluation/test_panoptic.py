"""Panoptic quality where it turns: segments match above one half, void does not count."""

from __future__ import annotations

import numpy as np
import pytest

from geoseg.evaluation.instances import Overlaps, match
from geoseg.evaluation.panoptic import PanopticTally


def tally(found: list[int], truth: list[int], known: list[bool] | None = None) -> PanopticTally:
    """Objects of class 0 by number along a row; where it is 0 is class 1, which has no objects."""
    rows = [np.array([numbers]) for numbers in (found, truth)]
    where = np.ones(rows[0].shape, np.bool_) if known is None else np.array([known])
    a, b = ((np.where(numbers > 0, 0, 1), numbers) for numbers in rows)
    return PanopticTally.of(2, a, b, where)


@pytest.mark.parametrize(("common", "matches"), [(3, 0), (4, 0), (5, 1), (6, 1)])
def test_segments_match_above_one_half_and_not_at_it(common: int, matches: int) -> None:
    # 6 pixels against 6: 4 in common are a half of 8.
    found = [1] * 6 + [0] * 6
    truth = [0] * (6 - common) + [1] * 6 + [0] * common
    result = tally(found, truth)
    iou = common / (12 - common)
    assert result.matches[0] == matches
    assert result.iou[0] == pytest.approx(iou if matches else 0)
    assert result.found[0] == result.truth[0] == 1
    assert result.quality[0] == pytest.approx(iou if matches else 0)


def test_what_lies_where_nothing_is_known_is_left_out() -> None:
    # Of 8 pixels 4 are in void: the union is that of the others, and half in void is not more than half.
    result = tally([1] * 8, [2] * 3 + [0] * 5, [True] * 4 + [False] * 4)
    assert result.iou[0] == pytest.approx(3 / 4)
    # Another segment that matches nothing counts, unless more than half of it is in void.
    for void, counted in ((2, 1), (3, 0)):
        found = tally([1] * 4, [0] * 4, [True] * (4 - void) + [False] * void)
        assert found.found[0] == counted


def test_regions_of_a_class_are_one_segment() -> None:
    found, truth = np.array([[0, 1, 0, 1]]), np.array([[0, 0, 0, 1]])
    none = np.zeros_like(found)
    result = PanopticTally.of(2, (found, none), (truth, none), np.ones(found.shape, np.bool_))
    assert result.truth.tolist() == [1, 1]
    assert result.iou.tolist() == pytest.approx([2 / 3, 0])  # 1 of class 1 in common of 2 is a half


def test_objects_match_from_one_half_on() -> None:
    areas = np.array([6.0])
    for common, matches in ((3.9, 0), (4.0, 1)):
        overlaps = Overlaps(np.array([0]), np.array([0]), np.array([common]), areas, areas)
        assert len(match(overlaps, np.ones(1)).found) == matches


def test_the_surer_object_takes_what_it_overlaps_most() -> None:
    overlaps = Overlaps(
        np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([7.0, 8.0, 9.0]), np.array([10.0, 10.0]), np.array([10.0, 10.0])
    )
    sure_first = match(overlaps, np.array([0.9, 0.5]), iou=0.5)
    assert dict(zip(sure_first.found.tolist(), sure_first.truth.tolist(), strict=True)) == {0: 1, 1: 0}
    assert sure_first.iou.tolist() == pytest.approx([8 / 12, 9 / 11])


def test_of_two_objects_that_want_one_the_surer_gets_it() -> None:
    areas = np.array([10.0, 10.0])
    overlaps = Overlaps(np.array([0, 1]), np.array([0, 0]), np.array([7.0, 9.0]), areas, areas[:1])
    for score, taker in (([0.9, 0.5], 0), ([0.5, 0.9], 1), ([0.5, 0.5], 0)):
        found = match(overlaps, np.array(score))
        assert (found.found.tolist(), found.truth.tolist()) == ([taker], [0])
