"""The side panel of a map sheet: title, legend, table, facts, sources, disclaimer, from top to bottom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from geoseg.dialect import number_of
from geoseg.formats.sheet.map_facts import map_facts
from geoseg.formats.sheet.page_text import (
    ACCENT,
    LEADING,
    LEFT,
    MM_PER_POINT,
    RIGHT,
    SOFT,
    Column,
    Page,
    cut_to,
    width_of,
    wrapped,
)

if TYPE_CHECKING:
    from geoseg.formats.sheet.content import LegendEntry, Outline, Sheet
    from geoseg.formats.sheet.frame import MapFrame

__all__ = ["HATCHED_FACE", "panel"]

HATCHED_FACE = (0.9, 0.9, 0.9, 0.6)
"""Under hatching, so that it is seen on dark and on busy pictures."""
TOP, BOTTOM = 198.0, 12.0
MOST_CLASSES, MOST_ROWS, MOST_SOURCES = 14, 14, 8
LEAST_CLASSES, LEAST_ROWS = 3, 6
ENTRY_MM, ROW_MM, HEAD_MM = 4.6, 4.0, 7.7
"""Height of a class in the legend, of a row of the table, and of a heading with its line."""
CELL_MM = 17.0
"""Least width of the second and further columns of the table."""
FACT_POINTS = 6.5
MOST_TEXT = 900
"""Letters of a disclaimer, a licence or a source; what is longer belongs into a file."""


def panel(
    page: Page,
    sheet: Sheet,
    frame: MapFrame,
    outlines: Sequence[Outline],
    *,
    features: int,
    dots: int,
) -> None:
    """Write the panel.

    Args:
        page: The page.
        sheet: What is said.
        frame: Of the map.
        outlines: Areas in the legend.
        features: How many lie on the map.
        dots: How many of them are dots.
    """
    column = Column(page, TOP)
    _title(page, column, sheet)
    facts = map_facts(frame)
    if dots:
        facts.append(
            f"Generalised: {dots:,} of {number_of(features, 'object')} are too small or too many for outlines and are drawn as "
            "dots."
        )
    lines = [line for fact in facts for line in wrapped(fact, FACT_POINTS, RIGHT - LEFT)]
    # What stands below is laid out first; classes and rows take what is left, and the table keeps some rows.
    map_mm = HEAD_MM + FACT_POINTS * MM_PER_POINT * LEADING * len(lines) + 2.0
    needed = (
        map_mm + (HEAD_MM + ENTRY_MM * (LEAST_CLASSES + len(outlines))) + (HEAD_MM + ROW_MM * LEAST_ROWS if sheet.table else 0.0)
    )
    room = column.y - _foot(page, sheet, column.y - BOTTOM - needed) - map_mm
    least = HEAD_MM + ROW_MM * min(len(sheet.table), LEAST_ROWS) if sheet.table else 0.0
    most = int(np.clip((room - least - HEAD_MM) // ENTRY_MM - len(outlines), 1, MOST_CLASSES))
    below = column.y - room
    _legend(page, column, sheet.legend, outlines, most)
    if sheet.table:
        _table(page, column, sheet.table, int(np.clip((column.y - below - HEAD_MM) // ROW_MM, 2, MOST_ROWS)))
    column.head("Map")
    column.lines(lines, FACT_POINTS)


def _title(page: Page, column: Column, sheet: Sheet) -> None:
    from matplotlib.patches import Rectangle

    size = 13.0 if len(wrapped(sheet.title, 13, RIGHT - LEFT - 6, bold=True)) < 3 else 10.5
    lines = wrapped(sheet.title, size, RIGHT - LEFT - 6, bold=True, most=4)
    below = wrapped(sheet.subtitle, 8, RIGHT - LEFT - 6, most=3)
    height = 5 + (len(lines) * size + len(below) * 8) * MM_PER_POINT * LEADING + (4 if sheet.code else 0)
    page.axes.add_patch(Rectangle((LEFT, TOP - height), RIGHT - LEFT, height, facecolor=ACCENT, edgecolor="none"))
    y = TOP - 2
    if sheet.code:
        y -= 3.2
        page.text(LEFT + 3, y, sheet.code, 7, color="#bfd7ea", weight="bold")
    for line in lines:
        y -= size * MM_PER_POINT * LEADING
        page.text(LEFT + 3, y + 1, line, size, color="white", weight="bold")
    for line in below:
        y -= 8 * MM_PER_POINT * LEADING
        page.text(LEFT + 3, y + 0.3, line, 8, color="#e6eef5")
    column.y = TOP - height


def _legend(page: Page, column: Column, entries: Sequence[LegendEntry], outlines: Sequence[Outline], most: int) -> None:
    from matplotlib.patches import Rectangle

    if not entries and not outlines:
        return
    column.head("Legend")
    # The last is drawn on top, and is what the map is about.
    shown = [*reversed(entries)]
    if len(shown) > most:
        # The line that says so takes the place of one.
        shown = shown[: max(1, most - 1)]
    for entry in shown:
        column.y -= ENTRY_MM
        page.axes.add_patch(
            Rectangle((LEFT, column.y), 6, 3.2, facecolor=(entry.color, 0.55), edgecolor=entry.color, linewidth=0.8)
        )
        amount = width_of(entry.amount, 7.5)
        (name,) = wrapped(entry.name, 7.5, RIGHT - LEFT - 10 - amount, most=1) or [""]
        page.text(LEFT + 8, column.y + 0.7, name, 7.5)
        page.text(RIGHT, column.y + 0.7, entry.amount, 7.5, ha="right")
    if len(entries) > len(shown):
        column.lines([_more(len(entries) - len(shown), "class", "classes")], 6.5, color=SOFT)
    for outline in outlines:
        column.y -= ENTRY_MM
        how: dict[str, Any] = (
            {"facecolor": HATCHED_FACE, "hatch": "//////", "linewidth": 0.6}
            if outline.hatched
            else {"fill": False, "linewidth": 1.1, "linestyle": (0, (3, 1.5)) if outline.dashed else "solid"}
        )
        page.axes.add_patch(Rectangle((LEFT, column.y), 6, 3.2, edgecolor=outline.color, **how))
        amount = width_of(outline.amount, 7.5)
        (name,) = wrapped(outline.name, 7.5, RIGHT - LEFT - 10 - amount, most=1) or [""]
        page.text(LEFT + 8, column.y + 0.7, name, 7.5)
        page.text(RIGHT, column.y + 0.7, outline.amount, 7.5, ha="right")


def _table(page: Page, column: Column, table: Sequence[Sequence[str]], most: int) -> None:
    column.head("Summary")
    shown = table if len(table) <= most else table[: most - 1]
    cells = max(map(len, shown))
    wide = [
        max(CELL_MM, 2 + max(width_of(row[i], 7, bold=row is shown[0]) for row in shown if i < len(row))) for i in range(1, cells)
    ]
    ends = [RIGHT - sum(wide[i:]) for i in range(cells)]
    for number, row in enumerate(shown):
        column.y -= ROW_MM
        bold = {"weight": "bold"} if number == 0 else {}
        (first,) = wrapped(row[0], 7, RIGHT - LEFT - sum(wide) - 3, bold=number == 0, most=1) or [""]
        page.text(LEFT, column.y + 0.8, first, 7, **bold)
        for i, cell in enumerate(row[1:], start=1):
            page.text(ends[i], column.y + 0.8, cell, 7, ha="right", **bold)
        page.axes.plot([LEFT, RIGHT], [column.y - 0.3, column.y - 0.3], color="#d4d8dc", linewidth=0.3)
    if len(table) > len(shown):
        column.lines([_more(len(table) - len(shown), "row", "rows")], 6.5, color=SOFT)


def _more(count: int, one: str, many: str) -> str:
    return f"and {count} more {one if count == 1 else many}"


def _foot(page: Page, sheet: Sheet, most_mm: float) -> float:
    """Production, disclaimer and licence at the bottom; returns where they begin. Long ones are cut to fit."""
    width, points = RIGHT - LEFT, 6.0
    made = ", ".join(filter(None, (sheet.produced[:10], sheet.edition, sheet.producer)))
    contact = wrapped(f"Contact: {sheet.contact[:MOST_TEXT]}", points, width, most=3) if sheet.contact else []
    blocks = [
        ("Production", [*wrapped(made, points, width, most=2), *contact]),
        ("Disclaimer", wrapped(sheet.disclaimer[:MOST_TEXT], points, width, most=9)),
        ("Licence", wrapped(sheet.licence[:MOST_TEXT], points, width, most=4)),
    ]
    blocks = [(head, lines) for head, lines in blocks if lines]
    line = points * MM_PER_POINT * LEADING
    heads = len(blocks) * (3.2 + 6.5 * MM_PER_POINT * LEADING + 1.5)
    while heads + line * sum(len(lines) for _, lines in blocks) > most_mm and max(len(lines) for _, lines in blocks) > 1:
        longest = max((lines for _, lines in blocks), key=len)
        longest.pop()
        longest[-1] = cut_to(longest[-1], points, width)
    height = heads + line * sum(len(lines) for _, lines in blocks)
    column = Column(page, BOTTOM + height)
    for head, lines in blocks:
        column.head(head)
        column.lines(lines, points, color=SOFT)
    return BOTTOM + height
