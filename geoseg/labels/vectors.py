"""Features of vector files as labels: polygons burnt by window."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio.features
from numpy.typing import NDArray
from rasterio.transform import Affine

from geoseg.addresses import split_layer
from geoseg.arrays import I32, U8
from geoseg.codes import UNLABELLED
from geoseg.errors import ConfigError, GeoreferenceError, ReadError
from geoseg.georeference import Georeference
from geoseg.polygons.placing import Placing, polygons_of
from geoseg.vectors.polygon_file import PolygonFile
from geoseg.vectors.texts import text_of
from geoseg.windows import Window

__all__ = ["VECTORS", "VectorLabels", "is_vector"]

log = logging.getLogger(__name__)

VECTORS = (
    ".geojson",
    ".json",
    ".gpkg",
    ".parquet",
    ".geoparquet",
    ".fgb",
    ".shp",
    ".geojsonl",
    ".geojsons",
    ".ndjson",
    ".jsonl",
    ".gdb",
    ".gdb/",
)
"""Endings of vector files; that of a folder may have a slash behind it."""
BLOCK_PX = 256
"""Features are burnt in blocks of this side, from the scene's origin."""


@dataclass
class VectorLabels:
    """Features of a vector file, burnt window by window; later features lie over earlier ones. Picklable.

    Raises:
        ReadError: The file can't be read, or holds no polygons but other features; one of nothing labels nothing.
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
    _values: U8 = field(init=False, repr=False)
    _tree: Any = field(init=False, repr=False, default=None)
    _ignored: VectorLabels | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        """Read the features."""
        found = read_features(self.path, self.column, self.georeference, (self.height, self.width))
        self._shapes, self._values = found.shapes, self._classes(found)
        if self.ignore is not None:
            self._ignored = VectorLabels(
                self.ignore, self.georeference, self.height, self.width, {"": 0}, None, UNLABELLED, None, all_touched=True
            )

    def __getstate__(self) -> dict[str, Any]:
        """State without open files, so that it pickles."""
        return {**self.__dict__, "_tree": None}

    def _classes(self, found: Features) -> U8:
        if self.column is None:
            return np.full(len(found.shapes), self.codes.get("", 1), np.uint8)
        # A file of nothing often has no columns, either.
        if self.column not in found.fields and len(found.shapes):
            raise ConfigError(f"{self.path}: no column {self.column!r}; there are: {', '.join(found.fields) or 'none'}")
        texts = [text_of(value) for value in found.values]
        if texts and not any(text in self.codes for text in texts):
            seen = ", ".join(sorted({*texts})[:10])
            raise ConfigError(
                f"{self.path}: none of the values of {self.column!r} is a class: {seen}; known: "
                f"{', '.join(filter(None, self.codes))}"
            )
        others = Counter(text for text in texts if text not in self.codes)
        if others:
            names = ", ".join(f"{text} ({count})" for text, count in others.most_common(10))
            log.warning("%s: features whose %r is no class are not labelled: %s", self.path, self.column, names)
        return np.array([self.codes.get(text, UNLABELLED) for text in texts], np.uint8)

    def read(self, window: Window) -> tuple[U8, I32 | None]:
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

    def on_scene(self) -> tuple[int, int]:
        """Features whose box touches the scene, and all features of the file."""
        import shapely

        if not len(self._shapes):
            return 0, 0
        boxes = shapely.bounds(self._shapes)
        there = (boxes[:, 0] < self.width) & (boxes[:, 1] < self.height) & (boxes[:, 2] > 0) & (boxes[:, 3] > 0)
        return int(there.sum()), len(self._shapes)

    def _burnt(self, block: Window) -> I32:
        """Object numbers of a block; always the same blocks, since edges that meet pixel borders may fall to either side."""
        import shapely

        if self._tree is None:
            self._tree = shapely.STRtree(self._shapes)
        box = shapely.box(block.col_off - 1, block.row_off - 1, block.col_stop + 1, block.row_stop + 1)
        found = np.sort(self._tree.query(box))
        objects = np.zeros(block.shape, np.int32)
        if len(found):
            rasterio.features.rasterize(
                zip(self._shapes[found], (found + 1).tolist(), strict=True),
                out=objects,
                all_touched=self.all_touched,
                transform=Affine.translation(block.col_off, block.row_off),
            )
        return objects


def is_vector(path: str | Path) -> bool:
    """Whether a path is one of features, by its ending; a layer may be named."""
    return split_layer(path)[0].suffix.lower() in VECTORS


def _blocks(window: Window) -> Iterator[Window]:
    """The blocks of the fixed grid that a window touches."""
    rows, cols = window.cells((BLOCK_PX, BLOCK_PX))
    for row in rows:
        for col in cols:
            yield Window.cell((row, col), (BLOCK_PX, BLOCK_PX))


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """The polygons of a file on the pixels of a raster."""

    shapes: NDArray[Any]
    """(N,) in pixel coordinates (col, row); empty where one lies elsewhere."""
    fields: tuple[str, ...]
    """The columns of the file."""
    values: Sequence[Any]
    """(N,) of the column that was asked for."""


def read_features(path: str, column: str | None, georeference: Georeference, shape: tuple[int, int]) -> Features:
    """The polygons of a vector file, valid, with the values of one column; what else it holds is left out, and told.

    Raises:
        ReadError: The file can't be read, or holds no polygons but other features.
        GeoreferenceError: The file, or the raster, has no place on Earth.
    """
    import shapely

    parts: list[NDArray[Any]] = [np.empty(0, object)]
    values: list[Any] = []
    left_out: Counter[str] = Counter()
    try:
        file = PolygonFile.open(Path(path))
        wanted = (column,) if column in file.fields else ()
        for geometries, columns in file.batches(wanted):
            found = polygons_of(shapely.force_2d(geometries))
            there = ~shapely.is_empty(found)
            left_out.update(
                "without a geometry" if shapely.is_missing(g) or g.is_empty else g.geom_type for g in geometries[~there]
            )
            parts.append(found[there])
            values += [value for name in wanted for value, yes in zip(columns[name], there.tolist(), strict=True) if yes]
    except ConfigError as error:
        raise ReadError(str(error)) from error
    shapes = np.concatenate(parts)
    _tell(path, left_out, len(shapes))
    if not len(shapes):
        return Features(shapes, file.fields, values)
    if file.crs is None:
        raise GeoreferenceError(f"{path}: features without a CRS; write it into the file")
    if georeference.crs is None:
        raise GeoreferenceError(f"{path}: the image has no place on Earth, so features can't label it")
    try:
        placed = Placing.of(file.crs, georeference, shape)(shapes)
    except ConfigError as error:
        raise ReadError(f"{path}: {error}") from error
    if not shapely.intersects(placed, shapely.box(0, 0, shape[1], shape[0])).any():
        log.warning("%s: none of its %s polygons lies on the image", path, f"{len(placed):,}")
    return Features(placed, file.fields, values)


def _tell(path: str, left_out: Counter[str], kept: int) -> None:
    if not left_out:
        return
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in left_out.most_common())
    if not kept and {*left_out} != {"without a geometry"}:
        raise ReadError(f"{path}: holds no polygons ({kinds}); labels are polygons: draw them, or buffer lines and points")
    count = left_out.total()
    log.warning("%s: %s of %s features are no polygons and are left out: %s", path, f"{count:,}", f"{kept + count:,}", kinds)
