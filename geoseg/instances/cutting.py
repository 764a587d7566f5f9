"""Objects cut at the border of an area of interest, and where clouds hide the ground."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np

from geoseg.arrays import I32, Bools
from geoseg.instances.masks import Masks
from geoseg.instances.objects import Objects
from geoseg.polygons.rings import offsets_of
from geoseg.vectors.area_of_interest import AreaOfInterest
from geoseg.windows import Window

__all__ = ["cut_hidden", "cut_to_area"]

CELL = 1024
"""What hides the ground is read in squares of this side, each about once."""
CELLS = 64


def cut_to_area(objects: Objects, area: AreaOfInterest | None) -> Objects:
    """The parts of objects that lie in the area: each 4-connected part is an object, and what lies outside is left out."""
    runs = objects.masks.runs
    if area is None or not len(runs):
        return objects
    window = Window.between(int(runs[:, 0].min()), int(runs[:, 0].max()) + 1, int(runs[:, 1].min()), int(runs[:, 2].max()))
    row, start, stop = area.spans(window).T
    # Places of both in one order: by row, then by column.
    width = np.int64(area.shape[1] + 1)
    run_row, run_start, run_stop = runs.T.astype(np.int64)
    first = np.searchsorted(row * width + stop, run_row * width + run_start, side="right")
    last = np.searchsorted(row * width + start, run_row * width + run_stop, side="left")
    count = np.maximum(last - first, 0)
    owner = np.repeat(np.arange(len(runs)), count)
    span = first[owner] + np.arange(len(owner)) - (np.cumsum(count) - count)[owner]
    cut = np.stack([run_row[owner], np.maximum(run_start[owner], start[span]), np.minimum(run_stop[owner], stop[span])], axis=1)
    lengths = np.bincount(objects.masks.owners[owner], minlength=len(objects))
    masks, whole = Masks(np.ascontiguousarray(cut, np.int32), offsets_of(lengths)).connected_parts()
    return replace(objects.take(whole), masks=masks)


def cut_hidden(objects: Objects, hidden: Callable[[Window], Bools], scene: Window) -> Objects:
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
