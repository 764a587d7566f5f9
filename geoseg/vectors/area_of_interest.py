"""An area of interest on the pixels of a scene.

A pixel belongs to it where its centre lies in the polygons, which is GDAL's rule of burning them. Where the border runs exactly
through a centre, the pixel belongs to what lies below or to the left of the border, so that areas that share one share no pixel.
All is computed from whole coordinates, row by row, so that a pixel is the same in any window.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from geoseg.arrays import F64, I64, Bools
from geoseg.errors import ConfigError, GeoreferenceError, OutsideAreaError
from geoseg.polygons.placing import Placing, valid_polygons
from geoseg.vectors.given_area import GivenArea, missing_crs
from geoseg.windows import Window

if TYPE_CHECKING:
    from geoseg.georeference import Georeference

__all__ = ["AreaOfInterest", "area_on"]

STRIP = 1024
"""Rows that are gone through at once."""
MOST_CROSSINGS = 1 << 22
"""Crossings of the border with rows that are in memory at once."""


@dataclass(frozen=True, slots=True, eq=False)
class AreaOfInterest:
    """The pixels of a scene that an area of interest holds; at least one."""

    shape: tuple[int, int]
    """Rows and columns of the scene."""
    wkb: bytes
    """The polygons in pixels of the scene: x is columns, y is rows; within a pixel around it."""
    edges: F64
    """(4, N) the border: lower and higher end in rows, ascending by the lower one, and the columns of both."""
    pixels: int
    """Number of its pixels."""
    window: Window
    """The least window that holds them."""

    @property
    def digest(self) -> str:
        """sha256 of the polygons in pixels."""
        return hashlib.sha256(self.wkb).hexdigest()

    @property
    def geometry(self) -> Any:
        """The polygons in pixels of the scene."""
        import shapely

        return shapely.from_wkb(self.wkb)

    def border(self, window: Window, stride: int) -> list[F64]:
        """(N, 2) columns and rows of its rings in a picture that shows every ``stride``-th pixel of a window."""
        import shapely

        rings = shapely.get_parts(shapely.boundary(shapely.get_parts(self.geometry)))
        return [(shapely.get_coordinates(ring) - [window.col_off, window.row_off]) / stride for ring in rings]

    def touches(self, window: Window) -> bool:
        """Whether it holds a pixel of a window."""
        if (near := window & self.window) is None:
            return False
        return any(len(_clipped(spans, near)) for spans in _spans(self.edges, near, self.shape[1]))

    def cells(self, shape: tuple[int, int]) -> set[tuple[int, int]]:
        """Row and column of the cells that hold a pixel of it, of a lattice of cells of ``(height, width)`` from the origin."""
        found: set[tuple[int, int]] = set()
        rows, cols = self.window.cells(shape)
        for row in rows:
            near = Window.between(row * shape[0], (row + 1) * shape[0], 0, self.shape[1]) & self.window
            assert near is not None
            marks = np.zeros(cols.stop + 1, np.int64)
            for spans in _spans(self.edges, near, self.shape[1]):
                np.add.at(marks, spans[:, 1] // shape[1], 1)
                np.add.at(marks, (spans[:, 2] - 1) // shape[1] + 1, -1)
            found.update((row, int(col)) for col in np.flatnonzero(np.cumsum(marks) > 0))
        return found

    def mask(self, window: Window) -> Bools:
        """(h, w) bool, True where a pixel of a window belongs to it."""
        marks = np.zeros((window.height, window.width + 1), np.int8)
        if (near := window & self.window) is not None:
            for spans in _spans(self.edges, near, self.shape[1]):
                row, start, stop = (_clipped(spans, near) - [window.row_off, window.col_off, window.col_off]).T
                # The spans of a row may meet, and then one ends where the next begins.
                np.add.at(marks, (row, start), 1)
                np.add.at(marks, (row, stop), -1)
        return np.asarray(np.cumsum(marks, axis=1, dtype=np.int8)[:, :-1] > 0)

    def spans(self, window: Window) -> I64:
        """(N, 3) row, first column and column after the last of its runs of pixels in a window, in the order of reading."""
        near = window & self.window
        sets = [np.empty((0, 3), np.int64)]
        if near is not None:
            sets += [_clipped(spans, near) for spans in _spans(self.edges, near, self.shape[1])]
        return np.concatenate(sets)


def area_on(
    given: GivenArea,
    place: Georeference,
    shape: tuple[int, int],
    scene: str,
    *,
    grown: float = 0.0,
    within: GivenArea | None = None,
) -> AreaOfInterest:
    """Lay an area of interest over a scene.

    Args:
        given: The polygons.
        place: Where the scene's pixels lie.
        shape: Its rows and columns.
        scene: What it is called in messages.
        grown: By how many pixels it is larger on all sides.
        within: What of it counts; None for all.

    Raises:
        OutsideAreaError: No pixel of the scene lies in it.
        ConfigError: The polygons have no CRS, and the scene has one.
        GeoreferenceError: The scene has none.
    """
    import shapely

    if given.crs is None and place.crs is not None:
        raise missing_crs(given.label)
    if place.crs is None and given.crs is not None:
        raise GeoreferenceError(
            f"{scene}: has no place on Earth, so that the area of interest {given.label} can't be laid over it; give a file of "
            "polygons without a CRS, in the coordinates of the image"
        )
    whole = shapely.box(-1, -1, shape[1] + 1, shape[0] + 1)
    union = shapely.union_all(_placed(given, place, shape))
    if within is not None:
        union = shapely.intersection(union, shapely.union_all(_placed(within, place, shape)))
    union = shapely.buffer(union, grown) if grown else union
    found = valid_polygons(np.array([shapely.intersection(union, whole)], object))[0]
    wkb = shapely.to_wkb(shapely.normalize(found), byte_order=1)
    edges = _edges(shapely.from_wkb(wkb))
    window, pixels = _extent(edges, shape)
    if window is None:
        near = "" if found.is_empty else ": it holds the centre of no pixel"
        raise OutsideAreaError(f"area of interest {given.label} does not touch scene {scene}{near}")
    return AreaOfInterest(shape, wkb, edges, pixels, window)


def _placed(given: GivenArea, place: Georeference, shape: tuple[int, int]) -> Any:
    import shapely

    if given.crs is None:
        inverse = place.inverse
        shapes = valid_polygons(given.shapes)
        return shapely.transform(shapes, lambda xy: np.stack(inverse @ (xy[:, 0], xy[:, 1]), axis=1))
    try:
        return Placing.of(given.crs, place, shape)(given.shapes)
    except ConfigError as error:
        raise ConfigError(f"area of interest {given.label}: {error}") from error


def _edges(shape: Any) -> F64:
    """The border of polygons as ``AreaOfInterest.edges``; edges along a row cross none."""
    import shapely

    rings = shapely.get_parts(shapely.boundary(shapely.get_parts(shape)))
    xy, ring = shapely.get_coordinates(rings, return_index=True)
    go_on = ring[1:] == ring[:-1]
    (x0, y0), (x1, y1) = xy[:-1][go_on].T, xy[1:][go_on].T
    down = y0 < y1
    edges = np.stack([np.where(down, y0, y1), np.where(down, y1, y0), np.where(down, x0, x1), np.where(down, x1, x0)])
    edges = edges[:, edges[0] < edges[1]]
    return np.ascontiguousarray(edges[:, np.argsort(edges[0], kind="stable")])


def _extent(edges: F64, shape: tuple[int, int]) -> tuple[Window | None, int]:
    """The window of all pixels, and their number."""
    pixels, top, bottom, left, right = 0, shape[0], 0, shape[1], 0
    for spans in _spans(edges, Window.of(shape), shape[1]):
        if len(spans):
            pixels += int((spans[:, 2] - spans[:, 1]).sum())
            top, bottom = min(top, int(spans[0, 0])), max(bottom, int(spans[-1, 0]) + 1)
            left, right = min(left, int(spans[:, 1].min())), max(right, int(spans[:, 2].max()))
    return (Window.between(top, bottom, left, right) if pixels else None), pixels


def _spans(edges: F64, window: Window, width: int) -> Iterator[I64]:
    """(N, 3) row, first column and column after the last of the runs of pixels in the rows of a window, strip by strip."""
    for start in range(window.row_off, window.row_stop, STRIP):
        yield from _of_rows(edges, start, min(start + STRIP, window.row_stop), width)


def _of_rows(edges: F64, start: int, stop: int, width: int) -> Iterator[I64]:
    near = edges[:, : np.searchsorted(edges[0], stop)]
    low, high, x_low, x_high = near[:, near[1] > start]
    # A row is crossed where its centre, at half a pixel, is not above the lower end and above the higher one.
    first = np.maximum(np.ceil(low - 0.5), start).astype(np.int64)
    count = np.maximum(np.minimum(np.ceil(high - 0.5), stop).astype(np.int64) - first, 0)
    if (total := int(count.sum())) > MOST_CROSSINGS and stop - start > 1:
        middle = (start + stop) // 2
        yield from _of_rows(edges, start, middle, width)
        yield from _of_rows(edges, middle, stop, width)
        return
    edge = np.repeat(np.arange(len(count)), count)
    row = first[edge] + np.arange(total) - (np.cumsum(count) - count)[edge]
    x = x_low[edge] + (row + 0.5 - low[edge]) * ((x_high[edge] - x_low[edge]) / (high[edge] - low[edge]))
    col = np.clip(np.floor(x + 0.5), 0, width).astype(np.int64)
    # Each row is crossed an even number of times: in and out by turns.
    into, out = np.sort(row * (width + 1) + col).reshape(-1, 2).T
    spans = np.stack([into // (width + 1), into % (width + 1), out % (width + 1)], axis=1)
    yield spans[spans[:, 1] < spans[:, 2]]


def _clipped(spans: I64, window: Window) -> I64:
    """The parts of runs in the columns of a window."""
    found = np.stack([spans[:, 0], np.maximum(spans[:, 1], window.col_off), np.minimum(spans[:, 2], window.col_stop)], axis=1)
    return found[found[:, 1] < found[:, 2]]
