"""Which scene a pixel is of: the rules, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.mosaicking import Combine
from pipeline.mosaic.combine import UNCHOSEN, Part, choose, merged

RULES: tuple[Combine, ...] = ("latest", "best", "majority")


def expected(parts: list[Part], combine: Combine, row: int, col: int) -> tuple[int, int]:
    """Index and class of one pixel, by the words of the settings."""
    seen = [(k, int(p.bands[0, row, col]), int(p.bands[1, row, col])) for k, p in enumerate(parts)]
    able = [one for one in seen if one[1] <= 253]
    if not able:
        return UNCHOSEN, 254 if any(code == 254 for _, code, _ in seen) else 255
    if combine == "majority":
        votes = [code for _, code, _ in able]
        most = max(votes.count(code) for code in votes)
        able = [one for one in able if votes.count(one[1]) == most]
    if combine == "best":
        highest = max(confidence for _, _, confidence in able)
        able = [one for one in able if one[2] == highest]

    def depth(index: int) -> list[int]:
        found = parts[index].depth
        return [] if found is None else found[:, row, col].tolist()

    deepest = max(depth(k) for k, _, _ in able)
    index, code, _ = next(one for one in able if depth(one[0]) == deepest)
    return index, code


@pytest.mark.parametrize("combine", RULES)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 6), with_depth=st.booleans())
def test_each_pixel_is_of_the_scene_that_the_rule_names(combine: Combine, seed: int, count: int, with_depth: bool) -> None:
    random = np.random.default_rng(seed)
    parts = []
    for _ in range(count):
        bands = np.stack([random.choice([0, 1, 7, 253, 254, 255], (5, 6)), random.integers(0, 4, (5, 6))]).astype(np.uint8)
        depth = np.sort(random.integers(0, 3, (4, 5, 6)), axis=0).astype(np.int32)
        parts.append(Part(bands, depth if with_depth else None))
    chosen = choose(parts, combine)
    classes = merged(parts, chosen)[0]
    for row, col in np.ndindex(5, 6):
        assert (chosen[row, col], classes[row, col]) == expected(parts, combine, row, col)
