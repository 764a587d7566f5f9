"""Pixels and areas by class code."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geoseg.georeference import Georeference
from geoseg.summaries.code_counts import count_codes
from geoseg.windows import Window

__all__ = ["areas_at", "measure_codes", "pixel_areas"]

CELL = 256
"""Side in pixels of the largest squares over which the size of pixels is taken as even."""
CELL_M = 20_000.0
"""And in metres: over more, most projections change the size of pixels too much."""
TURNED_M = 2_500.0
"""The same in degrees of a rotated pole, or of a turned image, whose pixels shrink along its own parallels."""


def measure_codes(
    classes: NDArray[np.uint8], core: Window, georeference: Georeference
) -> tuple[dict[str, int], dict[str, float]]:
    """Pixels and square metres by code; without a CRS, no square metres."""
    pixels, area = np.zeros(256, np.int64), np.zeros(256)
    cells, sizes = _cells(georeference, core)
    for cell, size in zip(cells, sizes.tolist(), strict=True):
        counts = count_codes(classes[cell.slices_in(core)])
        pixels += counts
        area += size * counts
    found = np.flatnonzero(pixels).tolist()
    return {str(code): int(pixels[code]) for code in found}, (
        {} if georeference.crs is None else {str(code): float(area[code]) for code in found}
    )


def pixel_areas(place: Georeference, window: Window) -> NDArray[np.float64]:
    """(h, w) square metres of each pixel, as ``measure_codes`` has them; 1 without a CRS."""
    found = np.empty(window.shape)
    for cell, size in zip(*_cells(place, window), strict=True):
        found[cell.slices_in(window)] = size
    return found


def _cells(place: Georeference, window: Window) -> tuple[list[Window], NDArray[np.float64]]:
    """Parts of a window with pixels of the same size, and that size.

    Where rows are parallels, each row has its own; elsewhere these are squares of the raster's own lattice, so that no pixel's
    size depends on the window.
    """
    _, b, _, d, _, _ = place.transform
    if place.crs is not None and place.is_geographic and b == 0 == d:
        rows = np.arange(window.row_off, window.row_stop)
        cells = [Window.at((row, window.col_off), (1, window.width)) for row in rows.tolist()]
        return cells, areas_at(place, rows.astype(np.float64) + 0.5, np.full(len(rows), 0.5))
    side = CELL if place.crs is None else _side(place)
    lattice_rows, lattice_cols = window.cells((side, side))
    squares = [Window.cell((row, col), (side, side)) for row in lattice_rows for col in lattice_cols]
    cells = [cell for square in squares if (cell := square & window) is not None]
    if place.crs is None:
        return cells, np.ones(len(cells))
    middle = np.array([(square.row_off, square.col_off) for square in squares]) + side / 2
    return cells, areas_at(place, middle[:, 0], middle[:, 1])


def areas_at(place: Georeference, rows: NDArray[np.float64], cols: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) square metres of a pixel at each place; there is a CRS."""
    j = place.jacobian(rows, cols)
    return np.asarray(np.abs(j[0, 0] * j[1, 1] - j[0, 1] * j[1, 0]))


def _side(place: Georeference) -> int:
    """Pixels of a side of the squares: a power of two."""
    pixel, side = place.nominal_pixel_m, CELL
    most = CELL_M if place.is_projected else TURNED_M
    while side > 1 and side * pixel > most:
        side //= 2
    return side
