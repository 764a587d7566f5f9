"""Running a network over the tiles of a chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from geoseg.arrays import F32, I8, U8, Bools
from geoseg.codes import NODATA, NOT_ANALYSED
from geoseg.grid import Chunk, Grid
from geoseg.inference.averaging import EnsembleMember, mean_probabilities
from geoseg.inference.blending import weighted_part
from geoseg.inference.decision import Decision
from geoseg.inference.engine import Classified, Engine
from geoseg.inference.fixed_point import to_bytes
from geoseg.inference.tile_batches import TileBatches, refuse_not_finite
from geoseg.scenes.reader import Pixels
from geoseg.windows import Window

__all__ = ["DECIDED_ROWS", "ChunkLayers", "Extra", "batch_size", "classify_chunk", "finished", "score_chunk"]

DECIDED_ROWS = 512
"""Rows that are decided, or encoded, at once where tiles are blended."""


@dataclass(frozen=True, slots=True, eq=False)
class ChunkLayers:
    """The result of a chunk: one array a layer, each of the chunk's core."""

    classes: U8
    """(h, w): class codes, 254, 255."""
    confidence: U8
    """(h, w): percent, 254, 255."""
    tiles: int
    """Tiles that went through the network."""
    probabilities: U8 | None = None
    """(classes, h, w): percent, 254, 255; on request."""
    uncertainty: U8 | None = None
    """(h, w): disagreement in percent of the largest entropy, 254, 255; on request."""
    coverage: U8 | None = None
    """(h, w): codes of ``geoseg.codes.COVERAGE``; where clouds, or an area, say why a pixel is not analysed."""
    shares: U8 | None = None
    """(2 * scores, h, w): probabilities of ``geoseg.inference.fixed_point``; where they are to be averaged over scenes."""
    values: U8 | None = None
    """(2, h, w): high and low byte of codes of values, see ``geoseg.inference.value_chunks``; of models that regress."""
    clipped: I8 | None = None
    """(h, w): -1 where a value lies below all codes, 1 above all, 0 elsewhere; not stored."""

    @property
    def arrays(self) -> tuple[U8, ...]:
        """The layers that are there, coverage aside."""
        every = (self.classes, self.confidence, self.probabilities, self.uncertainty, self.shares, self.values)
        return tuple(array for array in every if array is not None)


@dataclass(frozen=True, slots=True)
class Extra:
    """Layers beside classes and confidence."""

    probabilities: int = 0
    """Number of classes whose probabilities are wanted, all or none."""
    uncertainty: bool = False
    """Whether the disagreement of members and of turned images is wanted: the entropy of the mean of their probabilities less
    the mean of their entropies (mutual information; Houlsby et al., 2011, https://arxiv.org/abs/1112.5745)."""
    shares: int = 0
    """Bytes of a pixel's probabilities of ``geoseg.inference.fixed_point``, if these are wanted."""
    values: int = 0
    """Bytes of a pixel's code of a value, of models that regress."""

    def filled(self, codes: U8, tiles: int = 0) -> ChunkLayers:
        """Layers that all hold codes (h, w)."""
        return ChunkLayers(
            codes.copy(),
            codes.copy(),
            tiles,
            np.repeat(codes[None], self.probabilities, axis=0) if self.probabilities else None,
            codes.copy() if self.uncertainty else None,
            shares=np.repeat(codes[None], self.shares, axis=0) if self.shares else None,
            values=np.repeat(codes[None], self.values, axis=0) if self.values else None,
        )


NOTHING = Extra()
_Part = tuple[Classified, F32 | None, F32 | None]
"""The kept part of a tile: class and confidence; where these are wanted, probabilities by score (K, h, w), and uncertainty (h, w)
as a share."""


def classify_chunk(
    grid: Grid,
    chunk: Chunk,
    pixels: Pixels,
    members: Sequence[EnsembleMember],
    *,
    augment: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    extra: Extra = NOTHING,
) -> ChunkLayers:
    """Class and confidence of a chunk's core, and what else is wanted.

    Args:
        grid: The scene's grid; with ``blend``, tiles are weighted where they overlap, else cropped to their cores.
        chunk: The chunk.
        pixels: The pixels of ``chunk.window``.
        members: The network; of an ensemble all, over which probabilities are averaged.
        augment: Average the probabilities over the eight symmetries of the square (test-time augmentation).
        should_stop: Asked before every batch.
        extra: Further layers.

    Raises:
        ChunkError: The network gave NaN or infinity.
        Interrupted: ``should_stop`` said so.
    """
    layers = extra.filled(np.full(chunk.core.shape, NODATA, np.uint8))
    inputs = TileBatches(grid, chunk, pixels, batch_size(grid, members), should_stop)
    if grid.blend:
        tiles = _blend(grid, chunk, pixels, members, inputs, augment, layers)
    else:
        tiles = _crop(chunk, members, inputs, augment, layers)
    return finished(layers, chunk, pixels, tiles)


def batch_size(grid: Grid, members: Sequence[EnsembleMember]) -> int:
    """Tiles of a batch: all members take it, and blended tiles are added up in the order of reading.

    Batches keep that order where all tiles have one shape.
    """
    return 1 if grid.blend and not grid.one_shape else min(member.engine.batch for member in members)


def finished(layers: ChunkLayers, chunk: Chunk, pixels: Pixels, tiles: int) -> ChunkLayers:
    """The layers with pixels that could not be read as *not analysed*, and the number of tiles."""
    if pixels.bad is not None:
        bad = pixels.bad[chunk.core.slices_in(chunk.window)]
        for array in layers.arrays:
            array[..., bad] = NOT_ANALYSED
    return replace(layers, tiles=tiles)


def _crop(chunk: Chunk, members: Sequence[EnsembleMember], inputs: TileBatches, augment: bool, layers: ChunkLayers) -> int:
    """Every tile gives its core. Returns the number of tiles."""
    first, tiles = members[0], 0
    if augment or len(members) > 1:
        results = _averaged(members, inputs, augment, layers)
    elif layers.probabilities is not None or layers.shares is not None:
        results = _with_probabilities(first, inputs)
    else:
        results = ([(c, None, None) for c in batch] for batch in first.engine.classify(inputs.batches(), first.decision))
    for result in results:
        for tile, (part, probabilities, uncertainty) in zip(inputs.next_sent(), result, strict=True):
            refuse_not_finite(tile, part.not_finite)
            where = tile.core.slices_in(chunk.core)
            layers.classes[where], layers.confidence[where] = part.classes, part.confidence
            valid = part.classes != NODATA
            if probabilities is not None:
                _put(layers, where, first.decision, probabilities, valid)
            if layers.uncertainty is not None and uncertainty is not None:
                layers.uncertainty[where] = _percent(uncertainty, valid)
            tiles += 1
    return tiles


def _put(layers: ChunkLayers, where: tuple[slice, slice], decision: Decision, probabilities: F32, valid: Bools) -> None:
    """Write the layers of probabilities that are wanted, of probabilities by score (K, h, w)."""
    if layers.probabilities is not None:
        layers.probabilities[(slice(None), *where)] = _percent(decision.by_class(probabilities), valid)
    if layers.shares is not None:
        layers.shares[(slice(None), *where)] = to_bytes(probabilities, valid)


def score_chunk(
    grid: Grid, chunk: Chunk, pixels: Pixels, engine: Engine, wanted: Callable[[Window], bool] = lambda _: True
) -> Iterator[tuple[Window, F32]]:
    """Scores before calibration of the cores of a chunk's tiles that hold data: the core, and (K, h, w) float32.

    Args:
        grid: The scene's grid, without blending.
        chunk: The chunk.
        pixels: The pixels of ``chunk.window``.
        engine: The network.
        wanted: Whether a tile with this core is to be computed.

    Raises:
        ChunkError: The network gave NaN or infinity.
    """
    tiles = tuple(tile for tile in chunk.tiles if wanted(tile.core))
    inputs = TileBatches(grid, replace(chunk, tiles=tiles), pixels, engine.batch, lambda: False)
    for batch in inputs.batches():
        scores = engine.scores(batch)
        for tile, part, (rows, cols) in zip(inputs.next_sent(), scores, batch.keep, strict=True):
            kept = part[:, rows, cols]
            valid = pixels.valid[tile.core.slices_in(chunk.window)]
            refuse_not_finite(tile, int((~np.isfinite(kept).all(axis=0) & valid).sum()))
            yield tile.core, kept


def _with_probabilities(member: EnsembleMember, inputs: TileBatches) -> Iterator[list[_Part]]:
    """Classes and confidence as without probabilities, to the last bit, and these beside them."""
    decision = member.decision
    for batch in inputs.batches():
        scores = member.engine.scores(batch)
        probabilities = decision.probabilities(scores)
        results: list[_Part] = []
        for s, p, valid, (rows, cols) in zip(scores, probabilities, batch.valid, batch.keep, strict=True):
            part = Classified(*decision.decide(s[:, rows, cols], valid[rows, cols]))
            results.append((part, p[:, rows, cols], None))
        yield results


def _averaged(
    members: Sequence[EnsembleMember], inputs: TileBatches, augment: bool, layers: ChunkLayers
) -> Iterator[list[_Part]]:
    decision = members[0].decision
    for batch in inputs.batches():
        mean, entropy = mean_probabilities(members, batch, augment=augment, with_entropy=layers.uncertainty is not None)
        results: list[_Part] = []
        for i, (valid, (rows, cols)) in enumerate(zip(batch.valid, batch.keep, strict=True)):
            kept, mask = mean[i, :, rows, cols], valid[rows, cols]
            bad = int((~np.isfinite(kept).all(axis=0) & mask).sum())
            classes, confidence, _ = decision.decide_probabilities(kept, mask)
            uncertainty = None if entropy is None else decision.entropy(kept) - entropy[i, rows, cols]
            results.append((Classified(classes, confidence, bad), kept, uncertainty))
        yield results


def _percent(share: F32, valid: Bools) -> U8:
    """Shares (..., h, w) in percent, NODATA where not valid."""
    with np.errstate(invalid="ignore"):  # NaN is refused by its own check
        percent = (100 * np.clip(share, 0, 1) + np.float32(0.5)).astype(np.uint8)
    return np.asarray(np.where(valid, percent, np.uint8(NODATA)), np.uint8)


def _blend(
    grid: Grid,
    chunk: Chunk,
    pixels: Pixels,
    members: Sequence[EnsembleMember],
    inputs: TileBatches,
    augment: bool,
    layers: ChunkLayers,
) -> int:
    """Weight the probabilities of all tiles that touch the core; tiles in the order of reading, whatever the chunk."""
    decision, with_entropy = members[0].decision, layers.uncertainty is not None
    total: F32 | None = None
    count = 0
    for batch in inputs.batches():
        mean, entropy = mean_probabilities(members, batch, augment=augment, with_entropy=with_entropy)
        # The entropy is one more channel behind the probabilities.
        every = mean if entropy is None else np.concatenate([mean, entropy[:, None]], axis=1)
        for tile, p in zip(inputs.next_sent(), every, strict=True):
            common, (rows, cols), weight = weighted_part(grid, chunk, tile)
            if total is None:
                total = np.zeros((p.shape[0], *chunk.core.shape), np.float32)
            part = p[:, rows, cols]
            valid = pixels.valid[common.slices_in(chunk.window)]
            refuse_not_finite(tile, int((~np.isfinite(part).all(axis=0) & valid).sum()))
            target = common.slices_in(chunk.core)
            total[:, target[0], target[1]] += part * weight
            count += 1
    if total is not None:
        valid = pixels.valid[chunk.core.slices_in(chunk.window)]
        scores = len(total) - with_entropy
        for row in range(0, total.shape[1], DECIDED_ROWS):
            rows = slice(row, row + DECIDED_ROWS)
            p, mask = total[:scores, rows], valid[rows]
            layers.classes[rows], layers.confidence[rows], _ = decision.decide_probabilities(p, mask)
            _put(layers, (rows, slice(None)), decision, p, mask)
            if layers.uncertainty is not None:
                layers.uncertainty[rows] = _percent(decision.entropy(p) - total[scores, rows], mask)
    return count
