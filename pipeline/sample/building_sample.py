"""A stratified random sample of graded buildings: drawn, written for labelling, and read again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict, cast

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.arrays import I64
from geoseg.errors import ConfigError
from pipeline.sample.allocation import Drawn, Stratum, allocation_of
from pipeline.sample.buildings_frame import BuildingMap
from pipeline.sample.file import LAYER, form_of
from pipeline.sample.settings import SampleSettings
from pipeline.sample.unit_tables import Tables, changed, read_facts, read_tables, write_tables

__all__ = ["BUILDINGS", "BuildingDesign", "draw_buildings", "is_of_buildings", "read_building_sample"]

BUILDINGS = "buildings"
COLUMNS = {"stratum": "INTEGER", "building": "INTEGER"}


class BuildingFacts(TypedDict):
    """The sampling frame, and how buildings were drawn, as ``design_facts`` has them."""

    units: str
    """``buildings``."""
    map: str
    map_sha256: str
    frame_sha256: str
    crs: str | None
    seed: int
    allocation: str
    sure: float
    expected_se: float
    classes: list[tuple[int, str]]
    strata: list[Stratum]
    not_analysed: int
    digest: NotRequired[str]


@dataclass(frozen=True, slots=True, eq=False)
class BuildingDesign:
    """The design of a sample of buildings."""

    facts: BuildingFacts
    stratum: I64
    """(n,) position of each unit's stratum."""
    building: I64
    """(n,) its number in the file."""

    @property
    def units(self) -> Iterable[tuple[int, int]]:
        """Stratum and building of each unit."""
        return zip(self.stratum.tolist(), self.building.tolist(), strict=True)

    @property
    def digest(self) -> str:
        """Of all that must not change after the units were drawn."""
        text = json.dumps([{key: value for key, value in sorted(self.facts.items()) if key != "digest"}, list(self.units)])
        return hashlib.sha256(text.encode()).hexdigest()


def draw_buildings(frame: BuildingMap, out: Path, settings: SampleSettings) -> Drawn:
    """Draw buildings, stratified by grade and confidence, and write them for labelling.

    Args:
        frame: The graded buildings.
        out: The GeoPackage to write.
        settings: How they are drawn.

    Raises:
        ConfigError: The settings don't fit.
    """
    if settings.around or settings.buffer_m or settings.block > 1:
        raise ConfigError("--around, --buffer, --blocks: are for class rasters; of buildings, units are the buildings themselves")
    titles, stratum = frame.strata(settings.sure)
    sizes = np.bincount(stratum, minlength=len(titles))
    there = np.flatnonzero(sizes)
    names = [titles[k] for k in there]
    wanted, error = allocation_of(sizes[there], names, settings, {title: title.rpartition(",")[0] for title in names})
    generator = np.random.default_rng(settings.seed)
    drawn = [
        generator.choice(np.flatnonzero(stratum == k), int(n), replace=False) for k, n in zip(there, wanted.tolist(), strict=True)
    ]
    rows = np.concatenate(drawn)
    of = np.repeat(np.arange(len(there)), wanted)
    # Numbered at random: the order in which people meet them says nothing of what is expected there.
    order = generator.permutation(len(rows))
    rows, of = rows[order], of[order]
    strata: list[Stratum] = [
        {"name": name, "size": int(sizes[k]), "units": int(n)} for name, k, n in zip(names, there, wanted.tolist(), strict=True)
    ]
    facts: BuildingFacts = {
        "units": BUILDINGS,
        "map": f"{frame.path.resolve().parent.name}/{frame.path.name}",
        "map_sha256": frame.sha256,
        "frame_sha256": frame.frame_sha256,
        "crs": None if frame.crs is None else frame.crs.to_wkt(),
        "seed": settings.seed,
        "allocation": settings.allocation,
        "sure": settings.sure,
        "expected_se": error,
        "classes": [(code, name) for code, name in frame.names.items()],
        "strata": strata,
        "not_analysed": frame.not_analysed,
    }
    _write(out, BuildingDesign(facts, of.astype(np.int64), frame.number[rows]), frame.shapes[rows], settings)
    return {
        "map": facts["map"],
        "strata": strata,
        "allocation": settings.allocation,
        "seed": settings.seed,
        "block": 1,
        "area_m2": {},
        "expected_se": error,
        "units": len(rows),
    }


def _write(path: Path, design: BuildingDesign, shapes: NDArray[np.object_], settings: SampleSettings) -> None:
    count, names = len(shapes), [name for _, name in design.facts["classes"]]
    nothing = np.full(count, None, object)
    columns: dict[str, NDArray[np.generic]] = {"unit": np.arange(1, count + 1), "reference": nothing, "second": nothing}
    columns |= {"sure": nothing, "note": nothing}
    columns |= {f"image_{k}": np.full(count, image, object) for k, image in enumerate(settings.images, 1)}
    several = np.flatnonzero(shapely.get_type_id(shapes) == shapely.GeometryType.POLYGON)
    outlines = shapes.copy()
    outlines[several] = shapely.multipolygons(shapes[several], indices=np.arange(len(several)))
    tables = Tables(LAYER, "MultiPolygon", {**design.facts, "digest": design.digest}, COLUMNS, design.units)
    qml = form_of(names, len(settings.images), blocks=False, outlines=True)
    write_tables(path, shapely.to_wkb(outlines), columns, design.facts["crs"], tables, qml)


def is_of_buildings(path: Path) -> bool:
    """Whether the units of a sample are buildings.

    Raises:
        ConfigError: It is no sample.
    """
    return read_facts(path).get("units") == BUILDINGS


def read_building_sample(path: Path) -> tuple[BuildingDesign, dict[str, NDArray[np.generic]]]:
    """The design of a sample of buildings, and the columns of its layer in the order of the design.

    Raises:
        ConfigError: It is none, or was changed beyond its labels.
    """
    read = read_tables(path, LAYER, COLUMNS)
    _, stratum, building = read.design
    design = BuildingDesign(cast("BuildingFacts", read.facts), stratum.astype(np.int64), building.astype(np.int64))
    if design.facts.get("digest") != design.digest:
        raise changed(path)
    order = read.order(path, ("reference",))
    return design, {name: column[order] for name, column in read.columns.items()}
