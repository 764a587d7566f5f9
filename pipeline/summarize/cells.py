"""Summaries of buildings or other small features: a grid of counts and shares."""

from __future__ import annotations

import sqlite3
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoseg.crs import between
from geoseg.digits import figures
from geoseg.errors import ConfigError
from geoseg.formats.shades import shares_qml
from geoseg.formats.vector import FIXED_DATE, add_style
from geoseg.scenes.files.muting import muted
from geoseg.summaries.cells import Cells, Tally, cell_boxes, metric_crs
from geoseg.vectors.polygon_file import Geometries, PolygonFile
from pipeline.files.atomic import atomic_path

__all__ = ["Features", "Floats", "GridReport", "write_grid"]

Floats = NDArray[np.float64]
AREA = "area_m2"


@dataclass(frozen=True, slots=True)
class GridReport:
    """Contents of a grid."""

    cells: int
    features: int
    of_interest: int
    crs: str
    """Of the grid."""


class Features:
    """Middles of features in metres, with numbers for their classes, batch by batch."""

    def __init__(self, file: PolygonFile, column: str) -> None:
        if column not in file.fields:
            raise ConfigError(f"{file.path}: has no column {column}; it has {', '.join(file.fields)}")
        if file.crs is None:
            raise ConfigError(f"{file.path}: no CRS, so features have no place on a grid in metres")
        self.crs = metric_crs(*_middle(file))
        self._file, self._column, self._geographic = file, column, file.crs.is_geographic
        self._move = between(file.crs, self.crs)
        self.values: dict[Hashable, int] = {}
        """Numbers of classes, in the order in which they are met."""

    def batches(self) -> Iterator[tuple[Floats, NDArray[np.int64], Floats | None]]:
        """Places (N, 2), class numbers (N,) and areas in square metres (N,), where the file has them."""
        import shapely

        for geometries, columns in self._file.batches((self._column, AREA)):
            there = ~(shapely.is_missing(geometries) | shapely.is_empty(geometries))
            middle = shapely.centroid(_joined(geometries[there]) if self._geographic else geometries[there])
            x, y = self._move.transform(shapely.get_x(middle), shapely.get_y(middle))
            xy = np.stack([x, y], axis=1)
            if not np.isfinite(xy).all():
                raise ConfigError(f"{self._file.path}: some features have no place in {self.crs.name}; repair or leave them out")
            values = [value for value, yes in zip(columns[self._column], there.tolist(), strict=True) if yes]
            numbers = np.array([self._number(value) for value in values], np.int64)
            area = columns.get(AREA)
            found = None if area is None else np.nan_to_num(np.array(area, np.float64)[there])
            yield xy, numbers, found

    def _number(self, value: Hashable) -> int:
        number = self.values.setdefault(value, len(self.values))
        if number > 255:
            raise ConfigError(f"{self._file.path}: column {self._column} has more than 256 classes; choose the column of classes")
        return number

    def numbers(self, wanted: Sequence[object]) -> list[int]:
        """Numbers of classes, given as they are in the file or as text; those that the file has not are left out."""
        chosen = {str(value) for value in wanted}
        return [number for value, number in self.values.items() if str(value) in chosen]


def _middle(file: PolygonFile) -> tuple[float, float, float]:
    """Longitude and latitude of the middle of a file, and how many degrees of longitude it spans."""
    assert file.crs is not None
    left, bottom, right, top = file.bounds()
    to_lonlat = between(file.crs, "OGC:CRS84")
    lon, lat = to_lonlat.transform((left + right) / 2, (bottom + top) / 2)
    if file.crs.is_geographic and right - left > 180:
        # Those on both sides of the 180th meridian are neighbours.
        x = np.array([_range_360(geometries) for geometries, _ in file.batches(()) if len(geometries)])
        low, high = np.nanmin(x[:, 0]), np.nanmax(x[:, 1])
        if high - low < right - left:
            return (low + high) / 2, lat, high - low
    sides = [to_lonlat.transform(x, (bottom + top) / 2)[0] for x in (left, right)]
    return lon, lat, abs((sides[1] - sides[0] + 180) % 360 - 180)


def _range_360(geometries: Geometries) -> tuple[float, float]:
    """Least and largest longitude, counted from 0 to 360."""
    import shapely

    lon = shapely.get_coordinates(geometries)[:, 0] % 360
    return (float(lon.min()), float(lon.max())) if len(lon) else (np.nan, np.nan)


def _joined(geometries: Geometries) -> Geometries:
    """Features in degrees, those that the 180th meridian cuts in two as one."""
    import shapely

    bounds = shapely.bounds(geometries)
    cut = np.flatnonzero(bounds[:, 2] - bounds[:, 0] > 180)
    joined = geometries.copy()
    joined[cut] = shapely.transform(geometries[cut], lambda xy: np.stack([xy[:, 0] % 360, xy[:, 1]], axis=1))
    return joined


def write_grid(
    path: Path,
    out: Path,
    interest: Sequence[object],
    *,
    side_m: float,
    column: str = "class",
    without: Sequence[object] = (),
    layer: str | None = None,
) -> GridReport:
    """Write square cells with counts of features by class, and the share of some classes among the analysed ones.

    Features count in the cell of their middle. Cells lie on multiples of their side in the UTM zone of the middle of the
    file, or an equal-area projection (``metric_crs``); those without a feature are left out. QGIS shades them by the share.

    Args:
        path: A file of features.
        out: The GeoPackage to write; its layer is ``grid``.
        interest: Classes whose share is taken, such as ``("destroyed",)``.
        side_m: Side of a cell, metres.
        column: The column of classes, names or codes.
        without: Classes that say nothing was known, such as ``("not analysed",)``.
        layer: Of the file, where it has several.

    Raises:
        ConfigError: The file can't be read or has no such column, or the side can't be.
    """
    import pyogrio
    import pyogrio.raw
    import shapely

    features = Features(PolygonFile.open(path, layer=layer), column)
    tally = Tally(side_m)
    for xy, numbers, area in features.batches():
        tally.add(xy, numbers, area)
    cells = tally.cells()
    chosen, unknown = features.numbers(interest), features.numbers(without)
    columns = _columns(cells, features.values, chosen, unknown)
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": FIXED_DATE})
    # It has its ending when it is whole.
    with atomic_path(out) as part, muted(message="The filename extension"):
        pyogrio.raw.write(
            part,
            shapely.to_wkb(shapely.box(*cell_boxes(cells).T)),
            list(columns.values()),
            list(columns),
            layer="grid",
            geometry_type="Polygon",
            crs=features.crs.to_wkt(),
            driver="GPKG",
            dataset_options={"VERSION": "1.3"},
        )
        with closing(sqlite3.connect(part)) as connection, connection:
            add_style(connection, "grid", shares_qml("share", ", ".join(map(str, interest))), "Share among the analysed")
    inside = [number in chosen for number in cells.codes]
    return GridReport(len(cells.row), int(cells.count.sum()), int(cells.count[:, inside].sum()), features.crs.to_string())


def _columns(
    cells: Cells, values: Mapping[Hashable, int], chosen: list[int], unknown: list[int]
) -> dict[str, NDArray[np.generic]]:
    names = {number: value for value, number in values.items()}
    inside = [number in chosen for number in cells.codes]
    known = [number not in unknown for number in cells.codes]
    share = cells.share(chosen, unknown)
    columns: dict[str, NDArray[np.generic]] = {"row": cells.row, "col": cells.col, "total": cells.count.sum(axis=1)}
    columns["analysed"] = cells.count[:, known].sum(axis=1)
    affected = cells.count[:, inside].sum(axis=1)
    columns["affected"] = affected
    columns["share"] = np.round(share, 4)
    columns["affected_per_km2"] = np.round(affected * (1e6 / cells.side**2), 4)
    columns["total_area_m2"] = figures(cells.area_m2.sum(axis=1), 2)
    columns["affected_area_m2"] = figures(cells.area_m2[:, inside].sum(axis=1), 2)
    for position in sorted(range(len(cells.codes)), key=lambda i: str(names[cells.codes[i]])):
        name = "_".join(str(names[cells.codes[position]]).replace("-", " ").split()).lower()
        columns[f"n_{name}"] = cells.count[:, position]
    return columns
