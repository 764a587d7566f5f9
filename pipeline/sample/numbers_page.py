"""The page of numbers of buildings that were estimated from a sample: each grade with its interval, beside what was counted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from geoseg.formats.page.elements import Cell, Entry, Facts, Minded, Notes, Page, Row, Section, Table, Words
from geoseg.formats.page.plots import interval_plot
from geoseg.formats.page.rendering import render
from geoseg.vectors.texts import text_of
from pipeline.files.outputs import output_file
from pipeline.files.version import code_version
from pipeline.sample.areas_file import AreaDocument, EstimateEntry
from pipeline.sample.areas_page import accuracy_section, areas_page, ends_text, matrix_section, share_text, span_of
from pipeline.sample.building_numbers import NumberDocument, NumberRow, ZoneNumbers, zone_title

__all__ = ["numbers_page", "write_estimates_page"]

MOST_ZONES = 200
"""Zones in the page, each with a plot and a table; the files have all."""


def write_estimates_page(document: AreaDocument | NumberDocument, path: Path) -> None:
    """Write the page of areas or of numbers.

    Raises:
        OutputError: It can't be written.
    """
    page = numbers_page(document) if document["unit"] == "buildings" else areas_page(document)
    with output_file(path) as part:
        part.write_text(render(page), encoding="utf-8")


def numbers_page(document: NumberDocument) -> Page:
    """The page as values."""
    zones = document.get("zones", [])
    more = [f"{MOST_ZONES} of {len(zones):,} zones are shown; --table and --out write all"] if len(zones) > MOST_ZONES else []
    notes = tuple(Minded(text) for text in (*document["notes"], *more))
    return Page(
        title=f"Buildings of {Path(document['map']).name}",
        kind="Numbers from a sample",
        lead=(
            Entry("Overall accuracy", share_text(document["overall_accuracy"])),
            Entry("Buildings", f"{document['buildings']:,}"),
            Entry("Units", f"{document['units']:,}"),
            Entry("To mind", str(len(notes)) if notes else "nothing", tone="warn" if notes else ""),
        ),
        sections=(
            *((Section("What to mind", (Notes(notes),)),) if notes else ()),
            _numbers("Numbers by grade", document["by_class"]),
            *(_zone(zone) for zone in zones[:MOST_ZONES]),
            *accuracy_section(document["by_class"]),
            *matrix_section(document["classes"], document["error_matrix"]),
            _sample(document),
        ),
        footer=f"Made by geoseg {code_version()}.",
    )


def _numbers(title: str, by_class: Sequence[NumberRow], *before: Facts) -> Section:
    rows: list[Row] = []
    for row in by_class:
        number = row["number"]
        low, high = number["low"], number["high"]
        outside = low is not None and high is not None and not low <= row["counted"] <= high
        counted = Cell(f"{row['counted']:,}", tone="warn" if outside else "")
        rows.append([row["class"], _count(number["value"]), ends_text([_end(number, "low"), _end(number, "high")]), counted])
    table = Table.of(
        "Numbers with 95 % intervals; counted numbers outside of theirs are marked",
        ("Grade", "#Number", "#95 % interval", "#Counted"),
        rows,
    )
    spans = [span for row in by_class if (span := span_of(row["class"], row["number"], row["counted"])) is not None]
    caption = "Dots and lines: estimates and their 95 % intervals. Upright ticks: what the result counts."
    plot = [interval_plot("Buildings by grade with 95 % intervals", caption, spans, "buildings")] if spans else []
    return Section(title, (*before, *plot, table))


def _zone(zone: ZoneNumbers) -> Section:
    facts = [Entry("Buildings", f"{zone['buildings']:,}"), Entry("Units", f"{zone['units']:,}")]
    if zone["not_analysed"]:
        facts.append(Entry("Not analysed", f"{zone['not_analysed']:,}"))
    facts += [Entry(name, text_of(fact)) for name, fact in zone["facts"].items() if fact is not None]
    return _numbers(zone_title(zone), zone["by_class"], Facts(tuple(facts)))


def _sample(document: NumberDocument) -> Section:
    facts = [
        Entry("Buildings of", document["map"]),
        Entry("Sample", document["sample"]),
        Entry("Drawn from", document["drawn_from"] + ("" if document["same_map"] else ", another result")),
        Entry("Estimator", document["estimator"]),
        Entry("Units left out", f"{document['left_out']:,}"),
        Entry("Not analysed", f"{document['not_analysed']:,}"),
    ]
    words = Words("The numbers are of graded buildings. Their intervals hold the truth in 95 of 100 samples drawn alike.")
    return Section("The sample", (words, Facts(tuple(facts))))


def _count(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _end(number: EstimateEntry, end: str) -> str | None:
    value = number["low"] if end == "low" else number["high"]
    return None if value is None else _count(value)
