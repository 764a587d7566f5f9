"""Sampling design: the size of a sample, and its allocation to strata."""

from __future__ import annotations

from typing import Literal

import numpy as np

from geoseg.arrays import F64, I64
from geoseg.errors import ConfigError

__all__ = ["Allocation", "allocate", "expected_se", "size_for"]

Allocation = Literal["equal", "proportional", "neyman"]


def size_for(weight: F64, deviation: F64, target: float, population: float | None = None) -> int:
    """Units for a standard error (Cochran 1977, equation 5.25; Olofsson et al. 2014, equation 13), if shared as by Neyman.

    Args:
        weight: (H,) shares of the strata in the area.
        deviation: (H,) standard deviation within each: ``sqrt(U (1 - U))`` for an expected user's accuracy U.
        target: Standard error of the overall accuracy.
        population: Number of units in all; None for so many that it does not matter.
    """
    if target <= 0:
        raise ConfigError(f"target_se: {target:g} is not above 0; 0.01 is usual")
    finite = 0.0 if population is None else float((weight * deviation**2).sum()) / population
    # Decimals far below what is known of the deviations do not ask for one more unit.
    return int(np.ceil(float((weight * deviation).sum()) ** 2 / (target**2 + finite) - 1e-9))


def expected_se(weight: F64, deviation: F64, size: I64, units: I64) -> float:
    """Standard error of the overall accuracy, if the strata deviate as expected (Cochran 1977, equation 5.6).

    Args:
        weight: (H,) shares of the strata in the area.
        deviation: (H,) standard deviation within each.
        size: (H,) units that each has.
        units: (H,) units that are drawn of each.
    """
    return float(np.sqrt((weight**2 * deviation**2 * (1 - units / size) / units).sum()))


def allocate(total: int, weight: F64, size: I64, how: Allocation, *, deviation: F64 | None = None, least: int = 0) -> I64:
    """Units of each stratum (H,); they add up to the total.

    Args:
        total: Units in all.
        weight: (H,) shares of the strata in the area.
        size: (H,) units that each stratum has.
        how: ``equal``, ``proportional`` to the area, or ``neyman``: to area times deviation, which makes the standard error
            of the overall accuracy least (Neyman 1934).
        deviation: (H,) for ``neyman``.
        least: Units that each stratum has at least; the others share the rest.

    Raises:
        ConfigError: The strata are too small, or the total is below the least ones.
    """
    count = len(weight)
    floor = np.minimum(np.full(count, max(least, 2), np.int64), size)
    if total < floor.sum():
        raise ConfigError(f"size: {total} units for {count} strata of at least {max(least, 2)}; give {floor.sum()} or more")
    if total > size.sum():
        raise ConfigError(f"size: {total} units, and the strata have {int(size.sum())} in all; give fewer")
    key = {"equal": np.ones(count), "proportional": weight, "neyman": weight * (deviation if deviation is not None else 1.0)}[how]
    if key.sum() <= 0:
        raise ConfigError("allocation: neyman needs a deviation above 0: give expected accuracies between 0 and 1")
    found = floor.copy()
    fixed = np.zeros(count, np.bool_)
    while True:
        # Strata whose share is below the least, or above what there is, get that; the others share the rest. Where both happen,
        # first those that change the rest more: it may bring the others back between their bounds.
        free = total - found[fixed].sum()
        part = np.where(fixed, 0.0, key)
        if part.sum() == 0:
            break
        wanted = free * part / part.sum()
        low, high = ~fixed & (wanted < floor), ~fixed & (wanted > size)
        if not (low.any() or high.any()):
            found = np.where(fixed, found, np.floor(wanted).astype(np.int64))
            rest = int(total - found.sum())
            order = np.lexsort((np.arange(count), -(wanted - np.floor(wanted)), fixed))
            for k in order[:rest]:
                found[k] += 1
            break
        change = (np.clip(wanted, floor, size) - wanted)[~fixed].sum()
        low, high = low & (change >= 0), high & (change <= 0)
        found = np.where(low, floor, np.where(high, size, found))
        fixed |= low | high
    if found.sum() != total:
        raise ConfigError(
            f"size: {total} units, and strata with something to tell have {found.sum()} with the least ones; give fewer"
        )
    return found
