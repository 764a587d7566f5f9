"""A look at a scene: the same few cells of it whatever is done with it, read in bounded time and memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from geoseg.grid import ceil_div
from geoseg.inference.reading import open_reader
from geoseg.parallel import ordered
from geoseg.scenes.reader import Pixels, SceneReader
from geoseg.scenes.scene import Scene
from geoseg.windows import Window

__all__ = ["sampled_cells"]

WANTED, TRIES = 24, 72
"""So many cells with data are looked for, in so many places at most."""
CACHE_BYTES, KEPT_BYTES = 32 << 20, 64 << 20
"""Of decoded blocks: for the look alone, and where they are handed on."""
AT_ONCE = 2
"""Cells that are read at once, also one that is not wanted in the end."""
LEAST_VALID = 0.25
"""Cells with less data count as tries only."""
STEP_ROWS, STEP_COLS = 0.7548776662466927, 0.5698402909980532
"""Steps of the two-dimensional sequence of Roberts (2018), which fills a square evenly however soon it ends."""


def sampled_cells(
    scene: Scene, bands: Sequence[int], side: int, *, mask_bad_blocks: bool = False, hand_on: bool = False
) -> Iterator[Pixels]:
    """The pixels of some cells, spread evenly over the scene; all of them where it has no more.

    Args:
        scene: The scene.
        bands: Indices of its bands.
        side: Rows and columns of a cell.
        mask_bad_blocks: Leave out what can't be read instead of raising.
        hand_on: Leave what is decoded to the reader that comes next.

    Raises:
        ReadError: A block can't be read.
    """
    found, cache = 0, KEPT_BYTES if hand_on else CACHE_BYTES
    with (
        open_reader(
            scene, bands, threads=AT_ONCE, cache_bytes=cache, mask_bad_blocks=mask_bad_blocks, keep_blocks=hand_on
        ) as reader,
        ThreadPoolExecutor(AT_ONCE, thread_name_prefix="geoseg-look") as pool,
    ):
        windows = (window for window in _places(scene, side) if not reader.is_empty(window))
        for pixels in ordered(pool, reader.read, windows, AT_ONCE):
            # What is hidden is no part of the look: clouds would pass for the land below them.
            shown = replace(pixels, valid=pixels.shown, hidden=None)
            if shown.valid.mean() < LEAST_VALID:
                continue
            yield shown
            found += 1
            if found == WANTED:
                break
        if hand_on and isinstance(reader, SceneReader):
            reader.hand_on()


def _places(scene: Scene, side: int) -> Iterator[Window]:
    whole = Window.of((scene.height, scene.width))
    rows, cols = ceil_div(scene.height, side), ceil_div(scene.width, side)
    if rows * cols <= WANTED:
        places = [(row, col) for row in range(rows) for col in range(cols)]
    else:
        spread = (((0.5 + k * STEP_ROWS) % 1, (0.5 + k * STEP_COLS) % 1) for k in range(TRIES))
        places = list(dict.fromkeys((int(row * rows), int(col * cols)) for row, col in spread))
    for place in places:
        window = Window.cell(place, (side, side)) & whole
        assert window is not None
        yield window
