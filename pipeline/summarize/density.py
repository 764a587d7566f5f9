"""Density of buildings or other small features: how many there are per square kilometre, as a raster."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import ConfigError, SceneTooLargeError
from geoseg.formats.cog import write_cog
from geoseg.formats.pyramid import SUPERBLOCK, Layer
from geoseg.formats.shades import shades_raster_qml
from geoseg.georeference import Georeference
from geoseg.summaries.cells import add_kernels
from geoseg.vectors.polygon_file import PolygonFile
from geoseg.windows import Window
from pipeline.files.atomic import atomic_path
from pipeline.summarize.cells import Features, Floats

__all__ = ["DensityReport", "write_density"]

MAX_SIDE = 1 << 20
NO_DENSITY = -1
"""Nodata: there are no features at all, far and wide."""
POINTS_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class DensityReport:
    """Contents of a density map."""

    shape: tuple[int, int]
    """Rows and columns."""
    points: int
    """Features that are spread over it: the sum of density times the area of a pixel."""
    crs: str


def write_density(
    path: Path,
    out: Path,
    interest: Sequence[object],
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
    features = Features(PolygonFile.open(path, layer=layer), column)
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
    def around(cls, features: Features, path: Path, pixel: float, radius_m: float) -> _Lattice:
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

    def fill(self, features: Features, interest: Sequence[object]) -> int:
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
        whole = Window.of(self._lattice.shape)
        found = [Window.cell(square, (SUPERBLOCK, SUPERBLOCK)) & whole for square in sorted(self._squares)]
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
