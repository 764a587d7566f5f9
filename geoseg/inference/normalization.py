"""Normalization: how the pixels of a scene become the input of a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.arrays import F32, Bools
from geoseg.inference import _pixels
from geoseg.models.card import Card
from geoseg.scenes.bands.value_map import ValueMap

__all__ = ["Normalization"]


@dataclass(frozen=True, slots=True)
class Normalization:
    """``input = min(max(pixel * scale + shift, low), high)`` by band; pixels without data become 0."""

    scale: tuple[float, ...]
    shift: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    @classmethod
    def of(cls, card: Card, values: ValueMap) -> Normalization:
        """A card's normalization, after the mapping of the scene's values to what the model takes."""
        pairs = list(zip(card.scaling, values.scale, values.offset, strict=True))
        return cls(
            tuple(scale / s.stddev for s, scale, _ in pairs),
            tuple((offset - s.mean) / s.stddev for s, _, offset in pairs),
            tuple((values.low - s.mean) / s.stddev for s, _, _ in pairs),
            tuple((values.high - s.mean) / s.stddev for s, _, _ in pairs),
        )

    @property
    def arrays(self) -> tuple[F32, F32, F32, F32]:
        """``scale, shift, low, high`` (C,) float32."""
        scale, shift, low, high = (np.asarray(v, np.float32) for v in (self.scale, self.shift, self.low, self.high))
        return scale, shift, low, high

    def apply(self, data: NDArray[Any], valid: Bools, out: F32) -> None:
        """Normalize ``data`` (C, h, w) into ``out`` (C, H, W), whose further rows and columns repeat the edge."""
        _pixels.normalize(data, valid.view(np.uint8), *self.arrays, out)
