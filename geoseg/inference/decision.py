"""Decision: how the scores of a network become classes, by calibration and thresholds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geoseg.arrays import F32, U8, Bools
from geoseg.codes import NODATA
from geoseg.inference import _pixels
from geoseg.models.card import Card
from geoseg.models.card_values import Calibration

__all__ = [
    "Curves",
    "Decision",
]

CUBIC_STEPS = 128
"""Straight lines that stand for a cubic curve; they are off by less than 1e-4 where its second slope is under 12."""
LEAST_CALIBRATED = 1e-6
"""No curve goes below this, so that the sum of probabilities is never 0."""


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """A rising curve of straight lines for each probability: ``y[i] + slope[i] * (p - x[i])``, i the last with ``x[i] <= p``.

    Every engine computes it by this formula in 32 bits.
    """

    x: F32
    """(K, M): corners, from 0 to 1; shorter curves repeat their last corner."""
    y: F32
    """(K, M): the values there."""
    slope: F32
    """(K, M): the slopes from there on; 0 at the last."""

    @classmethod
    def of(cls, calibration: Calibration | None) -> Curves | None:
        """The curves of a calibration; None where it has none."""
        if calibration is None or (calibration.knots is None and calibration.cubic is None):
            return None
        if calibration.cubic is not None:
            x = np.linspace(0, 1, CUBIC_STEPS + 1)
            corners = [np.stack([x, np.polynomial.polynomial.polyval(x, c)], axis=1) for c in calibration.cubic]
        else:
            corners = [np.asarray(curve, np.float64) for curve in calibration.knots or ()]
        length = max(map(len, corners))
        padded = np.stack([np.pad(curve, [(0, length - len(curve)), (0, 0)], mode="edge") for curve in corners])
        x, y = padded[..., 0], np.clip(np.maximum.accumulate(padded[..., 1], axis=1), LEAST_CALIBRATED, 1)
        width = np.diff(x, axis=1)
        slope = np.where(width > 0, np.diff(y, axis=1) / np.where(width > 0, width, 1), 0)
        slope = np.pad(slope, [(0, 0), (0, 1)])
        return cls(x.astype(np.float32), y.astype(np.float32), slope.astype(np.float32))

    def apply(self, p: F32, k: int) -> F32:
        """The curve of one probability."""
        i = np.searchsorted(self.x[k], p, side="right") - 1
        return np.asarray(self.y[k][i] + self.slope[k][i] * (p - self.x[k][i]), np.float32)


@dataclass(frozen=True, slots=True)
class Decision:
    """A rule by which scores become a class and its confidence."""

    gain: tuple[float, ...]
    """Calibration by score: ``gain * score + offset``."""
    offset: tuple[float, ...]
    """Calibration by score."""
    thresholds: tuple[float, ...] | None
    """By score, the least probability for its class; None takes the most probable class."""
    softmax: bool
    """Whether the probabilities sum to 1, or each is a sigmoid of its own."""
    curves: Curves | None = None
    """Calibration by probability."""

    @classmethod
    def of(cls, card: Card) -> Decision:
        """The rule of a card."""
        ones, zeros = (1.0,) * card.scores, (0.0,) * card.scores
        gain, offset = (card.calibration.gain, card.calibration.offset) if card.calibration else (ones, zeros)
        return cls(gain, offset, card.thresholds, card.activation == "softmax", Curves.of(card.calibration))

    def thresholds_or(self, default: float) -> tuple[float, ...]:
        """The thresholds, or one default for all."""
        return self.thresholds if self.thresholds is not None else (default,) * len(self.gain)

    def decide(self, scores: F32, valid: Bools) -> tuple[U8, U8, int]:
        """Class and confidence of each pixel: (h, w) uint8 both, and the number of pixels whose score is not finite.

        ``scores`` (K, h, w); where not ``valid`` (h, w), both are 255.
        """
        classes, confidence = np.empty(valid.shape, np.uint8), np.empty(valid.shape, np.uint8)
        none = np.zeros((0, 0), np.float32)
        curves = self.curves or Curves(none, none, none)
        bad = _pixels.decide(
            scores,
            valid.view(np.uint8),
            np.asarray(self.gain, np.float32),
            np.asarray(self.offset, np.float32),
            np.asarray(self.thresholds_or(0.5), np.float32),
            curves.x,
            curves.y,
            curves.slope,
            self.softmax,
            self.thresholds is not None,
            NODATA,
            classes,
            confidence,
        )
        return classes, confidence, int(bad)

    def probabilities(self, scores: F32) -> F32:
        """Calibrated probabilities (..., K, h, w) float32 of scores of the same shape."""
        shape = (len(self.gain), 1, 1)
        logits = scores * np.asarray(self.gain, np.float32).reshape(shape) + np.asarray(self.offset, np.float32).reshape(shape)
        if self.softmax:
            logits -= logits.max(axis=-3, keepdims=True)
            np.exp(logits, out=logits)
            logits /= logits.sum(axis=-3, keepdims=True)
        else:
            with np.errstate(over="ignore"):
                logits = np.asarray(1 / (1 + np.exp(-logits)), np.float32)
        if self.curves is not None:
            for k in range(len(self.gain)):
                logits[..., k, :, :] = self.curves.apply(logits[..., k, :, :], k)
            if self.softmax:
                logits /= logits.sum(axis=-3, keepdims=True)
        return logits

    def by_class(self, probabilities: F32) -> F32:
        """Probabilities of the classes (classes, h, w): a single one is that of class 1, and class 0 has the rest."""
        return np.concatenate([1 - probabilities, probabilities]) if len(probabilities) == 1 else probabilities

    def entropy(self, probabilities: F32) -> F32:
        """Entropy of probabilities (..., K, h, w) as a share of the largest possible one: (..., h, w) in 0 to 1.

        Of sigmoids, each against its opposite, it is the mean.
        """
        p = np.clip(probabilities, 1e-12, 1)
        if self.softmax:
            return np.asarray(-(p * np.log(p)).sum(axis=-3) / np.float32(np.log(p.shape[-3])), np.float32)
        q = np.clip(1 - p, 1e-12, 1)
        return np.asarray(-(p * np.log(p) + q * np.log(q)).mean(axis=-3) / np.float32(np.log(2)), np.float32)

    def decide_probabilities(self, probabilities: F32, valid: Bools) -> tuple[U8, U8, int]:
        """Decide as ``decide``, from probabilities (K, h, w) that are calibrated already."""
        p = np.clip(probabilities, 1e-12, 1.0)
        scores = np.log(p) if self.softmax else np.log(p) - np.log(np.clip(1 - p, 1e-12, 1.0))
        plain = Decision((1.0,) * len(self.gain), (0.0,) * len(self.gain), self.thresholds, self.softmax)
        return plain.decide(scores.astype(np.float32, copy=False), valid)
