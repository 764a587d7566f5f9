"""The numbers around a network: how pixels become its input, and how its scores become classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.codes import NODATA
from geoseg.inference import _pixels
from geoseg.models.card import Card
from geoseg.scenes.bands import ValueMap

__all__ = ["Decision", "Normalization"]

Floats = NDArray[np.float32]


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
    def arrays(self) -> tuple[Floats, Floats, Floats, Floats]:
        """``scale, shift, low, high`` (C,) float32."""
        scale, shift, low, high = (np.asarray(v, np.float32) for v in (self.scale, self.shift, self.low, self.high))
        return scale, shift, low, high

    def apply(self, data: NDArray[Any], valid: NDArray[np.bool_], out: Floats) -> None:
        """Normalize ``data`` (C, h, w) into ``out`` (C, H, W), whose further rows and columns repeat the edge."""
        _pixels.normalize(data, valid.view(np.uint8), *self.arrays, out)


@dataclass(frozen=True, slots=True)
class Decision:
    """How scores become a class and its confidence."""

    gain: tuple[float, ...]
    """Calibration by score: ``gain * score + offset``."""
    offset: tuple[float, ...]
    """Calibration by score."""
    thresholds: tuple[float, ...] | None
    """By score, the least probability for its class; None takes the most probable class."""
    softmax: bool
    """Whether the probabilities sum to 1, or each is a sigmoid of its own."""

    @classmethod
    def of(cls, card: Card) -> Decision:
        """What a card says."""
        ones, zeros = (1.0,) * card.scores, (0.0,) * card.scores
        gain, offset = (card.calibration.gain, card.calibration.offset) if card.calibration else (ones, zeros)
        return cls(gain, offset, card.thresholds, card.activation == "softmax")

    def thresholds_or(self, default: float) -> tuple[float, ...]:
        """The thresholds, or one default for all."""
        return self.thresholds if self.thresholds is not None else (default,) * len(self.gain)

    def decide(self, scores: Floats, valid: NDArray[np.bool_]) -> tuple[NDArray[np.uint8], NDArray[np.uint8], int]:
        """Class and confidence of each pixel: (h, w) uint8 both, and the number of pixels whose score is not finite.

        ``scores`` (K, h, w); where not ``valid`` (h, w), both are 255.
        """
        classes, confidence = np.empty(valid.shape, np.uint8), np.empty(valid.shape, np.uint8)
        bad = _pixels.decide(
            scores, valid.view(np.uint8),
            np.asarray(self.gain, np.float32), np.asarray(self.offset, np.float32),
            np.asarray(self.thresholds_or(0.5), np.float32),
            self.softmax, self.thresholds is not None, NODATA, classes, confidence,
        )  # fmt: skip
        return classes, confidence, int(bad)

    def probabilities(self, scores: Floats) -> Floats:
        """Calibrated probabilities (..., K, h, w) float32 of scores of the same shape."""
        shape = (len(self.gain), 1, 1)
        logits = scores * np.asarray(self.gain, np.float32).reshape(shape) + np.asarray(self.offset, np.float32).reshape(shape)
        if not self.softmax:
            return np.asarray(1 / (1 + np.exp(-logits)), np.float32)
        logits -= logits.max(axis=-3, keepdims=True)
        np.exp(logits, out=logits)
        logits /= logits.sum(axis=-3, keepdims=True)
        return logits

    def decide_probabilities(
        self, probabilities: Floats, valid: NDArray[np.bool_]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], int]:
        """As ``decide``, from probabilities (K, h, w) that are calibrated already."""
        p = np.clip(probabilities, 1e-12, 1.0)
        scores = np.log(p) if self.softmax else np.log(p) - np.log(np.clip(1 - p, 1e-12, 1.0))
        plain = Decision((1.0,) * len(self.gain), (0.0,) * len(self.gain), self.thresholds, self.softmax)
        return plain.decide(scores.astype(np.float32, copy=False), valid)
