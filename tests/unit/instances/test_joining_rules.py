"""When two views are one object, and when one of them gives way: at the shares that are written, and at no others."""

from __future__ import annotations

import numpy as np
import pytest

from geoseg.grid import Grid
from geoseg.instances.joining import join_objects, objects_of_tile
from geoseg.instances.objects import Objects

GRID = Grid(20, 60, tile=40, halo=10, stride=1)
"""Three tiles in a row with cores of 20 columns: the first sees columns 0 to 30, the second 10 to 50."""


def seen(tile: int, *boxes: tuple[int, int, int, int], code: int = 1, score: float = 0.9) -> Objects:
    """What a tile finds: rectangles (row, row stop, col, col stop) of the scene."""
    place = GRID.tile_at(0, tile)
    window = place.window & GRID.scene
    assert window is not None
    labels = np.zeros(window.shape, np.int32)
    for number, (top, bottom, left, right) in enumerate(boxes, start=1):
        labels[top:bottom, left - window.col_off : right - window.col_off] = number
    count = len(boxes)
    return objects_of_tile(
        GRID, place, labels, np.full(count, code, np.uint8), np.full(count, score, np.float32), np.full((count, 3), 90, np.uint8)
    )


def joined(*found: Objects) -> Objects:
    return Objects.concatenate(list(join_objects(GRID, lambda: found)))


def test_parts_that_agree_exactly_by_half_are_joined() -> None:
    # In columns 10 to 30 the first has rows 0 to 10, the second rows 0 to 5 (10 * 20 against 5 * 20: one half).
    half = joined(seen(0, (0, 10, 10, 30)), seen(1, (0, 5, 10, 50)))
    assert half.masks.boxes.tolist() == [[0, 10, 10, 50]]
    assert not half.is_cut[0]
    less = joined(seen(0, (0, 11, 10, 30)), seen(1, (0, 5, 10, 50)))
    assert less.is_cut.all()
    assert [0, 11, 10, 50] not in less.masks.boxes.tolist()


def test_parts_that_agree_by_three_quarters_are_joined() -> None:
    result = joined(seen(0, (0, 8, 10, 30)), seen(1, (0, 6, 10, 50)))
    assert len(result) == 1
    assert not result.is_cut[0]
    # Each tile decides in its own core: columns 0 to 20, and 20 to 40.
    assert result.masks.pixels[0] == 8 * 10 + 6 * 30
    assert result.masks.boxes[0].tolist() == [0, 8, 10, 50]


def test_parts_of_other_classes_are_not_joined() -> None:
    result = joined(seen(0, (0, 8, 10, 30), code=1), seen(1, (0, 12, 10, 50), code=2))
    # The first, which comes first of equals, keeps what both have.
    assert dict(zip(result.code.tolist(), result.masks.pixels.tolist(), strict=True)) == {1: 8 * 20, 2: 12 * 40 - 8 * 20}


@pytest.mark.parametrize(("width", "left"), [(8, 2), (6, 2), (5, 2), (4, 1)])
def test_a_view_that_a_better_one_covers_by_half_gives_way(width: int, left: int) -> None:
    # The better view lies whole in its tile's core, two columns wide; the other goes on over the border of the core.
    result = joined(seen(0, (0, 10, 17, 19)), seen(1, (0, 10, 17, 17 + width)))
    assert len(result) == left
    # What both have goes to the better one.
    assert sorted(result.masks.pixels.tolist()) == ([20, 10 * width - 20] if left == 2 else [20])
    assert not result.is_cut.any()


def test_a_view_is_covered_by_all_better_ones_together() -> None:
    # A quarter of it each: together they are half of it.
    parts = seen(0, (0, 5, 17, 19), (5, 10, 17, 19))
    assert len(joined(parts, seen(1, (0, 10, 17, 21)))) == 2
    assert len(joined(parts, seen(1, (0, 10, 17, 22)))) == 3


def test_less_than_half_is_not_enough() -> None:
    # 5 of 11 columns are covered, then 5 of 10.
    assert len(joined(seen(0, (0, 10, 14, 19)), seen(1, (0, 10, 14, 25)))) == 2
    assert len(joined(seen(0, (0, 10, 14, 19)), seen(1, (0, 10, 14, 24)))) == 1


def test_a_tile_speaks_of_what_reaches_its_core_and_knows_what_is_cut() -> None:
    # The first tile sees columns 0 to 30 and owns 0 to 20.
    found = seen(0, (0, 4, 0, 5), (5, 9, 18, 25), (10, 14, 19, 30), (15, 20, 2, 6), (0, 4, 22, 28), (15, 19, 21, 25))
    assert found.masks.boxes.tolist() == [[0, 4, 0, 5], [5, 9, 18, 25], [10, 14, 19, 30], [15, 20, 2, 6]]
    # Only the border behind which the scene goes on cuts.
    assert found.is_cut.tolist() == [False, False, True, False]
    last = seen(2, (0, 4, 50, 60), (5, 20, 30, 45))
    assert last.is_cut.tolist() == [False, True]
