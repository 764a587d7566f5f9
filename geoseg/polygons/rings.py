"""Rings and polygons as flat arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.arrays import F64, I64, U8
from geoseg.georeference import Georeference
from geoseg.polygons import _rings

__all__ = ["Polygons", "assemble", "offsets_of"]


def offsets_of(lengths: NDArray[np.integer]) -> I64:
    """(N + 1,) int64 offsets of consecutive runs of these lengths."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def ranges(starts: I64, lengths: I64) -> I64:
    """The concatenation of ``arange(start, start + length)``."""
    total = int(lengths.sum())
    if not total:
        return np.empty(0, np.int64)
    begins = offsets_of(lengths)[:-1]
    return np.arange(total, dtype=np.int64) + np.repeat(starts - begins, lengths)


@dataclass(frozen=True, slots=True, eq=False)
class Polygons:
    """Polygons in pixel coordinates: an outer ring, then its holes; no first vertex is repeated.

    Rings have their polygon on the left, rows counted downward.
    """

    rc: F64
    """(V, 2) vertices as (row, col)."""
    rings: I64
    """(R + 1,) offsets into the vertices."""
    polygons: I64
    """(P + 1,) offsets into the rings."""

    def __len__(self) -> int:
        """Number of entries."""
        return len(self.polygons) - 1

    @classmethod
    def empty(cls) -> Polygons:
        """No polygons."""
        return cls(np.empty((0, 2)), np.zeros(1, np.int64), np.zeros(1, np.int64))

    @classmethod
    def concatenate(cls, parts: list[Polygons]) -> Polygons:
        """All polygons of some sets, in order."""
        if not parts:
            return cls.empty()
        rings = np.concatenate([np.diff(p.rings) for p in parts])
        polygons = np.concatenate([np.diff(p.polygons) for p in parts])
        return cls(np.concatenate([p.rc for p in parts]), offsets_of(rings), offsets_of(polygons))

    @property
    def vertices(self) -> I64:
        """(P,) number of vertices of each polygon."""
        return np.diff(self.rings[self.polygons])

    @property
    def areas(self) -> F64:
        """(P,) area of each polygon in pixels, holes taken off."""
        signed = _rings.ring_areas(self.rc, self.rings)
        return np.asarray(np.add.reduceat(np.append(signed, 0.0), self.polygons[:-1])) if len(self) else np.empty(0)

    def perimeters(self, georeference: Georeference) -> F64 | None:
        """(P,) length of all rings of each polygon in metres; None without a CRS."""
        from geoseg.windows import Window

        if not len(self):
            return np.empty(0)
        rows, cols = self.rc.T
        window = Window.between(
            math.floor(rows.min()), math.ceil(rows.max()) + 1, math.floor(cols.min()), math.ceil(cols.max()) + 1
        )
        metric = georeference.metric(window)
        if metric is None:
            return None
        lengths = _rings.ring_lengths(
            self.rc, self.rings, metric.jacobian, float(window.row_off), float(window.col_off), metric.spacing
        )
        return np.asarray(np.add.reduceat(np.append(lengths, 0.0), self.polygons[:-1]))

    def wkb(self, georeference: Georeference) -> tuple[U8, I64]:
        """Well-known binary in the CRS: bytes, and (P + 1,) offsets into them. Outer rings are counter-clockwise."""
        xy = georeference.xy(self.rc[:, 0], self.rc[:, 1])
        data, offsets = _rings.wkb_polygons(xy, self.rings, self.polygons, georeference.mirrored)
        return data, offsets

    def take(self, which: I64) -> Polygons:
        """Some of the polygons, in the order given."""
        ring_counts = np.diff(self.polygons)[which]
        rings = ranges(self.polygons[:-1][which], ring_counts)
        lengths = np.diff(self.rings)[rings]
        return Polygons(self.rc[ranges(self.rings[:-1][rings], lengths)], offsets_of(lengths), offsets_of(ring_counts))


def assemble(rc: F64, rings: I64, owner: NDArray[np.integer], area: NDArray[np.number]) -> tuple[Polygons, I64]:
    """Group rings to polygons.

    Args:
        rc: (V, 2) vertices.
        rings: (R + 1,) offsets into the vertices.
        owner: (R,) which region each ring belongs to; each region has one outer ring.
        area: (R,) signed area, positive for outer rings.

    Returns:
        The polygons by ascending owner, outer ring first and holes in the order of their first vertices, and their
        owners (P,).
    """
    first = rc[rings[:-1]]
    order = np.lexsort((first[:, 1], first[:, 0], area <= 0, owner))
    owners, counts = np.unique(owner, return_counts=True)
    lengths = np.diff(rings)[order]
    if not np.array_equal(order, np.arange(len(order))):
        rc = rc[ranges(rings[:-1][order], lengths)]
    return Polygons(rc, offsets_of(lengths), offsets_of(counts)), owners.astype(np.int64)
