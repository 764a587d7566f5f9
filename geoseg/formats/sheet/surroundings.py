"""Roads and places on a map sheet, as a file of the user's names them."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely

from geoseg.formats.sheet.content import Surroundings
from geoseg.formats.sheet.frame import MapFrame
from geoseg.formats.sheet.page_text import INK

__all__ = ["draw_surroundings"]

ROAD = "#8a6d3b"
MOST_PLACES = 60
APART_MM = 6.0
"""Of places closer together, the first is written."""


def draw_surroundings(axes: Any, frame: MapFrame, around: Surroundings) -> int:
    """Draw roads under the features and places over them; returns how many places have no room.

    Args:
        axes: Of the map, in metres right and up of its middle.
        frame: Of the map.
        around: Roads and places, in the CRS of the sheet.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.patheffects import withStroke

    wide, high = frame.half
    window = shapely.box(-wide, -high, wide, high)
    roads = shapely.transform(np.array(list(around.roads), object), frame.from_crs)
    parts = shapely.get_parts(shapely.get_parts(shapely.intersection(roads, window)))
    lines = [shapely.get_coordinates(part) for part in parts if part.geom_type in ("LineString", "LinearRing")]
    for color, width in (("white", 1.8), (ROAD, 0.9)):
        axes.add_collection(LineCollection(lines, colors=color, linewidths=width, zorder=2.5), autolim=False)
    written: list[tuple[float, float]] = []
    skipped = 0
    for name, xy in around.places:
        ((x, y),) = frame.from_crs(np.array([xy])).tolist()
        if not (abs(x) < 0.94 * wide and abs(y) < 0.96 * high):
            continue
        near = APART_MM * frame.metres_per_mm
        if len(written) >= MOST_PLACES or any(abs(x - a) < 4 * near and abs(y - b) < near for a, b in written):
            skipped += 1
            continue
        written.append((x, y))
        axes.plot([x], [y], marker="o", markersize=2.6, color=INK, markeredgecolor="white", markeredgewidth=0.5, zorder=6)
        halo = [withStroke(linewidth=1.8, foreground="white")]
        where = {"xytext": (3, 2), "textcoords": "offset points", "zorder": 6.1, "parse_math": False, "annotation_clip": True}
        axes.annotate(name, (x, y), fontsize=6.5, color=INK, path_effects=halo, **where)
    return skipped
