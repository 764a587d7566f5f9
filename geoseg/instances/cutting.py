"""Objects cut at the border of an area of interest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from geoseg.instances.masks import Masks
from geoseg.instances.objects import Objects
from geoseg.polygons.rings import offsets_of
from geoseg.vectors.area_of_interest import AreaOfInterest
from geoseg.windows import Window

__all__ = ["cut_objects"]


def cut_objects(objects: Objects, area: AreaOfInterest | None) -> Objects:
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
