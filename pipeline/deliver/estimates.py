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

__all__ = ["Estimates", "estimates_of"]


@dataclass(frozen=True, slots=True)
class Estimates:
    """Numbers by class in the area of interest, and what the sample says of the grades."""

    numbers: Mapping[str, Number]
    overall: Measured

    def beside(self, rows: Sequence[SummaryRow]) -> list[SummaryRow]:
        """Rows of the summary with the numbers beside the counts."""
        found: list[SummaryRow] = []
        for row in rows:
            number = self.numbers.get(row["class"])
            known = number is not None and number.units > 0
            found.append(
                {
                    **row,
                    "estimated": round(number.value, 1) if number is not None and known else None,
                    "low_95": round(number.low, 1) if number is not None and known else None,
                    "high_95": round(number.high, 1) if number is not None and known else None,
                }
            )
        return found


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
