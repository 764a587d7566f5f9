"""Polygons in files of any size, brought to square metres and read by place."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyproj
from numpy.typing import NDArray

from geoseg.addresses import split_layer
from geoseg.crs import between, check_crs, not_a_map, opens_files
from geoseg.errors import ConfigError, ReadError
from geoseg.polygons.placing import polygons_of, valid_polygons
from geoseg.vectors.geoparquet import geo_column
from geoseg.vectors.opening import VectorSource, open_parquet, open_vector

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Area", "PolygonFile", "PolygonIndex", "equal_area"]

Floats = NDArray[np.float64]
Geometries = NDArray[Any]
BATCH = 16384
EARTH_M = 6_371_000.0
MOST_LONGITUDE, MOST_LATITUDE = 721.0, 91.0
"""Degrees that longitudes, counted on over the 180th meridian, and latitudes reach, with room for digits."""
NUMBER = "number"
GROUND_M = 1000.0
"""Edges are straight in their own CRS; moved to another one, points so far apart keep them within centimetres."""


@dataclass(frozen=True, slots=True)
class PolygonFile:
    """A file of polygons: GeoJSON, GeoPackage, FlatGeobuf, Shapefile, GeoParquet or a file geodatabase."""

    path: Path
    crs: pyproj.CRS | None
    fields: tuple[str, ...]
    layer: str | None
    """Its layer; None for GeoParquet."""

    @classmethod
    def open(cls, path: Path, assume_crs: str | None = None, layer: str | None = None) -> PolygonFile:
        """Read what a file says of itself.

        Args:
            path: The file, or ``FILE|layername=NAME``.
            assume_crs: Its CRS where it names none.
            layer: The layer where it has several.

        Raises:
            ConfigError: It is not there, has no such layer, or can't be read.
        """
        from pyogrio.errors import DataLayerError, DataSourceError

        path, named = split_layer(path)
        layer = layer or named
        if not path.exists():
            raise ConfigError(f"{path}: no such file")
        try:
            source = open_vector(path)
        except ReadError as error:
            raise ConfigError(str(error)) from error
        try:
            layer = source.chosen(layer)
            if layer is None:
                return cls(path, *_of_parquet(source, assume_crs), None)
            found = source.info(layer)
        except ReadError as error:
            raise ConfigError(str(error)) from error
        except (DataSourceError, DataLayerError) as error:
            raise ConfigError(f"{path}: can't be read as polygons: {error}") from error
        return cls(path, _crs_of(path, found["crs"], assume_crs), tuple(found["fields"]), layer)

    def batches(self, columns: tuple[str, ...]) -> Iterator[tuple[Geometries, dict[str, list[Any]]]]:
        """Geometries in the file's CRS and some of its columns, some at a time.

        Raises:
            ConfigError: A feature has a coordinate that is not finite, or none on Earth.
        """
        import pyarrow as pa
        import shapely
        from pyogrio.errors import DataLayerError, DataSourceError
        from shapely.errors import GEOSException

        from geoseg.polygons.geometries import not_finite

        wanted = [name for name in columns if name in self.fields]
        seen, batches = 0, open_vector(self.path).features(self.layer, wanted, BATCH)
        while True:
            try:
                geometries, values = next(batches)
            except StopIteration:
                return
            except (pa.ArrowException, GEOSException, NotImplementedError, DataSourceError, DataLayerError, ReadError) as error:
                raise ConfigError(f"{self.path}: what follows feature {seen} can't be read as polygons: {error}") from error
            if (fault := not_finite(geometries)) is not None:
                raise ConfigError(
                    f"{self.path}: feature {seen + fault + 1} has a coordinate that is no finite number; correct it or leave "
                    "it out"
                )
            self._check_degrees(shapely.total_bounds(geometries))
            yield geometries, values
            seen += len(geometries)

    def _check_degrees(self, box: Floats) -> None:
        """Refuse coordinates in metres in a file of degrees, as GeoJSON is where it names no CRS."""
        left, bottom, right, top = box.tolist()
        if self.crs is None or not self.crs.is_geographic or self.crs.axis_info[0].unit_name != "degree":
            return
        if max(-left, right) > MOST_LONGITUDE or max(-bottom, top) > MOST_LATITUDE:
            raise ConfigError(
                f"{self.path}: its coordinates (x {left:g} to {right:g}, y {bottom:g} to {top:g}) are no longitudes and "
                f"latitudes, which its CRS ({self.crs.name}) has; write the CRS that they are of into the file, "
                "for example with ogr2ogr -a_srs"
            )

    def checked(self) -> PolygonFile:
        """The same file, after all of it was read once.

        Raises:
            ConfigError: A feature has a coordinate that is not finite.
        """
        for _ in self.batches(()):
            pass
        return self

    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right and top of all polygons; from the file's index where it has one.

        Raises:
            ConfigError: The file holds no polygons.
        """
        found = self.extent()
        if found is None:
            raise ConfigError(f"{self.path}: holds no polygons")
        return found

    def extent(self) -> tuple[float, float, float, float] | None:
        """The same; None where the file holds nothing.

        Raises:
            ConfigError: It is none on Earth.
        """
        import shapely

        if self.layer is not None:
            known = open_vector(self.path).info(self.layer, bounds=True)["total_bounds"]
            boxes = [] if known is None else [known]
        else:
            boxes = [shapely.total_bounds(geometries) for geometries, _ in self.batches(()) if len(geometries)]
        found = np.array([box for box in boxes if np.isfinite(box).all()]).reshape(-1, 4)
        if not len(found):
            return None
        self._check_degrees(np.concatenate([found[:, :2].min(axis=0), found[:, 2:].max(axis=0)]))
        left, bottom = found[:, :2].min(axis=0).tolist()
        right, top = found[:, 2:].max(axis=0).tolist()
        return left, bottom, right, top


def _of_parquet(source: VectorSource, assume_crs: str | None) -> tuple[pyproj.CRS | None, tuple[str, ...]]:
    import pyarrow as pa

    path = source.path
    try:
        with open_parquet(source) as file:
            about = geo_column(file.schema_arrow)
    except (pa.ArrowInvalid, OSError, ReadError) as error:
        raise ConfigError(f"{path}: can't be read as GeoParquet: {error}") from error
    return _crs_of(path, about.crs, assume_crs), about.others


def _crs_of(path: Path, own: Any, assume_crs: str | None) -> pyproj.CRS | None:
    """The CRS that a file names, or else the one assumed.

    Raises:
        ConfigError: It is none, or would open a file.
    """
    text = json.dumps(own) if isinstance(own, dict) else own
    try:
        if text is None or text == "":
            return None if assume_crs is None else pyproj.CRS.from_user_input(check_crs(assume_crs))
        own_crs = pyproj.CRS.from_user_input(text) if (grid := opens_files(str(text))) is None else None
    except (ValueError, pyproj.exceptions.CRSError) as error:
        raise ConfigError(f"{path}: its CRS can't be used: {str(error).splitlines()[0]}") from error
    if own_crs is None:
        raise ConfigError(f"{path}: its CRS names the file {grid}, which is not opened; give it a CRS without grids")
    if (why := not_a_map(str(text))) is not None:
        raise ConfigError(f"{path}: {why}")
    return own_crs


def equal_area(file: PolygonFile) -> pyproj.CRS | None:
    """A CRS around the middle of a file's polygons in which areas are those on the ground.

    None without a CRS on Earth, or polygons.
    """
    extent = file.extent()
    if file.crs is None or file.crs.geodetic_crs is None or extent is None:
        # Also a flat map of its own, as engineers have.
        return None
    left, bottom, right, top = extent
    to_lonlat = between(file.crs, "OGC:CRS84")
    lon, lat = to_lonlat.transform((left + right) / 2, (bottom + top) / 2)
    return pyproj.CRS.from_proj4(f"+proj=laea +lat_0={lat:.6f} +lon_0={lon:.6f} +datum=WGS84 +units=m")


def _moved(geometries: Geometries, source: pyproj.CRS | None, target: pyproj.CRS | None) -> Geometries:
    import shapely

    if source is None or target is None:
        return geometries
    move = between(source, target)
    if source != target:
        geometries = shapely.segmentize(geometries, GROUND_M / _metres(source))
    return np.asarray(shapely.transform(geometries, lambda xy: np.stack(move.transform(xy[:, 0], xy[:, 1]), axis=1)))


def _metres(crs: pyproj.CRS) -> float:
    """Length of a unit of a CRS, about."""
    factor = float(crs.axis_info[0].unit_conversion_factor) if crs.axis_info else 1.0
    # Of angles the factor gives radians.
    return factor * (EARTH_M if crs.is_geographic else 1.0) or 1.0


class Area:
    """Where things count: the union of a file's polygons, in another CRS."""

    def __init__(self, file: PolygonFile, crs: pyproj.CRS | None) -> None:
        import shapely

        parts = [_moved(geometries, file.crs, crs) for geometries, _ in file.batches(())]
        self._union = shapely.union_all(shapely.make_valid(np.concatenate([np.empty(0, object), *parts])))
        shapely.prepare(self._union)

    def share(self, geometries: Geometries) -> Floats:
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
        keep: Callable[[dict[str, list[Any]]], NDArray[np.bool_] | None] = lambda _: None,
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
        import pyogrio.raw
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
                shapes = valid_polygons(_moved(given, file.crs, crs))
                look(given, shapes)
                area.append(shapely.area(shapes))
                for name, found in self.columns.items():
                    found += [value for value, yes in zip(values[name], taken.tolist(), strict=True) if yes]
                number = np.arange(count, count + len(shapes))
                count += len(shapes)
                yield pa.RecordBatch.from_arrays([pa.array(number), pa.array(shapely.to_wkb(shapes), pa.binary())], schema=schema)

        pyogrio.raw.write_arrow(
            pa.RecordBatchReader.from_batches(schema, moved()),
            path,
            driver="FlatGeobuf",
            geometry_name="geometry",
            geometry_type="Unknown",
            crs="EPSG:3857" if crs is None else crs.to_wkt(),
        )
        self.area: Floats = np.concatenate(area)

    def __len__(self) -> int:
        return len(self.area)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right and top of all polygons."""
        left, bottom, right, top = open_vector(self.path).info(bounds=True)["total_bounds"]
        return float(left), float(bottom), float(right), float(top)

    def within(self, box: tuple[float, float, float, float]) -> tuple[NDArray[np.int64], Geometries]:
        """Numbers and geometries of the polygons whose boxes meet a box."""
        import shapely

        if not len(self):
            return np.empty(0, np.int64), np.empty(0, object)
        table = open_vector(self.path).within(box, [NUMBER])
        geometry = next(name for name in table.column_names if name != NUMBER)
        number = table.column(NUMBER).to_numpy().astype(np.int64)
        return number, np.asarray(shapely.from_wkb(table.column(geometry).to_numpy()), object)
