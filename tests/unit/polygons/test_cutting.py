"""Polygons with too many vertices are cut until each piece has few enough, however unevenly they lie."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from geoseg.georeference import Georeference
from geoseg.polygons.block_grid import BlockGrid
from geoseg.polygons.blocks import polygonize_block
from geoseg.polygons.pieces import cut_giants
from geoseg.polygons.rings import Polygons

FLAT = Georeference((1.0, 0.0, 0.0, 0.0, 1.0, 0.0), None)


@pytest.mark.parametrize(("smooth", "most"), [(0, 700), (1, 1000)])
def test_where_vertices_are_dense_cells_are_small(smooth: int, most: int) -> None:
    classes = np.ones((600, 700), np.uint8)
    rng = np.random.default_rng(0)
    classes[40:200, 50:220] = np.kron(rng.random((80, 85)) > 0.3, np.ones((2, 2))).astype(np.uint8)
    found = polygonize_block(BlockGrid(600, 700), 0, classes, None, FLAT, {1}, smooth=smooth)
    giant = int(found.closed.vertices.argmax())
    assert found.closed.vertices[giant] > 4 * most
    parts = cut_giants(found.closed, found.closed_measures, np.zeros(len(found.closed), np.int32), most)
    pieces = Polygons.concatenate([some.polygons for some in parts])
    assert pieces.vertices.max() <= most
    own = np.concatenate([some.measures.anchor for some in parts]) == found.closed_measures.anchor[giant]
    assert pieces.areas[own].sum() == pytest.approx(found.closed.areas[giant], rel=1e-9)
    # Cells lie on a grid from the raster's origin, the largest where little is to be cut.
    shapes = [
        shapely.Polygon(pieces.rc[pieces.rings[first] : pieces.rings[first + 1]])
        for first, is_own in zip(pieces.polygons[:-1], own, strict=True)
        if is_own
    ]
    heights = sorted(shape.bounds[2] - shape.bounds[0] for shape in shapes)
    assert heights[-1] >= 4 * heights[len(heights) // 2]
    part = np.concatenate([some.part for some in parts])
    assert sorted(part[own].tolist()) == list(range(1, int(own.sum()) + 1))
    assert (part[~own] == 0).all()
