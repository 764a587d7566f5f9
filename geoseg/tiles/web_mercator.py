"""The pyramid of tiles in web Mercator (EPSG:3857): level z has 2**z columns, x from the west, and rows, y from the north."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["CRS", "HALF", "MAX_ZOOM", "TILE_PX", "Box", "Tile", "lonlat_box", "native_zoom", "tiles_within"]

CRS = "EPSG:3857"
HALF = 20037508.342789244
"""Half of the world's side in metres."""
TILE_PX = 512
"""Pixels of a tile's side."""
MAX_ZOOM = 24
"""The deepest level: there a pixel is two millimetres."""

Box = tuple[float, float, float, float]
"""Left, bottom, right and top."""


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """A tile by its level, column and row."""

    z: int
    x: int
    y: int

    @property
    def is_there(self) -> bool:
        """Whether the pyramid has it."""
        return 0 <= self.z <= MAX_ZOOM and 0 <= self.x < 1 << self.z and 0 <= self.y < 1 << self.z

    @property
    def side(self) -> float:
        """Length of a side in metres of the projection."""
        return 2 * HALF / (1 << self.z)

    @property
    def box(self) -> Box:
        """Its place in metres of the projection."""
        left, top = self.x * self.side - HALF, HALF - self.y * self.side
        return left, top - self.side, left + self.side, top


def native_zoom(metres: float) -> int:
    """The first level whose pixels are not larger than those of a raster, of so many metres of the projection."""
    return max(0, min(MAX_ZOOM - 2, math.ceil(math.log2(2 * HALF / TILE_PX / metres) - 0.1)))


def tiles_within(box: Box, z: int) -> Iterator[Tile]:
    """The tiles of a level that a box in metres of the projection touches, by row."""
    count = 1 << z
    side = 2 * HALF / count
    left, bottom, right, top = box
    rows = range(_clamped((HALF - top) / side, count), _clamped((HALF - bottom) / side, count) + 1)
    cols = range(_clamped((left + HALF) / side, count), _clamped((right + HALF) / side, count) + 1)
    for y in rows:
        for x in cols:
            yield Tile(z, x, y)


def _clamped(place: float, count: int) -> int:
    return max(0, min(count - 1, math.floor(place)))


def lonlat_box(box: Box) -> Box:
    """West, south, east and north, in degrees, of a box in metres of the projection."""
    left, bottom, right, top = box
    west, east = (value / HALF * 180 for value in (left, right))
    south, north = (math.degrees(math.atan(math.sinh(value / HALF * math.pi))) for value in (bottom, top))
    return west, south, east, north
