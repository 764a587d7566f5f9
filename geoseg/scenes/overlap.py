"""Overlap of two grids, and the distance between them."""

from __future__ import annotations

import numpy as np

from geoseg.arrays import F64
from geoseg.crs import between
from geoseg.georeference import Georeference
from geoseg.windows import Window

__all__ = ["SAME_PLACE_PX", "common_window", "farthest", "outline_in", "share_ground"]

SAME_PLACE_PX = 0.01
"""Grids whose corners differ by less than this part of a pixel are the same."""
LEAST_SHARE = 1e-6
"""Grids that have less than this part of the smaller one in common lie side by side."""
POINTS = 33
"""Points on each side of an outline: sides bend between two CRSs."""

Shape = tuple[int, int]


def outline_in(grid: Georeference, one: Georeference, shape: Shape, *, points: int = POINTS) -> F64:
    """(N, 2) rows and cols in a grid of the outline of another one; not finite where a point has no place there."""
    height, width = shape
    along, none = np.linspace(0, 1, points)[:-1], np.zeros(points - 1)
    rows = np.concatenate([none, along, none + 1, 1 - along]) * height
    cols = np.concatenate([along, none + 1, 1 - along, none]) * width
    xy = one.xy(rows, cols)
    x, y = xy[:, 0], xy[:, 1]
    if one.crs is not None and grid.crs is not None and one.crs != grid.crs:
        x, y = between(one.crs, grid.crs).transform(x, y)
    cols, rows = grid.inverse @ (x, y)
    return np.stack([rows, cols], axis=1)


def farthest(one: Georeference, other: Georeference, shape: Shape) -> float:
    """The largest distance of two grids of one shape, in pixels of the first, at their corners."""
    here = np.array([(0, 0), (0, shape[1]), shape, (shape[0], 0)], np.float64)
    away = np.abs(outline_in(one, other, shape, points=2) - here)
    return float(away.max()) if np.isfinite(away).all() else float("inf")


def share_ground(one: Georeference, shape: Shape, other: Georeference, other_shape: Shape) -> bool:
    """Whether two grids overlap; True where that can't be told, because neither has a place in the CRS of the other."""
    import shapely

    for grid, size, moving, moving_shape in ((one, shape, other, other_shape), (other, other_shape, one, shape)):
        outline = outline_in(grid, moving, moving_shape)
        if np.isfinite(outline).all():
            shape_there = shapely.make_valid(shapely.Polygon(outline))
            here = shapely.box(0, 0, *size)
            common = shapely.area(shapely.intersection(shape_there, here))
            return bool(common >= LEAST_SHARE * min(shapely.area(shape_there), size[0] * size[1]))
    return True


def common_window(one: Georeference, shape: Shape, other: Georeference, other_shape: Shape) -> Window:
    """The part of a grid around all that it has in common with another one; all of it where that can't be told."""
    whole = Window.of(shape)
    outline = outline_in(one, other, other_shape)
    if not np.isfinite(outline).all():
        return whole
    row, col = np.floor(np.clip(outline.min(axis=0), 0, shape)).astype(int).tolist()
    row_stop, col_stop = np.ceil(np.clip(outline.max(axis=0), 0, shape)).astype(int).tolist()
    if row_stop <= row or col_stop <= col:
        return whole
    return Window.at((row, col), (row_stop - row, col_stop - col))
