"""Percentile intervals by the bootstrap (Efron and Tibshirani 1993, chapter 13)."""

from __future__ import annotations

import numpy as np

from geoseg.arrays import F64, I64

__all__ = ["DRAWS", "drawn", "interval"]

DRAWS = 2000


def drawn(scenes: int, generator: np.random.Generator, draws: int = DRAWS) -> I64:
    """(draws, scenes): how often each scene is drawn, with replacement (Efron 1979, doi:10.1214/aos/1176344552)."""
    return generator.multinomial(scenes, np.full(scenes, 1 / scenes), size=draws)


def interval(values: F64) -> tuple[float, float] | None:
    """The 2.5th and the 97.5th percentile of the values that are defined; None where none is."""
    there = values[np.isfinite(values)]
    if not there.size:
        return None
    low, high = np.percentile(there, (2.5, 97.5)).tolist()
    return float(low), float(high)
