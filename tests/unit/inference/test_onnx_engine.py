"""Buffers of ONNX Runtime's inputs pass from thread to thread, and no thread sees another one's pixels."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from geoseg.inference.engine import TileBatch
from geoseg.inference.normalization import Normalization
from geoseg.inference.onnx_engine import OnnxEngine
from geoseg.models.model_folder import Model


def batch_of(number: int, side: int, bands: int) -> TileBatch:
    data = np.random.default_rng(number).integers(0, 3, (bands, side, side)).astype(np.uint8)
    whole = slice(0, side)
    return TileBatch([data], [np.ones((side, side), np.bool_)], (side, side), [(whole, whole)])


def test_threads_share_buffers_and_no_pixels(identity_model: Model) -> None:
    bands = len(identity_model.card.bands)
    plain = Normalization((1.0,) * bands, (0.0,) * bands, (-1e9,) * bands, (1e9,) * bands)
    engine = OnnxEngine(identity_model, plain, threads=1)
    batches = [batch_of(number, 64 if number % 3 else 128, bands) for number in range(48)]
    alone = [engine.scores(batch).copy() for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        beside = list(pool.map(engine.scores, batches))
    for one, other in zip(alone, beside, strict=True):
        np.testing.assert_array_equal(one, other)
    assert 1 <= len(engine._buffers) <= 4
