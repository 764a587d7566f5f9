"""Polygons of one side of a match: indexed on disk, with their scores, and whether they count."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyproj
from numpy.typing import NDArray

from geoseg.errors import ConfigError
from geoseg.vectors.folder_datasets import is_dataset
from geoseg.vectors.polygon_file import Geometries, PolygonFile
from geoseg.vectors.polygon_index import Area, PolygonIndex
from geoseg.vectors.texts import text_of
from pipeline.evaluate.tile_borders import Seams
from pipeline.files.columns import numbers_of
from pipeline.files.maps import refuse_values_folder
from pipeline.files.run_folder import RunFolder

__all__ = ["OUTSIDE_SHARE", "Bools", "Side", "check_crs", "polygons_of"]

log = logging.getLogger(__name__)

OUTSIDE_SHARE = 0.5
"""Share of an object's area outside of the reference area, from which on it does not count."""
POLYGONS = "polygons"
ENDINGS = (".parquet", ".gpkg", ".fgb", ".geojson")

Bools = NDArray[np.bool_]


def polygons_of(path: Path) -> Path:
    """The file of polygons that a path is, or that of a map folder.

    Raises:
        ConfigError: The folder holds none.
    """
    if path.is_file() or is_dataset(path):
        return path
    RunFolder(path).settle()
    if not path.is_dir():
        return path
    there = [path / f"{POLYGONS}{ending}" for ending in ENDINGS if (path / f"{POLYGONS}{ending}").is_file()]
    if not there:
        refuse_values_folder(path, "objects are matched by their polygons")
        raise ConfigError(f"{path}: holds no {POLYGONS} ({', '.join(ENDINGS)}); give a map folder, or a file of polygons")
    return there[0]


def check_crs(files: Sequence[PolygonFile]) -> None:
    """Refuse files that can't be brought to one CRS.

    Raises:
        ConfigError: One has a CRS and another has none, or only one is on a map of its own.
    """
    # A file of nothing lies nowhere.
    by_crs = {file.crs is None: file.path for file in files if file.extent() is not None}
    if len(by_crs) > 1:
        raise ConfigError(f"{by_crs[True]}: has no CRS, and {by_crs[False]} has one; say what it is by --assume-crs")
    first, *others = files
    flat = [(file.path, file.crs.name) for file in files if file.crs is not None and file.crs.geodetic_crs is None]
    other = next((file for file in others if flat and file.crs != first.crs), None)
    if other is not None:
        raise ConfigError(
            f"{flat[0][0]}: its CRS {flat[0][1]} is a map of its own, which {other.path} is not on; bring both to one CRS"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """The polygons of one side, and what is known of them."""

    index: PolygonIndex
    score: NDArray[np.float64]
    known: Bools
    """Whether most of each lies in the reference area."""
    near: Bools
    """Whether each lies near a seam."""

    @classmethod
    def of(
        cls,
        file: PolygonFile,
        crs: pyproj.CRS | None,
        path: Path,
        area: Area | None,
        seams: Seams | None,
        classes: Sequence[str] | None,
        score: str,
    ) -> Side:
        """Index the polygons of a file.

        Args:
            file: The file.
            crs: In which areas are taken.
            path: Where the index goes.
            area: Outside of which polygons don't count; None for no such area.
            seams: Of the map that they are of; None where it has none.
            classes: Those that count; None for all.
            score: The column of the scores.

        Raises:
            ConfigError: The file has no column of classes, or its scores are no numbers.
        """
        known, near, seen = [np.empty(0, np.bool_)], [np.empty(0, np.bool_)], set[str]()
        if classes is not None and "class" not in file.fields:
            raise ConfigError(f"{file.path}: has no column class, by which --classes could choose")

        def keep(values: Mapping[str, Sequence[object]]) -> Bools | None:
            if classes is None:
                return None
            names = [text_of(value) for value in values["class"]]
            seen.update(names)
            return np.array([name in classes for name in names], np.bool_)

        def look(given: Geometries, shapes: Geometries) -> None:
            known.append(np.ones(len(shapes), np.bool_) if area is None else area.share(shapes) >= 1 - OUTSIDE_SHARE)
            near.append(np.zeros(len(shapes), np.bool_) if seams is None else seams.near(given, file.crs))

        columns = ("id", score) if classes is None else ("id", score, "class")
        index = PolygonIndex(file, crs, path, columns=columns, keep=keep, look=look)
        if classes is not None and not len(index) and seen:
            log.warning("%s: none of its classes is one of --classes; it has %s", file.path, ", ".join(sorted(seen)[:10]))
        if index.left_out:
            log.warning(
                "%s: %s features have no area and count for nothing; objects are polygons", file.path, f"{index.left_out:,}"
            )
        scores = index.columns.get(score, [1.0] * len(index))
        cure = "--score names the column of the polygons' scores, or one that is not there, so that all are alike"
        sure = numbers_of(file.path, score, scores, cure)
        return cls(index, np.nan_to_num(sure, nan=0.0), np.concatenate(known), np.concatenate(near))

    @property
    def ids(self) -> list[int]:
        """Of the polygons; their positions where the file has none."""
        return list(self.index.columns.get("id") or range(len(self.index)))
