"""The damage of a building from a map of damage by pixels: probabilities pooled over its footprint."""

from __future__ import annotations

from typing import Any

import numpy as np

from geoseg.arrays import F32, U8, Bools
from geoseg.codes import MAX_CONFIDENCE, NODATA
from geoseg.damage.crops import LEAST_CLEAR

__all__ = ["footprint_mask", "pooled"]


def footprint_mask(shape: Any, size: tuple[int, int], sides_m: tuple[float, float], tolerance_m: float) -> Bools:
    """The pixels of a footprint and those within a tolerance, in metres whatever the pixels are.

    Args:
        shape: The footprint in pixels of the window: x is columns, y rows.
        size: Rows and columns of the window.
        sides_m: Metres of a row and of a column.
        tolerance_m: How far the building may lie off.
    """
    import rasterio.features
    import shapely

    scale = np.array([sides_m[1], sides_m[0]])
    grown = shapely.buffer(shapely.transform(shape, lambda xy: xy * scale), tolerance_m)
    back = shapely.transform(grown, lambda xy: xy / scale)
    return np.asarray(rasterio.features.rasterize([(back, 1)], size, dtype="uint8", all_touched=True) > 0)


def pooled(percent: U8, mask: Bools) -> tuple[F32 | None, str | None]:
    """Probabilities (K,) of the classes of damage over a footprint, or why there are none.

    What the map takes for no building does not count: the footprint says that there is one.

    Args:
        percent: (K, h, w) of the classes of damage; 254 and 255 as in all rasters.
        mask: (h, w) the pixels of the footprint.
    """
    values = percent[:, mask]
    known = values[0] <= MAX_CONFIDENCE
    if not mask.any() or known.mean() < LEAST_CLEAR:
        hidden = bool(mask.any()) and (values[0] == NODATA).mean() < LEAST_CLEAR
        return None, "hidden" if hidden else "no data"
    total = values[:, known].astype(np.float64).sum(axis=1)
    if total.sum() == 0:
        return None, "no building seen"
    return (total / total.sum()).astype(np.float32), None
