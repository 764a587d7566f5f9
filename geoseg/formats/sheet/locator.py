"""The locator of a map sheet: the half of the globe around the middle of the map, and where on it that lies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pyproj import Transformer

from geoseg.arrays import F64
from geoseg.crs import between
from geoseg.errors import GeoreferenceError
from geoseg.formats.sheet.frame import MapFrame
from geoseg.formats.sheet.page_text import INK

__all__ = ["draw_locator"]

SIDE_MM, MARGIN_MM = 26.0, 2.5
RADIUS_M = 6_378_137.0
LINES_DEGREES = 30
AWAY = 15.0
"""Degrees that the globe is turned off the middle, so that its curve is seen there, too."""


def draw_locator(
    figure: Any,
    frame: MapFrame,
    box_mm: tuple[float, float, float, float],
    page_mm: tuple[float, float],
    lines: Sequence[F64],
) -> bool:
    """Draw the locator in the upper right of the map; False where the map has no place on Earth.

    Args:
        figure: The figure that the page is.
        frame: Of the map.
        box_mm: Left, bottom, width and height of the map on the page.
        page_mm: Width and height of the page.
        lines: (N, 2) longitudes and latitudes each, such as borders of countries; none draws meridians and parallels alone.
    """
    from matplotlib.patches import Circle

    try:
        lon, lat = frame.lonlat(np.zeros((1, 2)))[0].tolist()
    except GeoreferenceError:
        return False
    left, bottom, width, height = box_mm
    x, y = left + width - SIDE_MM - MARGIN_MM, bottom + height - SIDE_MM - MARGIN_MM
    axes = figure.add_axes((x / page_mm[0], y / page_mm[1], SIDE_MM / page_mm[0], SIDE_MM / page_mm[1]), zorder=3)
    axes.set(xlim=(-1.04, 1.04), ylim=(-1.04, 1.04))
    axes.axis("off")
    axes.add_patch(Circle((0, 0), 1, facecolor=(1, 1, 1, 0.9), edgecolor=INK, linewidth=0.6))
    globe = between("OGC:CRS84", f"+proj=ortho +lat_0={lat - np.sign(lat) * AWAY} +lon_0={lon} +R={RADIUS_M}")
    turn = np.linspace(-180, 180, 181)
    net = [np.stack([turn, np.full(181, parallel)], axis=1) for parallel in range(-90 + LINES_DEGREES, 90, LINES_DEGREES)]
    net += [np.stack([np.full(181, meridian), turn / 2], axis=1) for meridian in range(-180, 180, LINES_DEGREES)]
    for line in net:
        axes.plot(*_seen(globe, line), color="#9aa5b1", linewidth=0.3)
    for line in lines:
        axes.plot(*_seen(globe, line), color=INK, linewidth=0.35)
    axes.plot(
        *_seen(globe, np.array([[lon, lat]])),
        marker="s",
        markersize=4,
        color="none",
        markeredgecolor="#d7263d",
        markeredgewidth=1.1,
    )
    return True


def _seen(globe: Transformer, lonlat: F64) -> tuple[F64, F64]:
    """A line on the globe of radius 1; NaN, where it is interrupted, on the side that is not seen."""
    x, y = (np.asarray(values) / RADIUS_M for values in globe.transform(lonlat[:, 0], lonlat[:, 1]))
    seen = np.isfinite(x) & np.isfinite(y)
    return np.where(seen, x, np.nan), np.where(seen, y, np.nan)
