"""Embeddings of buildings by an encoder that is left as it is: of both dates, and of the first in the place of all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from geoseg.arrays import F32
from geoseg.errors import ModelError
from geoseg.inference.onnx_session import OnnxSession
from geoseg.models.card_values import DamageFacts
from geoseg.models.model_folder import Model
from geoseg.models.onnx_tensors import encoder_levels, head_input

__all__ = ["Embedded", "Embedder", "open_embedder"]

VIEWS = range(8)
"""Symmetries of the square that are averaged, as ``geoseg.damage.network.seen`` numbers them."""


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """Buildings as an encoder sees them."""

    event: F32
    """(N, F)."""
    before: F32
    """(N, F) with the image before in the place of all dates: undamaged, whatever the building."""
    probability: F32 | None = None
    """(N, K) of the classes by the model itself; None where it grades none."""
    probability_before: F32 | None = None
    """(N, K) with the image before in the place of all dates."""


Embedder = Callable[[F32, F32], Embedded]
"""Takes crops (N, dates * C, S, S) and masks (N, S, S)."""


def open_embedder(model: Model, threads: int = 0) -> tuple[Embedder, DamageFacts]:
    """Open the encoder of a model, and say how buildings are shown to it.

    Args:
        model: A model that grades buildings, whose head's features are taken, or a U-Net, whose encoder is pooled over the
            footprint and around it.
        threads: Of the network; 0 for all cores.

    Raises:
        ModelError: It has no encoder that can be found.
    """
    if model.onnx is None:
        raise ModelError(f"{model.path}: has no model.onnx, whose features could be used; export it, or give another model")
    if model.card.damage is not None:
        session = OnnxSession(model.onnx, threads=threads, also=[head_input(model.onnx)])
        return _Graded(session, len(model.card.bands)), model.card.damage
    levels = encoder_levels(model.onnx)
    return _Pooled(OnnxSession(model.onnx, threads=threads, also=levels), model), DamageFacts()


class _Graded:
    """Features that the head of a model takes which grades buildings."""

    def __init__(self, session: OnnxSession, bands: int) -> None:
        self._session, self._bands = session, bands

    def __call__(self, image: F32, mask: F32) -> Embedded:
        before = np.concatenate([image[:, : self._bands]] * (image.shape[1] // self._bands), axis=1)
        probability, event = self._session.run({"image": image, "mask": mask[:, None]})
        probability_before, undamaged = self._session.run({"image": before, "mask": mask[:, None]})
        return Embedded(event, undamaged, probability, probability_before)


class _Pooled:
    """Feature maps of an encoder, averaged over the footprint and over what lies around it."""

    def __init__(self, session: OnnxSession, model: Model) -> None:
        self._session, self._bands = session, len(model.card.bands)
        self._input = session.inputs[0].name
        self._mean = np.array([s.mean for s in model.card.scaling], np.float32)[:, None, None]
        self._deviation = np.array([s.stddev for s in model.card.scaling], np.float32)[:, None, None]

    def __call__(self, image: F32, mask: F32) -> Embedded:
        return Embedded(self._of_date(image[:, -self._bands :], mask), self._of_date(image[:, : self._bands], mask))

    def _of_date(self, image: F32, mask: F32) -> F32:
        there = (image != 0).any(axis=1, keepdims=True)
        scaled = np.where(there, (image - self._mean) / self._deviation, np.float32(0)).astype(np.float32)
        views = [self._seen(_seen(scaled, view), _seen(mask, view)) for view in VIEWS]
        return np.asarray(np.mean(views, axis=0, dtype=np.float32), np.float32)

    def _seen(self, image: F32, mask: F32) -> F32:
        parts = []
        for level in self._session.run({self._input: image})[1:]:
            size = level.shape[-2:]
            blocks = mask.reshape(len(mask), size[0], mask.shape[1] // size[0], size[1], mask.shape[2] // size[1])
            inside = blocks.mean(axis=(2, 4))[:, None]
            parts += [(level * w).sum(axis=(2, 3)) / (w.sum(axis=(2, 3)) + 1e-3) for w in (inside, 1 - inside)]
        return np.concatenate(parts, axis=1)


def _seen(image: F32, view: int) -> F32:
    image = np.swapaxes(image, -1, -2) if view & 4 else image
    axes = tuple(axis for axis, bit in ((-1, 1), (-2, 2)) if view & bit)
    return np.ascontiguousarray(np.flip(image, axes))
