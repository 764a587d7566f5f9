"""Figures of whole maps from sums of their chunks, against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from geoseg.inference.chunks import ChunkLayers
from geoseg.models.card_values import Quantity
from pipeline.infer.value_sums import summed, value_figures, value_sums

QUANTITY = Quantity(name="elevation", unit="m", scale=0.01, offset=-500.0)


def layers(codes: np.ndarray, classes: np.ndarray, clipped: np.ndarray) -> ChunkLayers:
    values = np.stack([codes >> 8, codes & 255]).astype(np.uint8)
    return ChunkLayers(classes, classes, 1, values=values, clipped=clipped)


def test_figures() -> None:
    rng = np.random.default_rng(2)
    parts, known = [], []
    for level in (0, 30_000, 65_000):
        codes = (level + rng.integers(0, 500, (40, 50))).astype(np.uint16)
        classes = rng.choice(np.array([0, 0, 0, 254, 255], np.uint8), codes.shape)
        clipped = rng.integers(-1, 2, codes.shape).astype(np.int8)
        parts.append((layers(codes, classes, clipped), classes, clipped))
        known.append(codes[classes == 0].astype(np.float64))
    nothing = layers(np.zeros((2, 2), np.uint16), np.full((2, 2), 255, np.uint8), np.ones((2, 2), np.int8))
    total = summed([value_sums(part) for part, _, _ in parts] + [value_sums(nothing)])
    every = np.concatenate(known)
    assert total["pixels"] == every.size
    assert total["below"] == sum(int(((classes == 0) & (clipped < 0)).sum()) for _, classes, clipped in parts)
    assert total["above"] == sum(int(((classes == 0) & (clipped > 0)).sum()) for _, classes, clipped in parts)
    values = every * QUANTITY.scale + QUANTITY.offset
    wanted = {"least": values.min(), "most": values.max(), "mean": values.mean(), "deviation": values.std()}
    assert value_figures(QUANTITY, total) == pytest.approx(wanted, rel=1e-9)


def test_nothing() -> None:
    assert summed([]) == {}
    assert value_figures(QUANTITY, {}) == {}
