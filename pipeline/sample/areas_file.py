"""Documents of areas that were estimated from a sample, and their files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NotRequired, TypedDict

import numpy as np

from geoseg.formats.text import write_table
from geoseg.sampling.estimators import Accuracy, Estimate
from pipeline.files.outputs import output_file, write_output_json
from pipeline.sample.sampling_frame import ClassMap

__all__ = ["AreaDocument", "ClassArea", "ErrorMatrix", "EstimateEntry", "class_areas", "entry_of", "write_areas"]

COLUMNS = ("class", "mapped_ha", "area_ha", "se_ha", "low_ha", "high_ha")


class EstimateEntry(TypedDict):
    """An estimate with its standard error and 95 % interval; None where it is not defined."""

    value: float | None
    se: float | None
    low: float | None
    high: float | None


class ErrorMatrix(TypedDict):
    """Map (rows) against reference (columns)."""

    of: str
    """``pixels`` or ``units``."""
    counts: list[list[int]]
    proportions: list[list[float]]


# A column is named as no field can be.
ClassArea = TypedDict(
    "ClassArea",
    {
        "class": str,
        "mapped_area": float,
        "area": EstimateEntry,
        "share": EstimateEntry,
        "bias": bool,
        "users_accuracy": NotRequired[EstimateEntry],
        "producers_accuracy": NotRequired[EstimateEntry],
    },
)
"""Areas of a class, mapped and estimated, and its accuracies where those are known."""


class AreaDocument(TypedDict):
    """Accuracy of a map and areas of its classes, as ``area --out`` writes them; areas in ``unit``."""

    map: str
    sample: str
    drawn_from: str
    same_map: bool
    reference: dict[str, str] | None
    estimator: str
    unit: Literal["m2", "px"]
    population_area: float
    not_analysed_area: float
    classes: list[str]
    units: int
    left_out: int
    by_class: list[ClassArea]
    overall_accuracy: NotRequired[EstimateEntry]
    error_matrix: NotRequired[ErrorMatrix]
    notes: NotRequired[list[str]]


def class_areas(image: ClassMap, shares: Sequence[Estimate], found: Accuracy | None) -> list[ClassArea]:
    """Areas and accuracies by class, in the order of the legend."""
    rows: list[ClassArea] = []
    for k, (code, name) in enumerate(image.names.items()):
        area, there = shares[k].times(image.analysed_area), image.area.get(str(code), 0.0)
        low, high = area.interval
        slack = 1e-9 * image.analysed_area
        row: ClassArea = {
            "class": name,
            "mapped_area": there,
            "area": entry_of(area),
            "share": entry_of(shares[k]),
            # Whether counting pixels gives what the sample says it can't be.
            "bias": bool(np.isfinite(area.value) and not low - slack <= there <= high + slack),
        }
        if found is not None:
            row["users_accuracy"], row["producers_accuracy"] = entry_of(found.users[k]), entry_of(found.producers[k])
        rows.append(row)
    return rows


def entry_of(estimate: Estimate) -> EstimateEntry:
    """An estimate as documents have it."""
    figures = estimate.to_json()
    return {"value": figures["value"], "se": figures["se"], "low": figures["low"], "high": figures["high"]}


def write_areas(document: AreaDocument, out: Path | None, table: Path | None) -> None:
    """Write the figures as JSON and the areas as CSV, where they are asked for.

    Raises:
        OutputError: A file can't be written.
    """
    if out is not None:
        write_output_json(out, document)
    if table is not None:
        scale = 1e4 if document["unit"] == "m2" else 1.0
        rows = []
        for row in document["by_class"]:
            area = row["area"]
            figures = (row["mapped_area"], area["value"], area["se"], area["low"], area["high"])
            rows.append((row["class"], *("" if v is None else f"{v / scale:.4f}" for v in figures)))
        with output_file(table) as part:
            write_table(part, COLUMNS, rows)
