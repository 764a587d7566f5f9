"""Blocks that workers trace from the chunk results, packed into one file for each group of blocks.

The blocks are those that the client would trace: they lie where they lie, whatever the chunks, so that the features, their
order and the sums behind their areas are the same whoever traces them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geoseg.arrays import I32
from geoseg.formats.array_stream import read_arrays, write_arrays
from geoseg.polygons.block_grid import BlockGrid
from geoseg.polygons.blocks import OpenParts
from geoseg.polygons.features import FeatureFacts, feature_schema
from geoseg.polygons.labelling import SIDES, Measures
from pipeline.infer.chunk_store import ChunkStore
from pipeline.infer.stage_parts import AT_ONCE, OpenPartWorkers, Part, Stop
from pipeline.join.chunk_results import StoredClasses, StoredResult
from pipeline.vectorize.traced import TracedBlock, VectorOptions, trace_block

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Elsewhere", "TraceBlocks", "packed", "unpacked"]

ABSENT = -1
"""Length of a side where the raster does not go on."""
FIELDS = ("histograms", "rc", "marks", "rings", "owner")


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Has the blocks of a raster of chunk results traced by workers, where there are any."""

    result: StoredResult
    """The raster."""
    workers: OpenPartWorkers
    """Gives them, as soon as they are there."""
    at_once: int = AT_ONCE
    """Groups that are waited for at once."""

    def groups(self, grid: BlockGrid) -> Iterator[list[int]]:
        """The blocks, as soon as their pixels are there: those of one chunk together for a worker, else each for itself."""
        for group in self.result.groups(grid):
            if self.workers() is None:
                yield from ([block] for block in group)
            else:
                yield group

    def trace(
        self, blocks: Sequence[int], options: VectorOptions, facts: FeatureFacts, should_stop: Stop
    ) -> Iterator[TracedBlock] | None:
        """A group that a worker has traced; None where none did."""
        workers = self.workers()
        if workers is None:
            return None
        chunks = self.result.stored(BlockGrid(*self.result.shape, options.block), blocks)
        work = TraceBlocks(tuple(blocks), options, facts)
        data = workers.do(Part.of(f"{blocks[0]:07d}.traced.npy", chunks, work), should_stop)
        return None if data is None else unpacked(data)


@dataclass(frozen=True, slots=True)
class TraceBlocks:
    """Traces some blocks of stored chunks; ready to be pickled."""

    blocks: tuple[int, ...]
    options: VectorOptions
    facts: FeatureFacts

    def __call__(self, store: ChunkStore, filled: Collection[int]) -> bytes:
        """The blocks, packed."""
        raster = StoredClasses(store, self.facts.georeference, filled)
        grid = BlockGrid(*raster.shape, self.options.block)
        traced = (trace_block(raster, grid, block, self.options, self.facts) for block in self.blocks)
        return packed(traced, feature_schema(changes=bool(self.facts.changes)))


def packed(blocks: Iterable[TracedBlock], schema: pa.Schema) -> bytes:
    """Traced blocks as arrays in NumPy's format, one behind the other; see ``unpacked``."""
    return write_arrays(array for traced in blocks for array in _arrays(traced, schema))


def unpacked(data: bytes) -> Iterator[TracedBlock]:
    """The blocks that ``packed`` was given."""
    import pyarrow as pa

    arrays = read_arrays(data)
    for head in arrays:
        block, *lengths = head.tolist()
        measures = Measures(*islice(arrays, len(Measures.__slots__)))  # type: ignore[arg-type]  # as they were packed
        fields = dict(zip(FIELDS, arrays, strict=False))
        # What is one number all along a side takes no memory for each pixel.
        sides = {side: np.broadcast_to(next(arrays), n) for side, n in zip(SIDES, lengths, strict=True) if n != ABSENT}
        with pa.ipc.open_stream(pa.py_buffer(next(arrays))) as reader:
            batches = list(reader)
        yield TracedBlock(block, OpenParts(measures, sides=sides, **fields), batches)  # type: ignore[arg-type]  # as above


def _arrays(traced: TracedBlock, schema: pa.Schema) -> Iterator[NDArray[np.generic]]:
    import pyarrow as pa

    found = traced.open
    lengths = [len(found.sides[side]) if side in found.sides else ABSENT for side in SIDES]
    yield np.array([traced.block, *lengths], np.int64)
    yield from (getattr(found.measures, name) for name in Measures.__slots__)
    yield from (getattr(found, name) for name in FIELDS)
    yield from (_shortened(found.sides[side]) for side in SIDES if side in found.sides)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in traced.batches:
            writer.write_batch(batch)
    yield np.frombuffer(sink.getvalue(), np.uint8)


def _shortened(side: I32) -> I32:
    """A side that is one number throughout as that number alone."""
    return side[:1] if (side == side[0]).all() else side
