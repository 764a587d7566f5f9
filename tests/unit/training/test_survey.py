"""Counts of labels by scene and by cell, against numpy on whole arrays."""

from __future__ import annotations

import numpy as np
from training_toy import Patches

from geoseg.training.data.statistics import measure
from geoseg.training.data.survey import Counting, Place, survey
from geoseg.windows import Window

WHOLE = Window.of((96, 128))


def test_counts_are_those_of_the_whole_array_also_where_statistics_read_it() -> None:
    source = Patches("scene", 3)
    codes = source.read(WHOLE).labels
    (place,) = survey([source], [(0, WHOLE)], 2, 32)
    cells = codes.reshape(3, 32, 4, 32).transpose(0, 2, 1, 3).reshape(12, -1)
    assert place.counts.tolist() == np.bincount(codes.ravel()).tolist()
    assert place.holding.tolist() == [int((cells == k).any(axis=1).sum()) for k in (0, 1)]
    assert (place.cells, place.valid) == (12, codes.size)
    counting = Counting(source, Place("scene", 2, 32))
    assert measure([counting], [(0, WHOLE)], 2) == measure([source], [(0, WHOLE)], 2)
    assert counting.place.counts.tolist() == place.counts.tolist()
    assert counting.place.holding.tolist() == place.holding.tolist()
