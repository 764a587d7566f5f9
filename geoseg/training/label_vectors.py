"""Features of vector files as labels: polygons burnt by window."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio.features
from numpy.typing import NDArray
from rasterio.transform import Affine

from geoseg.codes import UNLABELLED
from geoseg.crs import between
from geoseg.errors import ConfigError, GeoreferenceError, ReadError
from geoseg.georeference import Georeference
from geoseg.scenes.texts import text_of
from geoseg.scenes.vectors import read_frame
from geoseg.windows import Window

if TYPE_CHECKING:
    import geopandas

__all__ = ["VECTORS", "VectorLabels", "read_features", "to_pixels"]

log = logging.getLogger(__name__)

Codes = NDArray[np.uint8]
Objects = NDArray[np.int32]
VECTORS = (
    ".geojson", ".json", ".gpkg", ".parquet", ".geoparquet", ".fgb", ".shp", ".geojsonl", ".geojsons", ".ndjson", ".jsonl",
    ".gdb", ".gdb/",
)  # fmt: skip
"""Endings of vector files; that of a folder may have a slash behind it."""
BLOCK_PX = 256
"""Features are burnt in blocks of this side, from the scene's origin."""


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
        texts = [text_of(value) for value in frame[self.column]]
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


def read_features(path: str, georeference: Georeference) -> geopandas.GeoDataFrame:
    """The polygons of a vector file in a scene's CRS, invalid ones repaired, empty ones left out."""
    import geopandas
    import shapely

    from geoseg.polygons.shapes import not_finite

    try:
        frame = read_frame(path)
    except ReadError:
        raise
    except Exception as error:  # drivers fail in many ways
        raise ReadError(f"{path}: features can't be read: {str(error).splitlines()[0]}") from error
    if frame.crs is None:
        raise GeoreferenceError(f"{path}: features without a CRS; write it into the file")
    if georeference.crs is None:
        raise GeoreferenceError(f"{path}: the image has no place on Earth, so features can't label it")
    if (fault := not_finite(frame.geometry.to_numpy())) is not None:
        raise ReadError(f"{path}: feature {fault + 1} has a coordinate that is no finite number; correct it or leave it out")
    between(frame.crs, georeference.crs)
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
        cols, rows = inverse @ (xy[:, 0], xy[:, 1])
        return np.stack([cols, rows], axis=1)

    return shapely.transform(geometry, move)
