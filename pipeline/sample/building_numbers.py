"""Numbers of buildings by grade, in all and by zone, and the accuracy of their grades, from a labelled sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NotRequired, TypedDict

import numpy as np
import pyproj
import shapely

from geoseg.arrays import I64, Bools
from geoseg.errors import ConfigError
from geoseg.formats.text import clean, write_table
from geoseg.sampling.estimators import Sample, accuracy
from geoseg.sampling.totals import Number, number_of
from geoseg.vectors.polygon_file import PolygonFile
from pipeline.files.outputs import output_file, write_output_json
from pipeline.files.reports import review_note
from pipeline.sample.areas_file import ErrorMatrix, EstimateEntry, entry_of
from pipeline.sample.building_sample import BuildingDesign, read_building_sample
from pipeline.sample.buildings_frame import BuildingMap, open_buildings
from pipeline.sample.response import UNKNOWN, kept_of, labels_of

__all__ = ["Labelled", "NumberDocument", "NumberRow", "ZoneNumbers", "estimate_numbers", "write_numbers", "zone_title"]

FEW = 10
"""Intervals of zones with fewer units are told to be rough: in simulation they hold the truth in 88 to 95 of 100 samples."""
ESTIMATOR = "stratified by grade and confidence, finite population (Cochran 1977; Olofsson et al. 2014), Wilson's intervals"
COLUMNS = ("zone", "class", "counted", "number", "se", "low", "high", "units")

# A column is named as no field can be.
NumberRow = TypedDict(
    "NumberRow",
    {
        "class": str,
        "counted": int,
        "number": EstimateEntry,
        "users_accuracy": NotRequired[EstimateEntry],
        "producers_accuracy": NotRequired[EstimateEntry],
    },
)
"""Buildings of a grade: how many the result counts, and how many the sample says there are."""


class ZoneNumbers(TypedDict):
    """Numbers in a zone."""

    zone: int
    """Its position in the file, from 1."""
    facts: dict[str, object]
    """Its columns."""
    buildings: int
    not_analysed: int
    units: int
    """Units of the sample that lie in it; without any there is no estimate."""
    by_class: list[NumberRow]


class NumberDocument(TypedDict):
    """Accuracy of grades and numbers of buildings, as ``area --out`` writes them; intervals are at 95 %."""

    map: str
    sample: str
    drawn_from: str
    same_map: bool
    estimator: str
    unit: Literal["buildings"]
    buildings: int
    not_analysed: int
    classes: list[str]
    units: int
    left_out: int
    by_class: list[NumberRow]
    overall_accuracy: EstimateEntry
    error_matrix: ErrorMatrix
    zones: NotRequired[list[ZoneNumbers]]
    notes: list[str]


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Graded buildings with a sample of them that people have labelled."""

    frame: BuildingMap
    design: BuildingDesign
    kept: I64
    """(n,) units of which it is known what is there."""
    sample: Sample
    """These."""
    at: I64
    """(n,) position of each in the frame."""
    reference: I64
    """(n,) position of the class that is there."""

    @classmethod
    def read(cls, path: Path, sample_path: Path, *, drop: bool = False, correction: bool = True) -> Labelled:
        """Read buildings and their sample.

        Args:
            path: The graded buildings.
            sample_path: The sample, as ``draw_buildings`` wrote it, labelled.
            drop: Leave out units without a label instead of refusing; their strata are then taken as if fewer had been drawn.
            correction: Whether the finite population correction is applied.

        Raises:
            ConfigError: It is no probability sample of these buildings, or is not labelled.
        """
        design, columns = read_building_sample(sample_path)
        frame = open_buildings(path)
        if frame.frame_sha256 != design.facts["frame_sha256"]:
            raise ConfigError(
                f"{sample_path}: was drawn from {design.facts['map']}, and {path} has graded other buildings, so that it is no "
                "probability sample of them; give those, or grades of the same footprints of which the same are analysed"
            )
        labels = labels_of(columns, frame.names)
        kept = kept_of(design.stratum, design.facts["strata"], labels != UNKNOWN, "label; label them", drop=drop)
        sizes = np.array([stratum["size"] for stratum in design.facts["strata"]], np.float64)
        order = np.argsort(frame.number)
        at = order[np.searchsorted(frame.number, design.building[kept], sorter=order)]
        return cls(frame, design, kept, Sample(design.stratum[kept], sizes, correction), at, labels[kept])

    def numbers(self, inside: Bools | None = None) -> list[tuple[str, int, Number]]:
        """Name, counted number and estimate of each grade, among all buildings or those ``inside`` (N,)."""
        within = np.ones(len(self.frame.code), np.bool_) if inside is None else inside
        counted = np.bincount(self.frame.position[within], minlength=len(self.frame.names))
        return [
            (name, int(counted[k]), number_of(self.sample, self.reference == k, within[self.at], int(within.sum())))
            for k, name in enumerate(self.frame.names.values())
        ]


def estimate_numbers(
    path: Path, sample_path: Path, *, zones: Path | None = None, drop: bool = False, correction: bool = True
) -> NumberDocument:
    """Accuracy of grades and numbers of buildings from a sample.

    Args:
        path: The graded buildings; those that the sample was drawn from, or other grades of the same.
        sample_path: The sample, labelled.
        zones: Polygons that numbers are estimated by, too.
        drop: Leave out units without a label.
        correction: Whether the finite population correction is applied.

    Raises:
        ConfigError: It is no probability sample of these buildings, or is not labelled; or the zones can't be read.
    """
    labelled = Labelled.read(path, sample_path, drop=drop, correction=correction)
    frame, facts = labelled.frame, labelled.design.facts
    found = accuracy(labelled.sample, frame.position[labelled.at], labelled.reference, len(frame.names))
    rows = _rows(labelled.numbers())
    for row, users, producers in zip(rows, found.users, found.producers, strict=True):
        row["users_accuracy"], row["producers_accuracy"] = entry_of(users), entry_of(producers)
    document: NumberDocument = {
        "map": f"{path.resolve().parent.name}/{path.name}",
        "sample": sample_path.name,
        "drawn_from": facts["map"],
        "same_map": frame.sha256 == facts["map_sha256"],
        "estimator": ESTIMATOR,
        "unit": "buildings",
        "buildings": len(frame.code),
        "not_analysed": frame.not_analysed,
        "classes": list(frame.names.values()),
        "units": len(labelled.kept),
        "left_out": len(labelled.design.stratum) - len(labelled.kept),
        "by_class": rows,
        "overall_accuracy": entry_of(found.overall),
        "error_matrix": {"of": "units", "counts": found.counts.tolist(), "proportions": found.proportions.tolist()},
        "notes": _notes(rows, "in all"),
    }
    if (reviewed := review_note(path)) is not None:
        document["notes"].append(reviewed)
    if frame.not_analysed:
        document["notes"].append(f"{frame.not_analysed:,} buildings were not analysed: no number has them")
    if document["left_out"]:
        document["notes"].append(f"{document['left_out']} units were left out as if they had not been drawn")
    if zones is not None:
        document["zones"] = list(_by_zone(labelled, zones))
        few = [zone["zone"] for zone in document["zones"] if zone["units"] < FEW]
        if few:
            document["notes"].append(
                f"zones {', '.join(map(str, few))}: fewer than {FEW} units of the sample lie in each: no number where "
                "there is none, and rough intervals in the others; join zones, or draw more"
            )
    return document


def _rows(numbers: Sequence[tuple[str, int, Number]]) -> list[NumberRow]:
    return [{"class": name, "counted": counted, "number": _entry(number)} for name, counted, number in numbers]


def _entry(number: Number) -> EstimateEntry:
    if not number.units:
        return {"value": None, "se": None, "low": None, "high": None}
    return {"value": number.value, "se": number.se, "low": number.low, "high": number.high}


def _notes(rows: Sequence[NumberRow], where: str) -> list[str]:
    return [
        f"{row['class']}: the {row['counted']:,} that the result counts {where} lie outside of the interval: counting is biased"
        for row in rows
        if (low := row["number"]["low"]) is not None
        and (high := row["number"]["high"]) is not None
        and not low - 1e-9 <= row["counted"] <= high + 1e-9
    ]


def _by_zone(labelled: Labelled, path: Path) -> Iterator[ZoneNumbers]:
    file = PolygonFile.open(path)
    if (file.crs is None) != (labelled.frame.crs is None):
        raise ConfigError(f"{path}: only one of zones and buildings has a CRS, so they can't be laid over each other")
    number = 0
    for geometries, columns in file.zones():
        for k, geometry in enumerate(geometries):
            number += 1
            facts = {name: values[k] for name, values in columns.items()}
            yield _zone(labelled, number, facts, geometry, file.crs)


def _zone(
    labelled: Labelled, number: int, facts: Mapping[str, object], geometry: shapely.Geometry | None, crs: pyproj.CRS | None
) -> ZoneNumbers:
    inside, unknown = labelled.frame.within(shapely.Polygon() if geometry is None else geometry, crs)
    return {
        "zone": number,
        "facts": dict(facts),
        "buildings": int(inside.sum()),
        "not_analysed": unknown,
        "units": int(inside[labelled.at].sum()),
        "by_class": _rows(labelled.numbers(inside)),
    }


def zone_title(zone: ZoneNumbers) -> str:
    """What people know a zone by: its number, and the first text among its columns."""
    name = next((fact for fact in zone["facts"].values() if isinstance(fact, str) and fact.strip()), None)
    return f"Zone {zone['zone']}" + ("" if name is None else f", {clean(name)}")


def write_numbers(document: NumberDocument, out: Path | None, table: Path | None) -> None:
    """Write the figures as JSON and the numbers as CSV, where they are asked for.

    Raises:
        OutputError: A file can't be written.
    """
    if out is not None:
        write_output_json(out, document)
    if table is not None:
        every = [("", document["units"], document["by_class"])]
        every += [(str(zone["zone"]), zone["units"], zone["by_class"]) for zone in document.get("zones", [])]
        with output_file(table) as part:
            write_table(part, COLUMNS, (_cells(zone, units, row) for zone, units, rows in every for row in rows))


def _cells(zone: str, units: int, row: NumberRow) -> tuple[object, ...]:
    number = row["number"]
    told = (number["value"], number["se"], number["low"], number["high"])
    return (zone, row["class"], row["counted"], *("" if value is None else f"{value:.1f}" for value in told), units)
