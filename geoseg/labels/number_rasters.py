"""Rasters of numbers, such as heights, depths and shares, on the grid of a scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import rasterio
import rasterio.errors
from rasterio.enums import MaskFlags, Resampling
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT

from geoseg.arrays import F64, Bools
from geoseg.codes import MAX_VALUE, VALUE_NOT_ANALYSED
from geoseg.crs import check_related
from geoseg.errors import BandError, DtypeError, GeoreferenceError, ReadError
from geoseg.georeference import Georeference
from geoseg.scenes.gdal import IMAGES, gdal_env, open_raster
from geoseg.windows import Window

__all__ = ["NumberRaster", "numbers_on"]


@dataclass(frozen=True, slots=True)
class NumberRaster:
    """A raster of one band of numbers, closed."""

    path: str
    shape: tuple[int, int]
    """Rows and columns."""
    georeference: Georeference
    unit: str
    """Of its numbers; empty where it says none."""
    name: str
    """What they are; empty where it does not say."""
    is_plain: bool
    """Whether it is one of whole numbers without a scale, which may as well be codes of classes."""

    @classmethod
    def of(cls, path: str) -> NumberRaster:
        """Look at a file.

        Raises:
            ReadError: It can't be read.
            BandError: It has several bands.
            DtypeError: Its numbers are complex.
        """
        try:
            with gdal_env(), open_raster(path, IMAGES) as dataset:
                _check(path, dataset)
                place = Georeference(tuple(dataset.transform)[:6], None if dataset.crs is None else dataset.crs.to_wkt())
                scaled = (dataset.scales[0], dataset.offsets[0]) != (1.0, 0.0)
                plain = not scaled and np.dtype(dataset.dtypes[0]).kind in "iu"
                name = dataset.descriptions[0] or ""
                return cls(path, dataset.shape, place, dataset.units[0] or "", name, plain)
        except rasterio.errors.RasterioError as error:
            raise _unreadable(path, error) from error

    def read(self, window: Window) -> tuple[F64, Bools]:
        """(h, w) physical values of a window, NaN where there is none; and where that is because it was not analysed."""
        try:
            with gdal_env(), open_raster(self.path, IMAGES) as dataset:
                values = _raw(dataset, window)
                unknown = np.zeros(values.shape, np.bool_)
                if _is_own(dataset):
                    unknown = values == VALUE_NOT_ANALYSED
                    values[values > MAX_VALUE] = np.nan
                return values * dataset.scales[0] + dataset.offsets[0], unknown
        except rasterio.errors.RasterioError as error:
            raise _unreadable(self.path, error) from error


def numbers_on(path: str, place: Georeference, shape: tuple[int, int], window: Window) -> F64:
    """(h, w) physical values of a raster in a window of another grid: bilinear, exact where both grids are one.

    Maps of values of this program are taken by their nearest pixel: what was not analysed has no neighbours to lend it a value.

    Args:
        path: The raster: one band; its scale and offset are applied.
        place: Where the pixels of the grid lie.
        shape: Rows and columns of the grid.
        window: The window.

    Returns:
        NaN where it has no value.

    Raises:
        ReadError: It can't be read.
        BandError: It has several bands.
        DtypeError: Its numbers are complex.
        GeoreferenceError: One of both has no place on Earth, and they are not of one size; or their CRSs have no relation.
    """
    try:
        with gdal_env(), open_raster(path, IMAGES) as dataset:
            _check(path, dataset)
            own = _is_own(dataset)
            if place.crs is None or dataset.crs is None:
                values = _unplaced(path, dataset, place, shape, window)
            else:
                check_related(path, dataset.crs.to_wkt(), place.crs)
                values = _warped(dataset, place, shape, window, Resampling.nearest if own else Resampling.bilinear)
            if own:
                values[values > MAX_VALUE] = np.nan
            return np.asarray(values * dataset.scales[0] + dataset.offsets[0])
    except rasterio.errors.RasterioError as error:
        raise _unreadable(path, error) from error


def _check(path: str, dataset: rasterio.DatasetReader) -> None:
    if dataset.count != 1:
        raise BandError(f"{path}: {dataset.count} bands; a raster of values has one")
    if np.dtype(dataset.dtypes[0]).kind not in "iuf":
        raise DtypeError(f"{path}: {dataset.dtypes[0]} pixels; a raster of values has whole or decimal numbers")


def _warped(
    dataset: rasterio.DatasetReader, place: Georeference, shape: tuple[int, int], window: Window, resampling: Resampling
) -> F64:
    with WarpedVRT(
        dataset,
        crs=place.crs,
        transform=Affine(*place.transform),
        height=shape[0],
        width=shape[1],
        resampling=resampling,
        nodata=float("nan"),
        dtype="float64",
        tolerance=1e-6,
    ) as view:
        return np.asarray(view.read(1, window=window.for_rasterio()), np.float64)


def _unplaced(path: str, dataset: rasterio.DatasetReader, place: Georeference, shape: tuple[int, int], window: Window) -> F64:
    """Pixels of a raster that lies on the grid, for all that is known."""
    if place.crs is not None and not dataset.transform.is_identity:
        raise GeoreferenceError(
            f"{path}: has coordinates and no CRS, so it can't be laid on the image; give it one (gdal_edit.py -a_srs EPSG:CODE)"
        )
    if dataset.shape != shape:
        raise GeoreferenceError(
            f"{path}: {dataset.shape[0]} x {dataset.shape[1]} pixels for a grid of {shape[0]} x {shape[1]}, and one of both has "
            "no CRS; give both one, or rasters of one size"
        )
    return _raw(dataset, window)


def _raw(dataset: rasterio.DatasetReader, window: Window) -> F64:
    """(h, w) numbers as they are stored; NaN where there is no data, by a nodata value or by a mask."""
    area = window.for_rasterio()
    raw = dataset.read(1, window=area)
    values = np.array(raw, np.float64)
    if dataset.nodata is not None:
        values[raw == dataset.nodata] = np.nan
    elif MaskFlags.per_dataset in dataset.mask_flag_enums[0]:
        values[dataset.read_masks(1, window=area) == 0] = np.nan
    return values


def _is_own(dataset: rasterio.DatasetReader) -> bool:
    """Whether it is a map of values of this program, one code of which says that a pixel was not analysed."""
    return bool(dataset.tags(1).get(f"code_{VALUE_NOT_ANALYSED}") == "not analysed")


def _unreadable(path: str, error: Exception) -> ReadError:
    return ReadError(f"{path}: can't be read: {str(error.__cause__ or error).splitlines()[0]}")
