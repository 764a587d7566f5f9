"""Regions that reach the seams of blocks: their ids and their areas in the whole raster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from geoseg.arrays import F64, I64, U8
from geoseg.georeference import Georeference
from geoseg.polygons.block_grid import BlockGrid
from geoseg.polygons.labelling import LabelledBlock
from geoseg.polygons.seams import OpenIndex, Seams, unite

__all__ = ["Read", "Run", "WholeRegions", "open_regions"]

Read = Callable[[int], U8]
"""Gives the class codes of ``grid.framed(index)``."""
Run = Callable[[Callable[[int], object], list[int]], list[object]]
"""Maps a function over blocks, perhaps in parallel; results in the order of the blocks."""


@dataclass(frozen=True, slots=True, eq=False)
class WholeRegions:
    """Regions of the whole raster, by the labels of one block."""

    region: I64
    """By label, the id of its region."""
    area: F64
    """By label, the area of its region."""


def open_regions(
    grid: BlockGrid, blocks: list[int], read: Read, georeference: Georeference, mapper: Run
) -> tuple[dict[int, OpenIndex], dict[int, WholeRegions]]:
    """The regions that reach seams, by block: what is known of their parts, and of them as wholes."""
    found = mapper(lambda i: _open_index(grid, i, read(i), georeference), blocks)
    index = {i: item for i, item in zip(blocks, found, strict=True) if isinstance(item, OpenIndex)}
    return index, _whole_regions(index, unite(grid, index))


def _open_index(grid: BlockGrid, index: int, classes: U8, georeference: Georeference) -> OpenIndex:
    """The regions of a block that go on outside, with the area of the part inside."""
    block = LabelledBlock.of(grid, index, classes)
    measures, _ = block.measure(georeference)
    which = np.flatnonzero(block.is_open)
    number = np.full(len(block.values), -1, np.int32)
    number[which] = np.arange(len(which), dtype=np.int32)
    sides = {side: number[edge] for side, edge in block.edges.items()}
    return OpenIndex(measures.take(which), np.zeros((len(which), 1), np.uint32), np.zeros(len(which), np.int64), sides)


def _whole_regions(index: Mapping[int, OpenIndex], seams: Seams) -> dict[int, WholeRegions]:
    """By block and open region, its id and its area in the whole raster."""
    if not index:
        return {}
    order = sorted(index)
    anchor = np.concatenate([index[i].measures.anchor for i in order])
    area = np.concatenate([index[i].measures.area_m2 for i in order])
    first = np.full(seams.count, np.iinfo(np.int64).max)
    np.minimum.at(first, seams.component, anchor)
    total = np.bincount(seams.component, area, seams.count).astype(np.float64)
    result = {}
    for i in order:
        part = seams.component[seams.starts[i] : seams.starts[i] + len(index[i].measures)]
        result[i] = WholeRegions(first[part], total[part])
    return result
