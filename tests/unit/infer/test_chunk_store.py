"""Stored chunks give the pixels that were written, whatever the window, and no reader keeps more than its share of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from geoseg.arrays import U8
from geoseg.grid import Grid
from geoseg.inference.chunks import ChunkLayers
from geoseg.windows import Window
from pipeline.infer.chunk_store import READ_ONCE, ChunkStore
from pipeline.infer.storage import FolderStorage
from pipeline.plan.memory import KEPT_BYTES
from pipeline.plan.result_layers import LayerName

SHAPE = 4700, 4300
SIDES = (900, 3000)


def test_windows_are_those_of_what_was_written_and_few_pieces_are_kept(tmp_path: Path) -> None:
    rng, grid = np.random.default_rng(0), Grid(*SHAPE, tile=512, halo=0, chunk=2048)
    classes, confidence = (rng.integers(0, 100, SHAPE, np.uint8) for _ in range(2))
    store, chunks = ChunkStore(FolderStorage(tmp_path), grid), grid.chunks_touched(Window.of(SHAPE))
    for index in chunks:
        core = grid.chunk_core(index).slices
        store.write(index, ChunkLayers(classes[core], confidence[core], 0), np.zeros((1, 0, 0), np.uint8))
    layers: tuple[tuple[LayerName, U8], ...] = (("classes", classes), ("confidence", confidence))
    for turn in range(40):
        height, width = rng.integers(1, SIDES[turn % 2], 2).tolist()
        place = int(rng.integers(0, SHAPE[0] - height)), int(rng.integers(0, SHAPE[1] - width))
        window, before = Window.at(place, (height, width)), {*store._cache}
        for name, pixels in layers:
            np.testing.assert_array_equal(store.read(name, window, chunks), pixels[window.slices])
        if window.pixels > READ_ONCE:
            assert {*store._cache} == before
        both = np.stack([classes, confidence])[(slice(None), *window.slices)]
        np.testing.assert_array_equal(store.read_bands(window, chunks), both)
        assert store._cached == sum(piece.nbytes for piece in store._cache.values()) <= KEPT_BYTES
    # There was more than fits.
    assert store._cached > KEPT_BYTES - 512**2
