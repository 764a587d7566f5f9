"""The band under the map of a sheet: quality statement and sources, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from geoseg.formats.sheet.page_text import LEADING, MM_PER_POINT, SOFT, Column, Page, cut_to, wrapped

if TYPE_CHECKING:
    from geoseg.formats.sheet.content import Sheet

__all__ = ["BAND_MM", "band"]

BAND_MM = 13.0, 8.0, 199.0, 25.0
"""Left, bottom, width and height on the page."""
GAP_MM, HEAD_MM = 6.0, 7.6
POINTS = 6.0
MOST, MOST_TEXT = 12, 900
"""Lines that are looked at, and letters of one; what is longer belongs into a file."""


def band(page: Page, sheet: Sheet) -> None:
    """Write the band; the last line that has room says how many more there are."""
    left, bottom, width, height = BAND_MM
    blocks = [(head, lines) for head, lines in (("Quality", sheet.quality), ("Sources", sheet.sources)) if lines]
    each = (width - GAP_MM * (len(blocks) - 1)) / max(1, len(blocks))
    room = int((height - HEAD_MM) // (POINTS * MM_PER_POINT * LEADING))
    for number, (head, texts) in enumerate(blocks):
        start = left + number * (each + GAP_MM)
        column = Column(page, bottom + height, (start, start + each))
        column.head(head)
        column.lines(_fitting(texts, each, room), POINTS, color=SOFT)


def _fitting(texts: Sequence[str], width: float, room: int) -> list[str]:
    """Lines of as many texts as there is room for; what does not fit is counted."""
    lines: list[str] = []
    for number, text in enumerate(texts):
        found = wrapped(text[:MOST_TEXT], POINTS, width, most=3)
        last = number == len(texts) - 1
        if number >= MOST or len(lines) + len(found) > room - (not last):
            rest = len(texts) - number
            if not lines:
                return [*found[: room - 1], cut_to(found[room - 1], POINTS, width)] if len(found) > room else found
            return [*lines[: room - 1], f"and {rest} more: see README.txt"]
        lines += found
    return lines
