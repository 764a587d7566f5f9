"""Drawing units of a raster at random, window by window, the same whatever the windows it is stored in.

The raster is counted over a fixed lattice of windows; a unit is named by its rank among those of its stratum in the order of
that lattice, and ranks are drawn without replacement. Then the windows that hold drawn ranks are read once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.arrays import I64
from geoseg.windows import Window

__all__ = ["LATTICE", "OUTSIDE", "Counted", "Units", "count_units", "draw_units"]

LATTICE = 1024
"""Side of a window of the lattice in pixels."""
OUTSIDE = -1
"""Stratum of what is not in the population."""
Strata = Callable[[Window], NDArray[np.int16]]
"""Gives the stratum of each unit of a window, or OUTSIDE."""


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """Numbers of units of each stratum in each window of the lattice."""

    shape: tuple[int, int]
    """Rows and columns of the raster, in units."""
    by_window: I64
    """(windows, strata)."""

    @property
    def sizes(self) -> I64:
        """(strata,) units of each stratum."""
        return np.asarray(self.by_window.sum(axis=0))


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """Units that were drawn, in the order of strata and of the lattice."""

    stratum: I64
    """(n,) strata."""
    row: I64
    """(n,) rows of units."""
    col: I64
    """(n,) cols of units."""


def _windows(shape: tuple[int, int]) -> Iterator[Window]:
    scene = Window.of(shape)
    for row in range(0, shape[0], LATTICE):
        for col in range(0, shape[1], LATTICE):
            window = Window.at((row, col), (LATTICE, LATTICE)) & scene
            assert window is not None
            yield window


def count_units(shape: tuple[int, int], strata: Strata, count: int) -> Counted:
    """Count the units of a number of strata."""
    rows = [np.bincount((strata(window).ravel() + 1).astype(np.int64), minlength=count + 1)[1:] for window in _windows(shape)]
    return Counted(shape, np.stack(rows).astype(np.int64))


def draw_units(counted: Counted, strata: Strata, wanted: I64, generator: np.random.Generator) -> Units:
    """Draw units without replacement, each of a stratum with the same probability.

    Args:
        counted: What ``count_units`` gave.
        strata: The same strata.
        wanted: (strata,) how many of each; not more than there are.
        generator: Source of chance.
    """
    found: list[tuple[int, I64, I64, int]] = []
    ranks = [
        np.sort(generator.choice(int(size), int(n), replace=False, shuffle=False))
        for size, n in zip(counted.sizes, wanted, strict=True)
    ]
    starts = np.cumsum(counted.by_window, axis=0) - counted.by_window
    for number, window in enumerate(_windows(counted.shape)):
        here = []
        for stratum, drawn in enumerate(ranks):
            low = starts[number, stratum]
            inside = drawn[np.searchsorted(drawn, low) : np.searchsorted(drawn, low + counted.by_window[number, stratum])] - low
            if len(inside):
                here.append((stratum, inside))
        if not here:
            continue
        values = strata(window)
        for stratum, inside in here:
            at = np.flatnonzero(values == stratum)[inside]
            rows, cols = np.divmod(at, window.width)
            found.append((stratum, rows + window.row_off, cols + window.col_off, number))
    found.sort(key=lambda part: (part[0], part[3]))
    empty = np.empty(0, np.int64)
    return Units(
        np.concatenate([empty, *(np.full(len(rows), stratum, np.int64) for stratum, rows, _, _ in found)]),
        np.concatenate([empty, *(rows for _, rows, _, _ in found)]),
        np.concatenate([empty, *(cols for _, _, cols, _ in found)]),
    )
