"""Geometries from well-known binary, with those that GEOS has no polygons for: arcs become chords, surfaces become polygons.

ISO/IEC 13249-3 and OGC 06-103r4, 8.2, have the codes; PostGIS adds flags to them (EWKB).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from geoseg.arrays import F64
from geoseg.errors import ReadError

__all__ = ["CHORD_DEGREES", "shapes_of_wkb"]

CHORD_DEGREES = 0.5
"""A chord spans so much of its circle: it leaves the arc by at most 1e-5 of the radius, and areas by as much."""
LINE, POLYGON, COLLECTION, ARCS, COMPOUND, CURVED, CURVES, SURFACES = 2, 3, 7, 8, 9, 10, 11, 12
FACES = 15, 16
"""Surfaces of faces: polyhedra and triangulations; what lies under them is their footprint."""
TRIANGLE = 17
DEEPEST = 32
"""Geometries in geometries."""


def shapes_of_wkb(values: Sequence[bytes | None] | NDArray[Any]) -> NDArray[Any]:
    """(N,) geometries; those with arcs or faces are flat.

    Raises:
        ReadError: One of these can't be read.
        shapely.errors.GEOSException: Another can't.
    """
    wkb = np.asarray(values, object)
    odd = [i for i, value in enumerate(wkb) if value is not None and _is_odd(value)]
    if not odd:
        with np.errstate(invalid="ignore"):
            return np.asarray(shapely.from_wkb(wkb), object)
    plain = wkb.copy()
    plain[odd] = None
    out = shapes_of_wkb(plain)
    for i in odd:
        try:
            out[i] = _Reader(bytes(wkb[i])).geometry()
        except (struct.error, ValueError, shapely.errors.GEOSException) as error:
            raise ReadError(f"geometry {i + 1} of them is damaged: {error}") from error
    return out


def _is_odd(wkb: bytes) -> bool:
    """Whether GEOS can't take it as it is. Collections are looked into."""
    if len(wkb) < 5:
        return False
    code = (int.from_bytes(wkb[1:5], "little" if wkb[0] else "big") & 0x0FFFFFFF) % 1000
    return code > COLLECTION or (code == COLLECTION and _holds_odd(wkb))


def _holds_odd(wkb: bytes) -> bool:
    try:
        return _Reader(wkb).looks_odd()
    except (struct.error, ValueError):
        # What is damaged is told of by GEOS.
        return False


class _Reader:
    """Reads one geometry from the front of its bytes."""

    def __init__(self, wkb: bytes) -> None:
        self._wkb, self._at, self._odd = wkb, 0, False

    def looks_odd(self) -> bool:
        self.geometry()
        return self._odd

    def geometry(self, depth: int = 0) -> Any:
        if depth > DEEPEST:
            raise ValueError(f"geometries in geometries, more than {DEEPEST} deep")
        order, code, width = self._head()
        self._odd |= code > COLLECTION
        readers: dict[int, Callable[[], Any]] = {
            1: lambda: shapely.Point(self._points(order, width, 1)[0]),
            LINE: lambda: shapely.LineString(self._points(order, width)),
            ARCS: lambda: shapely.LineString(_straight(self._points(order, width))),
            POLYGON: lambda: _polygon([self._points(order, width) for _ in range(self._count(order))]),
            TRIANGLE: lambda: _polygon([self._points(order, width) for _ in range(self._count(order))]),
        }
        if code in readers:
            return readers[code]()
        if code not in (4, 5, 6, COLLECTION, COMPOUND, CURVED, CURVES, SURFACES, *FACES):
            raise ValueError(f"a geometry of kind {code}, which is none that is known")
        parts = [self.geometry(depth + 1) for _ in range(self._count(order))]
        return _joined(code, parts)

    def _head(self) -> tuple[str, int, int]:
        """Byte order, kind, and coordinates of a point."""
        order = "<" if self._wkb[self._at : self._at + 1] == b"\x01" else ">"
        (code,) = struct.unpack_from(f"{order}I", self._wkb, self._at + 1)
        self._at += 5
        if code & 0x20000000:
            self._at += 4
        flags = bool(code & 0x80000000) + bool(code & 0x40000000)
        kind, extra = (code & 0x0FFFFFFF) % 1000, (code & 0x0FFFFFFF) // 1000
        return order, kind, 2 + flags + (0, 1, 1, 2)[min(extra, 3)]

    def _count(self, order: str) -> int:
        (count,) = struct.unpack_from(f"{order}I", self._wkb, self._at)
        self._at += 4
        # Each thing takes some bytes: a count beyond what is left is a lie.
        if count > len(self._wkb) - self._at:
            raise ValueError(f"{count} parts announced, {len(self._wkb) - self._at} bytes left")
        return int(count)

    def _points(self, order: str, width: int, count: int | None = None) -> F64:
        count = self._count(order) if count is None else count
        found = np.frombuffer(self._wkb, f"{order}f8", count * width, self._at).reshape(count, width)
        self._at += 8 * count * width
        return np.ascontiguousarray(found[:, :2], np.float64)


def _polygon(rings: list[F64]) -> Any:
    return shapely.Polygon(rings[0], rings[1:]) if rings else shapely.Polygon()


def _joined(code: int, parts: list[Any]) -> Any:
    if code == COMPOUND:
        runs = [shapely.get_coordinates(part) for part in parts if not part.is_empty]
        # Each goes on where the one before has ended.
        return shapely.LineString(np.concatenate([run if i == 0 else run[1:] for i, run in enumerate(runs)]) if runs else None)
    if code == CURVED:
        return _polygon([shapely.get_coordinates(part) for part in parts])
    if code in FACES:
        return shapely.union_all([part for part in parts if part.is_valid and part.area > 0])
    kinds: dict[int, Any] = {4: shapely.MultiPoint, 5: shapely.MultiLineString, CURVES: shapely.MultiLineString}
    if code in (6, SURFACES):
        return shapely.MultiPolygon(parts)
    return kinds.get(code, shapely.GeometryCollection)(parts)


def _straight(points: F64) -> F64:
    """Arcs of three points each, every one from the last point of that before, as chords."""
    if len(points) < 3:
        return points
    runs = [_chords(*points[i : i + 3])[1:] for i in range(0, len(points) - 2, 2)]
    return np.concatenate([points[:1], *runs])


def _chords(start: F64, middle: F64, end: F64) -> F64:
    """(N, 2) points from the start of an arc to its end; the same ones from the other end, where a neighbour begins."""
    if tuple(end) < tuple(start):
        return _chords(end, middle, start)[::-1]
    if (start == end).all():
        # A whole circle, of which the second point lies opposite.
        center, turn = (start + middle) / 2, 2 * math.pi
    else:
        (ax, ay), (bx, by) = middle - start, end - start
        cross = ax * by - ay * bx
        if abs(cross) <= 1e-12 * (math.hypot(ax, ay) * math.hypot(bx, by)):
            return np.array([start, middle, end])
        a2, b2 = ax * ax + ay * ay, bx * bx + by * by
        center = start + np.array([by * a2 - ay * b2, ax * b2 - bx * a2]) / (2 * cross)
        turn = _angle(end - center) - _angle(start - center)
        turn = turn % (2 * math.pi) if cross > 0 else turn % (2 * math.pi) - 2 * math.pi
    steps = max(2, math.ceil(abs(turn) / math.radians(CHORD_DEGREES)))
    angle = _angle(start - center) + turn * np.arange(steps + 1) / steps
    found = center + math.hypot(*(start - center)) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    found[0], found[-1] = start, end
    return found


def _angle(vector: F64) -> float:
    return math.atan2(vector[1], vector[0])
