"""Evaluate maps of values: RMSE, MAE, bias and R2 against rasters of numbers, window by window, whatever their size."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

import geoseg
from geoseg.errors import ConfigError
from geoseg.evaluation.value_errors import FIGURES, ErrorSums, bootstrap_errors, value_text
from geoseg.labels.number_rasters import NumberRaster, numbers_on
from geoseg.windows import Window
from pipeline.evaluate.pairs import Pair, pair_up
from pipeline.evaluate.settings import MeasureOptions
from pipeline.files.maps import MapFiles

__all__ = ["ValueCoverage", "ValueDocument", "ValueEvaluation", "ValueRow", "evaluate_values"]

log = logging.getLogger(__name__)

SHARE = "1"
"""Unit of shares, of which 0 and 1 are values like others."""

ValueFigures = dict[str, float | None]
"""``FIGURES`` by name, in the unit of the map, R2 without one; None where one is not defined."""


class ValueCoverage(TypedDict):
    """Pixels of maps, and those of them that are compared."""

    pixels: int
    known: int
    """Those that the truth has a value for."""
    compared: int
    not_analysed: int
    no_data: int


class ValueRow(TypedDict):
    """Figures of a scene."""

    scene: str
    prediction: str
    truth: str
    figures: ValueFigures
    coverage: ValueCoverage


class ValueDocument(TypedDict):
    """All figures, as ``evaluation.json`` has them."""

    geoseg: str
    quantity: str
    unit: str
    figures: ValueFigures
    intervals_95: dict[str, object]
    """Their ends by figure, and what was drawn."""
    coverage: ValueCoverage
    scenes: list[ValueRow]
    unpaired: list[str]


@dataclass(frozen=True, slots=True, eq=False)
class ValueEvaluation:
    """Figures of maps of values against their truths."""

    document: ValueDocument
    """All figures, as ``evaluation.json`` has them."""
    intervals: Mapping[str, tuple[float, float] | None]
    """Intervals of the figures, at 95 %."""


def evaluate_values(
    maps: Sequence[MapFiles],
    truth: str,
    options: MeasureOptions,
    *,
    rename: tuple[str, str] | None = None,
    allow_unpaired: bool = False,
) -> ValueEvaluation:
    """Compare maps of values with their truth.

    The map's grid decides: truths on other grids are brought onto it, bilinearly. Scale and offset of both are applied. Only
    pixels count that have a value in both.

    Args:
        maps: From ``find_value_maps``.
        truth: A raster of numbers, or a folder of them by the names of the maps.
        options: Seed of the intervals, side of a window.
        rename: Text in the name of a map, and what stands for it in that of its truth.
        allow_unpaired: Leave out what has no partner.

    Raises:
        ConfigError: Something has no partner, maps are of several quantities, or no pixel has a value in both.
        SceneError: A raster can't be read.
    """
    pairs, alone = pair_up(maps, truth, rename=rename, allow_unpaired=allow_unpaired)
    for path in alone:
        log.warning("%s: no partner; left out", path)
    opened = _opened(pairs)
    first = opened[0]
    shift = _level(pairs[0], first, options.side)
    rows, sums = list[ValueRow](), list[ErrorSums]()
    for pair, raster in zip(pairs, opened, strict=True):
        row, total = _measure(pair, raster, shift, options.side)
        rows.append(row)
        sums.append(total)
        log.info("%s: RMSE %.4g", pair.name, total.figures()["rmse"])
    whole = sum(sums, ErrorSums.zeros(shift))
    if not whole.pixels:
        raise ConfigError("evaluate: no pixel has a value in the map and in the truth; do they cover the same place?")
    _tell_worthless(whole, first)
    counted = [one for one in sums if one.pixels]
    intervals = bootstrap_errors(counted, np.random.default_rng(options.seed))
    document: ValueDocument = {
        "geoseg": geoseg.__version__,
        "quantity": first.name,
        "unit": first.unit,
        "figures": _plain(whole),
        "intervals_95": {"of": "scenes drawn with replacement", "scenes": len(counted), "seed": options.seed, **intervals},
        "coverage": _added([row["coverage"] for row in rows]),
        "scenes": rows,
        "unpaired": list(alone),
    }
    return ValueEvaluation(document, intervals)


def _tell_worthless(whole: ErrorSums, first: NumberRaster) -> None:
    """Say it where a map that is the mean of the truth everywhere would be nearer to it."""
    r2 = whole.figures()["r2"]
    if r2 < 0:
        log.warning(
            "R2 is %s, below 0: the mean of the truth everywhere would be the better map; does the truth hold %s in %s, too?",
            value_text("r2", r2, ""),
            first.name or "the same values",
            first.unit or "the same unit",
        )


def _opened(pairs: Sequence[Pair]) -> list[NumberRaster]:
    """The maps, which are of one quantity, as their truths are.

    Raises:
        ConfigError: They are not.
    """
    opened = [NumberRaster.of(pair.prediction) for pair in pairs]
    first = opened[0]
    odd = next((one for one in opened if (one.name, one.unit) != (first.name, first.unit)), None)
    if odd is not None:
        raise ConfigError(
            f"{odd.path}: holds {odd.name or 'values'} in {odd.unit or 'no unit'}, and {first.path} {first.name or 'values'} in "
            f"{first.unit or 'no unit'}; evaluate them apart"
        )
    for pair in pairs:
        unit = NumberRaster.of(pair.truth).unit
        if unit and first.unit and unit != first.unit:
            raise ConfigError(f"{pair.truth}: is in {unit}, and the map in {first.unit}; bring both to one unit")
    return opened


def _level(pair: Pair, raster: NumberRaster, side: int) -> float:
    """A truth of the first scene that has one there, near which the others may be expected; 0 where none has."""
    for window in Window.of(raster.shape).parts(side):
        truth = numbers_on(pair.truth, raster.georeference, raster.shape, window)
        known = truth[np.isfinite(truth)]
        if known.size:
            return float(known[0])
    return 0.0


def _measure(pair: Pair, raster: NumberRaster, shift: float, side: int) -> tuple[ValueRow, ErrorSums]:
    total = ErrorSums.zeros(shift)
    coverage: ValueCoverage = {"pixels": 0, "known": 0, "compared": 0, "not_analysed": 0, "no_data": 0}
    binary = raster.unit != SHARE and NumberRaster.of(pair.truth).is_plain
    for window in Window.of(raster.shape).parts(side):
        truth = numbers_on(pair.truth, raster.georeference, raster.shape, window)
        known = np.isfinite(truth)
        coverage["pixels"] += truth.size
        if not known.any():
            continue
        # Stored as whole numbers, they are 0 and 1; on another grid they are between.
        binary = binary and bool((np.abs(truth[known] - 0.5) < 0.501).all())
        found, unknown = raster.read(window)
        total += ErrorSums.tally(truth, found, shift)
        coverage["known"] += int(known.sum())
        coverage["not_analysed"] += int((known & unknown).sum())
        coverage["no_data"] += int((known & ~unknown & ~np.isfinite(found)).sum())
    coverage["compared"] = total.pixels
    if binary and coverage["known"]:
        log.warning(
            "%s: holds only 0 and 1, as classes do, and %s holds %s in %s; give a raster of these values",
            pair.truth,
            raster.path,
            raster.name or "values",
            raster.unit or "no unit",
        )
    row: ValueRow = {
        "scene": pair.name,
        "prediction": pair.prediction,
        "truth": pair.truth,
        "figures": _plain(total),
        "coverage": coverage,
    }
    return row, total


def _added(parts: Sequence[ValueCoverage]) -> ValueCoverage:
    return {
        "pixels": sum(part["pixels"] for part in parts),
        "known": sum(part["known"] for part in parts),
        "compared": sum(part["compared"] for part in parts),
        "not_analysed": sum(part["not_analysed"] for part in parts),
        "no_data": sum(part["no_data"] for part in parts),
    }


def _plain(total: ErrorSums) -> ValueFigures:
    figures = total.figures()
    return {name: figures[name] if np.isfinite(figures[name]) else None for name in FIGURES}
