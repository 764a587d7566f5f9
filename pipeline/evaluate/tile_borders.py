"""Borders between the tile cores of a map, and the polygons that lie near them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyproj
from numpy.typing import NDArray

from geoseg.crs import between
from geoseg.documents import LARGE, read_json
from geoseg.scenes.gdal import gdal_env, open_raster
from geoseg.vectors.polygon_file import Geometries
from pipeline.files.run_folder import REPORT

if TYPE_CHECKING:
    from rasterio import Affine

__all__ = ["Seams"]

NEAR_PX = 8
"""Distance up to which objects are near a seam."""


@dataclass(frozen=True, slots=True)
class Seams:
    """Borders at which the tiles of a map meet."""

    crs: pyproj.CRS | None
    transform: Affine
    step: int
    """Side of a tile's core."""
    shape: tuple[int, int]

    @classmethod
    def of(cls, folder: Path) -> Seams | None:
        """Those of a map folder; None where it has no grid of tiles."""
        try:
            grid = read_json(folder / REPORT, limit=LARGE)["identity"]["grid"]
            height, width, tile, margin, *_ = map(int, grid[:4])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        with gdal_env(), open_raster(folder / "classes.tif") as dataset:
            crs, transform = dataset.crs, dataset.transform
        return cls(None if crs is None else pyproj.CRS.from_wkt(crs.to_wkt()), transform, tile - 2 * margin, (height, width))

    def near(self, geometries: Geometries, crs: pyproj.CRS | None) -> NDArray[np.bool_]:
        """(N,) whether the boxes of polygons come near a border between tile cores, in pixels of the map."""
        import shapely

        move = between(crs, self.crs) if crs is not None and self.crs is not None else None
        back = ~self.transform

        def to_pixels(xy: NDArray[np.float64]) -> NDArray[np.float64]:
            x, y = (xy[:, 0], xy[:, 1]) if move is None else move.transform(xy[:, 0], xy[:, 1])
            return np.stack([back.a * x + back.b * y + back.c, back.d * x + back.e * y + back.f], axis=1)

        boxes = shapely.bounds(shapely.transform(geometries, to_pixels))
        near = np.zeros(len(geometries), np.bool_)
        for low, high, length in ((boxes[:, 0], boxes[:, 2], self.shape[1]), (boxes[:, 1], boxes[:, 3], self.shape[0])):
            first = np.maximum(1, np.ceil((low - NEAR_PX) / self.step))
            last = np.minimum((length - 1) // self.step, np.floor((high + NEAR_PX) / self.step))
            near |= first <= last
        return near
