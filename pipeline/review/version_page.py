"""``report.html`` of a version: what the reviews bought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from geoseg.codes import NOT_ANALYSED
from geoseg.formats.page.amounts import area_text, percent
from geoseg.formats.page.elements import Cell, Entry, Facts, Minded, Notes, Page, Row, Section, Table, Words
from geoseg.formats.page.rendering import render
from geoseg.formats.styles import ClassStyle
from pipeline.files.version import code_version
from pipeline.publish.run_facts import PAGE, file_links
from pipeline.review.replay import ClassReviews, Reviewed
from pipeline.review.subject import Subject
from pipeline.review.version_rasters import Differences

__all__ = ["ABOUT", "agreement_table", "minded", "write_version_page"]


def write_version_page(
    folder: Path, subject: Subject, version: int, differences: Differences, reviewed: Reviewed, styles: Sequence[ClassStyle]
) -> None:
    """Write the page beside the files of a version."""
    names = {style.code: style.name for style in styles}
    colors = {style.code: style.color for style in styles}
    files = [*sorted(path.name for path in folder.iterdir() if path.is_file()), "run.json"]
    page = Page(
        title=subject.record.scene,
        kind=f"Reviewed map, version {version}",
        lead=_lead(differences, reviewed, names),
        sections=(
            Section("What to mind", (Notes(tuple(minded(reviewed))),)),
            Section("The map and its reviewers", (agreement_table(reviewed, names, colors), Words(ABOUT))),
            Section("Before and after", (_classes(differences, names, colors), *_moved(differences, names))),
            Section("Files", (file_links(files),)),
        ),
        footer=f"Made by geoseg {code_version()}.",
    )
    (folder / PAGE).write_text(render(page), encoding="utf-8")


ABOUT = (
    "Agreement is the share of the reviewed polygons whose class the reviewers left as it was; one with another border but the "
    "same class agrees. It holds for the places that were reviewed and for no other."
)


def _lead(differences: Differences, reviewed: Reviewed, names: dict[int, str]) -> tuple[Entry, ...]:
    mapped = sum(differences.before.area_m2.get(str(code), 0.0) for code in names if code < NOT_ANALYSED)
    agreed = sum(one.agreed_m2 for one in reviewed.classes.values())
    return (
        Entry("Reviewed polygons", f"{reviewed.polygons:,}"),
        Entry("Share of the mapped area", percent(min(1.0, reviewed.area_m2 / mapped) if mapped else None)),
        Entry("Agreement, by area", percent(agreed / reviewed.area_m2 if reviewed.area_m2 else None)),
        Entry("Added by people", f"{reviewed.added:,}"),
        Entry("Pixels with another class", f"{differences.changed:,}"),
    )


def minded(reviewed: Reviewed, units: str = "polygons") -> list[Minded]:
    """What a reader of a reviewed map is to mind."""
    found = [
        Minded("The reviewed places were chosen, not drawn by chance: figures on them say nothing of the rest of the map"),
    ]
    if reviewed.conflicts:
        found.append(Minded(f"{reviewed.conflicts:,} {units} on which reviewers differ: the last decision counts"))
    if reviewed.open:
        found.append(Minded(f"{reviewed.open:,} {units} wait for a second opinion"))
    return found


def agreement_table(
    reviewed: Reviewed, names: Mapping[int, str], colors: Mapping[int, str], units: str = "polygons"
) -> Table | Facts:
    """How far the reviewers agreed with the map, by the class that it gave."""
    if not reviewed.classes:
        return Facts((Entry(f"Reviewed {units}", "none"),))
    rows: list[Row] = []
    for code, one in sorted(reviewed.classes.items()):
        share = one.agreed / one.polygons
        rows.append(
            [
                Cell(names.get(code, str(code)), color=colors.get(code, "")),
                f"{one.polygons:,}",
                area_text(one.area_m2),
                Cell(percent(share), share=share),
                Cell(percent(one.agreed_m2 / one.area_m2 if one.area_m2 else None)),
                f"{one.redrawn:,}",
                f"{one.rejected:,}",
                _became(one, names),
            ]
        )
    heads = ("Class of the map", "#Reviewed", "#Their area", "#Agreed", "#By area", "#Redrawn", "#Rejected", "Became")
    return Table.of(f"{units.capitalize()} by the class that the map gave them", heads, rows)


def _became(one: ClassReviews, names: Mapping[int, str]) -> str:
    return ", ".join(f"{names.get(code, str(code))} {count:,}" for code, count in sorted(one.became.items())) or "-"


def _classes(differences: Differences, names: dict[int, str], colors: dict[int, str]) -> Table:
    before, after = differences.before, differences.after
    rows: list[Row] = [
        [
            Cell(name, color=colors.get(code, "")),
            f"{before.pixels.get(str(code), 0):,}",
            f"{after.pixels.get(str(code), 0):,}",
            area_text(before.area_m2.get(str(code), 0.0)),
            area_text(after.area_m2.get(str(code), 0.0)),
            f"{after.pixels.get(str(code), 0) - before.pixels.get(str(code), 0):+,}",
        ]
        for code, name in names.items()
    ]
    heads = ("Class", "#Pixels before", "#Pixels after", "#Area before", "#Area after", "#Pixels more or less")
    return Table.of("Pixels and areas by class", heads, rows)


def _moved(differences: Differences, names: dict[int, str]) -> tuple[Table, ...]:
    rows: list[Row] = [
        [names.get(int(row), str(row)), names.get(int(col), str(col)), f"{int(differences.moved[row, col]):,}"]
        for row, col in zip(*differences.moved.nonzero(), strict=True)
    ]
    return (Table.of("Pixels that have another class", ("From", "To", "#Pixels"), rows),) if rows else ()
