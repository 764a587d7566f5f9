"""Distinct histories of pixels, however many dates there are: against rows that numpy finds distinct."""

from __future__ import annotations

import numpy as np
import pytest

from geoseg.dates.histories import histories


@pytest.mark.parametrize(("count", "base"), [(1, 256), (2, 3), (8, 256), (40, 3), (127, 3), (60, 256)])
def test_each_pixel_has_its_history_and_each_is_there_once(count: int, base: int) -> None:
    rng = np.random.default_rng(count)
    layers = rng.integers(0, base, (count, 7, 9)).astype(np.uint8)
    layers[:, 3:] = layers[:, :1]  # some are shared
    layers[:, 5, 5] = base - 1
    rows, at = histories(iter(layers), base)
    assert rows.shape[1] < 63
    np.testing.assert_array_equal(rows[:, at], layers)
    np.testing.assert_array_equal(np.unique(rows, axis=1), np.unique(layers.reshape(count, -1), axis=1))
    assert len({*map(tuple, rows.T.tolist())}) == rows.shape[1]
