"""Values of a chunk: what a network regresses, averaged like probabilities, stored as codes of 16 bits.

A value is ``slope * output + intercept`` of its network; its code is ``(value - offset) / scale``, rounded to the nearest, half
to even, and clipped to what codes hold (``geoseg.models.card_values.Quantity``). All of it is computed in 64 bits on the CPU,
whatever runs the network: equal outputs have equal codes everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from geoseg.arrays import F32, F64, I8, U8, U16, Bools
from geoseg.codes import ANALYSED, MAX_VALUE, NO_VALUE, NODATA, NOT_ANALYSED, VALUE_NOT_ANALYSED
from geoseg.grid import Chunk, Grid
from geoseg.inference.averaging import EnsembleMember, views
from geoseg.inference.blending import weighted_part
from geoseg.inference.chunks import DECIDED_ROWS, ChunkLayers, Extra, batch_size, finished
from geoseg.inference.engine import TileBatch
from geoseg.inference.tile_batches import TileBatches, refuse_not_finite
from geoseg.models.card_values import Quantity
from geoseg.scenes.reader import Pixels

__all__ = ["VALUE_BYTES", "encode", "from_bytes", "value_chunk"]

VALUE_BYTES = 2
"""Bytes of a code in chunk results, the high one first."""


def encode(quantity: Quantity, values: F32 | F64) -> tuple[U16, I8]:
    """Codes (h, w) of values (h, w) that are finite; and where they were clipped: -1 below, 1 above, 0 not."""
    steps = np.rint((values.astype(np.float64) - quantity.offset) / quantity.scale)
    clipped = (steps > MAX_VALUE).astype(np.int8) - (steps < 0).astype(np.int8)
    return np.clip(steps, 0, MAX_VALUE).astype(np.uint16), clipped


def from_bytes(values: U8, classes: U8) -> U16:
    """Codes (h, w) of stored bytes (2, h, w); where classes (h, w) say so, *not analysed* or no data."""
    codes: U16 = values[0].astype(np.uint16) << 8 | values[1]
    codes[classes == NOT_ANALYSED] = VALUE_NOT_ANALYSED
    codes[classes == NODATA] = NO_VALUE
    return codes


def value_chunk(
    grid: Grid,
    chunk: Chunk,
    pixels: Pixels,
    members: Sequence[EnsembleMember],
    *,
    augment: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> ChunkLayers:
    """Values of a chunk's core, in the layer ``values``; class 0 stands for what has one.

    Arguments and errors as of ``geoseg.inference.chunks.classify_chunk``; several members, and turned images, are averaged.
    """
    layers = replace(
        Extra(values=VALUE_BYTES).filled(np.full(chunk.core.shape, NODATA, np.uint8)),
        clipped=np.zeros(chunk.core.shape, np.int8),
    )
    inputs = TileBatches(grid, chunk, pixels, batch_size(grid, members), should_stop)
    if grid.blend:
        tiles = _blend(grid, chunk, pixels, members, inputs, augment, layers)
    else:
        tiles = _crop(chunk, members, inputs, augment, layers)
    return finished(layers, chunk, pixels, tiles)


def _crop(chunk: Chunk, members: Sequence[EnsembleMember], inputs: TileBatches, augment: bool, layers: ChunkLayers) -> int:
    """Every tile gives its core. Returns the number of tiles."""
    count = 0
    for batch in inputs.batches():
        values = _mean_values(members, batch, augment=augment)
        for tile, value, valid, (rows, cols) in zip(inputs.next_sent(), values, batch.valid, batch.keep, strict=True):
            kept, known = value[rows, cols], valid[rows, cols]
            refuse_not_finite(tile, int((~np.isfinite(kept) & known).sum()))
            _put(layers, members[0], tile.core.slices_in(chunk.core), kept, known)
            count += 1
    return count


def _blend(
    grid: Grid,
    chunk: Chunk,
    pixels: Pixels,
    members: Sequence[EnsembleMember],
    inputs: TileBatches,
    augment: bool,
    layers: ChunkLayers,
) -> int:
    """Weight the values of all tiles that touch the core; tiles in the order of reading, whatever the chunk."""
    total, count = np.zeros(chunk.core.shape, np.float32), 0
    for batch in inputs.batches():
        values = _mean_values(members, batch, augment=augment)
        for tile, value in zip(inputs.next_sent(), values, strict=True):
            common, (rows, cols), weight = weighted_part(grid, chunk, tile)
            part, known = value[rows, cols], pixels.valid[common.slices_in(chunk.window)]
            refuse_not_finite(tile, int((~np.isfinite(part) & known).sum()))
            total[common.slices_in(chunk.core)] += (part * weight).astype(np.float32)
            count += 1
    if count:
        valid = pixels.valid[chunk.core.slices_in(chunk.window)]
        for row in range(0, len(total), DECIDED_ROWS):
            rows = slice(row, row + DECIDED_ROWS)
            _put(layers, members[0], (rows, slice(None)), total[rows], valid[rows])
    return count


def _mean_values(members: Sequence[EnsembleMember], batch: TileBatch, *, augment: bool) -> F64:
    """Mean of the values (N, H, W) of whole tiles, over members and over the symmetries of the square if asked."""
    total, count = np.zeros((len(batch.data), *batch.shape)), 0
    for member in members:
        quantity = _quantity(member)
        for output in views(member.engine, batch, lambda scores: scores, augment=augment):
            total += quantity.values(output[:, 0])
            count += 1
    return total / count


def _put(layers: ChunkLayers, member: EnsembleMember, where: tuple[slice, slice], values: F32 | F64, valid: Bools) -> None:
    """Write values (h, w) into the layers, where valid (h, w)."""
    assert layers.values is not None
    assert layers.clipped is not None
    codes, clipped = encode(_quantity(member), np.where(valid, values, 0))
    for byte, part in enumerate((codes >> 8, codes & 0xFF)):
        layers.values[byte][where] = np.where(valid, part, NODATA)
    layers.classes[where] = np.where(valid, np.uint8(ANALYSED), np.uint8(NODATA))
    layers.confidence[where] = layers.classes[where]
    layers.clipped[where] = np.where(valid, clipped, 0)


def _quantity(member: EnsembleMember) -> Quantity:
    assert member.quantity is not None, "the model regresses"
    return member.quantity
