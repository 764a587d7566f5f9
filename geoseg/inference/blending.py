"""Weights with which tiles that overlap are blended."""

from __future__ import annotations

import numpy as np

from geoseg.arrays import F32, F64
from geoseg.grid import Axis, Chunk, Grid, Tile
from geoseg.windows import Window

__all__ = ["taper", "weighted_part"]


def weighted_part(grid: Grid, chunk: Chunk, tile: Tile) -> tuple[Window, tuple[slice, slice], F32]:
    """What a tile that touches a chunk's core gives to it.

    Returns:
        The window that both share, rows and columns of the tile's window that lie there, and their weights (h, w).
    """
    common = tile.window & chunk.core
    assert common is not None
    rows, cols = common.slices_in(tile.window)
    return common, (rows, cols), np.outer(taper(grid.rows, tile.row)[rows], taper(grid.cols, tile.col)[cols])


def taper(axis: Axis, tile: int) -> F32:
    """Weights of a tile along one axis: Hann ramps where it overlaps its neighbours, which add up to 1 with theirs.

    What a tile that was moved inward sees beyond its halo has no weight.
    """
    start, stop = axis.window(tile)
    position = np.asarray(np.arange(start, stop) + 0.5, np.float64)
    first, last = axis.start(tile) - axis.halo, axis.start(tile + 1) + axis.halo
    weights = ((position > first) & (position < last)).astype(np.float64)
    if axis.halo:
        if tile > 0:
            weights *= _ramp(position - first, 2 * axis.halo)
        if tile < axis.tiles - 1:
            weights *= 1 - _ramp(position - (axis.start(tile + 1) - axis.halo), 2 * axis.halo)
    return weights.astype(np.float32)


def _ramp(position: F64, length: int) -> F64:
    """From 0 to 1 along a rising half of a Hann window."""
    return np.asarray(np.sin(np.pi / 2 * np.clip(position / length, 0, 1)) ** 2, np.float64)
