"""Numbers of buildings that a labelled sample estimates for the area of interest, beside those that are counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from geoseg.errors import ConfigError
from geoseg.sampling.estimators import accuracy
from geoseg.sampling.totals import Number
from pipeline.deliver.events import SummaryRow
from pipeline.deliver.extents import Extents
from pipeline.deliver.result import Result
from pipeline.deliver.statement import Measured
from pipeline.sample.building_numbers import Labelled

__all__ = ["Estimates", "estimates_of", "in_tenths"]


@dataclass(frozen=True, slots=True)
class Estimates:
    """Numbers by class in the area of interest, and what the sample says of the grades."""

    numbers: Mapping[str, Number]
    overall: Measured

    def beside(self, rows: Sequence[SummaryRow]) -> list[SummaryRow]:
        """Rows of the summary with the numbers beside the counts, not rounded: each page and table rounds once."""
        found: list[SummaryRow] = []
        for row in rows:
            number = self.numbers.get(row["class"])
            known = number is not None and number.units > 0
            found.append(
                {
                    **row,
                    "estimated": number.value if number is not None and known else None,
                    "low_95": number.low if number is not None and known else None,
                    "high_95": number.high if number is not None and known else None,
                }
            )
        return found


def in_tenths(rows: Sequence[SummaryRow]) -> list[SummaryRow]:
    """Rows as tables have them, with estimates rounded to tenths of a building."""
    return [
        {**row, "estimated": _tenths(row["estimated"]), "low_95": _tenths(row["low_95"]), "high_95": _tenths(row["high_95"])}
        if "estimated" in row
        else row
        for row in rows
    ]


def _tenths(number: float | None) -> float | None:
    return None if number is None else round(number, 1)


def estimates_of(result: Result, extents: Extents, sample: Path) -> Estimates:
    """Estimate the numbers of buildings in the area of interest.

    Raises:
        ConfigError: The result is none of buildings, or it is no labelled sample of them.
    """
    if not result.by_number:
        raise ConfigError(f"sample: {sample} estimates numbers of buildings, and {result.folder} holds none; see geoseg area")
    labelled = Labelled.read(result.features.path, sample)
    inside, _ = labelled.frame.within(extents.aoi, result.crs)
    frame = labelled.frame
    found = accuracy(labelled.sample, frame.position[labelled.at], labelled.reference, len(frame.names)).overall
    count = len(labelled.kept)
    overall = Measured("Overall accuracy", found.value, found.interval, count, "buildings drawn at random")
    return Estimates({name: number for name, _, number in labelled.numbers(inside)}, overall)
