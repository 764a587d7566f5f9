"""Polygons in files of any size, read some at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
from numpy.typing import NDArray

from geoseg.addresses import split_layer
from geoseg.arrays import F64
from geoseg.crs import check_crs, not_a_map, opens_files
from geoseg.errors import ConfigError, ReadError
from geoseg.vectors.geoparquet import geo_column
from geoseg.vectors.opening import VectorSource, open_parquet, open_vector

__all__ = ["Geometries", "PolygonFile"]

Geometries = NDArray[Any]
BATCH = 16384
POLYGONS = 3, 6
"""Kinds of geometries that have an area, as shapely numbers them."""

MOST_LONGITUDE, MOST_LATITUDE = 721.0, 91.0
"""Degrees that longitudes, counted on over the 180th meridian, and latitudes reach, with room for digits."""
MOST_PROJECTED = 1e9
"""Metres or feet that coordinates of maps of the Earth reach, with more room than any false easting takes."""


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
            self._check_on_earth(shapely.total_bounds(geometries))
            yield geometries, values
            seen += len(geometries)

    def zones(self) -> Iterator[tuple[Geometries, dict[str, list[Any]]]]:
        """Polygons in the file's CRS with all columns, some at a time; a feature without a geometry is None.

        Raises:
            ConfigError: A feature is something else, or has a coordinate that is not finite; or there is none.
        """
        import shapely

        seen = 0
        for geometries, values in self.batches(self.fields):
            odd = np.flatnonzero(~np.isin(shapely.get_type_id(geometries), (*POLYGONS, -1)))
            if odd.size:
                raise ConfigError(
                    f"{self.path}: feature {seen + int(odd[0]) + 1} is a {geometries[odd[0]].geom_type}; zones are polygons: "
                    "leave out all else"
                )
            yield geometries, values
            seen += len(geometries)
        if not seen:
            raise ConfigError(f"{self.path}: holds no polygons; give a file with one or more")

    def _check_on_earth(self, box: F64) -> None:
        """Refuse coordinates in metres in a file of degrees, as GeoJSON is where it names no CRS, and what lies beyond all maps.

        Edges get points in between before they are moved to another CRS: of a length without bound they are points without bound.
        """
        left, bottom, right, top = box.tolist()
        if self.crs is not None and self.crs.is_projected and np.abs(box).max() > MOST_PROJECTED:
            raise ConfigError(
                f"{self.path}: its coordinates (x {left:g} to {right:g}, y {bottom:g} to {top:g}) lie beyond the Earth, of which "
                f"its CRS ({self.crs.name}) is a map; correct them, or leave such features out"
            )
        if self.crs is None or not self.crs.is_geographic or self.crs.axis_info[0].unit_name != "degree":
            return
        if max(-left, right) > MOST_LONGITUDE or max(-bottom, top) > MOST_LATITUDE:
            raise ConfigError(
                f"{self.path}: its coordinates (x {left:g} to {right:g}, y {bottom:g} to {top:g}) are no longitudes and "
                f"latitudes, which its CRS ({self.crs.name}) has; write the CRS that they are of into the file, "
                "for example with ogr2ogr -a_srs"
            )

    def checked(self, *, zones: bool = False) -> PolygonFile:
        """Read all of the file once, and give it back.

        Args:
            zones: Whether all of it are to be polygons, one at least.

        Raises:
            ConfigError: A feature has a coordinate that is not finite; or it does not hold zones.
        """
        for _ in self.zones() if zones else self.batches(()):
            pass
        return self

    def bounds(self) -> tuple[float, float, float, float]:
        """Left, bottom, right and top of all polygons; from the file's index where it has one.

        Raises:
            ConfigError: The file holds no polygons.
        """
        found = self.extent()
        if found is None:
            raise ConfigError(f"{self.path}: holds no polygons; give a file with one or more")
        return found

    def extent(self) -> tuple[float, float, float, float] | None:
        """Left, bottom, right and top; None where the file holds nothing.

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
        self._check_on_earth(np.concatenate([found[:, :2].min(axis=0), found[:, 2:].max(axis=0)]))
        left, bottom = found[:, :2].min(axis=0).tolist()
        right, top = found[:, 2:].max(axis=0).tolist()
        return left, bottom, right, top


def _of_parquet(source: VectorSource, assume_crs: str | None) -> tuple[pyproj.CRS | None, tuple[str, ...]]:
    import pyarrow as pa

    path = source.path
    try:
        with open_parquet(source) as file:
            about = geo_column(file)
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
