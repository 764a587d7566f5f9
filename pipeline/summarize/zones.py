"""Areas of classes by zones: administrative units, or any polygons.

A pixel on a border counts to each zone in proportion to what lies in it (exactextract), with its geodesic area. Zones are
brought to the pixels of the raster, so that rotated and geographic grids are as exact as others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyproj
from numpy.typing import NDArray

from geoseg.digits import figure
from geoseg.errors import ConfigError
from geoseg.formats.text import write_table
from geoseg.formats.vector import FIXED_DATE
from geoseg.polygons.placing import Placing
from geoseg.vectors.polygon_file import PolygonFile
from geoseg.windows import Window
from pipeline.files.areas import pixel_areas
from pipeline.files.atomic import atomic_path
from pipeline.files.class_rasters import RasterFile
from pipeline.files.columns import LayerColumns, renamed

if TYPE_CHECKING:
    import shapely
    from exactextract.raster import RasterSource

__all__ = ["Zone", "areas_by_zone", "check_zones", "write_zones"]

Pixels = NDArray[np.uint8] | NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone and what lies in it."""

    number: int
    """Its position in the file, from 1."""
    facts: Mapping[str, object]
    """Its columns."""
    geometry: shapely.Geometry | None
    """In the CRS of the file."""
    area_m2: Mapping[int, float]
    """By class code, 254 and 255 among them; what lies outside of the raster is not counted."""


def areas_by_zone(raster: RasterFile, path: str, *, assume_crs: str | None = None) -> list[Zone]:
    """Areas of the classes of a raster in each polygon of a file.

    Raises:
        ConfigError: The file can't be read, or one of the two has no CRS.
    """
    import shapely
    from exactextract import exact_extract
    from exactextract.feature import JSONFeatureSource

    file = PolygonFile.open(Path(path), assume_crs)
    place = raster.georeference
    if file.crs is None or place.crs is None:
        raise ConfigError(f"{path if file.crs is None else raster.scene.path}: no CRS, so that zones can't be laid over the map")
    zones: list[Zone] = []
    classes, sizes = _sources(raster)
    to_pixels = Placing.of(file.crs, place, raster.shape, upwards=True)
    for geometries, columns in file.zones():
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)] or [{}] * len(
            geometries
        )
        moved = to_pixels(geometries)
        inside = [i for i, shape in enumerate(moved) if not shape.is_empty]
        areas: dict[int, dict[int, float]] = {}
        if inside:
            features = [
                {"type": "Feature", "id": i, "properties": {}, "geometry": shapely.geometry.mapping(moved[i])} for i in inside
            ]
            source = JSONFeatureSource(features)
            shares = exact_extract(classes, source, ["unique", "weighted_frac"], weights=sizes, include_geom=False)
            totals = exact_extract(sizes, source, ["sum"], include_geom=False)
            for i, share, total in zip(inside, shares, totals, strict=True):
                found, whole = share["properties"], total["properties"]["sum"] or 0.0
                parts = np.asarray(found["weighted_frac"], np.float64) * whole
                areas[i] = {int(code): float(value) for code, value in zip(found["unique"], parts, strict=True)}
        for i, (row, geometry) in enumerate(zip(rows, geometries, strict=True)):
            zones.append(Zone(len(zones) + 1, row, geometry, areas.get(i, {})))
    return zones


def check_zones(path: str, assume_crs: str | None = None, *, pixel_coords: bool = False) -> PolygonFile:
    """Open a file of zones before anything is computed.

    Args:
        path: The file.
        assume_crs: Its CRS where it has none.
        pixel_coords: Whether images may have no place on Earth: zones can't be laid over these.

    Raises:
        ConfigError: It is not there, has no CRS, or holds something else than polygons with finite coordinates.
    """
    if pixel_coords:
        raise ConfigError(
            f"zones: {path} can't be laid over images without a place on Earth; leave out --zones or --pixel-coords"
        )
    file = PolygonFile.open(Path(path), assume_crs)
    if file.crs is None:
        raise ConfigError(f"{path}: no CRS, so that zones can't be laid over the map; write it into the file")
    file.checked(zones=True).bounds()
    return file


def _sources(raster: RasterFile) -> tuple[RasterSource, RasterSource]:
    """The classes and the areas of pixels as exactextract reads them."""
    from exactextract.raster import RasterSource

    height, width = raster.shape

    class Source(RasterSource):  # type: ignore[misc, unused-ignore]  # exactextract is not typed
        def __init__(self, name: str, read: Callable[[Window], Pixels]) -> None:
            super().__init__()
            self.set_name(name)
            self._read = read

        def res(self) -> tuple[float, float]:
            return 1.0, 1.0

        def extent(self) -> tuple[float, float, float, float]:
            return 0.0, -float(height), float(width), 0.0

        def srs_wkt(self) -> None:
            return None

        def nodata_value(self) -> None:
            return None

        def read_window(self, x0: int, y0: int, nx: int, ny: int) -> Pixels:
            # Zones that reach beyond the raster by less than a pixel make it ask for nothing, but for its type.
            return self._read(Window.at((y0, x0), (ny, nx))) if nx and ny else self._read(Window.of((1, 1)))[:0, :0]

    return Source("classes", raster.classes), Source("area", lambda window: pixel_areas(raster.georeference, window))


def write_zones(zones: Sequence[Zone], names: Mapping[int, str], path: Path, crs: pyproj.CRS | None) -> list[Path]:
    """Write zones with hectares by class, as CSV and as GeoPackage; ``path`` has no ending.

    Args:
        zones: The zones.
        names: Names of classes by code.
        path: Where to.
        crs: Of their geometries.
    """
    import pyogrio
    import pyogrio.raw
    import shapely

    codes = [code for code in names if code not in (254, 255)]
    hectares = {f"{_column(names[code])}_ha": [figure(zone.area_m2.get(code, 0.0) / 1e4, 4) for zone in zones] for code in codes}
    hectares["not_analysed_ha"] = [figure((zone.area_m2.get(254, 0.0) + zone.area_m2.get(255, 0.0)) / 1e4, 4) for zone in zones]
    fields = renamed(dict.fromkeys(name for zone in zones for name in zone.facts), ("zone", *hectares))
    columns: dict[str, Sequence[object]] = {"zone": [zone.number for zone in zones]}
    columns |= {new: [zone.facts.get(name) for zone in zones] for name, new in fields.items()}
    columns |= hectares
    table, layer = path.with_suffix(".csv"), path.with_suffix(".gpkg")
    with atomic_path(table) as part:
        write_table(part, list(columns), zip(*columns.values(), strict=True))
    kept = LayerColumns.of(columns)
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": FIXED_DATE})
    with atomic_path(layer) as part:
        pyogrio.raw.write(
            part,
            shapely.to_wkb(np.array([zone.geometry for zone in zones], object)),
            kept.arrays,
            kept.names,
            field_mask=kept.missing,
            geometry_type="Unknown",
            crs=None if crs is None else crs.to_wkt(),
            driver="GPKG",
            layer="zones",
        )
    return [table, layer]


def _column(name: str) -> str:
    return "_".join(name.replace("-", " ").split())
