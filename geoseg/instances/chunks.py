"""Finding the objects of a chunk, tile by tile."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from geoseg.arrays import F32, U8, Bools
from geoseg.codes import NODATA, NOT_ANALYSED
from geoseg.grid import Chunk, Grid, Tile
from geoseg.inference.chunks import ChunkLayers, Extra
from geoseg.inference.decision import Decision
from geoseg.inference.engine import Engine
from geoseg.inference.tile_batches import TileBatches, refuse_not_finite
from geoseg.instances.finding import found_objects
from geoseg.instances.joining import objects_of_tile
from geoseg.instances.objects import Objects
from geoseg.models.card import Card
from geoseg.scenes.reader import Pixels

__all__ = ["detect_chunk"]


def detect_chunk(
    grid: Grid,
    chunk: Chunk,
    pixels: Pixels,
    engine: Engine,
    decision: Decision,
    card: Card,
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> tuple[ChunkLayers, Objects]:
    """The objects of a chunk's tiles as each tile sees them, and what lies between them.

    Args:
        grid: The scene's grid, without blending.
        chunk: The chunk.
        pixels: The pixels of ``chunk.window``.
        engine: The network.
        decision: How scores become classes.
        card: Of the model, which distinguishes objects.
        should_stop: Asked before every batch.

    Returns:
        Layers of the chunk's core: the most probable of the classes that have no objects, and the confidence of what each
        pixel belongs to, an object or such a class; then the objects, of all tiles.

    Raises:
        ChunkError: The network gave NaN or infinity.
        Interrupted: ``should_stop`` said so.
    """
    layers = Extra().filled(np.full(chunk.core.shape, NODATA, np.uint8))
    inputs = TileBatches(grid, chunk, pixels, engine.batch, should_stop)
    stuff = np.array([c.value for c in card.classes if c.value not in card.object_classes], np.uint8)
    found = [Objects.empty()]

    def tell_apart(tile: Tile, channels: F32, valid: Bools) -> Objects:
        part = _scores_of(tile, channels, valid)
        probabilities = decision.by_class(decision.probabilities(part[: card.scores]))
        labels, code, score, confidence = found_objects(part, probabilities, valid, card)
        seen = tile.window & grid.scene
        assert seen is not None
        own, where = tile.core.slices_in(seen), tile.core.slices_in(chunk.core)
        classes, sure = _between(probabilities[:, *own], labels[own] > 0, stuff)
        layers.classes[where] = np.where(valid[own], classes, NODATA)
        layers.confidence[where] = np.where(valid[own], sure, NODATA)
        return objects_of_tile(grid, tile, labels, code, score, confidence)

    # The network goes on with the next batch meanwhile; results wait for no more than one.
    with ThreadPoolExecutor(1, thread_name_prefix="geoseg-objects") as pool:
        waiting: list[Future[Objects]] = []
        for batch in inputs.batches():
            channels = engine.channels(batch)
            found += [future.result() for future in waiting]
            waiting = [pool.submit(tell_apart, *parts) for parts in zip(inputs.next_sent(), channels, batch.valid, strict=True)]
        found += [future.result() for future in waiting]
    if pixels.bad is not None:
        bad = pixels.bad[chunk.core.slices_in(chunk.window)]
        for array in layers.arrays:
            array[..., bad] = NOT_ANALYSED
    return replace(layers, tiles=len(found) - 1), Objects.concatenate(found)


def _scores_of(tile: Tile, channels: F32, valid: Bools) -> F32:
    """What the network gave for the scene's part of a tile."""
    height, width = valid.shape
    part = channels[:, :height, :width]  # the rest repeats the edge
    refuse_not_finite(tile, int((~np.isfinite(part).all(axis=0) & valid).sum()))
    return part


def _between(probabilities: F32, is_object: Bools, stuff: U8) -> tuple[U8, U8]:
    """Class (h, w) of what lies between objects, and confidence in percent of objects or of that."""
    of_stuff = probabilities[stuff]
    best = of_stuff.argmax(axis=0)
    object_share = 1 - of_stuff.sum(axis=0)
    share = np.where(is_object, object_share, np.take_along_axis(of_stuff, best[None], axis=0)[0])
    return stuff[best], (100 * np.clip(share, 0, 1) + 0.5).astype(np.uint8)
