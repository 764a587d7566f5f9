"""Origins: whatever the blocks, a region is of the scenes of all of its pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from geoseg.codes import NO_SOURCE
from geoseg.georeference import Georeference
from geoseg.polygons.block_grid import BlockGrid
from geoseg.polygons.blocks import polygonize_block, polygonize_uniform
from geoseg.polygons.origins import Origins
from geoseg.polygons.seams import OpenIndex, join_parts

SHAPE = 41, 53
NAMES, DATES = ("a", "b", "c"), ("2021-01-01", None, "2019-01-01")


@pytest.mark.parametrize("side", [16, 64])
@given(seed=st.integers(0, 10**6), coarse=st.sampled_from([1, 5, 20]))
def test_of_all_pixels_of_a_region(side: int, seed: int, coarse: int) -> None:
    random = np.random.default_rng(seed)
    classes, sources = (
        np.kron(random.integers(0, 3, (60 // coarse + 1, 60 // coarse + 1)), np.ones((coarse, coarse), np.int64))[
            : SHAPE[0], : SHAPE[1]
        ]
        for _ in range(2)
    )
    classes, sources = classes.astype(np.uint8), sources.astype(np.uint16)
    sources[random.random(SHAPE) < 0.1] = NO_SOURCE
    grid, place = BlockGrid(*SHAPE, side), Georeference((1, 0, 0, 0, 1, 0), None)
    origins = Origins(lambda window: sources[window.slices], NAMES, DATES)
    found: dict[int, tuple[str, str | None]] = {}
    parts = {}
    for block in range(len(grid)):
        framed = classes[grid.framed(block).slices]
        if (framed == framed[0, 0]).all():
            one, given_classes = polygonize_uniform(grid, block, int(framed[0, 0]), None, place, {0, 1, 2}), None
        else:
            one, given_classes = polygonize_block(grid, block, framed, None, place, {0, 1, 2}), framed
        one = origins.of_block(grid, one, given_classes)
        found |= zip(
            one.closed_measures.anchor.tolist(), zip(*origins.texts(one.closed_measures.origin), strict=True), strict=True
        )
        parts[block] = one.open
    index = {block: OpenIndex.of(some) for block, some in parts.items()}
    for joined in join_parts(grid, index, parts.__getitem__, unite_origins=origins.united):
        found |= zip(joined.measures.anchor.tolist(), zip(*origins.texts(joined.measures.origin), strict=True), strict=True)
    wanted = {}
    for code in range(3):
        labels, count = ndimage.label(classes == code)
        for label in range(1, count + 1):
            inside = labels == label
            numbers = [number for number in np.unique(sources[inside]).tolist() if number != NO_SOURCE]
            dates = sorted(date for number in numbers if (date := DATES[number]) is not None)
            told = None if not dates else dates[0] if len(dates) == 1 else f"{dates[0]}/{dates[-1]}"
            wanted[int(np.flatnonzero(inside)[0])] = ", ".join(NAMES[number] for number in numbers), told
    assert found == wanted
