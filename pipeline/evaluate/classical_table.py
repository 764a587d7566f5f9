"""The table of classical methods beside the maps: as values, in words, for CSV, for the report and for the console."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from geoseg.evaluation.confusion import ConfusionMatrix
from geoseg.formats.page.elements import Cell, Section, Table, Words

__all__ = [
    "BASELINES",
    "BaselineRow",
    "BaselineTable",
    "baseline_lines",
    "baseline_rows",
    "baseline_section",
    "row_of",
    "verdict",
]

BASELINES = "baselines.csv"
Number = float | None


class BaselineRow(TypedDict):
    """Figures of one method, or of the maps."""

    method: str
    is_map: bool
    """Whether these are the maps that are evaluated."""
    index: list[str]
    """Indices of the bands that the method has chosen, one a group of scenes at most."""
    pixels: int
    miou: Number
    miou_95: tuple[float, float] | None
    mean_dice: Number
    accuracy: Number
    iou: dict[str, Number]
    """By class."""


class BaselineTable(TypedDict):
    """Classical methods and the maps, the best first."""

    fitted_on: str
    bands: list[str]
    verdict: str
    rows: list[BaselineRow]
    skipped: dict[str, str]
    """Why, by method."""


def row_of(
    method: str,
    index: Sequence[str],
    matrix: ConfusionMatrix,
    interval: tuple[float, float] | None,
    classes: Sequence[str],
    *,
    is_map: bool,
) -> BaselineRow:
    """Figures of a method by its counts."""
    figures = matrix.figures()
    return {
        "method": method,
        "is_map": is_map,
        "index": [*index],
        "pixels": matrix.pixels,
        "miou": _plain(figures["miou"]),
        "miou_95": interval,
        "mean_dice": _plain(figures["mean_dice"]),
        "accuracy": _plain(figures["accuracy"]),
        "iou": {name: _plain(value) for name, value in zip(classes, matrix.iou().tolist(), strict=True)},
    }


def verdict(rows: Sequence[BaselineRow]) -> str:
    """Which is better, in a sentence; rows are the best first."""
    place = next(k for k, row in enumerate(rows) if row["is_map"])
    maps, others = rows[place], [row for row in rows if not row["is_map"]]
    if not others:
        return "No classical method could be fitted, so that nothing is compared."
    best = others[0]
    figures = f"a mean IoU of {_number(best['miou'])} against {_number(maps['miou'])} of the maps, on the same pixels"
    if place == 0:
        than = (
            f"all {len(others)} classical methods: the best, {best['method']}," if len(others) > 1 else best["method"] + ", which"
        )
        return f"The maps are better than {than} has {figures}."
    better = "A classical method is" if place == 1 else f"{place} of {len(others)} classical methods are"
    return f"{better} at least as good as the maps: {best['method']} has {figures}."


def baseline_rows(table: BaselineTable) -> list[dict[str, object]]:
    """Rows of the CSV file."""
    rows = []
    for row in table["rows"]:
        low, high = row["miou_95"] or (None, None)
        figures: dict[str, object] = {"method": row["method"], "index": " ".join(row["index"]), "pixels": row["pixels"]}
        figures |= {"miou": row["miou"], "miou_low": low, "miou_high": high}
        figures |= {"mean_dice": row["mean_dice"], "accuracy": row["accuracy"]}
        rows.append(figures | {f"iou_{name}": value for name, value in row["iou"].items()})
    return rows


def baseline_section(table: BaselineTable) -> Section:
    """For the report."""
    names = list(table["rows"][0]["iou"])
    head = ("Method", "#Mean IoU", "#95 % interval", "#Accuracy", *(f"#IoU {name}" for name in names), "#Pixels")
    rows: list[list[str | Cell]] = [
        [
            _label(row),
            _number(row["miou"]),
            "-" if row["miou_95"] is None else "{:.4f} to {:.4f}".format(*row["miou_95"]),
            _number(row["accuracy"]),
            *(_number(row["iou"][name]) for name in names),
            f"{row['pixels']:,}",
        ]
        for row in table["rows"]
    ]
    notes = [Words(f"{table['verdict']} Methods were fitted on {table['fitted_on']}. Bands: {', '.join(table['bands'])}.")]
    notes += [Words(f"{method} is not there: {why}") for method, why in table["skipped"].items()]
    return Section("Classical methods", (Table.of("The best first, on the same pixels", head, rows), *notes))


def baseline_lines(table: BaselineTable) -> list[str]:
    """For the console."""
    names = list(table["rows"][0]["iou"])
    width = max(len(_label(row)) for row in table["rows"])
    lines = [f"{'method':{width}}  mean IoU  accuracy" + "".join(f"  IoU {name}" for name in names)]
    for row in table["rows"]:
        by_class = "".join(f"  {_number(row['iou'][name]):>{len(name) + 4}}" for name in names)
        lines.append(f"{_label(row):{width}}  {_number(row['miou']):>8}  {_number(row['accuracy']):>8}{by_class}")
    lines += [f"{method}: left out: {why}" for method, why in table["skipped"].items()]
    return [*lines, table["verdict"], f"fitted on {table['fitted_on']}"]


def _label(row: BaselineRow) -> str:
    return row["method"] + (f" ({', '.join(row['index'])})" if row["index"] else "")


def _plain(value: float) -> Number:
    return float(value) if np.isfinite(value) else None


def _number(value: Number) -> str:
    return "-" if value is None else f"{value:.4f}"
