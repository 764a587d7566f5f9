"""Measures of calibration: distances of probabilities from frequencies, added up window by window in bounded memory.

Probabilities fall into ``FINE`` equal bins, for the most probable class and for each class; a bin keeps its count, the sum
of its probabilities and the number of pixels that are of the class. Measures over equal-width bins, whose number divides
``FINE``, are exact: their edges are edges of the fine bins. Equal-mass bins are exact but for their edges, which move to the
nearest fine one (1 / 3840); where more pixels share a fine bin than a whole mass bin takes, there are fewer bins.
Brier score and negative log-likelihood are sums over pixels, without bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.arrays import F64, U8, Bools
from geoseg.errors import ConfigError
from geoseg.sampling.bootstrap import DRAWS, drawn, interval

__all__ = ["FINE", "Brief", "Diagram", "Tally", "bootstrap"]

FINE = 3840
"""Fine bins: 2**8 * 15, which 10, 15, 20 and many other numbers of bins divide."""
LEAST_LIKELIHOOD = 1e-7
"""Probabilities under this count as this in the likelihood; float32 holds no difference to 1 that is smaller."""
PIECE = 1 << 18


@dataclass(frozen=True, slots=True, eq=False)
class Diagram:
    """A reliability diagram: mean probability against observed frequency by bin; empty bins are left out."""

    count: F64
    """(B,): pixels of each bin."""
    probability: F64
    """(B,): their mean probability."""
    frequency: F64
    """(B,): the share of them that is of the class."""

    @property
    def error(self) -> float:
        """Expected calibration error: the mean distance of the two, weighted by pixels."""
        return float((self.count * np.abs(self.probability - self.frequency)).sum() / max(1.0, float(self.count.sum())))

    def to_json(self) -> dict[str, list[float]]:
        """The diagram as lists."""
        return {
            "pixels": self.count.tolist(),
            "probability": np.round(self.probability, 6).tolist(),
            "frequency": np.round(self.frequency, 6).tolist(),
        }


class Tally:
    """Probabilities against labels, of as many pixels as one likes. Two tallies add up.

    Args:
        classes: Number of classes K.
        independent: Each probability stands for itself (sigmoids of several classes); their likelihoods are multiplied.
    """

    def __init__(self, classes: int, *, independent: bool = False) -> None:
        self.classes, self.independent = classes, independent
        self.pixels = 0
        self._top = np.zeros((3, FINE))
        self._by_class = np.zeros((classes, 3, FINE))
        self._squares = self._surprise = 0.0
        self._correct = 0

    def add(self, probabilities: NDArray[np.floating[Any]], labels: U8) -> None:
        """Take in pixels: ``probabilities`` (K, ...), ``labels`` (...); codes that are no class are left out."""
        flat, codes = probabilities.reshape(self.classes, -1), labels.ravel()
        for start in range(0, codes.size, PIECE):
            part = codes[start : start + PIECE]
            known = part < self.classes
            if known.any():
                self._add(flat[:, start : start + PIECE][:, known].astype(np.float64), part[known])

    def _add(self, p: F64, codes: U8) -> None:
        best = p.argmax(axis=0)
        at = np.arange(codes.size)
        correct = best == codes
        self._top += _histogram(p[best, at], correct)
        self.pixels += codes.size
        self._correct += int(correct.sum())
        if not self.independent:
            self._surprise -= float(np.log(np.maximum(p[codes, at], LEAST_LIKELIHOOD)).sum())
        for k in range(self.classes):
            is_class = codes == k
            self._by_class[k] += _histogram(p[k], is_class)
            self._squares += float(((p[k] - is_class) ** 2).sum())
            if self.independent:
                self._surprise -= float(np.log(np.maximum(np.where(is_class, p[k], 1 - p[k]), LEAST_LIKELIHOOD)).sum())

    def __add__(self, other: Tally) -> Tally:
        """Tallies of both together."""
        both = Tally(self.classes, independent=self.independent)
        both.pixels = self.pixels + other.pixels
        both._top = self._top + other._top
        both._by_class = self._by_class + other._by_class
        both._squares = self._squares + other._squares
        both._surprise = self._surprise + other._surprise
        both._correct = self._correct + other._correct
        return both

    def diagram(self, bins: int = 15, *, equal_mass: bool = False, of_class: int | None = None) -> Diagram:
        """The reliability diagram of the most probable class, or of one class against the others.

        Raises:
            ConfigError: The number of bins does not divide ``FINE``.
        """
        fine = self._top if of_class is None else self._by_class[of_class]
        count, p, hits = _coarse(fine, bins, equal_mass=equal_mass)
        some = count > 0
        return Diagram(count[some], p[some] / count[some], hits[some] / count[some])

    def ece(self, bins: int = 15, *, equal_mass: bool = False) -> float:
        """Expected calibration error of the most probable class (Guo et al., 2017, https://arxiv.org/abs/1706.04599)."""
        return self.diagram(bins, equal_mass=equal_mass).error

    def classwise_ece(self, bins: int = 15, *, equal_mass: bool = False) -> float:
        """Mean over classes of the error of one class against the others (Kull et al., 2019, arXiv:1910.12656)."""
        errors = [self.diagram(bins, equal_mass=equal_mass, of_class=k).error for k in range(self.classes)]
        return float(np.mean(errors))

    @property
    def brier(self) -> float:
        """Mean over pixels of the squared distances of all probabilities to 0 or 1, 0 to 2 (Brier, 1950)."""
        return self._squares / max(1, self.pixels)

    @property
    def nll(self) -> float:
        """Mean negative log-likelihood of the labels, in nats."""
        return self._surprise / max(1, self.pixels)

    @property
    def accuracy(self) -> float:
        """Share of pixels whose most probable class is their label."""
        return self._correct / max(1, self.pixels)

    def summary(self) -> dict[str, float]:
        """All measures by name."""
        return {
            "pixels": self.pixels,
            "ece": self.ece(),
            "ece_equal_mass": self.ece(equal_mass=True),
            "classwise_ece": self.classwise_ece(),
            "brier": self.brier,
            "nll": self.nll,
            "accuracy": self.accuracy,
        }

    def brief(self, bins: int = 15) -> Brief:
        """The sums that measures of several tallies are made of."""
        sums = np.array([self.pixels, self._squares, self._surprise, self._correct], np.float64)
        return Brief(sums, _coarse(self._top, bins, equal_mass=False))


@dataclass(frozen=True, slots=True, eq=False)
class Brief:
    """A tally without its fine bins."""

    sums: F64
    """(4,): pixels, squared distances, negative log-likelihoods, hits."""
    top: F64
    """(3, B): count, sum of probabilities and hits of the most probable class."""


def bootstrap(scenes: Sequence[Brief], generator: np.random.Generator, *, draws: int = DRAWS) -> dict[str, tuple[float, float]]:
    """95 % intervals of ECE, Brier score, NLL and accuracy from drawing scenes with replacement.

    Pixels of a scene are alike, so that scenes are drawn, not pixels. Under two scenes there is no interval.

    Args:
        scenes: One a scene.
        generator: Source of chance.
        draws: Number of draws.
    """
    if len(scenes) < 2:
        return {}
    sums, tops = np.stack([scene.sums for scene in scenes]), np.stack([scene.top for scene in scenes])
    times = drawn(len(scenes), generator, draws)
    totals = times @ sums
    pixels = np.maximum(totals[:, 0], 1)
    _, p, hits = np.moveaxis(np.einsum("ds,sib->dib", times, tops), 1, 0)
    by_name = {
        "ece": np.abs(p - hits).sum(axis=1) / pixels,
        "brier": totals[:, 1] / pixels,
        "nll": totals[:, 2] / pixels,
        "accuracy": totals[:, 3] / pixels,
    }
    return {name: found for name, values in by_name.items() if (found := interval(values)) is not None}


def _histogram(p: F64, hits: Bools) -> F64:
    """(3, FINE): count, sum of probabilities, hits."""
    place = np.clip((p * FINE).astype(np.int64), 0, FINE - 1)
    return np.stack(
        [
            np.bincount(place, minlength=FINE).astype(np.float64),
            np.bincount(place, weights=p, minlength=FINE),
            np.bincount(place, weights=hits, minlength=FINE),
        ]
    )


def _coarse(fine: F64, bins: int, *, equal_mass: bool) -> F64:
    """(3, bins) of (3, FINE)."""
    if bins < 1 or FINE % bins:
        raise ConfigError(f"bins: {bins} does not divide {FINE}; use 10, 15, 20, 30 or 60")
    if not equal_mass:
        return np.asarray(fine.reshape(3, bins, FINE // bins).sum(axis=2))
    count = fine[0]
    middle = np.cumsum(count) - count / 2
    place = np.minimum((middle / max(1.0, float(count.sum())) * bins).astype(np.int64), bins - 1)
    return np.stack([np.bincount(place, weights=row, minlength=bins) for row in fine])
