"""The map of a sheet: picture, polygons, outlines, graticule, scale bar and north arrow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from geoseg.arrays import F64
from geoseg.errors import GeoreferenceError
from geoseg.formats.sheet.crs_grid import draw_crs_grid
from geoseg.formats.sheet.frame import MapFrame, degrees_text, graticule_values, length_text, round_length
from geoseg.formats.sheet.locator import draw_locator
from geoseg.formats.sheet.page_text import INK, SOFT, Page
from geoseg.formats.sheet.panel import HATCHED_FACE
from geoseg.formats.sheet.shapes import DOT_MM, PageShapes, page_shapes
from geoseg.formats.sheet.surroundings import draw_surroundings

if TYPE_CHECKING:
    import pyarrow as pa

    from geoseg.formats.sheet.content import Outline, Picture, Sheet

__all__ = ["FRAME_MM", "PAGE_MM", "draw_map", "scale_bar"]

PAGE_MM = 297.0, 210.0
FRAME_MM = 13.0, 42.0, 199.0, 156.0
"""Left, bottom, width and height of the map on the page."""
SMALL_MM = 2.0
"""Outlines of this size in the mean are filled, so that their colour is seen; larger ones let the picture through."""
PATH_VERTICES = 20_000
"""Agg fills paths of bounded size."""


def scale_bar(frame: MapFrame, most_mm: float = 55.0) -> tuple[float, float]:
    """The length of a scale bar in metres on the ground, and in millimetres on the page; right in the middle of the map."""
    length = round_length(most_mm * frame.metres_per_mm)
    return length, length / frame.metres_per_mm


def draw_map(
    figure: Any,
    page: Page,
    frame: MapFrame,
    sheet: Sheet,
    batches: Iterable[pa.RecordBatch],
    picture: Picture | None,
    outlines: Sequence[Outline],
) -> tuple[int, int, float | None]:
    """Draw the map.

    Args:
        figure: The figure of matplotlib that the page is.
        page: The page, in millimetres.
        frame: Where the map lies.
        sheet: Says the classes and their colours.
        batches: The features.
        picture: What lies under them.
        outlines: Areas drawn as lines.

    Returns:
        How many features lie on it, how many of them are dots, and the length of the scale bar in metres.
    """
    from matplotlib.patches import Rectangle

    left, bottom, width, height = FRAME_MM
    axes = figure.add_axes((left / PAGE_MM[0], bottom / PAGE_MM[1], width / PAGE_MM[0], height / PAGE_MM[1]), zorder=1)
    wide, high = frame.half
    axes.set(xlim=(-wide, wide), ylim=(-high, high), xticks=[], yticks=[], facecolor="#f1f0ec")
    for spine in axes.spines.values():
        spine.set(linewidth=0.8, color=INK)
    if picture is not None:
        _picture(axes, frame, picture)
        axes.set(xlim=(-wide, wide), ylim=(-high, high))
    shapes, seen, dots = page_shapes(frame, batches)
    _features(axes, frame, sheet, shapes)
    for outline in outlines:
        _outline(axes, frame, outline)
    draw_surroundings(axes, frame, sheet.around)
    graticule = _graticule(axes, page, frame)
    draw_crs_grid(axes, page, frame, (left, bottom))
    draw_locator(figure, frame, FRAME_MM, PAGE_MM, sheet.around.borders)
    page.axes.add_patch(Rectangle((left, bottom), width, height, fill=False, edgecolor=INK, linewidth=0.8, zorder=9))
    if not graticule:
        page.text(left, bottom - 2.2, "Without longitudes and latitudes", 6, color=SOFT)
    if frame.north is None:
        return seen, dots, None
    _north(page, frame.north)
    return seen, dots, _bar(page, frame)


def _picture(axes: Any, frame: MapFrame, picture: Picture) -> None:
    from matplotlib.transforms import Affine2D

    rows, cols = picture.pixels.shape[:2]
    a, b, c, d, e, f = frame.affine_of(picture.georeference)
    place = Affine2D(np.array([[a, b, c], [d, e, f], [0, 0, 1]]))
    axes.imshow(
        picture.pixels,
        extent=(0, cols, rows, 0),
        transform=place + axes.transData,
        aspect="auto",
        interpolation="bilinear",
        zorder=1,
        clip_on=True,
    )


def _features(axes: Any, frame: MapFrame, sheet: Sheet, shapes: Mapping[int, PageShapes]) -> None:
    """Polygons and dots, those that the legend names first lowest."""
    from matplotlib.patches import PathPatch

    order = [entry.code for entry in sheet.legend]
    colors = {entry.code: entry.color for entry in sheet.legend}
    side = DOT_MM * frame.metres_per_mm
    for code in sorted(shapes, key=lambda code: (order.index(code) if code in order else -1, code)):
        color = colors.get(code, "#ffcc00")
        fill = 0.85 if _mean_size(shapes[code]) < SMALL_MM * frame.metres_per_mm else 0.55
        for path in _paths(shapes[code]):
            axes.add_patch(PathPatch(path, facecolor=(color, fill), edgecolor=(color, 1.0), linewidth=0.4, zorder=3))
        for path in _dots(shapes[code], side):
            axes.add_patch(PathPatch(path, facecolor=color, edgecolor=color, linewidth=0.3, zorder=3.5))


def _mean_size(shapes: PageShapes) -> float:
    """Larger side of a ring in the mean, metres; 0 where there are none."""
    return float(np.mean([np.ptp(ring, axis=0).max() for ring in shapes.rings])) if shapes.rings else 0.0


def _paths(shapes: PageShapes) -> list[Any]:
    """Outlines as compound paths: holes turn the other way than what they are in. A polygon stays in one path."""
    from matplotlib.path import Path as Outlined

    found, group, size = [], list[F64](), 0
    for ring in shapes.rings:
        shell = _signed_area(ring) > 0
        if shell and size > PATH_VERTICES:
            found.append(group)
            group, size = [], 0
        group.append(ring)
        size += len(ring)
    if group:
        found.append(group)
    return [Outlined.make_compound_path(*(Outlined(ring, closed=True) for ring in group)) for group in found]


def _signed_area(ring: F64) -> float:
    x, y = (ring - ring[0]).T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))


def _dots(shapes: PageShapes, side: float) -> list[Any]:
    from matplotlib.path import Path as Outlined

    cells = np.array(sorted(shapes.dots), np.float64).reshape(-1, 2) * side
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]], np.float64) * side
    codes = np.array([Outlined.MOVETO, *[Outlined.LINETO] * 3, Outlined.CLOSEPOLY], np.uint8)
    paths = []
    for start in range(0, len(cells), PATH_VERTICES // 5):
        part = cells[start : start + PATH_VERTICES // 5]
        paths.append(Outlined((part[:, None] + square).reshape(-1, 2), np.tile(codes, len(part))))
    return paths


def _outline(axes: Any, frame: MapFrame, outline: Outline) -> None:
    import pyarrow as pa
    import shapely
    from matplotlib.patches import PathPatch

    wkb = shapely.to_wkb(np.array(list(outline.geometries), dtype=object))
    batch = pa.RecordBatch.from_pydict(
        {"code": pa.array(np.zeros(len(wkb), np.int16)), "geometry": pa.array(wkb.tolist(), pa.binary())}
    )
    shapes, _, _ = page_shapes(frame, [batch])
    for found in shapes.values():
        for path in _paths(found):
            if outline.hatched:
                axes.add_patch(
                    PathPatch(path, facecolor=HATCHED_FACE, edgecolor=outline.color, hatch="//////", linewidth=0.6, zorder=2)
                )
                continue
            axes.add_patch(PathPatch(path, fill=False, edgecolor="white", linewidth=2.2, zorder=5, alpha=0.7))
            dash = (0, (5, 2)) if outline.dashed else "solid"
            axes.add_patch(PathPatch(path, fill=False, edgecolor=outline.color, linewidth=1.1, linestyle=dash, zorder=5.1))


def _graticule(axes: Any, page: Page, frame: MapFrame) -> bool:
    """Meridians and parallels, and their degrees beside the frame; False where there are none."""
    if frame.north is None:
        return False
    try:
        x, y, lon, lat = frame.net()
        # Turned by more than half a right angle, meridians leave the page at the sides.
        upright = abs((frame.north + 90) % 180 - 90) <= 45
        left, bottom, width, height = FRAME_MM
        for axis, degrees in ((0, lon), (1, lat)):
            values = graticule_values(float(degrees.min()), float(degrees.max()))
            if not len(values):
                continue
            axes.contour(x, y, degrees, levels=values, colors="white", linewidths=0.9, alpha=0.35, zorder=4, linestyles="solid")
            axes.contour(x, y, degrees, levels=values, colors=INK, linewidths=0.3, alpha=0.7, zorder=4.1, linestyles="solid")
            side = "bottom" if (axis == 0) == upright else "left"
            for along, value in frame.crossings(side, values, axis):
                text, at = degrees_text(value, axis), along / frame.metres_per_mm
                if side == "bottom" and abs(at) < width / 2 - 8:
                    page.tick(left + width / 2 + at, bottom, text)
                elif side == "left" and abs(at) < height / 2 - 8:
                    page.tick(left, bottom + height / 2 + at, text, upright=True)
    except GeoreferenceError:
        return False
    return True


def _bar(page: Page, frame: MapFrame) -> float:
    """A scale bar in the lower left of the map; returns its length in metres."""
    from matplotlib.patches import FancyBboxPatch, Rectangle

    length, size = scale_bar(frame)
    left, bottom = FRAME_MM[0] + 9, FRAME_MM[1] + 6
    page.axes.add_patch(
        FancyBboxPatch(
            (left - 5, bottom - 1.5),
            size + 12,
            8,
            boxstyle="round,pad=0.6,rounding_size=1",
            facecolor=(1, 1, 1, 0.88),
            edgecolor="none",
            zorder=10,
        )
    )
    for part in range(4):
        page.axes.add_patch(
            Rectangle(
                (left + part * size / 4, bottom),
                size / 4,
                1.5,
                facecolor=INK if part % 2 == 0 else "white",
                edgecolor=INK,
                linewidth=0.5,
                zorder=11,
            )
        )
    unit = "km" if length >= 1000 else "m" if length >= 1 else "cm"
    scale = {"km": 1e-3, "m": 1.0, "cm": 100.0}[unit]
    for share in (0.0, 0.5):
        page.text(left + share * size, bottom + 2.7, f"{share * length * scale:g}", 7, ha="center", zorder=12)
    page.text(left + size, bottom + 2.7, length_text(length), 7, ha="center", zorder=12)
    return length


def _north(page: Page, degrees: float) -> None:
    """An arrow to true north in the upper left of the map."""
    from matplotlib.patches import Circle, Polygon

    x, y, reach = FRAME_MM[0] + 12, FRAME_MM[1] + FRAME_MM[3] - 12, 7.0
    up = np.array([np.sin(np.radians(degrees)), np.cos(np.radians(degrees))])
    side = np.array([up[1], -up[0]])
    middle = np.array([x, y])
    page.axes.add_patch(Circle((x, y), 9.5, facecolor=(1, 1, 1, 0.88), edgecolor="none", zorder=10))
    tip, foot = middle + (reach - 2.6) * up, middle - 0.75 * reach * up
    notch, letter = middle - 0.4 * reach * up, middle + (reach - 0.2) * up
    for sign, color in ((1, INK), (-1, "white")):
        corner = foot + sign * 2.6 * side
        page.axes.add_patch(Polygon([tip, corner, notch], closed=True, facecolor=color, edgecolor=INK, linewidth=0.6, zorder=11))
    page.text(float(letter[0]), float(letter[1]), "N", 8, ha="center", va="center", weight="bold", zorder=12, rotation=-degrees)
