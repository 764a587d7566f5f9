"""Which chips an epoch consists of: the same for the same seed and state, whatever was interrupted before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geoseg.training.chips import ChipSource
from geoseg.windows import Window

__all__ = ["AreaSampler", "ChipRef"]


@dataclass(frozen=True, slots=True)
class ChipRef:
    """A chip to read."""

    source: int
    """Which source."""
    window: Window
    """Where; without the margin that augmentation reads around it."""
    key: int
    """Seed of everything that is random about it."""


class AreaSampler:
    """Chips at random places, scenes in proportion to their area.

    Args:
        sources: The scenes.
        size: Rows and columns of a chip.
        seed: Of the whole training.
    """

    def __init__(self, sources: Sequence[ChipSource], size: int, seed: int) -> None:
        self._sources, self._size, self._seed = tuple(sources), size, seed
        area = np.array([source.height * source.width for source in sources], np.float64)
        self._share = area / area.sum()

    def epoch(self, number: int, count: int) -> Sequence[ChipRef]:
        """The chips of an epoch."""
        rng = np.random.default_rng((self._seed, number))
        refs = []
        for k in rng.choice(len(self._sources), count, p=self._share):
            source = self._sources[k]
            row, col = (int(rng.integers(0, max(1, n - self._size + 1))) for n in (source.height, source.width))
            refs.append(ChipRef(int(k), Window(row, col, self._size, self._size), int(rng.integers(2**62))))
        return refs
