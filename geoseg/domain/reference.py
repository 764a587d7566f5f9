"""The domain of a model as its card tells it, and the distance of windows of an image from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geoseg.arrays import F64
from geoseg.domain.moments import LAGS, WindowStats
from geoseg.models.card import Card

__all__ = ["FAR", "Reference", "deviations", "features", "reference_of", "score_of"]

FLOOR = 0.03
"""Contrasts far below this share of the deviation are noise: their logarithms would be no measure."""
FAR = 5.0
"""A window that lies further off counts no more: one lake does not outweigh a scene."""
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PRIOR_LIMIT = 3.0
PRIOR_MEAN, PRIOR_CONTRAST, PRIOR_SPREAD = 0.8, -0.5, 0.7
"""Where a card has no more than mean and deviation: means of windows spread by so many deviations, and the logarithm of their
contrast is such, with such a spread. Generous: less is known, so less is called far."""


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """The windows that a model has learned from."""

    center: F64
    """Mean of all pixels, by band: the unit of what follows."""
    spread: F64
    """Their deviation."""
    mean: F64
    """Of the features of windows."""
    inverse: F64
    """Of their covariance."""
    limit: float
    """Images whose score is higher are far from them."""
    measured: bool
    """Whether windows were measured; else the card told mean and deviation only."""

    def distances(self, stats: WindowStats) -> F64:
        """(windows,): root of the mean squared deviation of their features, in the directions and units of the covariance."""
        off = features(stats, self.center, self.spread)[:, : len(self.mean)] - self.mean
        squares: F64 = np.einsum("ij,jk,ik->i", off, self.inverse, off)
        return np.sqrt(np.maximum(squares, 0) / len(self.mean))


def score_of(distances: F64) -> float:
    """The score of an image: the mean distance of its windows."""
    return float(np.minimum(distances, FAR).mean())


def features(stats: WindowStats, center: F64, spread: F64) -> F64:
    """(windows, features): means by band; then contrast, and texture at each lag, by band and of neighbouring bands' differences.

    The differences of bands are what colour is made of: shades of grey have none, whatever their contrast.
    """
    unit = float(spread.mean())
    own = np.diagonal(stats.moments, axis1=2, axis2=3)
    across = own[:, :, 1:] + own[:, :, :-1] - 2 * np.diagonal(stats.moments, offset=1, axis1=2, axis2=3)
    logs = [np.log(np.sqrt(np.maximum(part, 0)) / unit + FLOOR) for part in (own, across)]
    size = 1 + len(LAGS)
    # The contrasts by band come first: cards of old models know of no more.
    blocks = [(stats.mean - center) / spread, logs[0][:, 0], logs[1][:, 0]]
    for lag in range(1, size):
        blocks += [logs[0][:, lag], logs[1][:, lag]]
    return np.concatenate(blocks, axis=1)


def reference_of(card: Card) -> Reference | None:
    """The domain that a card tells; None where it tells nothing of the data."""
    if card.domain is not None:
        facts = card.domain
        return Reference(
            np.array(facts.mean),
            np.array(facts.stddev),
            np.array(facts.features),
            np.linalg.inv(np.array(facts.covariance)),
            facts.limit,
            measured=True,
        )
    center, spread = (np.array([getattr(s, key) for s in card.scaling]) for key in ("mean", "stddev"))
    if _conventional(center, spread):
        return None
    bands = len(center)
    contrast = np.log(np.exp(PRIOR_CONTRAST) * spread / spread.mean() + FLOOR)
    deviation = np.repeat([PRIOR_MEAN, PRIOR_SPREAD], bands)
    return Reference(
        center, spread, np.concatenate([np.zeros(bands), contrast]), np.diag(deviation**-2.0), PRIOR_LIMIT, measured=False
    )


def _conventional(center: F64, spread: F64) -> bool:
    """Whether values are normalized by numbers that nobody has measured on the data of this model."""
    if np.allclose(center, 0) or (np.ptp(center) < 1e-9 and np.ptp(spread) < 1e-9 and len(center) > 1):
        return True
    usual = [np.array(values) for values in IMAGENET]
    if len(center) != len(usual[0]):
        return False
    return any(
        np.allclose(center, usual[0] * unit, rtol=1e-2) and np.allclose(spread, usual[1] * unit, rtol=1e-2) for unit in (1, 255)
    )


def deviations(reference: Reference, stats: WindowStats, bands: Sequence[str]) -> list[str]:
    """Largest deviations of an image, in words; the worst first."""
    found = features(stats, reference.center, reference.spread)[:, : len(reference.mean)]
    variance = np.diagonal(np.linalg.inv(reference.inverse))
    off = (np.minimum(np.maximum(np.median(found, axis=0) - reference.mean, -20), 20)) / np.sqrt(variance)
    texts: dict[str, None] = {}
    count = len(bands)
    for k in np.argsort(-np.abs(off))[:4]:
        if abs(off[k]) < 1:
            break
        if k < count:
            level = float(np.median(stats.mean[:, k]))
            usual = float(reference.center[k] + reference.mean[k] * reference.spread[k])
            texts[f"{bands[k]} is {'brighter' if off[k] > 0 else 'darker'} ({level:.4g}, there {usual:.4g})"] = None
            continue
        ratio = float(np.exp(np.median(found[:, k]) - reference.mean[k]))
        texts[f"{_what(int(k) - count, bands)} is {ratio:.2g} times as strong"] = None
    return list(texts)[:2]


def _what(place: int, bands: Sequence[str]) -> str:
    """The name of a feature after the means."""
    count = len(bands)
    kind, at = divmod(place, 2 * count - 1)
    name = ("contrast", "fine texture", "coarse texture")[kind]
    return f"the {name} of {bands[at]}" if at < count else f"the {name} of {bands[at - count]} against {bands[at - count + 1]}"
