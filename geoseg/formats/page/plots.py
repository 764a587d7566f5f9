"""Plots of a page as SVG, without a library that draws: estimates with their intervals, and curves. Dark on white."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from geoseg.formats.page.elements import Inline
from geoseg.formats.text import xml_text

__all__ = ["Line", "Span", "curve_plot", "interval_plot"]

WIDTH, LEFT, RIGHT, ROW, TOP, HEIGHT = 680.0, 190.0, 24.0, 30.0, 12.0, 240.0
INK, QUIET, GRID = "#1b1f23", "#555c64", "#d5d9dd"
COLORS = ("#0b5a8a", "#b35806", "#1b7837", "#762a83")
NAME = 26
"""Characters of a name that fit beside a plot; the table has all."""


@dataclass(frozen=True, slots=True)
class Span:
    """An estimate with its interval, and what it is held against."""

    name: str
    value: float
    low: float
    high: float
    other: float | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A curve: points (x, y) in the order of x."""

    name: str
    points: tuple[tuple[float, float], ...]


def interval_plot(title: str, caption: str, spans: Sequence[Span], unit: str) -> Inline:
    """Estimates below each other on one axis from zero: a dot, a line from low to high, and a tick for the other value.

    Args:
        title: What is shown, for those who don't see it.
        caption: Stands below it.
        spans: The estimates, at least one.
        unit: Of the axis.
    """
    ends = [end for span in spans for end in (span.low, span.high, span.value, span.other or 0.0)]
    low, high = min(0.0, *ends), max(*ends, 0.0) or 1.0
    x = _scale(low, high, LEFT, WIDTH - RIGHT)
    bottom = TOP + ROW * len(spans)
    parts = [*_axis(low, high, bottom, unit)]
    for number, span in enumerate(spans):
        y = TOP + ROW * (number + 0.5)
        name = span.name if len(span.name) <= NAME else span.name[: NAME - 1] + "…"
        parts += [
            _text(LEFT - 10, y + 4, name, "end", INK),
            f'<path d="M{x(span.low):.1f} {y:.1f}H{x(span.high):.1f}" stroke="{COLORS[0]}" stroke-width="3"/>',
            f'<circle cx="{x(span.value):.1f}" cy="{y:.1f}" r="5" fill="{COLORS[0]}"/>',
        ]
        if span.other is not None:
            parts.append(f'<path d="M{x(span.other):.1f} {y - 10:.1f}V{y + 10:.1f}" stroke="{COLORS[1]}" stroke-width="3"/>')
    return Inline(_svg(bottom + 44, parts), title, caption)


def curve_plot(title: str, caption: str, lines: Sequence[Line], unit: str) -> Inline:
    """Curves over each other, from zero upwards, each with its name.

    Args:
        title: What is shown, for those who don't see it.
        caption: Stands below it.
        lines: The curves; at least one has a point.
        unit: Of the horizontal axis.
    """
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    left, most = 70.0, max(*ys, 0.0) or 1.0
    x, y = _scale(min(xs), max(xs), left, WIDTH - RIGHT), _scale(0.0, most, HEIGHT, TOP)
    parts = [
        f'<path d="M{left} {y(0):.1f}H{WIDTH - RIGHT}M{left} {y(most):.1f}H{WIDTH - RIGHT}" stroke="{GRID}"/>',
        _text(left - 8, y(0) + 4, "0", "end", QUIET),
        _text(left - 8, y(most) + 4, f"{most:.3g}", "end", QUIET),
        _text(left, HEIGHT + 18, f"{min(xs):,g}", "start", QUIET),
        _text(WIDTH - RIGHT, HEIGHT + 18, f"{max(xs):,g} {unit}", "end", QUIET),
    ]
    for number, line in enumerate(lines):
        color = COLORS[number % len(COLORS)]
        points = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in line.points)
        parts += [
            f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>',
            *(f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="3" fill="{color}"/>' for a, b in line.points),
            f'<path d="M{left + 170 * number} {HEIGHT + 38}h24" stroke="{color}" stroke-width="3"/>',
            _text(left + 170 * number + 30, HEIGHT + 42, line.name, "start", INK),
        ]
    return Inline(_svg(HEIGHT + 54, parts), title, caption)


def _scale(low: float, high: float, start: float, stop: float) -> Callable[[float], float]:
    """Values to coordinates."""
    factor = (stop - start) / (high - low) if high > low else 0.0
    return lambda value: start + (value - low) * factor


def _axis(low: float, high: float, bottom: float, unit: str) -> list[str]:
    x = _scale(low, high, LEFT, WIDTH - RIGHT)
    at = f'<path d="M{x(0):.1f} {TOP}V{bottom}M{LEFT} {bottom}H{WIDTH - RIGHT}" stroke="{GRID}"/>'
    return [
        at,
        _text(LEFT, bottom + 18, f"{low:,.4g}", "start", QUIET),
        _text(WIDTH - RIGHT, bottom + 18, f"{high:,.4g}", "end", QUIET),
        _text((LEFT + WIDTH - RIGHT) / 2, bottom + 36, unit, "middle", QUIET),
    ]


def _text(x: float, y: float, text: str, anchor: str, color: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}" font-size="13">{xml_text(text)}</text>'


def _svg(height: float, parts: Sequence[str]) -> str:
    box = f'viewBox="0 0 {WIDTH:.0f} {height:.0f}" width="{WIDTH:.0f}" height="{height:.0f}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="system-ui, sans-serif">{"".join(parts)}</svg>'
