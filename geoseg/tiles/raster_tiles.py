"""Rasters as tiles of web Mercator, warped while they are read."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio.warp
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasterio.vrt import WarpedVRT

from geoseg.arrays import Bools
from geoseg.scenes.gdal import gdal_env, open_dataset
from geoseg.tiles.web_mercator import CRS, HALF, TILE_PX, Box, Tile, native_zoom

__all__ = ["RasterTiles", "TilePlace"]

SLACK = 1.2
"""An overview may be so much coarser than the tile; levels of tiles and overviews are seldom the same."""
REDUCTION = 4
"""Rows and columns of a small raster without overviews to one of its copy in memory."""
UNAIDED_PX = 8192
"""Columns of a raster without overviews that a tile may span: more would be read at each."""


@dataclass(frozen=True, slots=True)
class TilePlace:
    """Where the tiles of a raster are."""

    box: Box
    """In metres of the projection."""
    min_zoom: int
    """Above it the raster has no overviews to draw from."""
    max_zoom: int
    """There a pixel of a tile is as large as one of the raster, or smaller; deeper levels would tell nothing more."""
    pixel: float
    """Side of the raster's pixels in metres of the projection."""


class RasterTiles:
    """Reads tiles of one file; safe for threads, each of which has a handle of its own."""

    def __init__(self, path: str, driver: str = "GTiff", *, smooth: bool = False, crs: str | None = None) -> None:
        """Open the file and find where it lies.

        Args:
            path: A local file.
            driver: GDAL's name of its format.
            smooth: Whether pixels are interpolated, as those of an image, and not those of classes, may be.
            crs: Its CRS where the file has none.

        Raises:
            SceneError: It can't be opened.
            GeoreferenceError: It has no place on Earth.
        """
        self.path, self._driver, self._crs = path, driver, crs
        self._resampling = Resampling.bilinear if smooth else Resampling.nearest
        self._local = threading.local()
        self._lock = threading.Lock()
        self._reduced: dict[tuple[int, ...], tuple[NDArray[Any], NDArray[np.uint8]]] = {}
        self.place = self._placed()

    def _placed(self) -> TilePlace:
        from geoseg.errors import GeoreferenceError

        dataset = self.dataset
        crs = self._source_crs
        if crs is None or dataset.transform.is_identity:
            raise GeoreferenceError(f"{self.path}: has no place on Earth (no CRS or no geotransform), so it is on no map")
        with gdal_env():
            try:
                transform, width, height = rasterio.warp.calculate_default_transform(
                    crs, CRS, dataset.width, dataset.height, *dataset.bounds
                )
            except rasterio.errors.RasterioError as error:
                raise GeoreferenceError(f"{self.path}: can't be brought to web Mercator: {error}") from error
        left, top = transform.c, transform.f
        box = (left, top + height * transform.e, left + width * transform.a, top)
        deepest = native_zoom(abs(transform.a))
        aided = bool(dataset.overviews(1)) or max(dataset.shape) <= UNAIDED_PX
        spare = 0 if aided else max(0, deepest - (UNAIDED_PX // TILE_PX).bit_length() + 1)
        box = (max(box[0], -HALF), max(box[1], -HALF), min(box[2], HALF), min(box[3], HALF))
        return TilePlace(box, spare, deepest, abs(transform.a))

    @property
    def dataset(self) -> Any:
        """The file as this thread has it open."""
        return self._at(None)

    def _at(self, level: int | None) -> Any:
        """The file, or one of its overviews, as this thread has it open."""
        handles: dict[int | None, Any] = self._local.__dict__.setdefault("handles", {})
        if level not in handles:
            options = {} if level is None else {"overview_level": level}
            handles[level] = open_dataset(self.path, self._driver, **options)
        return handles[level]

    def _fitting(self, tile: Tile) -> Any:
        """The coarsest overview whose pixels are not larger than the tile's, or the raster itself."""
        finer = 2.0 ** (self.place.max_zoom - tile.z) * SLACK
        levels = [level for level, factor in enumerate(self.dataset.overviews(1)) if factor <= finer]
        return self._at(levels[-1] if levels else None)

    @property
    def _source_crs(self) -> Any:
        return self.dataset.crs or self._crs

    def read(self, tile: Tile, bands: tuple[int, ...] = (1,)) -> tuple[NDArray[Any], Bools] | None:
        """Bands of a tile, (bands, 512, 512) in the type of the file, and where they are data, (512, 512) bool.

        None where the raster doesn't reach.
        """
        left, bottom, right, top = tile.box
        box = self.place.box
        if left >= box[2] or right <= box[0] or bottom >= box[3] or top <= box[1]:
            return None
        if self._reducible and tile.z <= self.place.max_zoom - REDUCTION.bit_length() + 1:
            return self._of_reduced(tile, bands)
        source = self._fitting(tile)
        made = ColorInterp.alpha not in source.colorinterp and source.nodata is None
        with (
            gdal_env(),
            WarpedVRT(
                source,
                crs=CRS,
                src_crs=self._source_crs,
                transform=Affine(tile.side / TILE_PX, 0, left, 0, -tile.side / TILE_PX, top),
                width=TILE_PX,
                height=TILE_PX,
                resampling=self._resampling,
                add_alpha=made,
            ) as view,
        ):
            data = view.read(list(bands))
            valid = (view.read(view.count) if made else view.dataset_mask()) > 0
        return data, np.asarray(valid)

    @property
    def _reducible(self) -> bool:
        """Whether the raster is small, and has no overviews: each tile from afar would decode all of it."""
        return not self.dataset.overviews(1) and max(self.dataset.shape) <= UNAIDED_PX

    def _of_reduced(self, tile: Tile, bands: tuple[int, ...]) -> tuple[NDArray[Any], Bools]:
        """As ``read``, from a copy in memory of every fourth pixel of every fourth row, made once for all threads."""
        dataset = self.dataset
        with self._lock, gdal_env():
            if bands not in self._reduced:
                small = -(-dataset.height // REDUCTION), -(-dataset.width // REDUCTION)
                data = dataset.read(list(bands), out_shape=(len(bands), *small))
                self._reduced[bands] = data, dataset.dataset_mask(out_shape=small)
        data, mask = self._reduced[bands]
        shape = mask.shape
        place: dict[str, Any] = {
            "src_crs": self._source_crs,
            "src_transform": dataset.transform @ Affine.scale(dataset.width / shape[1], dataset.height / shape[0]),
            "dst_crs": CRS,
            "dst_transform": Affine(tile.side / TILE_PX, 0, tile.box[0], 0, -tile.side / TILE_PX, tile.box[3]),
        }
        out = np.zeros((len(bands), TILE_PX, TILE_PX), data.dtype)
        valid = np.zeros((TILE_PX, TILE_PX), np.uint8)
        with gdal_env():
            nodata = dataset.nodata
            rasterio.warp.reproject(data, out, src_nodata=nodata, dst_nodata=nodata, resampling=self._resampling, **place)
            rasterio.warp.reproject(mask, valid, resampling=Resampling.nearest, **place)
        return out, valid > 0

    def sampled(self, bands: tuple[int, ...]) -> NDArray[Any]:
        """(bands, N) values of a lattice of the raster's pixels that are data; of its coarsest overview where it has any."""
        dataset = self.dataset
        step = max(1, int(max(dataset.shape) / 512))
        with gdal_env():
            small = (max(1, dataset.height // step), max(1, dataset.width // step))
            data = dataset.read(list(bands), out_shape=(len(bands), *small))
            valid = dataset.dataset_mask(out_shape=small) > 0
        return np.asarray(data[:, valid])
