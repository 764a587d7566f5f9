"""Polygons joined in groups are those that are joined at once."""

from __future__ import annotations

import numpy as np
import pytest
from support import patchy

from geoseg.georeference import Georeference
from geoseg.polygons import seams
from geoseg.polygons.block_grid import BlockGrid
from geoseg.polygons.blocks import polygonize_block
from geoseg.polygons.seams import Joined, OpenIndex, join_parts

FLAT = Georeference((1, 0, 0, 0, 1, 0), None)
SHAPE, SIDE = (150, 170), 32


def joined(classes: np.ndarray, confidence: np.ndarray, max_vertices: int | None) -> list[Joined]:
    grid = BlockGrid(*SHAPE, SIDE)
    parts = {
        i: polygonize_block(
            grid, i, np.ascontiguousarray(classes[grid.framed(i).slices]), confidence[grid.core(i).slices], FLAT, range(254)
        ).open
        for i in range(len(grid))
    }
    index = {i: OpenIndex.of(p) for i, p in parts.items()}
    return list(join_parts(grid, index, parts.__getitem__, max_vertices=max_vertices))


@pytest.mark.parametrize("max_vertices", [None, 40])
@pytest.mark.parametrize("seed", range(4))
def test_groups_join_what_one_group_joins(monkeypatch: pytest.MonkeyPatch, seed: int, max_vertices: int | None) -> None:
    random = np.random.default_rng(seed)
    classes = patchy(*SHAPE, 3, seed)
    confidence = random.integers(0, 101, SHAPE).astype(np.uint8)
    (whole,) = joined(classes, confidence, max_vertices)
    asked: list[int] = []
    link = seams.link

    def counted(*given: object) -> object:
        asked.append(1)
        return link(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(seams, "link", counted)
    monkeypatch.setattr(seams, "LINKED_VERTICES", 64)
    monkeypatch.setattr(seams, "MERGED_AT_ONCE", 3)
    (grouped,) = joined(classes, confidence, max_vertices)
    assert len(asked) > 3
    for one, other in ((whole.polygons, grouped.polygons), (whole.measures, grouped.measures)):
        for name in type(one).__slots__:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_array_equal(whole.part, grouped.part)
    # In batches, too, which are whole groups.
    monkeypatch.setattr(seams, "BATCH_VERTICES", 4 * 64)
    batches = joined(classes, confidence, max_vertices)
    assert 1 < len(batches) < len(asked)
    anchors = np.concatenate([batch.measures.anchor for batch in batches])
    np.testing.assert_array_equal(anchors, whole.measures.anchor)


def test_percentiles_are_those_of_all_pixels_of_a_polygon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seams, "MERGED_AT_ONCE", 2)
    random = np.random.default_rng(3)
    values = [random.integers(0, 101, random.integers(1, 60)) for _ in range(40)]
    component = np.concatenate([np.arange(7), random.integers(0, 7, 33)])
    histograms = np.stack([np.bincount(v, minlength=101) for v in values]).astype(np.uint32)
    found = seams._percentiles(histograms, component.astype(np.int64), 7)
    for polygon in range(7):
        pixels = np.sort(np.concatenate([v for v, c in zip(values, component, strict=True) if c == polygon]))
        assert found[polygon] == pixels[(len(pixels) + 9) // 10 - 1]
