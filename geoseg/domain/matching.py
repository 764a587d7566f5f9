"""Linear maps of pixel values under which an image looks most like those that a model has learned from.

Windows are compared, not images: a scene of nothing but forest is mapped to the forest of the training, not to its mixture of
classes. All bands share one map, as those of a product do; bands get maps of their own only where that leaves them far off.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geoseg.arrays import F64
from geoseg.domain.moments import WindowStats
from geoseg.domain.reference import FAR, Reference, score_of

__all__ = ["Match", "match_values"]

MOST_WINDOWS = 128
GAIN_SPAN, GAIN_STEPS = 3.0, 61
"""The first gains that are tried: up to e to this power, from that which gives the usual contrast."""
OFFSETS = 13
"""The first offsets that are tried, over the values that the training knows."""
ROUNDS, SHRINK = 10, 0.6
"""Of the search around the best; each is finer by this factor."""
BAND_ROUNDS = 4
BETTER = 0.8
"""Maps by band are taken where they lower the score by this factor at least: they have more freedom to be wrong."""


@dataclass(frozen=True, slots=True)
class Match:
    """A mapping of values: ``value * scale + offset``."""

    scale: tuple[float, ...]
    """By band."""
    offset: tuple[float, ...]
    """By band."""
    score: float
    """That of the image after it."""
    by_band: bool
    """Whether bands have maps of their own."""


def match_values(stats: WindowStats, reference: Reference) -> Match:
    """Find the map.

    Args:
        stats: Windows of the image in its own values; one at least.
        reference: What the model has learned from.
    """
    some = stats[np.unique(np.linspace(0, len(stats) - 1, MOST_WINDOWS).astype(np.intp))]
    bands = some.mean.shape[1]
    gain, offset = _shared(some, reference)
    scale, shift = np.full(bands, gain), np.full(bands, offset)
    score = score_of(reference.distances(stats.mapped(scale, shift)))
    by_band = False
    if score > reference.limit and bands > 1:
        own = _by_band(some, reference, scale, shift)
        better = score_of(reference.distances(stats.mapped(*own)))
        if better < BETTER * score:
            (scale, shift), score, by_band = own, better, True
    return Match(tuple(scale.tolist()), tuple(shift.tolist()), score, by_band)


def _cost(stats: WindowStats, reference: Reference, scale: F64 | float, offset: F64 | float) -> float:
    """The mean squared distance, in which windows that are far off any training count little (Geman and McClure)."""
    bands = stats.mean.shape[1]
    mapped = stats.mapped(np.broadcast_to(scale, bands), np.broadcast_to(offset, bands))
    squares = reference.distances(mapped) ** 2
    return float((squares / (1 + squares / FAR**2)).mean())


def _shared(stats: WindowStats, reference: Reference) -> tuple[float, float]:
    """Gain and offset of all bands."""
    contrast = np.sqrt(np.maximum(np.diagonal(stats.moments[:, 0], axis1=1, axis2=2), 0))
    own = float(np.median(contrast, axis=0).mean()) or float(stats.mean.std()) or 1.0
    unit = float(reference.spread.mean())
    usual = unit * float(np.exp(reference.mean[len(reference.center) : 2 * len(reference.center)]).mean())
    span = float(np.abs(reference.center).max() + 2 * unit)
    gains = usual / own * np.exp(np.linspace(-GAIN_SPAN, GAIN_SPAN, GAIN_STEPS))
    best = min((_cost(stats, reference, g, b), float(g), float(b)) for g in gains for b in np.linspace(-span, span, OFFSETS))
    step_gain, step_offset = 2 * GAIN_SPAN / (GAIN_STEPS - 1), 2 * span / (OFFSETS - 1)
    # The darker of two equals is no better than the other: what is compared is the cost alone, in a fixed order.
    level = stats.mean.mean()
    for _ in range(ROUNDS):
        _, gain, offset = best
        tried = []
        for up in (-1.0, -0.5, 0.0, 0.5, 1.0):
            other = gain * np.exp(up * step_gain)
            # A gain moves the level, too; the offsets are tried around the one that keeps it.
            kept = offset + (gain - other) * level
            tried += [(float(other), float(kept + move * step_offset)) for move in (-1.0, -0.5, 0.0, 0.5, 1.0)]
        best = min([best, *((_cost(stats, reference, g, b), g, b) for g, b in tried)])
        step_gain, step_offset = step_gain * SHRINK, step_offset * SHRINK
    return best[1], best[2]


def _by_band(stats: WindowStats, reference: Reference, scale: F64, offset: F64) -> tuple[F64, F64]:
    """Gains and offsets of each band in turn, from those of all, each keeping the level or not."""
    center, spread = reference.center, reference.spread
    level = stats.mean.mean(axis=0)
    contrast = np.sqrt(np.maximum(np.diagonal(stats.moments[:, 0], axis1=1, axis2=2), 0)).mean(axis=0)
    matched = np.where(contrast > 0, spread / np.where(contrast > 0, contrast, 1.0), scale)
    starts = [(scale, offset), (matched, center - matched * level), (0.5 * matched, center - 0.5 * matched * level)]
    scale, offset = min(starts, key=lambda one: _cost(stats, reference, *one))
    best, step = _cost(stats, reference, scale, offset), 0.5
    for _ in range(BAND_ROUNDS * 4):
        for band in range(len(scale)):
            for gain, move in ((up, shift) for up in (-1, 0, 1) for shift in (-1, 0, 1)):
                tried_scale, tried_offset = scale.copy(), offset.copy()
                tried_scale[band] *= np.exp(gain * step)
                tried_offset[band] += (scale[band] - tried_scale[band]) * level[band] + move * step * spread[band]
                cost = _cost(stats, reference, tried_scale, tried_offset)
                if cost < best:
                    best, scale, offset = cost, tried_scale, tried_offset
        step *= 0.75
    return scale, offset
