"""Summaries of buildings or other small features: a grid of counts and shares, and a density map."""

from __future__ import annotations

import math
import sqlite3
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.crs import between
from geoseg.digits import figures
from geoseg.errors import ConfigError, SceneTooLargeError
from geoseg.formats.cog import SUPERBLOCK, Layer, write_cog
from geoseg.formats.shades import shades_raster_qml, shares_qml
from geoseg.formats.vector import FIXED_DATE, add_style
from geoseg.georeference import Georeference
from geoseg.summaries.grid import Cells, Tally, add_kernels, cell_boxes, metric_crs
from geoseg.vectors.polygons import PolygonFile
from geoseg.windows import Window
from pipeline.files.atomic import atomic_path

__all__ = ["DensityReport", "GridReport", "write_density", "write_grid"]

Floats = NDArray[np.float64]
MAX_SIDE = 1 << 20
NO_DENSITY = -1
"""Where there are no features at all, far and wide."""
AREA = "area_m2"
POINTS_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class GridReport:
    """What a grid holds."""

    cells: int
    features: int
    of_interest: int
    crs: str
    """Of the grid."""


@dataclass(frozen=True, slots=True)
class DensityReport:
    """What a density map holds."""

    shape: tuple[int, int]
    """Rows and columns."""
    points: int
    """How many features are spread over it: the sum of density times the area of a pixel."""
    crs: str


class _Features:
    """Middles of features in metres, with numbers for their classes, batch by batch."""

    def __init__(self, file: PolygonFile, column: str) -> None:
        if column not in file.fields:
            raise ConfigError(f"{file.path}: has no column {column}; it has {', '.join(file.fields)}")
        if file.crs is None:
            raise ConfigError(f"{file.path}: no CRS, so features have no place on a grid in metres")
        self.crs = metric_crs(*_middle(file))
        self._file, self._column, self._geographic = file, column, file.crs.is_geographic
        self._move = between(file.crs, self.crs)
        self.values: dict[Any, int] = {}
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

    def _number(self, value: Any) -> int:
        number = self.values.setdefault(value, len(self.values))
        if number > 255:
            raise ConfigError(f"{self._file.path}: column {self._column} has more than 256 classes; choose the column of classes")
        return number

    def numbers(self, wanted: Sequence[Any]) -> list[int]:
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


def _range_360(geometries: NDArray[Any]) -> tuple[float, float]:
    """Least and largest longitude, counted from 0 to 360."""
    import shapely

    lon = shapely.get_coordinates(geometries)[:, 0] % 360
    return (float(lon.min()), float(lon.max())) if len(lon) else (np.nan, np.nan)


def _joined(geometries: NDArray[Any]) -> NDArray[Any]:
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
    interest: Sequence[Any],
    *,
    side_m: float,
    column: str = "class",
    without: Sequence[Any] = (),
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

    features = _Features(PolygonFile.open(path, layer=layer), column)
    tally = Tally(side_m)
    for xy, numbers, area in features.batches():
        tally.add(xy, numbers, area)
    cells = tally.cells()
    chosen, unknown = features.numbers(interest), features.numbers(without)
    columns = _columns(cells, features.values, chosen, unknown)
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": FIXED_DATE})
    with atomic_path(out) as part, warnings.catch_warnings():
        # It has its ending when it is whole.
        warnings.filterwarnings("ignore", "The filename extension")
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


def _columns(cells: Cells, values: dict[Any, int], chosen: list[int], unknown: list[int]) -> dict[str, NDArray[Any]]:
    names = {number: value for value, number in values.items()}
    inside = [number in chosen for number in cells.codes]
    known = [number not in unknown for number in cells.codes]
    share = cells.share(chosen, unknown)
    columns: dict[str, NDArray[Any]] = {"row": cells.row, "col": cells.col, "total": cells.count.sum(axis=1)}
    columns["analysed"] = cells.count[:, known].sum(axis=1)
    columns["affected"] = cells.count[:, inside].sum(axis=1)
    columns["share"] = np.round(share, 4)
    columns["affected_per_km2"] = np.round(columns["affected"] * (1e6 / cells.side**2), 4)
    columns["total_area_m2"] = figures(cells.area_m2.sum(axis=1), 2)
    columns["affected_area_m2"] = figures(cells.area_m2[:, inside].sum(axis=1), 2)
    for position in sorted(range(len(cells.codes)), key=lambda i: str(names[cells.codes[i]])):
        name = "_".join(str(names[cells.codes[position]]).replace("-", " ").split()).lower()
        columns[f"n_{name}"] = cells.count[:, position]
    return columns


def write_density(
    path: Path,
    out: Path,
    interest: Sequence[Any],
    *,
    radius_m: float,
    pixel_m: float | None = None,
    column: str = "class",
    layer: str | None = None,
) -> DensityReport:
    """Write how many features of some classes there are per square kilometre, as a cloud-optimized GeoTIFF with a QGIS style.

    The kernel is quartic, and each feature is spread over exactly one, so that the sum of the pixels times their area is
    the number of features. Squares of 4096 pixels that no feature of any class comes near hold no data. Points wait on
    disk: memory is that of one such square.

    Args:
        path: A file of features.
        out: The GeoTIFF to write, float32.
        interest: The classes that count.
        radius_m: Where the kernel ends, metres.
        pixel_m: Side of a pixel, metres; a fifth of the radius by default.
        column: The column of classes, names or codes.
        layer: Of the file, where it has several.

    Raises:
        ConfigError: The file can't be read or has no such column, or the radius can't be.
        SceneTooLargeError: The pixels are too small for the area.
    """
    if not (math.isfinite(radius_m) and radius_m > 0):
        raise ConfigError(f"radius: {radius_m:g} m; the radius of the kernel is above 0")
    pixel = radius_m / 5 if pixel_m is None else pixel_m
    if not radius_m / 256 <= pixel:
        raise ConfigError(f"pixel: {pixel:g} m; it is at least {radius_m / 256:g} m, which is 1/256 of the radius")
    features = _Features(PolygonFile.open(path, layer=layer), column)
    lattice = _Lattice.around(features, path, pixel, radius_m)
    with TemporaryDirectory(dir=out.parent, prefix=".density.") as work, atomic_path(out) as part:
        spool = _Spool(Path(work), lattice)
        points = spool.fill(features, interest)
        peaks = [0.0]

        def read(window: Window) -> NDArray[np.float32]:
            image = np.zeros(window.shape)
            for xy in spool.near(window):
                add_kernels(image, lattice.origin, (window.row_off, window.col_off), xy, pixel, radius_m)
            peaks.append(float(image.max(initial=0)))
            return image.astype(np.float32)

        left, top = lattice.origin
        place = Georeference((pixel, 0.0, left, 0.0, -pixel, top), features.crs.to_wkt())
        write_cog(part, Path(work) / "levels", lattice.shape, place, _layer(interest, radius_m), read, spool.windows())
    style = shades_raster_qml(max(peaks) or 1.0, f"{', '.join(map(str, interest))} per km²")
    with atomic_path(out.with_suffix(".qml")) as part:
        part.write_text(style, encoding="utf-8")
    return DensityReport(lattice.shape, points, features.crs.to_string())


def _layer(interest: Sequence[object], radius_m: float) -> Layer:
    tags = {
        "unit": "features per km2",
        "kernel": "quartic",
        "radius_m": f"{radius_m:g}",
        "classes": ", ".join(map(str, interest)),
    }
    return Layer(overview="average", dtype="float32", nodata=NO_DENSITY, description="density", tags=tags)


@dataclass(frozen=True, slots=True)
class _Lattice:
    """The pixels of a density map."""

    origin: tuple[float, float]
    """x and y of its upper left corner."""
    pixel: float
    margin: int
    """Pixels that a kernel reaches."""
    shape: tuple[int, int]

    @classmethod
    def around(cls, features: _Features, path: Path, pixel: float, radius_m: float) -> _Lattice:
        """The pixels that the kernels of all features reach.

        Raises:
            SceneTooLargeError: They are too many.
        """
        low, high = np.full(2, np.inf), np.full(2, -np.inf)
        for xy, _, _ in features.batches():
            low, high = np.minimum(low, xy.min(axis=0, initial=np.inf)), np.maximum(high, xy.max(axis=0, initial=-np.inf))
        margin = math.ceil(radius_m / pixel) + 1
        left, top = (math.floor(low[0] / pixel) - margin) * pixel, (math.ceil(high[1] / pixel) + margin) * pixel
        width, height = math.ceil((high[0] - left) / pixel) + margin, math.ceil((top - low[1]) / pixel) + margin
        if max(width, height) > MAX_SIDE:
            raise SceneTooLargeError(
                f"{path}: a density map of {height} x {width} pixels of {pixel:g} m; at most {MAX_SIDE} a side: "
                "take larger pixels"
            )
        return cls((left, top), pixel, margin, (height, width))


class _Spool:
    """Points by the squares of the raster that their kernels reach, in the order of the file."""

    def __init__(self, folder: Path, lattice: _Lattice) -> None:
        self._folder, self._lattice = folder, lattice
        self._squares: set[tuple[int, int]] = set()

    def fill(self, features: _Features, interest: Sequence[Any]) -> int:
        """Take all features; returns how many are of the classes."""
        points = 0
        (left, top), pixel, margin = self._lattice.origin, self._lattice.pixel, self._lattice.margin
        for xy, numbers, _ in features.batches():
            chosen = np.isin(numbers, features.numbers(interest))
            points += int(chosen.sum())
            cols, rows = (xy[:, 0] - left) / pixel, (top - xy[:, 1]) / pixel
            first = np.stack([rows - margin, cols - margin], axis=1).clip(0)
            last = np.stack([rows + margin, cols + margin], axis=1).clip(max=np.array(self._lattice.shape) - 1)
            begin, end = (np.floor(v / SUPERBLOCK).astype(np.int64) for v in (first, last))
            for row in range(int(begin[:, 0].min(initial=0)), int(end[:, 0].max(initial=-1)) + 1):
                in_row = (begin[:, 0] <= row) & (end[:, 0] >= row)
                for col in np.unique(np.concatenate([begin[in_row, 1], end[in_row, 1]])).tolist():
                    near = in_row & (begin[:, 1] <= col) & (end[:, 1] >= col)
                    self._squares.add((row, col))
                    if (near & chosen).any():
                        with self._file(row, col).open("ab") as file:
                            file.write(np.ascontiguousarray(xy[near & chosen]).tobytes())
        return points

    def windows(self) -> list[Window]:
        """The squares that features come near."""
        whole = Window(0, 0, *self._lattice.shape)
        found = [Window(row * SUPERBLOCK, col * SUPERBLOCK, SUPERBLOCK, SUPERBLOCK) & whole for row, col in sorted(self._squares)]
        return [window for window in found if window is not None]

    def near(self, window: Window) -> Iterator[Floats]:
        """(N, 2) points that reach a square, some at a time."""
        path = self._file(window.row_off // SUPERBLOCK, window.col_off // SUPERBLOCK)
        if path.is_file():
            with path.open("rb") as file:
                while len(found := np.fromfile(file, np.float64, 2 * POINTS_AT_ONCE)):
                    yield found.reshape(-1, 2)

    def _file(self, row: int, col: int) -> Path:
        return self._folder / f"{row}_{col}.xy"
