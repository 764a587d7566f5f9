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
from rasterio.enums import ColorInterp, Resampling
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT

from geoseg.arrays import U8, Bools
from geoseg.codes import keeps_codes
from geoseg.crs import between, check_related
from geoseg.errors import BandError, ConfigError, GeoreferenceError, ReadError
from geoseg.georeference import Georeference
from geoseg.labels.values import Tally, ValueCodes
from geoseg.scenes.gdal import IMAGES, gdal_env, open_raster
from geoseg.windows import Window

__all__ = ["RasterLabels", "check_one_band"]

SAME_PLACE_PX = 0.01
"""Grids whose corners differ by less than this part of a pixel are the same."""
READ_SIDE = 2048
"""Rows and columns that are read at once where all is read."""
OUTLINE_STEPS = 16
"""Parts of the longer side of an outline that is brought to another CRS."""


class RasterLabels:
    """A class raster; warped by nearest neighbour where its grid is another one. Picklable.

    Args:
        path: The file.
        georeference: The scene's.
        height: Rows of the scene.
        width: Columns of the scene.
        codes: Class codes by raster value; 254 and 255 of rasters of this program are UNLABELLED without being listed.
        explain: The option by which to say what other values mean, which then are refused; None to leave them UNLABELLED.

    Raises:
        ReadError: The raster can't be opened.
        BandError: It has several bands.
        GeoreferenceError: It has no CRS, or, without a place, another size than the image.
    """

    def __init__(
        self,
        path: str,
        georeference: Georeference | None,
        height: int,
        width: int,
        codes: Mapping[str, int],
        explain: str | None = None,
    ) -> None:
        self.path, self._georeference, self._shape, self._explain = path, georeference, (height, width), explain
        self._local = _PerThread()
        self._known = tuple(codes)
        with self._open() as dataset:
            check_one_band(dataset, path)
            self._codes = ValueCodes.of(codes, own=keeps_codes(dataset.tags(), dataset.tags(1)))
            self._nodata: float | None = dataset.nodata
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
        assert place.crs is not None
        check_related(self.path, dataset.crs.to_wkt(), place.crs)
        # GDAL needs a nodata value that is not a class: what lies outside the label raster is not labelled.
        nodata = dataset.nodata if dataset.nodata is not None else self._codes.unused(np.dtype(dataset.dtypes[0]))
        return WarpedVRT(
            dataset,
            crs=place.crs,
            transform=Affine(*place.transform),
            height=self._shape[0],
            width=self._shape[1],
            resampling=Resampling.nearest,
            src_nodata=dataset.nodata,
            nodata=nodata,
            tolerance=1e-6,
        )

    def read(self, window: Window) -> tuple[U8, None]:
        """Class codes of a window.

        Raises:
            ReadError: A block can't be read.
            ConfigError: A value is no class, where such are refused.
        """
        values, known = self._values(window)
        codes, odd = self._codes(values, known)
        if self._explain is not None and odd.any():
            value, row, col = self._codes.first(values, odd)
            raise ConfigError(
                f"{self.path}: value {value} at row {window.row_off + row}, column {window.col_off + col} of the image is no "
                f"class; say what it means: {self._explain} {value}=CLASS, or {self._explain} {value}=unlabelled"
            )
        return codes, None

    def _values(self, window: Window) -> tuple[NDArray[Any], Bools]:
        dataset = self._dataset()
        area = window.for_rasterio()
        try:
            with gdal_env():
                return dataset.read(1, window=area), dataset.read_masks(1, window=area) > 0
        except rasterio.errors.RasterioError as error:
            raise ReadError(f"{self.path}: labels can't be read: {str(error.__cause__ or error).splitlines()[0]}") from error

    def coverage(self) -> float:
        """Share of the scene that lies within the raster, from 0 to 1, whatever its pixels hold."""
        import shapely

        place, (height, width) = self._georeference, self._shape
        with self._open() as dataset:
            if place is None or place.crs is None or dataset.crs is None or self._same_grid(dataset):
                return 1.0
            box = shapely.segmentize(shapely.box(0, 0, dataset.width, dataset.height), max(dataset.shape) / OUTLINE_STEPS)
            a, b, c, d, e, f = dataset.transform[:6]
            move = between(dataset.crs.to_wkt(), place.crs)

        def to_pixels(points: NDArray[np.float64]) -> NDArray[np.float64]:
            cols, rows = points.T
            x, y = move.transform(a * cols + b * rows + c, d * cols + e * rows + f)
            rows, cols = place.rows_cols(np.stack([x, y], axis=1))
            return np.stack([cols, rows], axis=1)

        outline = shapely.make_valid(shapely.transform(box, to_pixels))
        return float(shapely.intersection(outline, shapely.box(0, 0, width, height)).area / (height * width))

    def tell(self) -> None:
        """Warn of pixels that are not labelled although somebody may think so; reads the labels through once where need be.

        Raises:
            ConfigError: No value is a class, where others are not refused anyway.
        """
        hides = self._codes.is_class(self._nodata)
        if self._explain is not None and not hides:
            return
        tally = Tally(self.path)
        for window in Window.of(self._shape).parts(READ_SIDE):
            values, known = self._values(window)
            codes, odd = self._codes(values, known)
            tally.add(values, codes, odd if self._explain is None else np.zeros_like(odd))
            if hides:
                tally.hidden += int((~known & (values == self._nodata)).sum())
        tally.tell(self._known, self._nodata)


def check_one_band(dataset: Any, path: str) -> None:
    """Refuse labels of several bands; one that says where the other holds is none of them.

    Raises:
        BandError: There are several, or its numbers are complex.
    """
    kinds = dataset.colorinterp
    if dataset.dtypes[0].startswith("complex"):
        raise BandError(f"{path}: complex numbers; labels are class codes")
    if dataset.count == 1 or (dataset.count == 2 and kinds[1] == ColorInterp.alpha):
        return
    what = ", ".join(kind.name for kind in kinds[:4])
    raise BandError(
        f"{path}: {dataset.count} bands ({what}{', …' if dataset.count > 4 else ''}); labels are one band of class codes: "
        "write one, for example with rgb2pct.py for painted colours, or the number of the band that is set for masks of one "
        "band a class"
    )


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
