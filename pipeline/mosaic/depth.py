"""Distances of pixels from the edges of the scene that they are of."""

from __future__ import annotations

import numpy as np

from geoseg.arrays import F64, I32
from geoseg.crs import between
from geoseg.windows import Window
from pipeline.mosaic.lattice import Lattice
from pipeline.mosaic.scenes import PlacedScene

__all__ = ["edge_distances"]

NODES = 32
"""Pixels between the places of the lattice for which the place in a resampled scene is computed; bilinear in between."""


def edge_distances(scene: PlacedScene, lattice: Lattice, window: Window) -> I32:
    """(4, h, w) pixels of the lattice between a pixel and each of the four sides of its scene, the least first.

    Compared one after the other they say which of several scenes a pixel lies deepest in: where the nearest sides are equally
    far, as where scenes side by side end on one line, the next ones decide.
    """
    if scene.direct:
        rows, cols = np.arange(window.row_off, window.row_stop)[:, None], np.arange(window.col_off, window.col_stop)[None]
        image = scene.image
        sides = [rows - image.row_off, image.row_stop - 1 - rows, cols - image.col_off, image.col_stop - 1 - cols]
        up, down, left, right = (side.astype(np.int32) for side in sides)
    else:
        row, col = _own_place(scene, lattice, window)
        height, width = scene.shape
        here = lattice.georeference(scene.image.row_off, scene.image.col_off)
        own, its = here.pixel_size(*scene.image.shape), scene.place.pixel_size(*scene.shape)
        assert own is not None
        assert its is not None
        scale = its / own
        up, down, left, right = (np.floor(side * scale).astype(np.int32) for side in (row, height - row, col, width - col))
    near, far = np.minimum(up, down), np.maximum(up, down)
    beside, across = np.minimum(left, right), np.maximum(left, right)
    between_near, between_far = np.maximum(near, beside), np.minimum(far, across)
    parts = (
        np.minimum(near, beside),
        np.minimum(between_near, between_far),
        np.maximum(between_near, between_far),
        np.maximum(far, across),
    )
    return np.stack([np.broadcast_to(part, window.shape) for part in parts])


def _own_place(scene: PlacedScene, lattice: Lattice, window: Window) -> tuple[F64, F64]:
    """(h, w) rows and (h, w) columns of a scene's own pixels at the middles of the pixels of a window."""
    first = window.row_off // NODES, window.col_off // NODES
    last = -(-window.row_stop // NODES), -(-window.col_stop // NODES)
    rows, cols = (np.arange(a, b + 1, dtype=np.float64) * NODES for a, b in zip(first, last, strict=True))
    grid_rows, grid_cols = (g.ravel() for g in np.meshgrid(rows, cols, indexing="ij"))
    xy = lattice.georeference().xy(grid_rows, grid_cols)
    assert scene.place.crs is not None
    if scene.place.crs != lattice.crs:
        xy = np.stack(between(lattice.crs, scene.place.crs).transform(xy[:, 0], xy[:, 1]), axis=1)
    shape = len(rows), len(cols)
    along_rows = _weights(window.row_off, window.height, first[0], len(rows))
    along_cols = _weights(window.col_off, window.width, first[1], len(cols))
    row, col = (along_rows @ nodes.reshape(shape) @ along_cols.T for nodes in scene.place.rows_cols(xy))
    return row, col


def _weights(start: int, length: int, first: int, count: int) -> F64:
    """(length, nodes) weights of the nodes for the middle of each pixel."""
    position = (np.arange(start, start + length) + 0.5) / NODES - first
    return np.asarray(np.maximum(0.0, 1 - np.abs(position[:, None] - np.arange(count)[None])))
