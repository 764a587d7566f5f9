"""Maps that end at a line are one over it: polygons of a whole map, cut apart, come together as they were."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio.features
import shapely
from support import patchy

from geoseg.vectors.cut_lines import CutLine, brought_to, groups_over, lines_between, near_lines, united

PIXEL = 1e-4


def whole(seed: int) -> tuple[np.ndarray, list[int]]:
    """Polygons of a class raster around 6 E, 0 N, and their classes."""
    classes = (patchy(120, 160, 200, seed=seed, size=3.0) // 64).astype(np.uint8)
    place = rasterio.Affine(PIXEL, 0, 6 - 80.3 * PIXEL, 0, -PIXEL, 60.4 * PIXEL)
    found = [(shapely.geometry.shape(shape), int(code)) for shape, code in rasterio.features.shapes(classes, transform=place)]
    return np.array([shape for shape, _ in found], object), [code for _, code in found]


def cut(shapes: np.ndarray, codes: list[int], line: CutLine, rng: np.random.Generator) -> tuple[np.ndarray, list[int]]:
    """The two sides of polygons, each up to its own pixels: by steps on either side of the line, of less than half of one."""
    steps = np.arange(-100, 100) * PIXEL
    pieces, kinds = [], []
    for side in (-1, 1):
        edge = line.at + rng.uniform(-0.45, 0.45, len(steps)) * PIXEL
        begin = steps + rng.uniform(0, 1) * PIXEL + (0.0 if line.axis == 0 else 6.0)
        stairs = [(x, y) for x, a, b in zip(edge[:-1], begin[:-1], begin[1:], strict=True) for y in (a, b)]
        far = line.at + side * 1.0
        ring = [(far, stairs[0][1]), *stairs, (far, stairs[-1][1])]
        half = shapely.Polygon(ring if line.axis == 0 else [(y, x) for x, y in ring])
        parts = shapely.intersection(shapes, half)
        for part, code in zip(parts, codes, strict=True):
            for one in shapely.get_parts(part):
                if one.geom_type == "Polygon" and one.area > 0:
                    pieces.append(one)
                    kinds.append(code)
    return np.array(pieces, object), kinds


@pytest.mark.parametrize("line", [CutLine(0, 6.0), CutLine(1, 0.0)])
@pytest.mark.parametrize("seed", range(3))
def test_what_was_cut_apart_is_whole_again(line: CutLine, seed: int) -> None:
    shapes, codes = whole(seed)
    pieces, kinds = cut(shapes, codes, line, np.random.default_rng(seed))
    within = 0.6 * PIXEL, 0.6 * PIXEL
    brought = brought_to(pieces, [line], within)
    there = np.flatnonzero(~shapely.is_empty(brought))
    lost = shapely.bounds(pieces[np.setdiff1d(np.arange(len(pieces)), there)])[:, [line.axis, line.axis + 2]]
    assert (np.abs(lost - line.at) <= 0.6 * PIXEL).all()
    groups = groups_over(brought[there], [kinds[k] for k in there], [line])
    single = np.setdiff1d(np.arange(len(there)), np.concatenate(groups))
    after = [(shape, kinds[there[k]]) for k in single for shape in shapely.get_parts(brought[there[k]])]
    for group in groups:
        assert len({kinds[there[k]] for k in group}) == 1
        parts = united(brought[there[group]])
        assert len(parts) == 1
        after.append((parts[0], kinds[there[group[0]]]))
    for code in set(codes):
        old = shapely.union_all([shape for shape, own in zip(shapes, codes, strict=True) if own == code])
        new = np.array([shape for shape, own in after if own == code], object)
        assert shapely.is_valid(new).all()
        # No place in two polygons, and no two that share a border; within a pixel of the line class borders may lean.
        assert shapely.area(new).sum() == pytest.approx(shapely.union_all(new).area, rel=1e-9)
        on_it = [shape for shape in new if near_lines(np.array([shape], object), [line], (0.0, 0.0))[0]]
        shared = [a.boundary.intersection(b.boundary).length for i, a in enumerate(on_it) for b in on_it[:i]]
        assert max(shared, default=0.0) < PIXEL
        strip = line.shape().buffer(1.5 * PIXEL)
        assert shapely.difference(shapely.symmetric_difference(old, shapely.union_all(new)), strip).area < 1e-3 * old.area
    # All of the ground, once.
    total = shapely.union_all(np.array([shape for shape, _ in after], object))
    assert total.area == pytest.approx(shapely.union_all(shapes).area, rel=2e-3)


def test_maps_meet_where_their_parts_of_the_earth_do() -> None:
    boxes = [
        (-66.0, -90, -60.0, 90),
        (-60.0, -90, -54.0, 0),
        (-60.0, 0, -54.0, 90),
        (174.0, -90, 180.0, 90),
        (-180.0, -90, -174.0, 90),
    ]
    assert lines_between(boxes) == [CutLine(0, -60.0), CutLine(1, 0)]
    assert lines_between(boxes[:1]) == []
