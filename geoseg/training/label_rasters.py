"""Class rasters as labels, on any grid."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import rasterio
import rasterio.errors
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterioWindow

from geoseg.codes import UNLABELLED
from geoseg.errors import GeoreferenceError, ReadError
from geoseg.georeference import Georeference
from geoseg.scenes.opening import IMAGES, gdal_env, open_raster
from geoseg.windows import Window

__all__ = ["RasterLabels"]

SAME_PLACE_PX = 0.01
"""Grids whose corners differ by less than this part of a pixel are the same."""


class RasterLabels:
    """A class raster; warped by nearest neighbour where its grid is another one. Picklable.

    Args:
        path: The file.
        georeference: The scene's.
        height: Rows of the scene.
        width: Columns of the scene.
        codes: Class codes by raster value; other values are UNLABELLED.

    Raises:
        ReadError: The raster can't be opened.
        GeoreferenceError: It has no CRS, or, without a place, another size than the image.
    """

    def __init__(self, path: str, georeference: Georeference | None, height: int, width: int, codes: Mapping[str, int]) -> None:
        self.path, self._georeference, self._shape = path, georeference, (height, width)
        self._local = _PerThread()
        self._table = np.full(256, UNLABELLED, np.uint8)
        self._others: dict[int, int] = {}
        for text, code in codes.items():
            number = _integer(text)
            if number is not None and 0 <= number < 256:
                self._table[number] = code
            elif number is not None:
                self._others[number] = code
        with self._open() as dataset:
            if georeference is not None and dataset.crs is None and not (_identity(dataset) and dataset.shape == (height, width)):
                raise GeoreferenceError(f"{path}: labels without a CRS, and not of the image's size; give them the image's CRS")
            if georeference is None and dataset.shape != (height, width):
                raise GeoreferenceError(
                    f"{path}: {dataset.height} x {dataset.width} pixels of labels for an image of {height} x {width}"
                )

    def _open(self) -> Any:
        return open_raster(self.path, IMAGES)

    def _dataset(self) -> Any:
        if self._local.value is None:
            dataset = self._open()
            self._local.value = dataset if self._same_grid(dataset) else self._warped(dataset)
        return self._local.value

    def _same_grid(self, dataset: Any) -> bool:
        if dataset.shape != self._shape:
            return False
        place = self._georeference
        if place is None or dataset.crs is None or place.crs is None:
            return True
        if dataset.crs != rasterio.crs.CRS.from_user_input(place.crs):
            return False
        height, width = self._shape
        there = ~dataset.transform @ Affine(*place.transform)
        corners = ((0, 0), (width, 0), (0, height), (width, height))
        return all(max(abs(a - x), abs(b - y)) < SAME_PLACE_PX for x, y in corners for a, b in [there @ (x, y)])

    def _warped(self, dataset: Any) -> Any:
        place = self._georeference
        assert place is not None
        # GDAL needs a nodata value that is not a class: what lies outside the label raster is not labelled.
        nodata = dataset.nodata if dataset.nodata is not None else self._unused(dataset)
        return WarpedVRT(
            dataset, crs=place.crs, transform=Affine(*place.transform), height=self._shape[0], width=self._shape[1],
            resampling=Resampling.nearest, src_nodata=dataset.nodata, nodata=nodata, tolerance=1e-6,
        )  # fmt: skip

    def _unused(self, dataset: Any) -> float:
        """A value that stands for no class."""
        kind = np.dtype(dataset.dtypes[0])
        if kind.kind == "f":
            return float("nan")
        listed = {*np.flatnonzero(self._table != UNLABELLED).tolist(), *self._others}
        most = int(np.iinfo(kind).max)
        return float(next((value for value in range(most, max(most - 256, -1), -1) if value not in listed), most))

    def read(self, window: Window) -> tuple[NDArray[np.uint8], None]:
        """Class codes of a window."""
        dataset = self._dataset()
        area = RasterioWindow(window.col_off, window.row_off, window.width, window.height)
        try:
            with gdal_env():
                values = dataset.read(1, window=area)
                known = dataset.read_masks(1, window=area) > 0
        except rasterio.errors.RasterioError as error:
            raise ReadError(f"{self.path}: labels can't be read: {str(error.__cause__ or error).splitlines()[0]}") from error
        low = (values >= 0) & (values < 256)
        whole = np.where(low & np.isfinite(values), values, 0).astype(np.uint8)
        codes = np.where(low & (whole == values), self._table[whole], UNLABELLED).astype(np.uint8)
        for value, code in self._others.items():
            codes[values == value] = code
        codes[~known] = UNLABELLED
        return codes, None


class _PerThread:
    """A value for each thread of each process, which is left behind when it is pickled.

    A process that was forked has the handle of its parent, and with it the parent's place in the file: two that read
    through it get each other's bytes.
    """

    def __init__(self) -> None:
        self._local = threading.local()

    @property
    def value(self) -> Any:
        owner, value = getattr(self._local, "owned", (None, None))
        return value if owner == os.getpid() else None

    @value.setter
    def value(self, value: Any) -> None:
        self._local.owned = os.getpid(), value

    def __reduce__(self) -> tuple[Any, ...]:
        return _PerThread, ()


def _identity(dataset: Any) -> bool:
    return bool(dataset.transform.is_identity)


def _integer(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
