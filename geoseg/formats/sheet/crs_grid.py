"""The grid of a projected CRS on a map sheet: crosses where its round coordinates meet, and ticks with them beside the frame."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyproj

from geoseg.arrays import F64
from geoseg.formats.sheet.frame import MapFrame
from geoseg.formats.sheet.page_text import INK, Page

__all__ = ["draw_crs_grid", "round_step"]

LEAST_LINES = 3
CROSS_MM = 1.4
"""Half of the length of a cross."""
SIDE_POINTS = 257
POINTS = 5.5


def round_step(span: float) -> float:
    """The largest of 1, 2 or 5 times a power of ten that a span holds three times."""
    most = span / LEAST_LINES
    power = 10.0 ** math.floor(math.log10(most) + 1e-12)
    return next(digit * power for digit in (5.0, 2.0, 1.0) if digit * power <= most * (1 + 1e-12))


def draw_crs_grid(axes: Any, page: Page, frame: MapFrame, corner_mm: tuple[float, float]) -> bool:
    """Draw crosses, and ticks above and to the right of the frame; returns whether the CRS is projected, so that it has a grid.

    Args:
        axes: Of the map, in metres right and up of its middle.
        page: The page.
        frame: Of the map.
        corner_mm: Left and bottom of the frame on the page.
    """
    if frame.georeference.crs is None or not pyproj.CRS.from_user_input(frame.georeference.crs).is_projected:
        return False
    wide, high = frame.half
    xy = frame.to_crs(np.array([[-wide, -high], [wide, -high], [wide, high], [-wide, high]]))
    low, top = xy.min(axis=0), xy.max(axis=0)
    step = round_step(float((top - low).min()))
    x, y = (np.arange(math.ceil(a / step), math.floor(b / step) + 1) * step for a, b in zip(low, top, strict=True))
    _crosses(axes, frame, x, y)
    for side, fixed in (("top", high), ("right", wide)):
        along = np.linspace(-wide, wide, SIDE_POINTS) if side == "top" else np.linspace(-high, high, SIDE_POINTS)
        other = np.full(SIDE_POINTS, fixed)
        there = frame.to_crs(np.stack([along, other] if side == "top" else [other, along], axis=1))
        # The coordinate that changes most along a side is the one that is told there.
        axis = int(np.ptp(there, axis=0).argmax())
        _ticks(page, frame, corner_mm, side, along, there[:, axis], x if axis == 0 else y)
    return True


def _crosses(axes: Any, frame: MapFrame, x: F64, y: F64) -> None:
    arm = CROSS_MM * frame.metres_per_mm
    grid = np.stack([g.ravel() for g in np.meshgrid(x, y)], axis=1)
    at = frame.from_crs(grid)
    inside = (np.abs(at) < np.array(frame.half) - 2 * arm).all(axis=1)
    grid, at = grid[inside], at[inside]
    for axis in (0, 1):
        ahead = frame.from_crs(grid + np.eye(2)[axis]) - at
        unit = ahead / np.hypot(*ahead.T)[:, None] * arm
        for start, end in zip(at - unit, at + unit, strict=True):
            axes.plot(*np.stack([start, end], axis=1), color=INK, linewidth=0.5, zorder=4.2, scalex=False, scaley=False)


def _ticks(page: Page, frame: MapFrame, corner_mm: tuple[float, float], side: str, along: F64, values: F64, wanted: F64) -> None:
    left, bottom = corner_mm
    width, height = frame.size_mm
    order = np.argsort(values)
    for value in wanted[(wanted > values.min()) & (wanted < values.max())].tolist():
        place = float(np.interp(value, values[order], along[order])) / frame.metres_per_mm
        text = f"{value:,.0f}".replace(",", " ") if value == round(value) else f"{value:g}"
        if side == "top" and abs(place) < width / 2 - 8:
            x, y = left + width / 2 + place, bottom + height
            page.axes.plot([x, x], [y, y + 1.2], color=INK, linewidth=0.6)
            page.text(x, y + 1.8, text, POINTS, ha="center")
        elif side == "right" and abs(place) < height / 2 - 8:
            x, y = left + width, bottom + height / 2 + place
            page.axes.plot([x, x + 1.2], [y, y], color=INK, linewidth=0.6)
            page.text(x + 2.8, y, text, POINTS, ha="center", rotation=90)
