"""``report.html`` of a version of graded buildings: what the reviews bought."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from geoseg.damage.scale import CLASSES, STYLES
from geoseg.formats.page.amounts import percent
from geoseg.formats.page.elements import Cell, Entry, Minded, Notes, Page, Row, Section, Table, Words
from geoseg.formats.page.rendering import render
from pipeline.damage.document import DamageDocument
from pipeline.files.run_folder import REPORT
from pipeline.files.version import code_version
from pipeline.publish.run_facts import PAGE, file_links
from pipeline.review.buildings.graded_file import GradedFile
from pipeline.review.buildings.regrading import Decided, Regraded
from pipeline.review.version_page import ABOUT, agreement_table, minded

__all__ = ["write_building_page"]

MOST_LISTED = 500
GONE = "no building"


def write_building_page(folder: Path, title: str, version: int, run: GradedFile, now: Regraded, summary: DamageDocument) -> None:
    """Write the page beside the files of a version.

    Args:
        folder: Where to.
        title: Of the page.
        version: Its number.
        run: The buildings of the run.
        now: The buildings.
        summary: What they add up to.
    """
    names = {style.code: style.name for style in STYLES}
    colors = {style.code: style.color for style in STYLES}
    page = Page(
        title=title,
        kind=f"Reviewed buildings, version {version}",
        lead=_lead(now, summary),
        sections=(
            Section("What to mind", (Notes((*minded(now.reviewed, "buildings"), *_overlapping(now))),)),
            Section("The grades and their reviewers", (agreement_table(now.reviewed, names, colors, "buildings"), Words(ABOUT))),
            Section("Before and after", (_counts(run, summary, colors), *_moved(now, names), *_listed(now, names))),
            Section("Files", (file_links([*summary.get("files", ()), REPORT]),)),
        ),
        footer=f"Made by geoseg {code_version()}.",
    )
    (folder / PAGE).write_text(render(page), encoding="utf-8")


def _lead(now: Regraded, summary: DamageDocument) -> tuple[Entry, ...]:
    agreed = sum(one.agreed for one in now.reviewed.classes.values())
    count, counts = now.reviewed.polygons, summary["counts"]
    return (
        Entry("Buildings", f"{summary['buildings']:,}"),
        *(Entry(title.capitalize(), f"{counts[title]:,}") for title in reversed(CLASSES)),
        Entry("Reviewed", f"{count:,}"),
        Entry("Agreement", percent(agreed / count if count else None)),
        Entry("No building", f"{len(now.removed):,}"),
        Entry("Added by people", f"{now.reviewed.added:,}"),
    )


def _overlapping(now: Regraded) -> tuple[Minded, ...]:
    if not now.overlaps:
        return ()
    return (Minded(f"{len(now.overlaps):,} pairs of buildings share ground since people drew one of them; {REPORT} lists them"),)


def _counts(run: GradedFile, summary: DamageDocument, colors: dict[int, str]) -> Table:
    before = Counter(one.code for one in run.buildings)
    rows: list[Row] = []
    for style in STYLES:
        after = int(summary["counts"][style.name] or 0)
        name = Cell(style.name, color=colors[style.code])
        rows.append([name, f"{before[style.code]:,}", f"{after:,}", f"{after - before[style.code]:+,}"])
    return Table.of("Buildings by class", ("Class", "#Before", "#After", "#More or less"), rows)


def _moved(now: Regraded, names: dict[int, str]) -> tuple[Table, ...]:
    moves = Counter((one.before, one.after) for one in now.decided if one.before != one.after)
    # Codes in their order, what was added first and what is no building last.
    ordered = sorted(moves.items(), key=lambda move: [-1 if code is None else code for code in move[0]])
    rows: list[Row] = [[_name(before, names), _name(after, names), f"{count:,}"] for (before, after), count in ordered]
    return (Table.of("Buildings that have another class", ("From", "To", "#Buildings"), rows),) if rows else ()


def _listed(now: Regraded, names: dict[int, str]) -> tuple[Table | Words, ...]:
    changed = [one for one in now.decided if one.before != one.after or one.entry.geometry is not None]
    if not changed:
        return ()
    rows: list[Row] = [_row(one, names) for one in changed[:MOST_LISTED]]
    heads = ("Building", "From", "To", "Decision", "Reason", "By")
    more = [Words(f"{MOST_LISTED} of {len(changed):,}; decisions.csv has all.")] if len(changed) > MOST_LISTED else []
    return (Table.of("What people changed, in the order of the log", heads, rows), *more)


def _row(one: Decided, names: dict[int, str]) -> Row:
    said = one.entry
    action = "add" if one.before is None else said.action
    return [str(one.number), _name(one.before, names), _name(one.after, names), action, said.reason or "-", said.by]


def _name(code: int | None, names: dict[int, str]) -> str:
    return GONE if code is None else names[code]
