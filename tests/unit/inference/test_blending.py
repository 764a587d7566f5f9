"""Tiles that overlap are weighted by Hann ramps; what failed or could not be read is never a class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from geoseg.errors import ChunkError, Interrupted
from geoseg.grid import Grid
from geoseg.inference.averaging import EnsembleMember
from geoseg.inference.chunks import ChunkLayers, Extra, classify_chunk, score_chunk
from geoseg.inference.decision import Decision
from geoseg.inference.engine import Classified, TileBatch
from geoseg.scenes.reader import Pixels

DECISION = Decision((1.0, 1.0), (0.0, 0.0), None, softmax=True)


@dataclass
class OfTheTile:
    """An engine whose scores depend on where a pixel lies in its tile, as those of networks with global context do."""

    nan: bool = False
    name = "onnx"
    device = "cpu"
    batch = 2

    def scores(self, batch: TileBatch) -> np.ndarray:
        height, width = batch.shape
        found = np.zeros((len(batch.data), 2, height, width), np.float32)
        found[:, 0] = 3 * np.sin(np.arange(height))[:, None] + 2 * np.cos(np.arange(width))
        found[:, 0] += np.array([float(d.sum() % 7) for d in batch.data])[:, None, None] - 3
        if self.nan:
            found[:, 1, :3, :3] = np.nan
        return found

    def classify(self, batches, decision):
        for batch in batches:
            yield [
                Classified(*decision.decide(np.ascontiguousarray(s[:, rows, cols]), v[rows, cols]))
                for s, v, (rows, cols) in zip(self.scores(batch), batch.valid, batch.keep, strict=True)
            ]


def scene(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    valid = np.ones((height, width), np.bool_)
    # All of a tile's core is without data, but not all that it sees.
    valid[22:50, 20:50] = False
    valid[:3, 70:] = False
    return rng.integers(0, 9, (1, height, width)).astype(np.uint8), valid


def mapped(grid: Grid, image: np.ndarray, valid: np.ndarray, **options: Any) -> ChunkLayers:
    """All chunks of a grid as one."""
    out = np.full((4, grid.height, grid.width), 7, np.uint8)
    for chunk in grid.chunks():
        part = (slice(None), *chunk.window.slices)
        pixels = Pixels(np.ascontiguousarray(image[part]), valid[chunk.window.slices], None)
        layers = classify_chunk(grid, chunk, pixels, [EnsembleMember(OfTheTile(), DECISION)], extra=Extra(2), **options)
        assert layers.probabilities is not None
        out[(slice(None), *chunk.core.slices)] = np.stack([layers.classes, layers.confidence, *layers.probabilities])
    return ChunkLayers(out[0], out[1], 0, out[2:])


@pytest.mark.parametrize("chunk", [1000, 24])
def test_the_weights_are_hann_ramps_that_add_up_to_one(chunk: int) -> None:
    height, width, tile, halo, stride = 70, 90, 32, 8, 4
    grid = Grid(height, width, tile=tile, halo=halo, stride=stride, chunk=chunk, blend=True)
    image, valid = scene(height, width)
    step = tile - 2 * halo
    total, weights = np.zeros((height, width)), np.zeros((height, width))

    def ramp(position: np.ndarray, start: int, count: int, last: int) -> np.ndarray:
        """A tile's weight along one axis: up over the first 2 halos, down over the last, but not at the scene's ends."""
        up = np.sin(np.pi / 2 * np.clip((position + 0.5 - (start - halo)) / (2 * halo), 0, 1)) ** 2 if count else 1.0
        down = (
            np.cos(np.pi / 2 * np.clip((position + 0.5 - (start + step - halo)) / (2 * halo), 0, 1)) ** 2 if count < last else 1.0
        )
        return np.asarray(up * down * np.ones(len(position)))

    rows_of, cols_of = -(-height // step), -(-width // step)
    for i in range(rows_of):
        for j in range(cols_of):
            top, left = max(0, i * step - halo), max(0, j * step - halo)
            # The scene is extended to the stride on the right and below.
            bottom, right = min((i + 1) * step + halo, 72), min((j + 1) * step + halo, 92)
            seen = image[:, top : min(bottom, height), left : min(right, width)]
            if not valid[top:bottom, left:right].any():
                continue
            scores = OfTheTile().scores(TileBatch([seen], [], (bottom - top, right - left), []))[0].astype(np.float64)
            p = 1 / (1 + np.exp(scores[1] - scores[0]))
            rows, cols = np.arange(top, min(bottom, height)), np.arange(left, min(right, width))
            weight = np.outer(ramp(rows, i * step, i, rows_of - 1), ramp(cols, j * step, j, cols_of - 1))
            total[np.ix_(rows, cols)] += weight * p[: len(rows), : len(cols)]
            weights[np.ix_(rows, cols)] += weight
    np.testing.assert_allclose(weights[valid], 1)
    layers = mapped(grid, image, valid)
    assert layers.probabilities is not None
    assert np.abs(layers.probabilities[0][valid] - 100 * total[valid]).max() <= 0.51
    sure = valid & (np.abs(total - 0.5) > 1e-4)
    np.testing.assert_array_equal(layers.classes[sure], (total < 0.5)[sure])
    for layer in (layers.classes, layers.confidence, *layers.probabilities):
        np.testing.assert_array_equal(layer == 255, ~valid)


@pytest.mark.parametrize("blend", [False, True])
@pytest.mark.parametrize("options", [{}, {"augment": True}, {"extra": Extra(2)}], ids=str)
def test_nan_is_no_class_and_bad_pixels_are_not_analysed(blend: bool, options: dict[str, Any]) -> None:
    grid = Grid(40, 40, tile=32, halo=8 if blend else 0, stride=4, blend=blend)
    chunk = grid.chunk_at(0)
    image, valid = np.ones((1, 40, 40), np.uint8), np.ones((40, 40), np.bool_)
    bad = np.zeros_like(valid)
    bad[5:9, 20:33] = True
    layers = classify_chunk(
        grid, chunk, Pixels(image, valid & ~bad, bad), [EnsembleMember(OfTheTile(), DECISION)], **{"extra": Extra(2)} | options
    )
    assert layers.probabilities is not None
    for layer in (layers.classes, layers.confidence, *layers.probabilities):
        np.testing.assert_array_equal(layer == 254, bad)
        assert (layer[~bad] <= 100).all()
    count = "" if options.get("augment") else "9 pixels of the "
    with pytest.raises(ChunkError, match=f"{count}tile at row 0, col 0"):
        classify_chunk(grid, chunk, Pixels(image, valid, None), [EnsembleMember(OfTheTile(nan=True), DECISION)], **options)
    with pytest.raises(Interrupted):
        classify_chunk(grid, chunk, Pixels(image, valid, None), [EnsembleMember(OfTheTile(), DECISION)], should_stop=lambda: True)


def test_nan_where_there_is_no_data_is_no_failure() -> None:
    grid = Grid(32, 32, tile=32, halo=0, stride=4)
    image, valid = np.ones((1, 32, 32), np.uint8), np.ones((32, 32), np.bool_)
    valid[:3, :3] = False
    pixels = Pixels(image, valid, None)
    layers = classify_chunk(grid, grid.chunk_at(0), pixels, [EnsembleMember(OfTheTile(nan=True), DECISION)])
    np.testing.assert_array_equal(layers.classes == 255, ~valid)
    scores = list(score_chunk(grid, grid.chunk_at(0), pixels, OfTheTile(nan=True)))
    assert len(scores) == 1
    np.testing.assert_array_equal(np.isfinite(scores[0][1]).all(axis=0), valid)
    with pytest.raises(ChunkError):
        list(score_chunk(grid, grid.chunk_at(0), Pixels(image, np.ones_like(valid), None), OfTheTile(nan=True)))
