"""Polygons that end at the exact line of an area of interest, rather than at the pixels whose centres lie in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geoseg.arrays import F64, I64, U8, Bools
from geoseg.codes import NODATA
from geoseg.digits import figures
from geoseg.georeference import Georeference
from geoseg.polygons.block_grid import BlockGrid
from geoseg.polygons.class_raster import ClassRaster
from geoseg.polygons.features import GEOMETRY
from geoseg.polygons.geometries import Shapes, from_shapes
from geoseg.polygons.placing import polygons_of, valid_polygons
from geoseg.vectors.area_of_interest import AreaOfInterest
from geoseg.windows import Window
from pipeline.files.spool import FeatureSpool

if TYPE_CHECKING:
    import pyarrow as pa
    import shapely

__all__ = ["RasterGrown", "cut_exactly"]

CUT = "cut.arrow"
AROUND = ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))
"""Neighbours that a pixel takes its class from, in this order: rows and columns to them."""
SIZES = {"area_m2": 2, "area_ha": 4}
"""Columns of areas, and their decimals."""


class RasterGrown:
    """A class raster with one more pixel around an area, of the class of its neighbour; as a class raster.

    The line of an area runs through pixels whose centres lie outside of it.
    """

    def __init__(self, base: ClassRaster, area: AreaOfInterest) -> None:
        self.shape, self.georeference, self.has_confidence = base.shape, base.georeference, base.has_confidence
        self._base, self._area = base, area

    def classes(self, window: Window) -> U8:
        """Class codes of a window."""
        wide = self._wide(window)
        codes = self._base.classes(wide)
        return self._grown(codes, codes, wide)[window.slices_in(wide)]

    def confidence(self, window: Window) -> U8:
        """Confidence of a window."""
        wide = self._wide(window)
        return self._grown(self._base.classes(wide), self._base.confidence(wide), wide)[window.slices_in(wide)]

    def uniform(self, window: Window) -> int | None:
        """No data, away from the area and where there is none."""
        wide = self._wide(window)
        return NODATA if not self._area.touches(wide) or self._base.uniform(wide) == NODATA else None

    def blocks(self, grid: BlockGrid) -> Iterable[int]:
        """The blocks that may hold anything but no data."""
        near = {block for core in map(grid.core, self._base.blocks(grid)) for block in grid.touched(self._wide(core))}
        return sorted(near)

    def _wide(self, window: Window) -> Window:
        wide = window.grown(1) & Window.of(self.shape)
        assert wide is not None
        return wide

    def _grown(self, codes: U8, values: U8, window: Window) -> U8:
        """Values (h, w) that pixels outside of the area without data take from their neighbours."""
        open_ = (codes == NODATA) & ~self._area.mask(window)
        found, known = values.copy(), np.pad(codes, 1, constant_values=NODATA)
        padded = np.pad(values, 1)
        for row, col in AROUND:
            part = slice(1 + row, 1 + row + window.height), slice(1 + col, 1 + col + window.width)
            taken = open_ & (known[part] != NODATA)
            found[taken] = padded[part][taken]
            open_ &= ~taken
        return found


def cut_exactly(spool: FeatureSpool, area: AreaOfInterest, place: Georeference) -> FeatureSpool:
    """Cut features at the line of an area: their areas and perimeters follow, and each piece is a part of its own.

    Args:
        spool: The features, in the CRS of the raster; it is replaced.
        area: The area.
        place: Where the pixels of the raster lie.
    """
    import pyarrow as pa
    import shapely

    whole = area.geometry
    shapely.prepare(whole)
    path, count = spool.path.with_name(CUT), 0
    parts: dict[int, int] = {}
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, spool.schema) as writer:
        for batch in spool.batches():
            cut = _cut(batch, whole, place, parts)
            writer.write_batch(cut)
            count += cut.num_rows
    return FeatureSpool(Path(path.replace(spool.path)), count)


def _cut(batch: pa.RecordBatch, whole: shapely.Geometry, place: Georeference, parts: dict[int, int]) -> pa.RecordBatch:
    import pyarrow as pa
    import shapely

    shapes = shapely.transform(shapely.from_wkb(batch.column(GEOMETRY).to_numpy(zero_copy_only=False)), _pixels(place))
    open_ = np.flatnonzero(~shapely.contains_properly(whole, shapes))
    pieces = {int(i): _pieces(shapes[i], whole) for i in open_}
    row = np.concatenate([np.empty(0, np.int64), *(np.full(len(pieces.get(i, (0,))), i) for i in range(len(shapes)))])
    changed = np.isin(row, open_)
    found = np.concatenate([np.empty(0, object), *(pieces[int(i)] for i in open_)])
    polygons, taken = from_shapes(found), batch.take(pa.array(row))
    data, offsets = polygons.wkb(place)
    perimeters = polygons.perimeters(place)
    share = np.ones(len(row))
    share[changed] = shapely.area(found) / shapely.area(shapes[row[changed]])
    cut_wkb = [bytes(data[start:stop]) for start, stop in pairwise(offsets.tolist())]
    columns = {name: taken.column(name) for name in taken.schema.names}
    columns[GEOMETRY] = _replaced(columns[GEOMETRY], changed, cut_wkb)
    columns["part"] = pa.array(_numbered(taken, row, parts), pa.int32())
    if perimeters is not None:
        columns["perimeter_m"] = _replaced(columns["perimeter_m"], changed, figures(perimeters, 2).tolist())
    for name, decimals in SIZES.items():
        if name in columns and columns[name].null_count < len(row):
            scaled = figures(columns[name].to_numpy(zero_copy_only=False)[changed] * share[changed], decimals)
            columns[name] = _replaced(columns[name], changed, scaled.tolist())
    return pa.RecordBatch.from_arrays([columns[name] for name in taken.schema.names], schema=taken.schema)


def _pieces(shape: shapely.Geometry, whole: shapely.Geometry) -> Shapes:
    """(N,) polygons of a polygon that lie in an area."""
    import shapely

    left, top, right, bottom = shape.bounds
    near = shapely.clip_by_rect(whole, left - 1, top - 1, right + 1, bottom + 1)
    common = polygons_of(np.array([shapely.intersection(shape, valid_polygons(np.array([near], object))[0])], object))
    found = shapely.get_parts(common)
    return np.asarray(found[~shapely.is_empty(found)], object)


def _numbered(taken: pa.RecordBatch, row: I64, parts: dict[int, int]) -> list[int]:
    """Parts of features: 0 for one that is whole; else from 1 on, also over batches."""
    ids, given = taken.column("id").to_pylist(), taken.column("part").to_pylist()
    _, inverse, counts = np.unique(row, return_inverse=True, return_counts=True)
    found = []
    for feature, part, several in zip(ids, given, (counts[inverse] > 1).tolist(), strict=True):
        if part == 0 and not several:
            found.append(0)
            continue
        parts[feature] = parts.get(feature, 0) + 1
        found.append(parts[feature])
    return found


def _replaced(column: pa.Array, where: Bools, values: Sequence[object]) -> pa.Array:
    """A column with other values in some places, in their order."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.replace_with_mask(column, pa.array(where), pa.array(values, column.type))


def _pixels(place: Georeference) -> Callable[[F64], F64]:
    """Coordinates as columns and rows."""

    def move(xy: F64) -> F64:
        rows, cols = place.rows_cols(xy)
        return np.stack([cols, rows], axis=1)

    return move
