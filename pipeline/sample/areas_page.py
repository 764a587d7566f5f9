"""The page of areas that were estimated from a sample: each class with its interval, beside what the pixels say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from geoseg.formats.page.amounts import area_text, percent
from geoseg.formats.page.elements import Cell, Entry, Facts, Minded, Notes, Page, Row, Section, Table, Words
from geoseg.formats.page.plots import Span, interval_plot
from pipeline.files.version import code_version
from pipeline.sample.areas_file import AreaDocument, ClassArea, ErrorMatrix, EstimateEntry
from pipeline.sample.building_numbers import NumberRow

__all__ = ["accuracy_section", "areas_page", "ends_text", "matrix_section", "share_text", "span_of"]


def areas_page(document: AreaDocument) -> Page:
    """The page as values."""
    notes = tuple(Minded(text) for text in document.get("notes", []))
    overall = document.get("overall_accuracy")
    return Page(
        title=f"Areas of {Path(document['map']).name}",
        kind="Areas from a sample",
        lead=(
            *((Entry("Overall accuracy", share_text(overall)),) if overall is not None else ()),
            Entry("Units", f"{document['units']:,}"),
            Entry("Analysed", _amount(document, document["population_area"])),
            Entry("Biased by counting", str(sum(row["bias"] for row in document["by_class"])) + " classes"),
            Entry("To mind", str(len(notes)) if notes else "nothing", tone="warn" if notes else ""),
        ),
        sections=(
            *((Section("What to mind", (Notes(notes),)),) if notes else ()),
            _areas(document),
            *accuracy_section(document["by_class"]),
            *matrix_section(document["classes"], document.get("error_matrix")),
            _sample(document),
        ),
        footer=f"Made by geoseg {code_version()}.",
    )


def _areas(document: AreaDocument) -> Section:
    rows: list[Row] = []
    for row in document["by_class"]:
        area, share = row["area"], row["share"]
        outside = Cell(_amount(document, row["mapped_area"]), tone="warn" if row["bias"] else "")
        rows.append(
            [
                row["class"],
                _amount(document, area["value"]),
                _between(document, area),
                Cell(percent(share["value"]), share=share["value"]),
                outside,
            ]
        )
    table = Table.of(
        "Areas with 95 % intervals; counted areas outside of theirs are marked",
        ("Class", "#Area", "#95 % interval", "#Share", "#Counted on the map"),
        rows,
    )
    scale = _scale(document)
    found = (span_of(row["class"], row["area"], row["mapped_area"], scale) for row in document["by_class"])
    spans = [span for span in found if span is not None]
    caption = "Dots and lines: estimates and their 95 % intervals. Upright ticks: what counting the map's pixels gives."
    plot = [interval_plot("Areas by class with 95 % intervals", caption, spans, _unit(document))] if spans else []
    return Section("Areas by class", (*plot, table))


def span_of(name: str, entry: EstimateEntry, counted: float, scale: float = 1.0) -> Span | None:
    """An estimate as the plot has it, in units of ``scale``; None where it has no interval."""
    value, low, high = entry["value"], entry["low"], entry["high"]
    if value is None or low is None or high is None:
        return None
    return Span(name, value / scale, low / scale, high / scale, counted / scale)


def accuracy_section(by_class: Sequence[ClassArea] | Sequence[NumberRow]) -> tuple[Section, ...]:
    """User's and producer's accuracy of each class, where there are some."""
    rows: list[Row] = [
        [row["class"], share_text(row["users_accuracy"]), share_text(row["producers_accuracy"])]
        for row in by_class
        if "users_accuracy" in row
    ]
    caption = "With 95 % intervals. User's: how much of what is mapped as the class is it; producer's: how much of it is mapped"
    table = Table.of(caption, ("Class", "#User's accuracy", "#Producer's accuracy"), rows)
    return (Section("Accuracy by class", (table,)),) if rows else ()


def matrix_section(names: Sequence[str], matrix: ErrorMatrix | None) -> tuple[Section, ...]:
    """The error matrix, where there is one."""
    if matrix is None:
        return ()
    rows: list[Row] = [[name, *(f"{count:,}" for count in line)] for name, line in zip(names, matrix["counts"], strict=True)]
    table = Table.of(f"Map (rows) against reference (columns), {matrix['of']}", ("Map", *(f"#{name}" for name in names)), rows)
    return (Section("Error matrix", (table,)),)


def _sample(document: AreaDocument) -> Section:
    facts = [
        Entry("Map", document["map"]),
        Entry("Sample", document["sample"]),
        Entry("Drawn from", document["drawn_from"] + ("" if document["same_map"] else ", another map of the same grid")),
        Entry("Estimator", document["estimator"]),
        Entry("Units left out", f"{document['left_out']:,}"),
        Entry("Not analysed", _amount(document, document["not_analysed_area"])),
    ]
    words = Words("The areas are those of what was analysed. Their intervals hold the truth in 95 of 100 samples drawn alike.")
    return Section("The sample", (words, Facts(tuple(facts))))


def _scale(document: AreaDocument) -> float:
    return 1e4 if document["unit"] == "m2" else 1.0


def _unit(document: AreaDocument) -> str:
    return "ha" if document["unit"] == "m2" else "pixels"


def _amount(document: AreaDocument, value: float | None) -> str:
    if value is None or document["unit"] == "m2":
        return area_text(value)
    return f"{value:,.0f} pixels"


def _between(document: AreaDocument, area: EstimateEntry) -> str:
    return ends_text([_amount(document, area[end]) if area[end] is not None else None for end in ("low", "high")])


def share_text(entry: EstimateEntry) -> str:
    """A share and the ends of its interval, in percent."""
    ends = [None if (end := entry[name]) is None else percent(end) for name in ("low", "high")]
    return percent(entry["value"]) + ("" if None in ends else f" ({ends_text(ends)})")


def ends_text(ends: Sequence[str | None]) -> str:
    """The ends of an interval; a dash where one is not known."""
    return "-" if None in ends else " to ".join(map(str, ends))
