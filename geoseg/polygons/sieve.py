"""Regions under a minimum area give way to the neighbour with the longest shared border.

The smallest goes first, and what has grown may then be large enough to stay. Regions are those of the whole raster, not
of a block, so seams make no difference. What is not a class (no data, not analysed) neither gives way nor takes over.

Blocks are worked on alone where that is enough: a *cluster* is a set of small regions that touch each other, and its
outcome depends on nothing outside of it and its neighbours. Clusters that reach a seam are settled together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from geoseg.arrays import I64, U8, Bools
from geoseg.codes import MAX_CLASS
from geoseg.georeference import Georeference
from geoseg.polygons import _regions
from geoseg.polygons.block_grid import BlockGrid
from geoseg.polygons.labelling import LabelledBlock
from geoseg.polygons.open_regions import Read, Run, WholeRegions, open_regions
from geoseg.polygons.region_graph import Graph
from geoseg.polygons.seams import OpenIndex

__all__ = ["Sieve", "drop_small", "sieve_raster"]


@dataclass(frozen=True, slots=True, eq=False)
class Sieve:
    """Changes of class, by block."""

    changes: dict[int, tuple[I64, U8]]
    """By block, the labels that change and their new classes."""

    def apply(self, grid: BlockGrid, index: int, classes: U8) -> U8:
        """The class codes of a block after merging; ``classes`` are those of ``grid.framed(index)``."""
        block = LabelledBlock.of(grid, index, classes)
        table = block.values.copy()
        labels, values = self.changes.get(index, (np.empty(0, np.int64), np.empty(0, np.uint8)))
        table[labels] = values
        return np.ascontiguousarray(table[block.labels[1:-1, 1:-1]])


def sieve_raster(
    grid: BlockGrid,
    blocks: Iterable[int],
    read: Read,
    georeference: Georeference,
    minimum: float,
    *,
    run: Run | None = None,
) -> Sieve:
    """Find what changes when regions under a minimum area give way.

    Args:
        grid: The blocks.
        blocks: Those that hold anything but no data.
        read: Gives the class codes of a block with its frame.
        georeference: Where the raster's pixels lie.
        minimum: Least area in square metres; in pixels where the raster has no CRS.
        run: How a function is mapped over blocks.
    """
    chosen = sorted(blocks)
    mapper = run or _one_by_one
    index, whole = open_regions(grid, chosen, read, georeference, mapper)
    results = mapper(lambda i: _settle_block(grid, i, read(i), georeference, minimum, whole.get(i)), chosen)
    changes: dict[int, tuple[I64, U8]] = {}
    graph = Graph()
    places: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for i, result in zip(chosen, results, strict=True):
        assert isinstance(result, _Settled)
        changes[i] = result.labels, result.values
        for region, (value, area) in result.regions.items():
            graph.add_region(region, value, area)
        for a, b, length in result.borders:
            graph.add_border(a, b, length)
        for label, region in result.unsettled:
            places[region].append((i, label))
    _add_seam_borders(grid, index, whole, graph, minimum, georeference)
    late: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for region, value in graph.resolve(minimum).items():
        for i, label in places.get(region, ()):
            late[i].append((label, value))
    for i, pairs in late.items():
        labels, values = changes[i]
        changes[i] = (
            np.concatenate([labels, np.array([p[0] for p in pairs], np.int64)]),
            np.concatenate([values, np.array([p[1] for p in pairs], np.uint8)]),
        )
    return Sieve(changes)


def drop_small(
    grid: BlockGrid,
    blocks: Iterable[int],
    read: Read,
    georeference: Georeference,
    minimum: float,
    codes: Iterable[int],
    into: int,
    *,
    run: Run | None = None,
) -> Sieve:
    """Find what changes when regions of some classes under a minimum area become one code, whatever lies around them.

    Args:
        grid: The blocks.
        blocks: Those that hold anything but no data.
        read: Gives the class codes of a block with its frame.
        georeference: Where the raster's pixels lie.
        minimum: Least area in square metres; in pixels where the raster has no CRS.
        codes: The classes.
        into: The code.
        run: How a function is mapped over blocks.
    """
    chosen = sorted(blocks)
    mapper = run or _one_by_one
    _, whole = open_regions(grid, chosen, read, georeference, mapper)
    droppable = np.zeros(256, np.bool_)
    droppable[list(codes)] = True

    def small(i: int) -> I64:
        block = LabelledBlock.of(grid, i, read(i))
        area = block.measure(georeference)[0].area_m2
        if i in whole:
            area[block.is_open] = whole[i].area
        is_small = (area < minimum) & droppable[block.values]
        is_small[0] = False
        return np.flatnonzero(is_small)

    changes: dict[int, tuple[I64, U8]] = {}
    for i, labels in zip(chosen, mapper(small, chosen), strict=True):
        assert isinstance(labels, np.ndarray)
        if len(labels):
            changes[i] = labels, np.full(len(labels), into, np.uint8)
    return Sieve(changes)


def _one_by_one(function: Callable[[int], object], items: list[int]) -> list[object]:
    return [function(item) for item in items]


@dataclass(frozen=True, slots=True, eq=False)
class _Settled:
    """What came out of one block."""

    labels: I64
    """Labels that change."""
    values: U8
    """Their new classes."""
    regions: dict[int, tuple[int, float]]
    """Regions of the clusters that reach a seam, and their neighbours: class and area."""
    borders: list[tuple[int, int, float]]
    """Their shared borders inside the block."""
    unsettled: list[tuple[int, int]]
    """(label, region) of the small ones among them."""


def _settle_block(
    grid: BlockGrid, index: int, classes: U8, georeference: Georeference, minimum: float, open_regions: WholeRegions | None
) -> _Settled:
    block = LabelledBlock.of(grid, index, classes)
    measures, _ = block.measure(georeference)
    region, area = block.anchor.copy(), measures.area_m2.copy()
    if open_regions is not None:
        region[block.is_open], area[block.is_open] = open_regions.region, open_regions.area
    is_class = block.values <= MAX_CLASS
    is_class[0] = False
    small = (area < minimum) & is_class
    one, other, horizontal, vertical = _regions.borders(block.labels, small.view(np.uint8))
    keep = is_class[one] & is_class[other]
    per_row, per_col = _edge_lengths(georeference, grid)
    length = horizontal[keep] * per_col + vertical[keep] * per_row
    first, second = one[keep].astype(np.int64), other[keep].astype(np.int64)
    cluster = _clusters(len(small), first, second, small)
    reaches_seam = np.zeros(len(small), np.bool_)
    reaches_seam[cluster[small & block.is_open]] = True
    at_seam = reaches_seam[cluster] & small

    local, regions = Graph(), {}
    borders: list[tuple[int, int, float]] = []
    for a, b, edge in zip(first.tolist(), second.tolist(), length.tolist(), strict=True):
        if at_seam[a] or at_seam[b]:
            borders.append((int(region[a]), int(region[b]), edge))
            for label in (a, b):
                regions[int(region[label])] = int(block.values[label]), float(area[label])
            continue
        for label in (a, b):
            local.add_region(int(region[label]), int(block.values[label]), float(area[label]))
        local.add_border(int(region[a]), int(region[b]), edge)
    label_of = {int(region[label]): label for label in np.flatnonzero(small & ~at_seam).tolist()}
    changed = [(label_of[r], value) for r, value in local.resolve(minimum).items() if r in label_of]
    unsettled = [(label, int(region[label])) for label in np.flatnonzero(at_seam).tolist()]
    for label, name in unsettled:
        regions[name] = int(block.values[label]), float(area[label])
    return _Settled(
        np.array([c[0] for c in changed], np.int64), np.array([c[1] for c in changed], np.uint8), regions, borders, unsettled
    )


def _clusters(count: int, first: I64, second: I64, small: Bools) -> I64:
    """By label, its cluster of small regions that touch."""
    both = small[first] & small[second]
    cluster, _ = _regions.components(count, first[both], second[both])
    return np.asarray(cluster, np.int64)


def _edge_lengths(georeference: Georeference, grid: BlockGrid) -> tuple[float, float]:
    """Length of the vertical and the horizontal edges of a pixel, in the middle of the raster; 1 without a CRS."""
    metric = georeference.metric(grid.scene, spacing=max(grid.height, grid.width))
    if metric is None:
        return 1.0, 1.0
    row_step, col_step = np.hypot(*metric.jacobian.mean(axis=(2, 3)))
    return float(row_step), float(col_step)


def _add_seam_borders(
    grid: BlockGrid,
    index: Mapping[int, OpenIndex],
    whole: Mapping[int, WholeRegions],
    graph: Graph,
    minimum: float,
    georeference: Georeference,
) -> None:
    """Add the borders that lie on seams between two classes, one of them of a small region."""
    per_row, per_col = _edge_lengths(georeference, grid)
    for i, own in index.items():
        for side, other_side, neighbour, edge in (
            ("right", "left", i + 1, per_row),
            ("bottom", "top", i + grid.shape[1], per_col),
        ):
            if side not in own.sides or neighbour not in index:
                continue
            a, b = own.sides[side], index[neighbour].sides[other_side]
            value_a, value_b = own.measures.value[a], index[neighbour].measures.value[b]
            area_a, area_b = whole[i].area[a], whole[neighbour].area[b]
            meet = (value_a != value_b) & (np.maximum(value_a, value_b) <= MAX_CLASS) & (np.minimum(area_a, area_b) < minimum)
            pairs = np.stack([whole[i].region[a[meet]], whole[neighbour].region[b[meet]]], axis=1)
            unique, position, count = np.unique(pairs, axis=0, return_index=True, return_counts=True)
            for (x, y), at, n in zip(unique.tolist(), position.tolist(), count.tolist(), strict=True):
                graph.add_region(x, int(value_a[meet][at]), float(area_a[meet][at]))
                graph.add_region(y, int(value_b[meet][at]), float(area_b[meet][at]))
                graph.add_border(x, y, n * edge)
