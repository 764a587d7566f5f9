"""ONNX Runtime, on the CPU unless another of its execution providers is asked for. torch is not imported.

On the CPU its scores are equal to the last bit whatever the threads, the batch and the place of a tile in the scene, as long
as the tile sees all that the network sees; the promise of one answer rests on it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

from geoseg.arrays import F32
from geoseg.errors import ConfigError, Interrupted, ModelError, TileTimeoutError
from geoseg.inference.decision import Decision
from geoseg.inference.engine import CPU, TILE_SECONDS, Classified, EngineName, TileBatch
from geoseg.inference.normalization import Normalization
from geoseg.inference.onnx_session import OnnxSession
from geoseg.models.model_folder import Model

__all__ = ["OnnxEngine"]

TILE_PX = 1024
"""Side of the tile that the longest time is meant for; larger ones and batches may take more."""


class OnnxEngine:
    """Runs ``model.onnx``; see ``open_engine``."""

    name: EngineName = "onnx"
    notes: tuple[str, ...] = ()

    def __init__(
        self,
        model: Model,
        normalization: Normalization,
        *,
        threads: int = 0,
        batch: int = 0,
        tile_seconds: float = TILE_SECONDS,
        provider: str = CPU,
    ) -> None:
        if model.onnx is None:
            raise ModelError(f"{model.path}: no model.onnx")
        # A network of one size takes one image at a time.
        self.batch = (batch or 1) if model.card.tile is None else 1
        self.device = provider
        self._normalization = normalization
        self._scores = model.card.scores
        self._buffers: list[F32] = []
        self._session = OnnxSession(model.onnx, threads=threads, seconds=tile_seconds, provider=provider)
        try:
            self._input = self._session.inputs[0].name
            self._probe(model)
        except (ModelError, ConfigError, Interrupted):
            raise
        except TileTimeoutError as error:
            raise ModelError(str(error)) from error
        except Exception as error:  # ONNX Runtime raises kinds of its own
            raise ModelError(f"{model.onnx}: can't be loaded: {str(error).splitlines()[0]}") from error

    def _probe(self, model: Model) -> None:
        """Check on a small blank image that the network is the one of the card."""
        card = model.card
        shape = self._session.inputs[0].shape
        if isinstance(shape[1], int) and shape[1] != len(card.bands):
            raise ModelError(
                f"{model.onnx}: takes {shape[1]} bands, but its card lists {len(card.bands)} ({', '.join(card.bands)})"
            )
        side = card.tile or 2 * card.stride
        scores = self._session.run({self._input: np.zeros((1, len(card.bands), side, side), np.float32)})[0]
        if scores.shape != (1, card.channels, side, side):
            raise ModelError(
                f"{model.onnx}: gives scores of shape {scores.shape} for a {side} x {side} image; its card says "
                f"{card.channels} channels"
            )
        if not np.isfinite(scores).all():
            raise ModelError(f"{model.onnx}: gives NaN for a blank image; its weights are damaged")

    def stop(self) -> None:
        """End what is under way soon, with Interrupted."""
        self._session.stop()

    def _input_buffer(self, size: int) -> F32:
        """A buffer that no thread uses, of so many numbers or more."""
        try:
            # The one that was given back last is in the processor's cache; there are as many as threads that are here at once.
            buffer = self._buffers.pop()
        except IndexError:
            return np.empty(size, np.float32)
        return buffer if buffer.size >= size else np.empty(size, np.float32)

    def scores(self, batch: TileBatch) -> F32:
        """Scores (N, K, H, W) of whole tiles."""
        return self.channels(batch)[:, : self._scores]

    def channels(self, batch: TileBatch) -> F32:
        """All that the network gives (N, K + R, H, W)."""
        shape = (len(batch.data), batch.data[0].shape[0], *batch.shape)
        size = math.prod(shape)
        buffer = self._input_buffer(size)
        image = buffer[:size].reshape(shape)
        for data, valid, out in zip(batch.data, batch.valid, image, strict=True):
            self._normalization.apply(data, valid, out)
        share = image.shape[0] * image.shape[2] * image.shape[3] / TILE_PX**2
        channels = self._session.run({self._input: image}, share=share)[0]
        # Not where it failed: a run that could not be ended may still read it. Nor where the network gives what it was given.
        if not np.may_share_memory(channels, buffer):
            self._buffers.append(buffer)
        return channels

    def classify(self, batches: Iterable[TileBatch], decision: Decision) -> Iterator[list[Classified]]:
        """Class and confidence of the kept part of each tile, batch by batch in order."""
        for batch in batches:
            scores = self.scores(batch)
            yield [
                Classified(*decision.decide(tile[:, rows, cols], valid[rows, cols]))
                for tile, valid, (rows, cols) in zip(scores, batch.valid, batch.keep, strict=True)
            ]
