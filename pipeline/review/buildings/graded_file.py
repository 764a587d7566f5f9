"""Graded buildings as a run or a version has written them, read back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pyproj
import shapely

from geoseg.codes import NOT_ANALYSED
from geoseg.digits import figure
from geoseg.errors import ConfigError
from geoseg.vectors.polygon_file import PolygonFile
from geoseg.vectors.reprojecting import equal_area
from pipeline.damage.buildings import Building
from pipeline.damage.document import GradedBuilding, columns_of_rows, probability_names
from pipeline.damage.files import LAYER, Common, areas_of

__all__ = ["GradedFile"]

NAME = "buildings.gpkg"
COMMON = ("pre_date", "post_date", "pre_image", "post_image", "model", "model_sha256")
DECIMALS = 8
"""Of degrees, where the GeoJSON beside does not say: a millimetre."""
RESOLUTION = re.compile(rb'"xy_coordinate_resolution": 1e-0?(\d+)')
HEAD = 1024


@dataclass(frozen=True, slots=True, eq=False)
class GradedFile:
    """The buildings of a result, in their order."""

    buildings: list[GradedBuilding]
    crs: pyproj.CRS
    common: Common
    metric: pyproj.CRS | None
    """In which areas are measured."""

    @classmethod
    def read(cls, folder: Path) -> GradedFile:
        """Read the buildings of a folder.

        Raises:
            ConfigError: They can't be read, have no CRS, or were not written by geoseg.
        """
        file = PolygonFile.open(folder / NAME, layer=LAYER)
        if missing := {*columns_of_rows(), *COMMON} - {*file.fields}:
            raise ConfigError(f"{file.path}: has no column {min(missing)!r}; reviews need the buildings as geoseg wrote them")
        if file.crs is None:
            raise ConfigError(f"{file.path}: has no CRS, so its buildings are on no map; grade again with --assume-crs")
        found: list[GradedBuilding] = []
        common: dict[str, str | None] = dict.fromkeys(COMMON)
        for geometries, values in file.batches(file.fields):
            rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
            try:
                found += [_building(shape, row) for shape, row in zip(geometries, rows, strict=True)]
            except ValueError as error:
                raise ConfigError(
                    f"{file.path}: an id, code or figure is no number; reviews need the buildings as geoseg wrote them"
                ) from error
            common = {name: _text(rows[0][name]) for name in COMMON} if rows else common
        return cls(found, file.crs, Common(common, _decimals(folder / "buildings.geojson")), equal_area(file))

    def area_of(self, shape: shapely.Geometry) -> float:
        """Square metres of a polygon on the ground."""
        return figure(float(areas_of([shape], self.crs, self.metric)[0]), 2)


def _building(shape: shapely.Geometry | None, row: dict[str, object]) -> GradedBuilding:
    chances = [_number(row[name]) for name in probability_names()]
    known = tuple(value for value in chances if value is not None)
    labelled = _number(row.get("labelled"))
    building = Building(int(str(row["id"])), str(row["name"]), shape, shapely.Polygon() if shape is None else shape, {})
    return GradedBuilding(
        building,
        _number(row["area_m2"]) or 0.0,
        NOT_ANALYSED if row["code"] is None else int(str(row["code"])),
        _text(row["reason"]),
        _number(row["confidence"]),
        known if len(known) == len(chances) else None,
        None if labelled is None else bool(labelled),
        _text(row.get("review")),
    )


def _number(value: object) -> float | None:
    number = float("nan") if value is None else float(str(value))
    return None if number != number else number  # noqa: PLR0124 - not a number


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _decimals(path: Path) -> int:
    """Of the degrees in GeoJSON, as its head says."""
    if not path.is_file():
        return DECIMALS
    with path.open("rb") as file:
        told = RESOLUTION.search(file.read(HEAD))
    return DECIMALS if told is None else int(told[1])
