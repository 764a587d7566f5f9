"""Polygons with a spatial index, in square metres, and the share of polygons that lies in an area of interest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyproj

from geoseg.arrays import F64, I64, Bools
from geoseg.polygons.arrow_stream import write_batches
from geoseg.polygons.placing import polygons_of, valid_polygons
from geoseg.vectors.opening import open_vector
from geoseg.vectors.polygon_file import Geometries, PolygonFile
from geoseg.vectors.reprojecting import reprojected

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Area", "PolygonIndex"]

NUMBER = "number"


class Area:
    """An area of interest: the union of a file's polygons, in another CRS."""

    def __init__(self, file: PolygonFile, crs: pyproj.CRS | None) -> None:
        import shapely

        parts = [reprojected(geometries, file.crs, crs) for geometries, _ in file.batches(())]
        self._union = shapely.union_all(shapely.make_valid(np.concatenate([np.empty(0, object), *parts])))
        shapely.prepare(self._union)

    def share(self, geometries: Geometries) -> F64:
        """(N,) share of the area of polygons that lies within."""
        import shapely

        share = shapely.contains_properly(self._union, geometries).astype(np.float64)
        open_ = np.flatnonzero((share == 0) & shapely.intersects(self._union, geometries))
        common = shapely.area(shapely.intersection(geometries[open_], self._union))
        share[open_] = common / np.maximum(shapely.area(geometries[open_]), np.finfo(np.float64).tiny)
        return np.asarray(share, np.float64)


class PolygonIndex:
    """Polygons on disk with a spatial index, in square metres; what is known of each is in memory."""

    def __init__(
        self,
        file: PolygonFile,
        crs: pyproj.CRS | None,
        path: Path,
        *,
        columns: tuple[str, ...] = (),
        keep: Callable[[dict[str, list[Any]]], Bools | None] = lambda _: None,
        look: Callable[[Geometries, Geometries], None] = lambda *_: None,
    ) -> None:
        """Copy a file's polygons.

        Args:
            file: The file.
            crs: In which areas are taken.
            path: Where to: a FlatGeobuf file.
            columns: Columns that are kept in memory, where the file has them.
            keep: Says by columns which polygons are taken; all where it gives None.
            look: Is shown the geometries, in the file's CRS and in this one.
        """
        import pyarrow as pa
        import shapely

        self.path = path
        self.columns: dict[str, list[Any]] = {name: [] for name in columns if name in file.fields}
        area, self.left_out = [np.empty(0)], 0
        schema = pa.schema([pa.field(NUMBER, pa.int64()), pa.field("geometry", pa.binary())])

        def moved() -> Iterator[pa.RecordBatch]:
            count = 0
            for geometries, values in file.batches(columns):
                which = keep(values)
                taken = np.ones(len(geometries), np.bool_) if which is None else which
                given = polygons_of(shapely.force_2d(geometries))
                polygonal = ~shapely.is_empty(given)
                self.left_out += int((taken & ~polygonal).sum())
                taken &= polygonal
                given = given[taken]
                shapes = valid_polygons(reprojected(given, file.crs, crs))
                look(given, shapes)
                area.append(shapely.area(shapes))
                for name, found in self.columns.items():
                    found += [value for value, yes in zip(values[name], taken.tolist(), strict=True) if yes]
                number = np.arange(count, count + len(shapes))
                count += len(shapes)
                yield pa.RecordBatch.from_arrays([pa.array(number), pa.array(shapely.to_wkb(shapes), pa.binary())], schema=schema)

        write_batches(
            path,
            schema,
            moved(),
            driver="FlatGeobuf",
            geometry_name="geometry",
            geometry_type="Unknown",
            crs="EPSG:3857" if crs is None else crs.to_wkt(),
        )
        self.area: F64 = np.concatenate(area)

    def __len__(self) -> int:
        """Number of entries."""
        return len(self.area)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right and top of all polygons."""
        left, bottom, right, top = open_vector(self.path).info(bounds=True)["total_bounds"]
        return float(left), float(bottom), float(right), float(top)

    def within(self, box: tuple[float, float, float, float]) -> tuple[I64, Geometries]:
        """Numbers and geometries of the polygons whose boxes meet a box."""
        import shapely

        if not len(self):
            return np.empty(0, np.int64), np.empty(0, object)
        table = open_vector(self.path).within(box, [NUMBER])
        geometry = next(name for name in table.column_names if name != NUMBER)
        number = table.column(NUMBER).to_numpy().astype(np.int64)
        return number, np.asarray(shapely.from_wkb(table.column(geometry).to_numpy()), object)
