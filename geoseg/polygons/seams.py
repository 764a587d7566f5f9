"""Joining polygons over the seams of blocks.

Regions are united where pixels of one class meet at a seam (union-find). The rings of their parts are then linked across the
seams (``linking``). The result is that of tracing the whole raster at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from geoseg.arrays import I32, I64, U8, U32, Bools
from geoseg.polygons import _rings
from geoseg.polygons._regions import components
from geoseg.polygons.block_grid import BlockGrid
from geoseg.polygons.blocks import OpenParts
from geoseg.polygons.labelling import Measures
from geoseg.polygons.linking import CutRings, link
from geoseg.polygons.rings import Polygons, assemble, offsets_of

__all__ = ["Joined", "OpenIndex", "Seams", "join_parts", "unite"]

UniteOrigins = Callable[[I64, I64, int], I64]
"""Of the origins and the components (N,) of parts, and the number of components, the origin of each; ``Origins.united``."""
BATCH_VERTICES, LINKED_VERTICES = 4_000_000, 1_000_000
"""Joined polygons come in batches of about so many vertices, and rings are linked for about so many at once, a whole share of the
first; one polygon is never split over two. Linking takes 85 bytes a vertex, a polygon 20."""
MERGED_AT_ONCE = 4096
"""Polygons whose histograms are added up at once; a row of one takes 800 bytes then."""


@dataclass(frozen=True, slots=True, eq=False)
class OpenIndex:
    """Facts in memory on the open parts of one block, while their vertices stay where they are."""

    measures: Measures
    histograms: U32
    """(N, 101)."""
    vertices: I64
    """(N,) vertices of each part."""
    sides: Mapping[str, I32]
    """As ``OpenParts.sides``."""

    @classmethod
    def of(cls, parts: OpenParts) -> OpenIndex:
        """The index of some parts."""
        vertices = np.bincount(parts.owner, np.diff(parts.rings), len(parts)).astype(np.int64)
        return cls(parts.measures, parts.histograms, vertices, parts.sides)


@dataclass(frozen=True, slots=True, eq=False)
class Seams:
    """Components of open parts of the blocks that belong together; parts are numbered block by block."""

    starts: dict[int, int]
    """By block, the number of its first part."""
    component: I64
    """(N,) by part, the polygon that it belongs to."""
    count: int
    """Number of polygons."""


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """Polygons that were joined, with what was measured on them."""

    polygons: Polygons
    measures: Measures
    part: I32
    """(P,) 0, or the number from 1 of a piece of a polygon that was cut."""

    @classmethod
    def concatenate(cls, several: list[Joined]) -> Joined:
        """All polygons of several, one after the other; these are taken out of the list."""
        if len(several) == 1:
            return several.pop()
        measures, part = _concatenate([one.measures for one in several]), np.concatenate([one.part for one in several])
        polygons = [one.polygons for one in several]
        several.clear()
        return cls(Polygons.concatenate(polygons), measures, part)


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
    unite_origins: UniteOrigins | None = None,
) -> Iterator[Joined]:
    """Join the open parts of all blocks, in batches, ordered by their ids.

    Args:
        grid: The blocks.
        index: By block, what is known of its open parts.
        load: Gives the open parts of a block.
        max_vertices: Polygons with more vertices are left cut along the blocks, as several parts of one id.
        unite_origins: Gives the origins of polygons from those of their parts, where these have any.
    """
    if not index:
        return
    seams = unite(grid, index)
    if not seams.count:
        return
    blocks = sorted(index)
    parts = _concatenate([index[b].measures for b in blocks])
    vertices = np.bincount(seams.component, np.concatenate([index[b].vertices for b in blocks]), seams.count).astype(np.int64)
    measures = _merge(parts, [index[b].histograms for b in blocks], seams)
    if unite_origins is not None:
        measures = replace(measures, origin=unite_origins(parts.origin, seams.component, seams.count))
    order = np.argsort(measures.anchor)
    linked_with = np.zeros(seams.count, np.int64)
    linked_with[order] = np.cumsum(vertices[order]) // LINKED_VERTICES
    linked_part = linked_with[seams.component]
    is_giant = vertices > max_vertices if max_vertices is not None else np.zeros(seams.count, np.bool_)
    block_of_part = np.repeat(np.array(blocks), [len(index[b].measures) for b in blocks])
    del index
    groups = np.unique(linked_with)
    for batch in np.unique(groups * LINKED_VERTICES // BATCH_VERTICES):
        found: list[Joined] = []
        for group in groups[groups * LINKED_VERTICES // BATCH_VERTICES == batch].tolist():
            chosen = linked_part == group
            gathered = _gather(seams, load, np.unique(block_of_part[chosen]), chosen)
            found.append(_join_batch(grid, gathered, measures, parts, is_giant[seams.component], seams))
            del gathered
        # Groups follow each other in the order of ids.
        joined = Joined.concatenate(found)
        if len(joined.polygons):
            yield joined


def _concatenate(measures: list[Measures]) -> Measures:
    return Measures(*(np.concatenate([getattr(m, name) for m in measures]) for name in Measures.__slots__))


def _merge(parts: Measures, by_block: Sequence[U32], seams: Seams) -> Measures:
    """What is measured on whole polygons, from what was measured on their parts; histograms (N, 101) are given block by block."""
    component, count = seams.component, seams.count

    def total(values: NDArray[np.integer]) -> I64:
        # Sums of integers this size are exact in float64 as long as they stay below 2**53.
        return np.bincount(component, values, count).astype(np.int64)

    value = np.zeros(count, np.uint8)
    value[component] = parts.value
    anchor = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(anchor, component, parts.anchor)
    pixels = total(parts.pixels)
    p10 = _percentiles(np.concatenate(by_block), component, count)
    # Parts are added in one order, so that the sum of areas has the same bits in every run.
    area = np.bincount(component, parts.area_m2, count).astype(np.float64)
    return Measures(value, anchor, pixels, area, total(parts.confidence_sum), p10, np.zeros(count, np.int64))


def _percentiles(histograms: U32, component: I64, count: int) -> U8:
    """The percent (count,) at which a tenth of the pixels of each polygon is reached, from histograms (N, 101) of its parts."""
    order = np.argsort(component, kind="stable")
    bounds = np.searchsorted(component[order], np.arange(count + 1))
    p10 = np.zeros(count, np.uint8)
    for first in range(0, count, MERGED_AT_ONCE):
        own = bounds[first : first + MERGED_AT_ONCE + 1]
        chosen = order[own[0] : own[-1]]
        merged = np.add.reduceat(histograms[chosen].astype(np.int64), own[:-1] - own[0], axis=0)
        wanted = (merged.sum(axis=1) + 9) // 10
        p10[first : first + len(merged)] = (np.cumsum(merged, axis=1) >= wanted[:, None]).argmax(axis=1)
    return p10


def _gather(seams: Seams, load: Callable[[int], OpenParts], blocks: NDArray[np.integer], chosen: Bools) -> CutRings:
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
    return CutRings(np.concatenate(rc), np.concatenate(marks), offsets_of(np.concatenate(lengths)), np.concatenate(part))


def _join_batch(
    grid: BlockGrid, gathered: CutRings, measures: Measures, parts: Measures, giant_part: Bools, seams: Seams
) -> Joined:
    cut = giant_part[gathered.part]
    whole = _select(gathered, ~cut)
    rc, rings, owner = link(whole, seams.component[whole.part], grid.width)
    polygons, owners = assemble(rc, rings, owner, _rings.ring_areas(rc, rings))
    result = Joined(polygons, measures.take(owners), np.zeros(len(owners), np.int32))
    if cut.any():
        result = _with_pieces(result, _select(gathered, cut), measures, parts, seams)
    # The order is that of the ids, whatever the order of the blocks.
    order = np.lexsort((result.part, result.measures.anchor))
    return Joined(result.polygons.take(order), result.measures.take(order), result.part[order])


def _select(rings: CutRings, keep: Bools) -> CutRings:
    if keep.all():
        return rings
    counts = np.diff(rings.rings)
    by_vertex = np.repeat(keep, counts)
    return CutRings(rings.rc[by_vertex], rings.marks[by_vertex], offsets_of(counts[keep]), rings.part[keep])


def _with_pieces(whole: Joined, cut: CutRings, measures: Measures, parts: Measures, seams: Seams) -> Joined:
    """Add the parts of giant polygons as polygons of their own, with the id of the whole."""
    pieces, owners = assemble(cut.rc, cut.rings, cut.part, _rings.ring_areas(cut.rc, cut.rings))
    own = parts.take(owners)
    anchor = measures.anchor[seams.component[owners]]
    order = np.lexsort((own.anchor, anchor))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order)) - np.searchsorted(anchor[order], anchor[order])
    own = replace(own, anchor=anchor)
    return Joined(
        Polygons.concatenate([whole.polygons, pieces]),
        _concatenate([whole.measures, own]),
        np.concatenate([whole.part, (rank + 1).astype(np.int32)]),
    )
