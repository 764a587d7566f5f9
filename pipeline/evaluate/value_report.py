"""Files of an evaluation of maps of values: JSON, CSV, and a report in one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from geoseg.dialect import number_of
from geoseg.evaluation.value_errors import FIGURES, VALUE_TITLES, value_text
from geoseg.formats.page.elements import Entry, Link, Links, Page, Row, Section, Table, Words
from geoseg.formats.page.rendering import render
from geoseg.formats.text import write_table
from pipeline.evaluate.value_run import ValueDocument, ValueEvaluation, ValueRow
from pipeline.files.atomic import write_json
from pipeline.files.outputs import atomic_folder
from pipeline.files.version import code_version

__all__ = ["VALUE_REPORT", "write_value_evaluation"]

JSON, SCENES, VALUE_REPORT = "evaluation.json", "scenes.csv", "report.html"


def write_value_evaluation(found: ValueEvaluation, out: Path, *, overwrite: bool = False) -> None:
    """Write ``evaluation.json``, ``scenes.csv`` and ``report.html``, all or none."""
    with atomic_folder(out, replace=overwrite) as folder:
        write_json(folder / JSON, found.document)
        rows = [_line(row) for row in [*found.document["scenes"], _whole(found.document)]]
        write_table(folder / SCENES, list(rows[0]), rows)
        (folder / VALUE_REPORT).write_text(render(_page(found)), encoding="utf-8")


def _whole(document: ValueDocument) -> ValueRow:
    return {
        "scene": "all",
        "prediction": "",
        "truth": "",
        "figures": document["figures"],
        "coverage": document["coverage"],
    }


def _line(row: ValueRow) -> dict[str, object]:
    return {key: row[key] for key in ("scene", "prediction", "truth")} | row["figures"] | dict(row["coverage"])


def _page(found: ValueEvaluation) -> Page:
    document, unit = found.document, found.document["unit"]
    count = len(document["scenes"])
    return Page(
        title=f"{number_of(count, 'map')} of {document['quantity'] or 'values'} against the truth",
        kind="Evaluation",
        lead=tuple(Entry(VALUE_TITLES[name], value_text(name, document["figures"][name], unit)) for name in FIGURES),
        sections=(_compared(document), _figures(found), _scenes(document), _files()),
        footer=f"Made by geoseg {code_version()}.",
    )


def _compared(document: ValueDocument) -> Section:
    coverage = document["coverage"]
    parts = [
        Words(
            f"Of {coverage['pixels']:,} pixels the truth has a value for {coverage['known']:,}, of which "
            f"{coverage['compared']:,} are compared. {coverage['not_analysed']:,} were not analysed and {coverage['no_data']:,} "
            "have no data in the map: "
            "they don't count."
        )
    ]
    if document["unpaired"]:
        parts.append(Words(f"Left out, for they have no partner: {', '.join(document['unpaired'])}."))
    return Section("What was compared", tuple(parts))


def _figures(found: ValueEvaluation) -> Section:
    document, unit = found.document, found.document["unit"]
    drawn = sum(row["coverage"]["compared"] > 0 for row in document["scenes"])
    rows: list[Row] = []
    for name in FIGURES:
        ends = found.intervals.get(name)
        span = "-" if ends is None else " to ".join(value_text(name, end, unit) for end in ends)
        rows.append([VALUE_TITLES[name], value_text(name, document["figures"][name], unit), span])
    note = (
        f"Intervals come from drawing the {drawn} scenes with replacement. They say nothing of places that none of the scenes is "
        "like."
        if drawn > 1
        else "There is no interval: pixels of a single scene are too alike to say how other scenes would do."
    )
    meaning = (
        "RMSE: root of the mean square error. MAE: mean absolute error. Bias: mean of map less truth. R2: 1 less the squared "
        "errors over the squared deviations of the truth from its mean; below 0, that mean would be the better map."
    )
    table = Table.of("All compared pixels together", ("Figure", "#Value", "#95 % interval"), rows)
    return Section("Figures", (table, Words(note), Words(meaning)))


def _scenes(document: ValueDocument) -> Section:
    unit = document["unit"]
    rows: Sequence[Row] = [
        [
            row["scene"],
            *(value_text(name, row["figures"][name], unit) for name in FIGURES),
            f"{row['coverage']['compared']:,}",
            f"{row['coverage']['not_analysed']:,}",
        ]
        for row in sorted(document["scenes"], key=_goodness)
    ]
    head = ("Scene", *(f"#{VALUE_TITLES[name]}" for name in FIGURES), "#Compared", "#Not analysed")
    return Section("Scenes", (Table.of("The worst first", head, rows),))


def _goodness(row: ValueRow) -> tuple[bool, float, str]:
    error = row["figures"]["rmse"]
    return error is None, -(error or 0.0), row["scene"]


def _files() -> Section:
    return Section("Files", (Links((Link(JSON, "all figures, for programs"), Link(SCENES))),))
