"""Labels of a scene, read by window in its grid: class rasters and vector files.

A window's labels equal the same window of the labels of the whole scene.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import rasterio
import rasterio.errors
import rasterio.features
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterioWindow

from geoseg.errors import ConfigError, GeoreferenceError, ReadError
from geoseg.georeference import Georeference
from geoseg.scenes.scene import gdal_env
from geoseg.training.chips import UNLABELLED
from geoseg.windows import Window

if TYPE_CHECKING:
    import geopandas

__all__ = ["Labels", "RasterLabels", "VectorLabels", "open_labels", "without_borders"]

log = logging.getLogger(__name__)

Codes = NDArray[np.uint8]
Objects = NDArray[np.int32]
VECTORS = (".geojson", ".json", ".gpkg", ".parquet", ".fgb", ".shp", ".geojsonl")
SAME_PLACE_PX = 0.01
"""Grids whose corners differ by less than this part of a pixel are the same."""
BLOCK_PX = 256
"""Features are burnt in blocks of this side, from the scene's origin."""


class Labels(Protocol):
    """Labels bound to the grid of one scene."""

    def read(self, window: Window) -> tuple[Codes, Objects | None]:
        """Class codes (h, w), or UNLABELLED, and object numbers (h, w) if known; the window lies within the scene."""
        ...


def open_labels(
    path: str, georeference: Georeference | None, height: int, width: int, codes: Mapping[str, int], *,
    column: str | None = None, outside: int = UNLABELLED, ignore: str | None = None, all_touched: bool = False,
) -> Labels:  # fmt: skip
    """Labels for the grid of a scene: a vector file by its ending, else a raster.

    Args:
        path: The file.
        georeference: The scene's; None for an image without a place, whose labels are a raster of the same size.
        height: Rows of the scene.
        width: Columns of the scene.
        codes: Class codes by raster value or by text of the class column.
        column: Of a vector file: the column that names the class. Without one, all features are the class under "".
        outside: Code of what lies outside all features.
        ignore: A vector file with areas that are not labelled.
        all_touched: Burn all pixels that a feature touches, not those whose centre it covers.
    """
    if path.lower().endswith(VECTORS):
        if georeference is None:
            raise GeoreferenceError(f"{path}: the image has no place on Earth, so a vector file can't label it; use COCO JSON")
        return VectorLabels(path, georeference, height, width, codes, column, outside, ignore, all_touched)
    labels: Labels = RasterLabels(path, georeference, height, width, codes)
    if ignore is None:
        return labels
    if georeference is None:
        raise GeoreferenceError(f"{ignore}: the image has no place on Earth, so that areas to ignore have none, either")
    return _Masked(labels, VectorLabels(ignore, georeference, height, width, {"": 0}, None, UNLABELLED, None, all_touched=True))


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
        try:
            with gdal_env():
                return rasterio.open(self.path)
        except rasterio.errors.RasterioError as error:
            raise ReadError(f"{self.path}: labels can't be opened: {str(error.__cause__ or error).splitlines()[0]}") from error

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
        there = ~dataset.transform * Affine(*place.transform)
        corners = ((0, 0), (width, 0), (0, height), (width, height))
        return all(max(abs(a - x), abs(b - y)) < SAME_PLACE_PX for x, y in corners for a, b in [there * (x, y)])

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

    def read(self, window: Window) -> tuple[Codes, Objects | None]:
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


@dataclass
class VectorLabels:
    """Features of a vector file, burnt window by window; later features lie over earlier ones. Picklable.

    Raises:
        ReadError: The file can't be read.
        ConfigError: The class column is not there, or none of its values is a class.
        GeoreferenceError: The file has no CRS.
    """

    path: str
    georeference: Georeference
    height: int
    width: int
    codes: Mapping[str, int]
    """Class codes by text of the column; a code of UNLABELLED marks areas to ignore."""
    column: str | None
    outside: int
    ignore: str | None
    all_touched: bool
    _shapes: Any = field(init=False, repr=False)
    """Geometries in pixel coordinates (col, row)."""
    _values: NDArray[np.uint8] = field(init=False, repr=False)
    _tree: Any = field(init=False, repr=False, default=None)
    _ignored: VectorLabels | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        frame = read_features(self.path, self.georeference)
        self._values = self._classes(frame)
        self._shapes = to_pixels(frame.geometry.to_numpy(), self.georeference)
        if self.ignore is not None:
            self._ignored = VectorLabels(
                self.ignore, self.georeference, self.height, self.width, {"": 0}, None, UNLABELLED, None, all_touched=True
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tree": None}

    def _classes(self, frame: geopandas.GeoDataFrame) -> NDArray[np.uint8]:
        if self.column is None:
            return np.full(len(frame), self.codes.get("", 1), np.uint8)
        if self.column not in frame.columns:
            names = ", ".join(str(name) for name in frame.columns if name != frame.geometry.name)
            raise ConfigError(f"{self.path}: no column {self.column!r}; there are: {names}")
        texts = [_text(value) for value in frame[self.column]]
        if texts and not any(text in self.codes for text in texts):
            seen = ", ".join(sorted({*texts})[:10])
            raise ConfigError(
                f"{self.path}: none of the values of {self.column!r} is a class: {seen}; known: {', '.join(self.codes)}"
            )
        others = Counter(text for text in texts if text not in self.codes)
        if others:
            names = ", ".join(f"{text} ({count})" for text, count in others.most_common(10))
            log.warning("%s: features whose %r is no class are not labelled: %s", self.path, self.column, names)
        return np.array([self.codes.get(text, UNLABELLED) for text in texts], np.uint8)

    def read(self, window: Window) -> tuple[Codes, Objects | None]:
        """Class codes and object numbers of a window: features from 1, in the order of the file."""
        objects = np.zeros(window.shape, np.int32)
        for block in _blocks(window):
            common = block & window
            assert common is not None
            objects[common.slices_in(window)] = self._burnt(block)[common.slices_in(block)]
        table = np.concatenate([[self.outside], self._values]).astype(np.uint8)
        codes = table[objects]
        objects[codes == UNLABELLED] = 0
        if self._ignored is not None:
            codes[self._ignored.read(window)[0] != UNLABELLED] = UNLABELLED
        return codes, objects

    def _burnt(self, block: Window) -> Objects:
        """Object numbers of a block; always the same blocks, since edges that meet pixel borders may fall to either side."""
        import shapely

        if self._tree is None:
            self._tree = shapely.STRtree(self._shapes)
        box = shapely.box(block.col_off - 1, block.row_off - 1, block.col_stop + 1, block.row_stop + 1)
        found = np.sort(self._tree.query(box))
        objects = np.zeros(block.shape, np.int32)
        if len(found):
            rasterio.features.rasterize(
                zip(self._shapes[found], (found + 1).tolist(), strict=True), out=objects, all_touched=self.all_touched,
                transform=Affine.translation(block.col_off, block.row_off),
            )  # fmt: skip
        return objects


def _blocks(window: Window) -> Iterator[Window]:
    """The blocks of the fixed grid that a window touches."""
    for row in range(window.row_off // BLOCK_PX * BLOCK_PX, window.row_stop, BLOCK_PX):
        for col in range(window.col_off // BLOCK_PX * BLOCK_PX, window.col_stop, BLOCK_PX):
            yield Window(row, col, BLOCK_PX, BLOCK_PX)


def _text(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def read_features(path: str, georeference: Georeference) -> geopandas.GeoDataFrame:
    """The polygons of a vector file in a scene's CRS, invalid ones repaired, empty ones left out."""
    import geopandas
    import shapely

    try:
        frame = geopandas.read_parquet(path) if path.lower().endswith(".parquet") else geopandas.read_file(path)
    except Exception as error:  # drivers fail in many ways
        raise ReadError(f"{path}: features can't be read: {str(error).splitlines()[0]}") from error
    if frame.crs is None:
        raise GeoreferenceError(f"{path}: features without a CRS; write it into the file")
    if georeference.crs is None:
        raise GeoreferenceError(f"{path}: the image has no place on Earth, so features can't label it")
    frame = frame[~(frame.geometry.is_empty | frame.geometry.isna())].to_crs(georeference.crs)
    geometry = frame.geometry.to_numpy()
    broken = ~shapely.is_valid(geometry)
    geometry[broken] = shapely.make_valid(geometry[broken])
    return frame.set_geometry(geopandas.GeoSeries(geometry, index=frame.index, crs=frame.crs))


def to_pixels(geometry: Any, georeference: Georeference) -> Any:
    """Geometries of a CRS in pixel coordinates (col, row) of a grid, through its whole affine transform."""
    import shapely

    inverse = ~Affine(*georeference.transform)

    def move(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        cols, rows = inverse * (xy[:, 0], xy[:, 1])
        return np.stack([cols, rows], axis=1)

    return shapely.transform(geometry, move)


@dataclass(frozen=True)
class _Masked:
    """Labels with areas to ignore."""

    labels: Labels
    areas: Labels

    def read(self, window: Window) -> tuple[Codes, Objects | None]:
        codes, objects = self.labels.read(window)
        codes[self.areas.read(window)[0] != UNLABELLED] = UNLABELLED
        return codes, objects


def without_borders(codes: Codes, objects: Objects | None, radius: int) -> Codes:
    """Class codes with all pixels within ``radius`` px of a border between classes or objects UNLABELLED.

    The distance is that of the chessboard: a square of ``2 * radius + 1`` pixels around each holds more than one value.
    """
    from scipy import ndimage

    size = 2 * radius + 1
    mixed = np.zeros(codes.shape, np.bool_)
    known = codes != UNLABELLED
    for values in (codes, objects):
        if values is not None:
            # What is not labelled makes no border: it is below every maximum and above every minimum.
            signed = values.astype(np.int32)
            largest = ndimage.maximum_filter(np.where(known, signed, -1), size, mode="nearest")
            least = ndimage.minimum_filter(np.where(known, signed, 2**31 - 1), size, mode="nearest")
            mixed |= largest > least
    return np.where(mixed, np.uint8(UNLABELLED), codes)
