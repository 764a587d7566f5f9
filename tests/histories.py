"""First changes by all histories written out: what hidden Markov chains are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product

import numpy as np
from numpy.typing import NDArray


def by_histories(p: Sequence[float], rate: float) -> NDArray[np.float64]:
    """The probability of each first change, summed over all histories of presence."""
    count = len(p)
    found = np.zeros(2 * count)
    for history in product((0, 1), repeat=count):
        weight = np.prod([p[t] if state else 1 - p[t] for t, state in enumerate(history)])
        for before, after in pairwise(history):
            weight *= rate if before != after else 1 - rate
        changed = next((t for t in range(count - 1) if history[t] != history[t + 1]), None)
        if changed is None:
            found[history[0]] += weight
        else:
            found[(2 if history[0] else 1 + count) + changed] += weight
    return found / found.sum()
