"""ONNX Runtime on the CPU. torch is not imported.

Its scores are equal to the last bit whatever the threads, the batch and the place of a tile in the scene, as long as the
tile sees all that the network sees; the promise of one answer rests on it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from geoseg.errors import ModelError
from geoseg.inference.engine import Batch, Classified, EngineName
from geoseg.inference.values import Decision, Normalization
from geoseg.models.folder import Model

__all__ = ["OnnxEngine"]


class OnnxEngine:
    """Runs ``model.onnx``; see ``open_engine``."""

    name: EngineName = "onnx"
    device = "cpu"

    def __init__(self, model: Model, normalization: Normalization, *, threads: int = 0, batch: int = 0) -> None:
        if model.onnx is None:
            raise ModelError(f"{model.path}: no model.onnx")
        self.batch = batch or 1
        self._normalization = normalization
        self._scores = model.card.scores
        self._turn = threading.Lock()
        self._local = threading.local()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # Idle threads that spin take the cores from reading, writing and tracing.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(str(model.onnx), options, providers=["CPUExecutionProvider"])
            self._input = self._session.get_inputs()[0].name
            self._probe(model)
        except ModelError:
            raise
        except Exception as error:  # ONNX Runtime raises kinds of its own
            raise ModelError(f"{model.onnx}: can't be loaded: {str(error).splitlines()[0]}") from error

    def _probe(self, model: Model) -> None:
        """Check on a small blank image that the network is the one of the card."""
        card = model.card
        shape = self._session.get_inputs()[0].shape
        if isinstance(shape[1], int) and shape[1] != len(card.bands):
            raise ModelError(
                f"{model.onnx}: takes {shape[1]} bands, but its card lists {len(card.bands)} ({', '.join(card.bands)})"
            )
        side = 2 * card.stride
        scores = self._session.run(None, {self._input: np.zeros((1, len(card.bands), side, side), np.float32)})[0]
        if scores.shape != (1, card.channels, side, side):
            raise ModelError(
                f"{model.onnx}: gives scores of shape {scores.shape} for a {side} x {side} image; its card says {card.channels} channels"
            )
        if not np.isfinite(scores).all():
            raise ModelError(f"{model.onnx}: gives NaN for a blank image; its weights are damaged")

    def _input_buffer(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """A buffer of this thread, kept from call to call."""
        buffer: NDArray[np.float32] | None = self._local.__dict__.get("buffer")
        size = int(np.prod(shape))
        if buffer is None or buffer.size < size:
            buffer = self._local.buffer = np.empty(size, np.float32)
        return buffer[:size].reshape(shape)

    def scores(self, batch: Batch) -> NDArray[np.float32]:
        """Scores (N, K, H, W) of whole tiles."""
        return self.channels(batch)[:, : self._scores]

    def channels(self, batch: Batch) -> NDArray[np.float32]:
        """All that the network gives (N, K + R, H, W)."""
        image = self._input_buffer((len(batch.data), batch.data[0].shape[0], *batch.shape))
        for data, valid, out in zip(batch.data, batch.valid, image, strict=True):
            self._normalization.apply(data, valid, out)
        with self._turn:
            result: list[Any] = self._session.run(None, {self._input: image})
        channels: NDArray[np.float32] = result[0]
        return channels

    def classify(self, batches: Iterable[Batch], decision: Decision) -> Iterator[list[Classified]]:
        """Class and confidence of the kept part of each tile, batch by batch in order."""
        for batch in batches:
            scores = self.scores(batch)
            yield [
                Classified(*decision.decide(tile[:, rows, cols], valid[rows, cols]))
                for tile, valid, (rows, cols) in zip(scores, batch.valid, batch.keep, strict=True)
            ]
