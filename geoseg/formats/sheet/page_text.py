"""Text on the page of a map sheet: millimetres, widths, lines, columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["ACCENT", "INK", "LEADING", "LEFT", "MM_PER_POINT", "RIGHT", "SOFT", "Column", "Page", "cut_to", "width_of", "wrapped"]

INK, SOFT, ACCENT = "#1d2731", "#5a6672", "#0b3954"
MM_PER_POINT = 25.4 / 72
LEADING = 1.28
LEFT, RIGHT = 217.0, 289.0
"""Sides of the panel."""


class Page:
    """A page in millimetres, with text of which the width is known."""

    def __init__(self, figure: Any, size_mm: tuple[float, float]) -> None:
        self.axes = figure.add_axes((0, 0, 1, 1), zorder=2)
        self.axes.set(xlim=(0, size_mm[0]), ylim=(0, size_mm[1]))
        self.axes.axis("off")
        self.axes.patch.set_visible(False)

    def text(self, x: float, y: float, text: str, points: float, **how: Any) -> None:
        """A line of text with its left end on the base line, if ``how`` says nothing else."""
        how = {"color": INK, "ha": "left", "va": "baseline"} | how
        self.axes.text(x, y, text, fontsize=points, parse_math=False, rotation_mode="anchor", **how)

    def tick(self, x: float, y: float, text: str, *, upright: bool = False) -> None:
        """A mark outside of the map's frame, below or to the left of a point."""
        end = (x - 1.2, y) if upright else (x, y - 1.2)
        self.axes.plot([x, end[0]], [y, end[1]], color=INK, linewidth=0.6)
        if upright:
            self.text(x - 2.0, y, text, 6.5, color=SOFT, ha="center", rotation=90)
        else:
            self.text(x, y - 4.0, text, 6.5, color=SOFT, ha="center")


def width_of(text: str, points: float, *, bold: bool = False) -> float:
    """Millimetres."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=points, weight="bold" if bold else "normal")
    width, *_ = text_to_path.get_text_width_height_descent(text, font, False)  # noqa: FBT003 - no mathematics in it
    # Hinting on a screen makes letters a little wider than they are.
    return float(width) * MM_PER_POINT * 1.03


def wrapped(text: str, points: float, width: float, *, bold: bool = False, most: int = 99) -> list[str]:
    """Lines of at most a width; words that are wider are cut, and what is left after ``most`` lines is dots."""
    lines: list[str] = []
    for word in text.split():
        rest = word
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and width_of(joined, points, bold=bold) <= width:
            lines[-1] = joined
            continue
        while width_of(rest, points, bold=bold) > width and len(rest) > 1:
            fits = max(n for n in range(1, len(rest)) if n == 1 or width_of(rest[:n], points, bold=bold) <= width)
            lines.append(rest[:fits])
            rest = rest[fits:]
        lines.append(rest)
    if len(lines) > most:
        lines = [*lines[: most - 1], cut_to(lines[most - 1], points, width, bold=bold)]
    return lines


def cut_to(line: str, points: float, width: float, *, bold: bool = False) -> str:
    """A line that says that there was more."""
    line = line.removesuffix(" …")
    while line and width_of(f"{line} …", points, bold=bold) > width:
        line = line[:-1]
    return f"{line.rstrip()} …"


class Column:
    """Writes down a column."""

    def __init__(self, page: Page, top: float, sides: tuple[float, float] = (LEFT, RIGHT)) -> None:
        self.page, self.y = page, top
        self.left, self.right = sides

    def lines(self, lines: Sequence[str], points: float, **how: Any) -> None:
        """Write lines, one below the other."""
        for line in lines:
            self.y -= points * MM_PER_POINT * LEADING
            self.page.text(self.left, self.y + 0.25 * points * MM_PER_POINT, line, points, **how)

    def head(self, text: str) -> None:
        """Write a heading with a line below it."""
        self.y -= 3.2
        self.lines([text.upper()], 6.5, weight="bold", color=ACCENT)
        self.y -= 0.6
        self.page.axes.plot([self.left, self.right], [self.y, self.y], color=ACCENT, linewidth=0.5)
        self.y -= 0.9
