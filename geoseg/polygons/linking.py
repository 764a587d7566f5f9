"""Rings that are cut at the seams of blocks, linked across them.

Rings are cut where they run along a seam between two pixels of one region, and the arcs that remain are linked across it:
an arc that ends where such an edge begins goes on with the arc that the neighbouring block begins at its other side. Where a
region that comes back to itself touches itself at a point, the two passes through the point exchange their ends, so that
rings touch there and don't cross.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geoseg.arrays import F64, I64, U8, Bools
from geoseg.polygons import _rings
from geoseg.polygons.rings import offsets_of, ranges

__all__ = ["CutRings", "link"]


@dataclass(frozen=True, slots=True, eq=False)
class CutRings:
    """Rings of some parts, as their blocks have cut them off."""

    rc: F64
    marks: U8
    rings: I64
    part: I64
    """(R,) the part that each ring belongs to."""


def link(rings: CutRings, component: I64, width: int) -> tuple[F64, I64, I64]:
    """Cut rings into arcs at seams and link the arcs to rings of whole polygons.

    Args:
        rings: The rings.
        component: (R,) the polygon that each belongs to.
        width: Columns of the raster.

    Returns:
        Vertices (V, 2), ring offsets (R + 1,) and the component of each ring (R,).
    """
    steps = _Steps.of(rings, component, width)
    if steps.is_start.any():
        position, lengths, component = _linked(rings, component, steps)
    else:
        position, lengths = np.arange(len(rings.rc)), np.diff(rings.rings)
    # Where a border crossed a seam straight on, both sides had to turn; the joined ring need not.
    passing = (steps.portal_out | steps.portal_in) & ((rings.marks & _rings.NODE) == 0)
    return _tidy(rings.rc[position], passing[position], lengths, component)


@dataclass(frozen=True, slots=True, eq=False)
class _Steps:
    """What is known of each vertex (V,) of some rings and of the steps to it and from it."""

    ring_of: I64
    previous: I64
    following: I64
    vertex: I64
    """Number of the point of the raster's lattice."""
    heading_in: I64
    portal_out: Bools
    """The edge from here lies on a seam between two pixels of one region."""
    portal_in: Bools
    pinched: Bools

    @property
    def is_start(self) -> Bools:
        """Where an arc begins."""
        return self.portal_in | self.pinched

    @classmethod
    def of(cls, rings: CutRings, component: I64, width: int) -> _Steps:
        """The steps of rings of the components (R,)."""
        rc, marks, begins, lengths = rings.rc, rings.marks, rings.rings[:-1], np.diff(rings.rings)
        count = len(rc)
        ring_of = np.repeat(np.arange(len(lengths)), lengths)
        following = np.arange(1, count + 1, dtype=np.int64)
        following[rings.rings[1:] - 1] = begins
        previous = np.arange(-1, count - 1, dtype=np.int64)
        previous[begins] = rings.rings[1:] - 1
        vertex = np.rint(rc[:, 0]).astype(np.int64) * (width + 1) + np.rint(rc[:, 1]).astype(np.int64)
        portal_out = (marks & _rings.PORTAL) != 0
        heading_in = (marks >> _rings.HEADING_SHIFT).astype(np.int64) & 3
        pinched = _true_pinches(marks, vertex, heading_in, component[ring_of])
        return cls(ring_of, previous, following, vertex, heading_in, portal_out, portal_out[previous], pinched)


def _linked(rings: CutRings, component: I64, steps: _Steps) -> tuple[I64, I64, I64]:
    """The vertices of linked rings by number, the rings' lengths and components; those that no seam cuts come last."""
    begins, lengths = rings.rings[:-1], np.diff(rings.rings)
    ring_of = steps.ring_of
    starts = np.flatnonzero(steps.is_start)
    arc_length, successor = _arcs(rings, steps, starts)
    chained, chain_offsets = _rings.chain(successor.astype(np.int64))
    # The last vertex of an arc is the first one of the next.
    kept = arc_length[chained] - 1
    arc_start = starts[chained]
    position = ranges(arc_start, kept)
    ring_begin = np.repeat(begins[ring_of[arc_start]], kept)
    ring_length = np.repeat(lengths[ring_of[arc_start]], kept)
    position = ring_begin + (position - ring_begin) % ring_length
    new_lengths = np.add.reduceat(np.append(kept, 0), chain_offsets[:-1])
    ring_is_cut = np.zeros(len(lengths), np.bool_)
    ring_is_cut[ring_of[starts]] = True
    untouched = np.flatnonzero(~ring_is_cut)
    return (
        np.concatenate([position, ranges(begins[untouched], lengths[untouched])]),
        np.concatenate([new_lengths, lengths[untouched]]),
        np.concatenate([component[ring_of[starts[chained[chain_offsets[:-1]]]]], component[untouched]]),
    )


def _arcs(rings: CutRings, steps: _Steps, starts: I64) -> tuple[I64, I64]:
    """For each arc (A,) that begins at ``starts``, how many vertices it has, and the arc that it goes on with."""
    rc, lengths, pinched, heading_in = rings.rc, np.diff(rings.rings), steps.pinched, steps.heading_in
    # Arcs run from one start to the next one of the ring; a pinch ends one arc and starts the next.
    ring = steps.ring_of[starts]
    next_start = np.roll(starts, -1)
    last_of_ring = np.append(ring[1:] != ring[:-1], True)
    first_in_ring = starts[np.append(0, np.flatnonzero(last_of_ring)[:-1] + 1)]
    next_start[last_of_ring] = first_in_ring
    arc_length = next_start - starts + np.where(last_of_ring, lengths[ring], 0) + pinched[next_start]
    end = np.where(pinched[next_start], next_start, steps.previous[next_start])

    def key(at: I64, direction: I64, is_pinch: Bools) -> I64:
        return (steps.vertex[at] * 4 + (direction & 3)) * 2 + is_pinch

    coming = np.where(pinched[starts], heading_in[starts], _heading(rc[steps.previous[starts]], rc[starts]))
    start_key = key(starts, coming + 2, pinched[starts])
    going = np.where(pinched[next_start], heading_in[end], _heading(rc[end], rc[steps.following[end]]))
    end_key = key(end, going, pinched[next_start])
    order = np.argsort(start_key)
    successor = order[np.minimum(np.searchsorted(start_key[order], end_key), len(order) - 1)]
    if not np.array_equal(start_key[successor], end_key):
        raise AssertionError("an arc ends at a seam where none goes on")
    return arc_length, successor


def _true_pinches(marks: U8, vertex: I64, heading: I64, component: I64) -> Bools:
    """Which marked points are really passed twice by rings of one polygon."""
    result = np.zeros(len(marks), np.bool_)
    at = np.flatnonzero(marks & _rings.PINCH)
    if not len(at):
        return result
    key = vertex[at] * 4 + heading[at]
    partner = vertex[at] * 4 + ((heading[at] + 2) & 3)
    order = np.argsort(key)
    found = order[np.minimum(np.searchsorted(key[order], partner), len(order) - 1)]
    result[at] = (key[found] == partner) & (component[at][found] == component[at])
    return result


def _heading(start: F64, stop: F64) -> I64:
    """Headings of steps along the axes: 0 west, 1 south, 2 east, 3 north."""
    down, right = np.sign(stop - start).astype(np.int64).T
    return np.asarray(np.where(down != 0, 2 - down, 1 + right), np.int64)


def _tidy(rc: F64, passing: Bools, lengths: I64, component: I64) -> tuple[F64, I64, I64]:
    """Drop passing vertices where the ring goes straight on, and rings without area; start each ring at its first vertex."""
    keep_ring = lengths > 0
    lengths, component = lengths[keep_ring], component[keep_ring]
    if not len(lengths):
        return np.empty((0, 2)), np.zeros(1, np.int64), np.empty(0, np.int64)
    rc, lengths = _without_passing(rc, passing, lengths)
    whole = lengths >= 3
    rc, lengths, component = rc[np.repeat(whole, lengths)], lengths[whole], component[whole]
    return _from_first_vertex(rc, lengths), offsets_of(lengths), component


def _without_passing(rc: F64, passing: Bools, lengths: I64) -> tuple[F64, I64]:
    """Drop passing vertices where the ring goes straight on."""
    offsets = offsets_of(lengths)
    at = np.flatnonzero(passing)
    ring = np.searchsorted(offsets, at, side="right") - 1
    begin, end = offsets[ring], offsets[ring + 1]
    before, after = rc[np.where(at == begin, end, at) - 1], rc[np.where(at + 1 == end, begin, at + 1)]
    a, b = rc[at] - before, after - rc[at]
    straight = a[:, 0] * b[:, 1] == a[:, 1] * b[:, 0]
    keep = np.ones(len(rc), np.bool_)
    keep[at[straight]] = False
    return rc[keep], lengths - np.bincount(ring[straight], minlength=len(lengths))


def _from_first_vertex(rc: F64, lengths: I64) -> F64:
    """Start each ring at its uppermost vertex, of these the leftmost."""
    if not len(lengths):
        return rc
    offsets = offsets_of(lengths)
    begin, end = offsets[:-1], offsets[1:]
    row = np.ascontiguousarray(rc[:, 0])
    uppermost = row == np.repeat(np.minimum.reduceat(row, begin), lengths)
    col = np.where(uppermost, rc[:, 1], np.inf)
    hit = np.flatnonzero(col == np.repeat(np.minimum.reduceat(col, begin), lengths))
    _, index = np.unique(np.searchsorted(offsets, hit, side="right"), return_index=True)
    first = hit[index]
    # Each ring is its vertices from the first one to the end, and then those before it.
    starts, counts = np.stack([first, begin], axis=1).ravel(), np.stack([end - first, first - begin], axis=1).ravel()
    return rc[ranges(starts, counts)]
