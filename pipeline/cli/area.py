"""``geoseg area``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from geoseg.dialect import number_of
from pipeline.cli.groups import gathered
from pipeline.cli.lists import PAIRING, Assignments
from pipeline.cli.output import echo

if TYPE_CHECKING:
    from pipeline.sample.areas_file import AreaDocument, EstimateEntry
    from pipeline.sample.building_numbers import NumberDocument

__all__ = ["command"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """Reading of the reference."""

    reference: str | None
    column: str | None
    outside: str | None
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Files:
    """Files that are written."""

    out: Path | None
    table: Path | None
    page: Path | None
    overwrite: bool


@click.command("area")
@click.option("--map", "class_map", required=True, help="The class raster, or the output folder of damage.")
@click.option("--sample", type=click.Path(path_type=Path), required=True, help="The labelled sample, of geoseg sample.")
@click.option(
    "--reference",
    help="Reference of the units, a class raster or a vector file, instead of the labels filled in; gives blocks an error "
    "matrix.",
)
@click.option("--column", help="Of a vector file, the column that names the class.")
@click.option("--outside", help="Of a vector file, the class of what lies outside all features. [default: not known]")
@click.option("--value", "values", multiple=True, metavar="VALUE=CLASS", help=f"Class of a value of the reference. {PAIRING}")
@click.option(
    "--zones", type=click.Path(path_type=Path), help="Polygons: of a sample of buildings, estimate numbers in each, too."
)
@click.option(
    "--nonresponse",
    type=click.Choice(["refuse", "drop"]),
    default="refuse",
    show_default=True,
    help="Treatment of units without a label.",
)
@click.option("--correction/--no-correction", default=True, show_default=True, help="Finite population correction.")
@click.option("--out", "-o", type=click.Path(path_type=Path), help="Write the figures: .json.")
@click.option("--table", type=click.Path(path_type=Path), help="Write the areas: .csv.")
@click.option("--page", type=click.Path(path_type=Path), help="Write a page of both, with intervals drawn: .html.")
@click.option("--overwrite", is_flag=True, help="Replace the files.")
@gathered(reading=_Reading, files=_Files)
def command(
    class_map: str,
    sample: Path,
    reading: _Reading,
    zones: Path | None,
    nonresponse: str,
    correction: bool,
    files: _Files,
) -> int:
    """Accuracy of a map and areas of its classes, or numbers of buildings, with 95 % intervals, from a labelled sample."""
    from pipeline.files.outputs import check_new_file
    from pipeline.sample.numbers_page import write_estimates_page
    from pipeline.sample.response import Reference
    from pipeline.sample.run import estimate, write_estimates

    means = dict(Assignments("--value", "VALUE=CLASS").pair(text) for text in reading.values)
    known = Reference.of(reading.reference, reading.column, reading.outside, means)
    for path in (files.out, files.table, files.page):
        if path is not None:
            check_new_file(path, overwrite=files.overwrite)
    document = estimate(class_map, sample, reference=known, zones=zones, drop=nonresponse == "drop", correction=correction)
    if document["unit"] == "buildings":
        _show_numbers(document)
    else:
        _show(document)
    write_estimates(document, files.out, files.table)
    if files.page is not None:
        write_estimates_page(document, files.page)
    return 0


def _show_numbers(document: NumberDocument) -> None:
    from pipeline.sample.building_numbers import zone_title

    echo(f"{number_of(document['units'], 'unit')}, {document['estimator']}")
    echo(f"Overall accuracy {_text(document['overall_accuracy'])}")
    every = [("", document["by_class"])]
    every += [
        (f"{zone_title(zone)}: {number_of(zone['buildings'], 'building')}, {number_of(zone['units'], 'unit')}", zone["by_class"])
        for zone in document.get("zones", [])
    ]
    for title, rows in every:
        if title:
            echo(title)
        for row in rows:
            line = f"  {row['class']:28}{_text(row['number'], 1.0, 0)} buildings, counted {row['counted']:,}"
            if "users_accuracy" in row:
                line += f"; user's {_text(row['users_accuracy'])}, producer's {_text(row['producers_accuracy'])}"
            echo(line)
    for note in document["notes"]:
        echo(f"  note: {note}")


def _show(document: AreaDocument) -> None:
    scale, unit = (1e4, "ha") if document["unit"] == "m2" else (1.0, "px")
    echo(f"{number_of(document['units'], 'unit')}, {document['estimator']}")
    if "error_matrix" in document:
        names = document["classes"]
        width = max(24, *map(len, names)) + 2
        echo(f"map \\ reference, {document['error_matrix']['of']}".ljust(width) + "".join(f"{name[:14]:>16}" for name in names))
        for name, counts in zip(names, document["error_matrix"]["counts"], strict=True):
            echo(name.ljust(width) + "".join(f"{count:>16,}" for count in counts))
        echo(f"Overall accuracy {_text(document['overall_accuracy'])}")
    for row in document["by_class"]:
        line = f"  {row['class']:28}{_text(row['area'], scale, 1)} {unit}, mapped {row['mapped_area'] / scale:,.1f}"
        if "users_accuracy" in row:
            line += f"; user's {_text(row['users_accuracy'])}, producer's {_text(row['producers_accuracy'])}"
        echo(line)
    for note in document["notes"]:
        echo(f"  note: {note}")


def _text(estimate: EstimateEntry, scale: float = 1.0, digits: int = 3) -> str:
    figures = [estimate["value"], estimate["low"], estimate["high"], estimate["se"]]
    known = [figure / scale for figure in figures if figure is not None]
    return (
        "{:,.{n}f} ({:,.{n}f} to {:,.{n}f}, SE {:,.{n}f})".format(*known, n=digits) if len(known) == len(figures) else "unknown"
    )
