"""Running a network over the tiles of a chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.codes import NODATA, NOT_ANALYSED
from geoseg.errors import ChunkError, Interrupted
from geoseg.grid import Axis, Chunk, Grid, Tile
from geoseg.inference.engine import Batch, Classified, Engine
from geoseg.inference.values import Decision
from geoseg.scenes.reader import Pixels
from geoseg.windows import Window

__all__ = ["ChunkLayers", "classify_chunk", "score_chunk"]

Bytes = NDArray[np.uint8]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]
AUGMENTATIONS = tuple((turns, flip) for turns in range(4) for flip in (False, True))


@dataclass(frozen=True, slots=True, eq=False)
class ChunkLayers:
    """What a chunk gives: one array a layer, each of the chunk's core."""

    classes: Bytes
    """(h, w): class codes, 254, 255."""
    confidence: Bytes
    """(h, w): percent, 254, 255."""
    tiles: int
    """Tiles that went through the network."""


def classify_chunk(
    grid: Grid,
    chunk: Chunk,
    pixels: Pixels,
    engine: Engine,
    decision: Decision,
    *,
    augment: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> ChunkLayers:
    """Class and confidence of a chunk's core.

    Args:
        grid: The scene's grid; with ``blend``, tiles are weighted where they overlap, else cropped to their cores.
        chunk: The chunk.
        pixels: The pixels of ``chunk.window``.
        engine: The network.
        decision: How scores become classes.
        augment: Average the probabilities over the eight symmetries of the square (test-time augmentation).
        should_stop: Asked before every batch.

    Raises:
        ChunkError: The network gave NaN or infinity.
        Interrupted: ``should_stop`` said so.
    """
    core = chunk.core.slices_in(chunk.window)
    classes = np.full(chunk.core.shape, NODATA, np.uint8)
    confidence = np.full(chunk.core.shape, NODATA, np.uint8)
    tiles = 0
    if grid.blend:
        tiles = _blend(grid, chunk, pixels, engine, decision, augment, should_stop, classes, confidence)
    else:
        inputs = _Tiles(grid, chunk, pixels, engine.batch, should_stop)
        results = _augmented(engine, decision, inputs) if augment else engine.classify(inputs.batches(), decision)
        for result in results:
            for tile, part in zip(inputs.next_sent(), result, strict=True):
                _refuse_not_finite(tile, part.not_finite)
                where = tile.core.slices_in(chunk.core)
                classes[where], confidence[where] = part.classes, part.confidence
                tiles += 1
    if pixels.bad is not None:
        bad = pixels.bad[core]
        classes[bad] = confidence[bad] = NOT_ANALYSED
    return ChunkLayers(classes, confidence, tiles)


def score_chunk(
    grid: Grid, chunk: Chunk, pixels: Pixels, engine: Engine, wanted: Callable[[Window], bool] = lambda _: True
) -> Iterator[tuple[Window, Floats]]:
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
    inputs = _Tiles(grid, replace(chunk, tiles=tiles), pixels, engine.batch, lambda: False)
    for batch in inputs.batches():
        scores = engine.scores(batch)
        for tile, part, (rows, cols) in zip(inputs.next_sent(), scores, batch.keep, strict=True):
            kept = part[:, rows, cols]
            valid = pixels.valid[tile.core.slices_in(chunk.window)]
            _refuse_not_finite(tile, int((~np.isfinite(kept).all(axis=0) & valid).sum()))
            yield tile.core, kept


class _Tiles:
    """The tiles of a chunk that hold data, as batches of one shape."""

    def __init__(self, grid: Grid, chunk: Chunk, pixels: Pixels, size: int, should_stop: Callable[[], bool]) -> None:
        self._grid, self._chunk, self._pixels = grid, chunk, pixels
        self._size, self._should_stop = max(1, size), should_stop
        self._sent: list[list[Tile]] = []

    def next_sent(self) -> list[Tile]:
        """The tiles of the oldest batch whose result was not asked for yet."""
        return self._sent.pop(0)

    def batches(self) -> Iterator[Batch]:
        """Batches in the order of reading, as far as their shapes allow."""
        waiting: dict[tuple[int, int], list[Tile]] = {}
        for tile in self._chunk.tiles:
            if not self._has_data(tile):
                continue
            group = waiting.setdefault(tile.window.shape, [])
            group.append(tile)
            if len(group) >= self._size:
                yield self._batch(waiting.pop(tile.window.shape))
        for group in waiting.values():
            yield self._batch(group)

    def _seen(self, tile: Tile) -> Window:
        seen = tile.window & self._grid.scene
        assert seen is not None
        return seen

    def _has_data(self, tile: Tile) -> bool:
        # With blending a tile matters wherever it is seen; cropped, only in its core.
        area = self._seen(tile) if self._grid.blend else tile.core
        return bool(self._pixels.valid[area.slices_in(self._chunk.window)].any())

    def _batch(self, tiles: list[Tile]) -> Batch:
        if self._should_stop():
            raise Interrupted("stopped between two batches")
        self._sent.append(tiles)
        windows = [self._seen(tile).slices_in(self._chunk.window) for tile in tiles]
        keep = [(self._seen(tile) if self._grid.blend else tile.core).slices_in(tile.window) for tile in tiles]
        return Batch(
            [self._pixels.data[:, rows, cols] for rows, cols in windows],
            [self._pixels.valid[rows, cols] for rows, cols in windows],
            tiles[0].window.shape,
            keep,
        )


def _refuse_not_finite(tile: Tile, count: int) -> None:
    if count:
        raise ChunkError(
            f"the network gave NaN or infinity for {count} pixels of the tile at row {tile.core.row_off}, col {tile.core.col_off}"
        )


def _augmented(engine: Engine, decision: Decision, inputs: _Tiles) -> Iterator[list[Classified]]:
    for batch in inputs.batches():
        probabilities = _probabilities(engine, decision, batch, augment=True)
        results = []
        for p, valid, (rows, cols) in zip(probabilities, batch.valid, batch.keep, strict=True):
            kept, mask = p[:, rows, cols], valid[rows, cols]
            bad = int((~np.isfinite(kept).all(axis=0) & mask).sum())
            classes, confidence, _ = decision.decide_probabilities(kept, mask)
            results.append(Classified(classes, confidence, bad))
        yield results


def _probabilities(engine: Engine, decision: Decision, batch: Batch, *, augment: bool) -> Floats:
    """Calibrated probabilities (N, K, H, W) of whole tiles, averaged over the symmetries of the square if asked."""
    if not augment:
        return decision.probabilities(engine.scores(batch))
    data = [_extended(d, batch.shape) for d in batch.data]
    valid = [_extended(v, batch.shape) for v in batch.valid]
    total: Floats | None = None
    for turns, flip in AUGMENTATIONS:
        turned = [_turn(d, turns, flip) for d in data]
        masks = [_turn(v, turns, flip) for v in valid]
        shape = (turned[0].shape[-2], turned[0].shape[-1])
        p = decision.probabilities(engine.scores(Batch(turned, masks, shape, batch.keep)))
        p = _turn_back(p, turns, flip)
        total = p.copy() if total is None else total + p
    assert total is not None
    return total / np.float32(len(AUGMENTATIONS))


def _extended(image: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """(..., h, w) to (..., H, W), repeating the edge below and on the right."""
    height, width = shape[0] - image.shape[-2], shape[1] - image.shape[-1]
    if not height and not width:
        return image
    return np.pad(image, [(0, 0)] * (image.ndim - 2) + [(0, height), (0, width)], mode="edge")


def _turn(image: NDArray[Any], turns: int, flip: bool) -> NDArray[Any]:
    turned = np.rot90(image, turns, axes=(-2, -1))
    return np.ascontiguousarray(turned[..., ::-1] if flip else turned)


def _turn_back(image: Floats, turns: int, flip: bool) -> Floats:
    return np.rot90(image[..., ::-1] if flip else image, -turns, axes=(-2, -1))


def _blend(
    grid: Grid, chunk: Chunk, pixels: Pixels, engine: Engine, decision: Decision, augment: bool,
    should_stop: Callable[[], bool], classes: Bytes, confidence: Bytes,
) -> int:  # fmt: skip
    """Weight the probabilities of all tiles that touch the core; tiles in the order of reading, whatever the chunk."""
    inputs = _Tiles(grid, chunk, pixels, 1, should_stop)
    total: Floats | None = None
    count = 0
    for batch in inputs.batches():
        (tile,) = inputs.next_sent()
        p = _probabilities(engine, decision, batch, augment=augment)[0]
        common = tile.window & chunk.core
        assert common is not None
        rows, cols = common.slices_in(tile.window)
        weight = np.outer(_taper(grid.rows, tile.row)[rows], _taper(grid.cols, tile.col)[cols])
        if total is None:
            total = np.zeros((p.shape[0], *chunk.core.shape), np.float32)
        part = p[:, rows, cols]
        valid = pixels.valid[common.slices_in(chunk.window)]
        _refuse_not_finite(tile, int((~np.isfinite(part).all(axis=0) & valid).sum()))
        target = common.slices_in(chunk.core)
        total[:, target[0], target[1]] += part * weight
        count += 1
    if total is not None:
        valid = pixels.valid[chunk.core.slices_in(chunk.window)]
        for row in range(0, total.shape[1], 512):
            rows = slice(row, row + 512)
            classes[rows], confidence[rows], _ = decision.decide_probabilities(total[:, rows], valid[rows])
    return count


def _taper(axis: Axis, tile: int) -> Floats:
    """Weights of a tile along one axis: Hann ramps where it overlaps its neighbours, which add up to 1 with theirs."""
    start, stop = axis.window(tile)
    weights = np.ones(stop - start, np.float64)
    if axis.halo:
        position = np.asarray(np.arange(start, stop) + 0.5, np.float64)
        if tile > 0:
            weights *= _ramp(position - (tile * axis.step - axis.halo), 2 * axis.halo)
        if tile < axis.tiles - 1:
            weights *= 1 - _ramp(position - ((tile + 1) * axis.step - axis.halo), 2 * axis.halo)
    return weights.astype(np.float32)


def _ramp(position: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """From 0 to 1 along a rising half of a Hann window."""
    return np.asarray(np.sin(np.pi / 2 * np.clip(position / length, 0, 1)) ** 2, np.float64)
