"""Joining polygons over the seams of blocks.

Regions are united where pixels of one class meet at a seam (union-find). The rings of their parts are then cut where
they run along a seam between two pixels of one region, and the arcs that remain are linked across it: an arc that ends
where such an edge begins goes on with the arc that the neighbouring block begins at its other side. Where a region that
comes back to itself touches itself at a point, the two passes through the point exchange their ends, so that rings
touch there and don't cross. The result is that of tracing the whole raster at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.polygons import _rings
from geoseg.polygons._regions import components
from geoseg.polygons.blocks import BlockGrid, Measures, OpenParts
from geoseg.polygons.rings import Floats, Longs, Polygons, assemble, offsets_of, ranges

__all__ = ["Joined", "OpenIndex", "Seams", "join_parts", "unite"]

BATCH_VERTICES = 4_000_000
"""Polygons are joined in batches of about so many vertices; one polygon is never split over two."""

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class OpenIndex:
    """What is kept in memory of the open parts of one block, while their vertices stay where they are."""

    measures: Measures
    histograms: NDArray[np.uint32]
    """(N, 101)."""
    vertices: Longs
    """(N,) vertices of each part."""
    sides: Mapping[str, NDArray[np.int32]]
    """As ``OpenParts.sides``."""

    @classmethod
    def of(cls, parts: OpenParts) -> OpenIndex:
        """The index of some parts."""
        vertices = np.bincount(parts.owner, np.diff(parts.rings), len(parts)).astype(np.int64)
        return cls(parts.measures, parts.histograms, vertices, parts.sides)


@dataclass(frozen=True, slots=True, eq=False)
class Seams:
    """Which open parts of the blocks belong together; parts are numbered block by block."""

    starts: dict[int, int]
    """By block, the number of its first part."""
    component: Longs
    """(N,) by part, the polygon that it belongs to."""
    count: int
    """Number of polygons."""


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """Polygons that were joined, with what was measured on them."""

    polygons: Polygons
    measures: Measures
    part: NDArray[np.int32]
    """(P,) 0, or the number from 1 of a piece of a polygon that was cut."""


def unite(grid: BlockGrid, index: Mapping[int, OpenIndex]) -> Seams:
    """Unite the open parts of all blocks that meet at seams."""
    starts: dict[int, int] = {}
    total = 0
    for block in sorted(index):
        starts[block] = total
        total += len(index[block].measures)
    first, second = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for block, own in index.items():
        for side, other_side, neighbour in (("right", "left", block + 1), ("bottom", "top", block + grid.shape[1])):
            other = index.get(neighbour)
            if side not in own.sides or other is None:
                continue
            a, b = own.sides[side], other.sides[other_side]
            meet = (a >= 0) & (b >= 0)
            a, b = a[meet], b[meet]
            same = own.measures.value[a] == other.measures.value[b]
            # Along a seam most pixels repeat the pair of the pixel before them.
            same[1:] &= (a[1:] != a[:-1]) | (b[1:] != b[:-1])
            first.append(a[same] + np.int64(starts[block]))
            second.append(b[same] + np.int64(starts[neighbour]))
    component, count = components(total, np.concatenate(first), np.concatenate(second))
    return Seams(starts, component, count)


def join_parts(
    grid: BlockGrid,
    index: Mapping[int, OpenIndex],
    load: Callable[[int], OpenParts],
    *,
    max_vertices: int | None = None,
) -> Iterator[Joined]:
    """Join the open parts of all blocks, in batches, ordered by their ids.

    Args:
        grid: The blocks.
        index: By block, what is known of its open parts.
        load: Gives the open parts of a block.
        max_vertices: Polygons with more vertices are left cut along the blocks, as several parts of one id.
    """
    if not index:
        return
    seams = unite(grid, index)
    if not seams.count:
        return
    blocks = sorted(index)
    parts = _concatenate([index[b].measures for b in blocks])
    histograms = np.concatenate([index[b].histograms for b in blocks])
    vertices = np.bincount(seams.component, np.concatenate([index[b].vertices for b in blocks]), seams.count).astype(np.int64)
    measures = _merge(parts, histograms, seams)
    order = np.argsort(measures.anchor)
    batch_of = np.zeros(seams.count, np.int64)
    batch_of[order] = np.cumsum(vertices[order]) // BATCH_VERTICES
    batch_of_part = batch_of[seams.component]
    is_giant = vertices > max_vertices if max_vertices is not None else np.zeros(seams.count, np.bool_)
    block_of_part = np.repeat(np.array(blocks), [len(index[b].measures) for b in blocks])
    for batch in np.unique(batch_of):
        gathered = _gather(seams, load, np.unique(block_of_part[batch_of_part == batch]), batch_of_part == batch)
        joined = _join_batch(grid, gathered, measures, parts, is_giant[seams.component], seams)
        if len(joined.polygons):
            yield joined


def _concatenate(measures: list[Measures]) -> Measures:
    return Measures(*(np.concatenate([getattr(m, name) for m in measures]) for name in Measures.__slots__))


def _merge(parts: Measures, histograms: NDArray[np.uint32], seams: Seams) -> Measures:
    """What is measured on whole polygons, from what was measured on their parts."""
    component, count = seams.component, seams.count

    def total(values: NDArray[np.integer]) -> Longs:
        # Sums of integers this size are exact in float64 as long as they stay below 2**53.
        return np.bincount(component, values, count).astype(np.int64)

    value = np.zeros(count, np.uint8)
    value[component] = parts.value
    anchor = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(anchor, component, parts.anchor)
    order = np.argsort(component, kind="stable")
    begins = np.searchsorted(component[order], np.arange(count))
    merged = np.add.reduceat(histograms[order].astype(np.int64), begins, axis=0)
    pixels = total(parts.pixels)
    wanted = (merged.sum(axis=1) + 9) // 10
    p10 = (np.cumsum(merged, axis=1) >= wanted[:, None]).argmax(axis=1).astype(np.uint8)
    # Parts are added in one order, so that the sum of areas has the same bits in every run.
    area = np.bincount(component, parts.area_m2, count).astype(np.float64)
    return Measures(value, anchor, pixels, area, total(parts.confidence_sum), p10)


@dataclass(frozen=True, slots=True, eq=False)
class _Rings:
    """Rings of some parts."""

    rc: Floats
    marks: Bytes
    rings: Longs
    part: Longs
    """(R,) the part that each ring belongs to."""


def _gather(seams: Seams, load: Callable[[int], OpenParts], blocks: NDArray[np.integer], chosen: NDArray[np.bool_]) -> _Rings:
    """The rings of the chosen parts, block by block."""
    rc, marks, lengths, part = [np.empty((0, 2))], [np.empty(0, np.uint8)], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for block in blocks.tolist():
        parts = load(block)
        number = parts.owner + np.int64(seams.starts[block])
        keep = chosen[number]
        counts = np.diff(parts.rings)
        by_vertex = np.repeat(keep, counts)
        rc.append(parts.rc[by_vertex])
        marks.append(parts.marks[by_vertex])
        lengths.append(counts[keep])
        part.append(number[keep])
    return _Rings(np.concatenate(rc), np.concatenate(marks), offsets_of(np.concatenate(lengths)), np.concatenate(part))


def _join_batch(
    grid: BlockGrid, gathered: _Rings, measures: Measures, parts: Measures, giant_part: NDArray[np.bool_], seams: Seams
) -> Joined:
    cut = giant_part[gathered.part]
    whole = _select(gathered, ~cut)
    rc, rings, owner = _link(whole, seams.component[whole.part], grid.width)
    polygons, owners = assemble(rc, rings, owner, _rings.ring_areas(rc, rings))
    result = Joined(polygons, measures.take(owners), np.zeros(len(owners), np.int32))
    if cut.any():
        result = _with_pieces(result, _select(gathered, cut), measures, parts, seams)
    # The order is that of the ids, whatever the order of the blocks.
    order = np.lexsort((result.part, result.measures.anchor))
    return Joined(result.polygons.take(order), result.measures.take(order), result.part[order])


def _select(rings: _Rings, keep: NDArray[np.bool_]) -> _Rings:
    if keep.all():
        return rings
    counts = np.diff(rings.rings)
    by_vertex = np.repeat(keep, counts)
    return _Rings(rings.rc[by_vertex], rings.marks[by_vertex], offsets_of(counts[keep]), rings.part[keep])


def _with_pieces(whole: Joined, cut: _Rings, measures: Measures, parts: Measures, seams: Seams) -> Joined:
    """Add the parts of giant polygons as polygons of their own, with the id of the whole."""
    pieces, owners = assemble(cut.rc, cut.rings, cut.part, _rings.ring_areas(cut.rc, cut.rings))
    own = parts.take(owners)
    anchor = measures.anchor[seams.component[owners]]
    order = np.lexsort((own.anchor, anchor))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order)) - np.searchsorted(anchor[order], anchor[order])
    own = Measures(own.value, anchor, own.pixels, own.area_m2, own.confidence_sum, own.confidence_p10)
    return Joined(
        Polygons.concatenate([whole.polygons, pieces]),
        _concatenate([whole.measures, own]),
        np.concatenate([whole.part, (rank + 1).astype(np.int32)]),
    )


def _link(rings: _Rings, component: Longs, width: int) -> tuple[Floats, Longs, Longs]:
    """Cut rings into arcs at seams and link the arcs to rings of whole polygons.

    Returns vertices (V, 2), ring offsets (R + 1,) and the component of each ring (R,).
    """
    rc, marks, begins, lengths = rings.rc, rings.marks, rings.rings[:-1], np.diff(rings.rings)
    count = len(rc)
    ring_of = np.repeat(np.arange(len(lengths)), lengths)
    following = np.arange(1, count + 1, dtype=np.int64)
    following[rings.rings[1:] - 1] = begins
    previous = np.arange(-1, count - 1, dtype=np.int64)
    previous[begins] = rings.rings[1:] - 1
    vertex = np.rint(rc[:, 0]).astype(np.int64) * (width + 1) + np.rint(rc[:, 1]).astype(np.int64)

    portal_out = (marks & _rings.PORTAL) != 0
    portal_in = portal_out[previous]
    heading_in = (marks >> _rings.HEADING_SHIFT).astype(np.int64) & 3
    pinched = _true_pinches(marks, vertex, heading_in, component[ring_of])
    is_start = portal_in | pinched
    starts = np.flatnonzero(is_start)
    ring_is_cut = np.zeros(len(lengths), np.bool_)
    ring_is_cut[ring_of[starts]] = True
    if not len(starts):
        linked = (np.arange(count), lengths, component)
    else:
        # Arcs run from one start to the next one of the ring; a pinch ends one arc and starts the next.
        ring = ring_of[starts]
        next_start = np.roll(starts, -1)
        last_of_ring = np.append(ring[1:] != ring[:-1], True)
        first_in_ring = starts[np.append(0, np.flatnonzero(last_of_ring)[:-1] + 1)]
        next_start[last_of_ring] = first_in_ring
        arc_length = next_start - starts + np.where(last_of_ring, lengths[ring], 0) + pinched[next_start]
        end = np.where(pinched[next_start], next_start, previous[next_start])

        def key(at: Longs, direction: Longs, is_pinch: NDArray[np.bool_]) -> Longs:
            return (vertex[at] * 4 + (direction & 3)) * 2 + is_pinch

        start_key = key(
            starts, np.where(pinched[starts], heading_in[starts], _heading(rc[previous[starts]], rc[starts])) + 2, pinched[starts]
        )
        end_key = key(
            end, np.where(pinched[next_start], heading_in[end], _heading(rc[end], rc[following[end]])), pinched[next_start]
        )
        order = np.argsort(start_key)
        successor = order[np.minimum(np.searchsorted(start_key[order], end_key), len(order) - 1)]
        if not np.array_equal(start_key[successor], end_key):
            raise AssertionError("an arc ends at a seam where none goes on")
        chained, chain_offsets = _rings.chain(successor.astype(np.int64))
        # The last vertex of an arc is the first one of the next.
        kept = arc_length[chained] - 1
        arc_start = starts[chained]
        position = ranges(arc_start, kept)
        ring_begin = np.repeat(begins[ring_of[arc_start]], kept)
        ring_length = np.repeat(lengths[ring_of[arc_start]], kept)
        position = ring_begin + (position - ring_begin) % ring_length
        new_lengths = np.add.reduceat(np.append(kept, 0), chain_offsets[:-1])
        untouched = np.flatnonzero(~ring_is_cut)
        linked = (
            np.concatenate([position, ranges(begins[untouched], lengths[untouched])]),
            np.concatenate([new_lengths, lengths[untouched]]),
            np.concatenate([component[ring_of[starts[chained[chain_offsets[:-1]]]]], component[untouched]]),
        )
    position, new_lengths, new_component = linked
    # Where a border crossed a seam straight on, both sides had to turn; the joined ring need not.
    passing = (portal_out | portal_in) & ((marks & _rings.NODE) == 0)
    return _tidy(rc[position], passing[position], new_lengths, new_component)


def _true_pinches(marks: Bytes, vertex: Longs, heading: Longs, component: Longs) -> NDArray[np.bool_]:
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


def _heading(start: Floats, stop: Floats) -> Longs:
    """Headings of steps along the axes: 0 west, 1 south, 2 east, 3 north."""
    down, right = np.sign(stop - start).astype(np.int64).T
    return np.asarray(np.where(down != 0, 2 - down, 1 + right), np.int64)


def _tidy(rc: Floats, passing: NDArray[np.bool_], lengths: Longs, component: Longs) -> tuple[Floats, Longs, Longs]:
    """Drop passing vertices where the ring goes straight on, and rings without area; start each ring at its first vertex."""
    keep_ring = lengths > 0
    lengths, component = lengths[keep_ring], component[keep_ring]
    if not len(lengths):
        return np.empty((0, 2)), np.zeros(1, np.int64), np.empty(0, np.int64)
    rc, lengths = _without_passing(rc, passing, lengths)
    whole = lengths >= 3
    rc, lengths, component = rc[np.repeat(whole, lengths)], lengths[whole], component[whole]
    return _from_first_vertex(rc, lengths), offsets_of(lengths), component


def _without_passing(rc: Floats, passing: NDArray[np.bool_], lengths: Longs) -> tuple[Floats, Longs]:
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


def _from_first_vertex(rc: Floats, lengths: Longs) -> Floats:
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
