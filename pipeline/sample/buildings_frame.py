"""Sampling frame of buildings: those that a result has graded, in strata of grade and confidence."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from geoseg.arrays import F64, I64, Bools
from geoseg.codes import NOT_ANALYSED
from geoseg.crs import between
from geoseg.damage.scale import CLASSES
from geoseg.errors import ConfigError
from geoseg.models.model_folder import file_hash
from geoseg.vectors.polygon_file import Geometries, PolygonFile
from pipeline.files.maps import BUILDINGS, first_file

__all__ = ["BuildingMap", "buildings_of", "open_buildings"]

LAYER = "buildings"


@dataclass(frozen=True, slots=True, eq=False)
class BuildingMap:
    """Graded buildings (N,), in the order of their file; those that were not analysed are only counted."""

    path: Path
    names: Mapping[int, str]
    """Names of the grades by code."""
    number: I64
    """Of each in the file."""
    code: I64
    confidence: F64
    """Percent; NaN where the file has none."""
    shapes: Geometries
    crs: pyproj.CRS | None
    not_analysed: int
    middles_not_analysed: Geometries
    """Where those lie that were not analysed, as far as they have a shape."""

    @property
    def sha256(self) -> str:
        """Of the file."""
        return file_hash(self.path)

    @property
    def frame_sha256(self) -> str:
        """Of which buildings there are and where, whatever their grades."""
        digest = hashlib.sha256(self.number.tobytes())
        for wkb in shapely.to_wkb(self.shapes).tolist():
            digest.update(wkb)
        return digest.hexdigest()

    def strata(self, sure: float) -> tuple[list[str], I64]:
        """Titles of the strata, and that of each building (N,), by grade and whether its confidence is ``sure`` or more."""
        surely = self.confidence >= sure
        titles = [f"{name}, {how}" for name in self.names.values() for how in ("unsure", "sure")]
        return titles, 2 * self.position + surely

    @property
    def position(self) -> I64:
        """(N,) positions of the grades among the names."""
        return np.searchsorted(np.array([*self.names]), self.code).astype(np.int64)

    def within(self, area: shapely.Geometry, crs: pyproj.CRS | None) -> tuple[Bools, int]:
        """Whether the middle of each building lies in an area (N,), and of how many that were not analysed."""
        shapely.prepare(area)
        found = [
            shapely.contains_xy(area, *shapely.get_coordinates(_moved(points, self.crs, crs)).T)
            for points in (shapely.centroid(self.shapes), self.middles_not_analysed)
        ]
        return found[0], int(found[1].sum())


def buildings_of(path: str) -> Path | None:
    """The file of graded buildings that a path names, itself or as the folder of a result; None where it names none."""
    place = Path(path)
    if place.is_dir():
        return first_file(place, BUILDINGS)
    return place if place.name in BUILDINGS or place.suffix in {Path(name).suffix for name in BUILDINGS} else None


def open_buildings(path: Path) -> BuildingMap:
    """Read graded buildings.

    Raises:
        ConfigError: The file can't be read, holds no graded building, or has grades of another scale.
    """
    file = PolygonFile.open(path, layer=LAYER if path.suffix == ".gpkg" else None)
    lacking = {"id", "code", "class"} - {*file.fields}
    if lacking:
        raise ConfigError(f"{path}: has no column {min(lacking)!r}; give buildings that geoseg damage has graded")
    parts: list[tuple[Geometries, NDArray[np.float64]]] = []
    for shapes, columns in file.batches(("id", "code", "confidence")):
        values = [columns["id"], columns["code"], columns.get("confidence") or [None] * len(shapes)]
        parts.append((shapes, np.array([[np.nan if v is None else v for v in column] for column in values], np.float64)))
    shapes = np.concatenate([part for part, _ in parts] or [np.empty(0, object)])
    number, code, confidence = np.concatenate([part for _, part in parts] or [np.empty((3, 0))], axis=1)
    known = ~(np.isnan(code) | (code == NOT_ANALYSED))
    names = dict(enumerate(CLASSES))
    odd = known & ~np.isin(code, [*names])
    if odd.any():
        raise ConfigError(f"{path}: has the grade {code[odd][0]:g}, and grades are {', '.join(CLASSES)}, 0 to {len(CLASSES) - 1}")
    if not known.any():
        raise ConfigError(f"{path}: holds no graded building to draw from; give a run or a version that has some")
    if len(np.unique(number[known])) < known.sum():
        raise ConfigError(f"{path}: two buildings have one id; give buildings that geoseg damage has graded")
    placed = ~known & ~(shapely.is_missing(shapes) | shapely.is_empty(shapes))
    return BuildingMap(
        path,
        names,
        number[known].astype(np.int64),
        code[known].astype(np.int64),
        confidence[known],
        shapely.force_2d(shapes[known]),
        file.crs,
        int((~known).sum()),
        shapely.centroid(shapes[placed]),
    )


def _moved(points: Geometries, source: pyproj.CRS | None, target: pyproj.CRS | None) -> Geometries:
    if source is None or target is None or source == target:
        return points
    move = between(source, target)
    return np.asarray(shapely.transform(points, lambda xy: np.stack(move.transform(xy[:, 0], xy[:, 1]), axis=1)))
