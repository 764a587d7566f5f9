"""Pixels and areas by class code."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geoseg.georeference import Georeference
from geoseg.windows import Window

__all__ = ["measure_codes"]

CELL = 256


def measure_codes(
    classes: NDArray[np.uint8], core: Window, georeference: Georeference
) -> tuple[dict[str, int], dict[str, float]]:
    """Pixels and square metres by code; the size of pixels is taken as even over squares of 256 pixels."""
    metric = georeference.metric(core, CELL)
    rows, cols = range(0, core.height, CELL), range(0, core.width, CELL)
    counts = np.array([[np.bincount(classes[r : r + CELL, c : c + CELL].ravel(), minlength=256) for c in cols] for r in rows])
    total = counts.sum(axis=(0, 1))
    found = np.flatnonzero(total).tolist()
    pixels = {str(code): int(total[code]) for code in found}
    if metric is None:
        return pixels, {}
    corner = metric.area
    cell_area = (corner[:-1, :-1] + corner[1:, :-1] + corner[:-1, 1:] + corner[1:, 1:]) / 4
    area = np.einsum("rcv,rc->v", counts, cell_area)
    return pixels, {str(code): float(area[code]) for code in found}
