"""Strata of a sampling frame, and how many units are drawn of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import ConfigError
from geoseg.sampling.design import allocate, expected_se, size_for
from pipeline.sample.settings import SampleSettings

__all__ = ["Drawn", "Stratum", "allocation_of"]

EXPECTED = 0.8
"""User's accuracy of classes for which none is expected."""


class Stratum(TypedDict):
    """A stratum of the sampling frame."""

    name: str
    size: int
    """Units in the frame."""
    units: int
    """Units that were drawn."""


class Drawn(TypedDict):
    """A sample that was drawn, as a JSON object."""

    map: str
    strata: list[Stratum]
    allocation: str
    seed: int
    block: int
    area_m2: dict[str, float]
    expected_se: float
    units: int


def allocation_of(
    sizes: NDArray[np.int64], titles: Sequence[str], settings: SampleSettings, classes: Mapping[str, str] | None = None
) -> tuple[NDArray[np.int64], float]:
    """Units of each stratum, and the standard error of the overall accuracy that is expected.

    Args:
        sizes: (H,) units that each has, at least one.
        titles: Their names.
        settings: How many are drawn, and what is expected.
        classes: Names under which accuracies may be expected, by title; by default the titles themselves.

    Raises:
        ConfigError: The settings don't fit.
    """
    weight, whole = sizes / sizes.sum(), int(sizes.sum())
    expected, called = settings.expected or {}, classes or {title: title for title in titles}
    for name, value in expected.items():
        if name not in called.values():
            raise ConfigError(f"--expected: {name!r} is no stratum: {', '.join(dict.fromkeys(called.values()))}")
        if not 0 < value < 1:
            raise ConfigError(f"--expected: {value:g} of {name} is not between 0 and 1")
    users = np.array([expected.get(called[title], EXPECTED) for title in titles])
    deviation = np.sqrt(users * (1 - users))
    # One stratum need not have more units than all have.
    least = int(min(settings.least, sizes.max()))

    def share(total: int) -> NDArray[np.int64]:
        return allocate(total, weight, sizes, settings.allocation, deviation=deviation, least=least)

    if settings.size is not None:
        found = share(settings.size)
    else:
        most = np.minimum(np.maximum(least, 2), sizes).sum()
        total = min(max(size_for(weight, deviation, settings.target_se, float(whole)), int(most)), whole)
        found = share(total)
        # The formula is that of the best allocation; others need more for the same.
        while (se := expected_se(weight, deviation, sizes, found)) > settings.target_se and total < whole:
            total = min(max(total + 1, int(total * (se / settings.target_se) ** 2)), whole)
            found = share(total)
    return found, expected_se(weight, deviation, sizes, found)
