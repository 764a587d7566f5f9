"""Files that are reprojected while they are read: the pixels of a window on the grid of a view, and where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import rasterio
import rasterio.crs
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterioWindow

from geoseg.arrays import Bools
from geoseg.crs import between
from geoseg.errors import GeoreferenceError
from geoseg.scenes.scene import Band, SceneFile, View
from geoseg.windows import Window

__all__ = ["alpha_of_warped", "read_warped", "source_window", "warped"]

SAMPLES = 33
"""Places along each side of a window whose sources are looked for."""
AROUND = 2
"""Pixels around them that resampling looks at, of the coarser of both grids."""


def warped(dataset: rasterio.DatasetReader, view: View, file: SceneFile, *, ignore_nodata: bool) -> WarpedVRT:
    """A file on the grid of a view, each pixel transformed exactly."""
    options: dict[str, Any] = {}
    if view.source_crs is not None:
        options["src_crs"] = rasterio.crs.CRS.from_wkt(view.source_crs)
    if ignore_nodata:
        options["src_nodata"] = None
    elif file.told_nodata is not None:
        options["src_nodata"] = file.told_nodata
    # Next to no tolerance: each pixel is transformed exactly, so that it does not matter in which blocks it is asked for.
    # (None at all is refused where the grid is given, too.)
    return WarpedVRT(
        dataset,
        crs=rasterio.crs.CRS.from_wkt(view.crs),
        transform=Affine(*view.transform),
        height=view.height,
        width=view.width,
        resampling=Resampling.nearest if file.palette else Resampling[view.resampling],
        add_alpha=file.alpha is None,
        tolerance=1e-6,
        **options,
    )


def alpha_of_warped(dataset: WarpedVRT, file: SceneFile) -> int:
    """The band of a warped file that says which of its pixels are data."""
    return file.alpha if file.alpha is not None else int(dataset.count)


def read_warped(dataset: WarpedVRT, file: SceneFile, bands: Sequence[Band], area: RasterioWindow) -> tuple[NDArray[Any], Bools]:
    """Values (bands, h, w) of a window of the view and their validity (h, w)."""
    both = dataset.read([*(band.index for band in bands), alpha_of_warped(dataset, file)], window=area)
    return both[:-1], both[-1] > 0


def source_window(dataset: WarpedVRT, window: Window) -> Window | None:
    """The pixels of its source that a window of a warped file comes from, about; None where that is not known.

    What reads ahead asks for them: GDAL itself asks for what is missing.
    """
    source, target = dataset.src_dataset, dataset.crs
    crs = dataset.src_crs or source.crs
    if crs is None or target is None or source.transform.is_identity:
        return None
    rows = np.linspace(window.row_off, window.row_stop, SAMPLES)
    cols = np.linspace(window.col_off, window.col_stop, SAMPLES)
    x, y = dataset.transform @ np.meshgrid(cols, rows)
    try:
        x, y = between(target.to_wkt(), crs.to_wkt()).transform(x, y)
    except GeoreferenceError:
        return None
    col, row = ~source.transform @ (x, y)
    if not (np.isfinite(col).all() and np.isfinite(row).all()):
        return None
    # A pixel of the view may be as large as several of the source.
    around = [AROUND + AROUND * int(np.ptp(place) / size) for place, size in ((row, window.height), (col, window.width))]
    found = Window.between(int(row.min()), int(row.max()) + 1, int(col.min()), int(col.max()) + 1)
    return found.grown(*around) & Window.of(source.shape)
