"""Cutting of objects where the ground is hidden."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from geoseg.arrays import I32, Bools
from geoseg.instances.masks import Masks
from geoseg.instances.objects import Objects
from geoseg.windows import Window

__all__ = ["cut_objects"]

CELL = 1024
"""What hides the ground is read in squares of this side, each about once."""
CELLS = 64


def cut_objects(objects: Objects, hidden: Callable[[Window], Bools], scene: Window) -> Objects:
    """Objects without the pixels that are hidden; those of which nothing is left are gone. All else of them stays.

    Args:
        objects: With masks in the scene's pixels.
        hidden: Gives (h, w) of a window that lies within the scene.
        scene: The window of the whole scene.
    """

    @lru_cache(maxsize=CELLS)
    def runs_in(cell: tuple[int, int]) -> I32:
        window = Window.cell(cell, (CELL, CELL)) & scene
        assert window is not None
        return Masks.of_labels(hidden(window).astype(np.int32), 1, window.row_off, window.col_off).runs

    boxes, runs = objects.masks.boxes, [objects.masks[i] for i in range(len(objects))]
    for i in np.lexsort((boxes[:, 2] // CELL, boxes[:, 0] // CELL)).tolist():
        box = Window.between(*boxes[i].tolist())
        rows, cols = box.cells((CELL, CELL))
        for cell in ((row, col) for row in rows for col in cols):
            others = runs_in(cell)
            near = others[slice(*np.searchsorted(others[:, 0], [box.row_off, box.row_stop]))]
            if len(near):
                runs[i] = Masks.difference(runs[i], near)
    cut = Objects(Masks.of_runs(runs), objects.code, objects.score, objects.confidence, objects.tile, objects.is_cut)
    return cut.take(np.flatnonzero([len(one) > 0 for one in runs]))
