"""Polygons of an array, as a GeoDataFrame."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geoseg.arrays import U8
from geoseg.codes import MAX_CLASS, NODATA
from geoseg.errors import ConfigError, DtypeError

if TYPE_CHECKING:
    import geopandas
    import pyproj

__all__ = ["geopandas_or_refuse", "polygonize"]


def polygonize(
    array: NDArray[np.integer],
    transform: Sequence[float],
    crs: str | pyproj.CRS | None,
    *,
    classes: Collection[int] | None = None,
) -> geopandas.GeoDataFrame:
    """Trace the regions of a class raster: pixels of one class that share an edge, along their borders, holes included.

    Args:
        array: (h, w) class codes, whole numbers from 0 to 253; 254 (not analysed) and 255 (no data) have no polygons.
        transform: The affine transform, ``(a, b, c, d, e, f)`` or rasterio's: ``x = a * col + b * row + c``, in units of the CRS.
        crs: Anything that pyproj takes; None for coordinates of pixels.
        classes: Codes to trace; all by default.

    Returns:
        A row a region, in the order of their first pixels: ``code``, ``pixels``, ``area_m2`` (geodesic, in square metres;
        NaN without a CRS), and ``geometry`` in the CRS.

    Raises:
        DtypeError: The array is no class raster.
        ConfigError: The CRS is unknown, or geopandas is not installed.
    """
    frames = geopandas_or_refuse()
    import shapely

    from geoseg.georeference import Georeference
    from geoseg.polygons.block_grid import BlockGrid
    from geoseg.polygons.blocks import polygonize_block

    codes = _codes(array)
    height, width = codes.shape
    a, b, c, d, e, f = (float(number) for number in tuple(transform)[:6])
    wkt = None if crs is None else _wkt(crs)
    place = Georeference((a, b, c, d, e, f), wkt)
    wanted = range(MAX_CLASS + 1) if classes is None else classes
    traced = polygonize_block(BlockGrid(height, width, max(height, width)), 0, codes, None, place, wanted)
    data, offsets = traced.closed.wkb(place)
    whole = data.tobytes()
    shapes = shapely.from_wkb([whole[i:j] for i, j in pairwise(offsets.tolist())])
    order = np.argsort(traced.closed_measures.anchor, kind="stable")
    measures = traced.closed_measures.take(order)
    columns = {
        "code": measures.value,
        "pixels": measures.pixels,
        "area_m2": measures.area_m2 if wkt is not None else np.full(len(order), np.nan),
    }
    return frames.GeoDataFrame(columns, geometry=np.asarray(shapes, object)[order], crs=wkt)


def geopandas_or_refuse() -> ModuleType:
    """Import geopandas.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        import geopandas
    except ImportError as error:
        raise ConfigError("polygons as a GeoDataFrame need geopandas; pip install 'geoseg[notebook]'") from error
    module: ModuleType = geopandas
    return module


def _wkt(crs: str | pyproj.CRS) -> str:
    from geoseg.crs import named_crs

    return str(named_crs(crs if isinstance(crs, str) else crs.to_wkt(), "crs").to_wkt())


def _codes(array: NDArray[np.integer]) -> U8:
    values = np.asarray(array)
    if values.ndim != 2 or not values.size:
        raise DtypeError(f"array: has the shape {values.shape}; a class raster is (h, w)")
    if values.dtype.kind not in "uib":
        raise DtypeError(f"array: is of {values.dtype}; class codes are whole numbers from 0 to {MAX_CLASS}")
    if values.min() < 0 or values.max() > NODATA:
        raise DtypeError(f"array: has values from {values.min()} to {values.max()}; class codes are from 0 to {MAX_CLASS}")
    return np.ascontiguousarray(values, np.uint8)
