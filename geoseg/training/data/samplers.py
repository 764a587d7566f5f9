"""Samplers: the chips of an epoch, the same for the same seed and state, whatever was interrupted before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from geoseg.codes import UNLABELLED
from geoseg.dialect import number_of
from geoseg.errors import ConfigError
from geoseg.training.data.chips import ChipSource
from geoseg.windows import Window

__all__ = ["AreaSampler", "ChipRef", "ChipSampler", "ClassSampler", "GridSampler", "HardSampler", "make_sampler"]


@dataclass(frozen=True, slots=True)
class ChipRef:
    """A chip to read."""

    source: int
    """Number of the source."""
    window: Window
    """Its place, without the margin that augmentation reads around it."""
    key: int
    """Seed of everything that is random about it."""


class ChipSampler(Protocol):
    """Draws the chips of an epoch."""

    def epoch(self, number: int, count: int) -> Sequence[ChipRef]:
        """The chips of an epoch in order; the same for the same arguments and state."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class _Blocks:
    """Counts of codes in blocks of half a chip, read once: where the labels are."""

    side: int
    source: NDArray[np.intp]
    """(B,): which source."""
    row: NDArray[np.intp]
    """(B,): first row."""
    col: NDArray[np.intp]
    """(B,): first col."""
    counts: NDArray[np.int64]
    """(B, classes): labelled pixels."""
    valid: NDArray[np.int64]
    """(B,): pixels with data."""

    @classmethod
    def count(cls, sources: Sequence[ChipSource], size: int, classes: int) -> _Blocks:
        side = max(8, size // 2)
        rows: list[tuple[int, int, int]] = []
        counts: list[NDArray[np.int64]] = []
        valid: list[int] = []
        for k, source in enumerate(sources):
            for row in range(0, source.height, side):
                for col in range(0, source.width, side):
                    window = Window.between(row, min(row + side, source.height), col, min(col + side, source.width))
                    chip = source.read(window)
                    rows.append((k, row, col))
                    counts.append(np.bincount(chip.labels.ravel(), minlength=UNLABELLED + 1)[:classes])
                    valid.append(int(chip.valid.sum()))
        places = np.array(rows, np.intp)
        return cls(side, places[:, 0], places[:, 1], places[:, 2], np.array(counts, np.int64), np.array(valid, np.int64))

    def chip_at(self, block: int, sources: Sequence[ChipSource], size: int, rng: np.random.Generator) -> ChipRef:
        """A chip that holds the middle of a block, at a random place around it."""
        source = sources[int(self.source[block])]
        offsets = []
        for start, extent in ((int(self.row[block]), source.height), (int(self.col[block]), source.width)):
            middle = start + min(self.side, extent - start) // 2
            low = min(max(0, middle - size + 1), max(0, extent - size))
            high = min(max(0, extent - size), middle)
            offsets.append(int(rng.integers(low, max(low, high) + 1)))
        return ChipRef(int(self.source[block]), Window.at((offsets[0], offsets[1]), (size, size)), _key(rng))


def _key(rng: np.random.Generator) -> int:
    return int(rng.integers(2**62))


class _OfBlocks:
    """Base of samplers that know the labels."""

    def __init__(self, sources: Sequence[ChipSource], size: int, seed: int, classes: int) -> None:
        self._sources, self._size, self._seed = tuple(sources), size, seed
        self._blocks = _Blocks.count(sources, size, classes)
        weights = self._blocks.counts.sum(axis=1)
        # Scenes to adapt to have no labels at all.
        self._weights = (weights if weights.any() else self._blocks.valid).astype(np.float64)
        if not self._weights.any():
            raise ConfigError(f"data: none of {number_of(len(sources), 'scene')} has a pixel with data")

    def _drawn(self, weights: NDArray[np.float64], number: int, count: int) -> list[ChipRef]:
        rng = np.random.default_rng((self._seed, number))
        blocks = rng.choice(len(weights), count, p=weights / weights.sum())
        return [self._blocks.chip_at(int(block), self._sources, self._size, rng) for block in blocks]


class AreaSampler(_OfBlocks):
    """Chips at random places, in proportion to the labelled area around them; to that with data where nothing is labelled.

    Args:
        sources: The scenes.
        size: Rows and columns of a chip.
        seed: Of the whole training.
        classes: Number of classes.
    """

    def epoch(self, number: int, count: int) -> Sequence[ChipRef]:
        """The chips of an epoch."""
        return self._drawn(self._weights, number, count)


class ClassSampler(_OfBlocks):
    """Chips in which every class is met as often as any other: first a class is drawn, then a place by its pixels there."""

    def __init__(self, sources: Sequence[ChipSource], size: int, seed: int, classes: int) -> None:
        super().__init__(sources, size, seed, classes)
        found = self._blocks.counts.sum(axis=0)
        share = self._blocks.counts / np.maximum(found, 1)
        self._weights = share[:, found > 0].sum(axis=1) if found.any() else self._weights

    def epoch(self, number: int, count: int) -> Sequence[ChipRef]:
        """The chips of an epoch."""
        return self._drawn(self._weights, number, count)


class HardSampler(_OfBlocks):
    """Chips in proportion to the loss that chips around there had, once it is known; a tenth of them anywhere.

    Its state follows from the losses that it was told: it is part of checkpoints.
    """

    def __init__(self, sources: Sequence[ChipSource], size: int, seed: int, classes: int) -> None:
        super().__init__(sources, size, seed, classes)
        self._loss = np.ones(len(self._weights))
        self._last: list[ChipRef] = []

    def epoch(self, number: int, count: int) -> Sequence[ChipRef]:
        """The chips of an epoch."""
        even = self._weights / self._weights.sum()
        hard = self._weights * self._loss
        self._last = self._drawn(0.1 * even + 0.9 * hard / hard.sum(), number, count)
        return self._last

    def update(self, losses: Sequence[float]) -> None:
        """Take in the losses of the last epoch's chips, in their order; half of what a block was is kept."""
        mean = float(np.mean(losses)) if len(losses) else 1.0
        blocks = self._blocks
        for ref, loss in zip(self._last, losses, strict=False):
            row, col = ref.window.row_off + self._size // 2, ref.window.col_off + self._size // 2
            near = np.flatnonzero((blocks.source == ref.source) & (blocks.row <= row) & (blocks.col <= col))
            if len(near):
                block = near[np.argmax(blocks.row[near] * 1_000_003 + blocks.col[near])]
                self._loss[block] = 0.5 * self._loss[block] + 0.5 * loss / max(mean, 1e-12)

    def state_dict(self) -> dict[str, list[float]]:
        """State for checkpoints."""
        return {"loss": self._loss.tolist()}

    def load_state_dict(self, state: Mapping[str, list[float]]) -> None:
        """Go on where a checkpoint was."""
        self._loss = np.asarray(state["loss"], np.float64)


class GridSampler(_OfBlocks):
    """Every chip of a regular grid over the scenes, in another order each time; those without labels are left out."""

    def __init__(self, sources: Sequence[ChipSource], size: int, seed: int, classes: int) -> None:
        super().__init__(sources, size, seed, classes)
        labelled = self._blocks.counts.any()
        self._cells = [
            (k, Window.at((row, col), (size, size)))
            for k, source in enumerate(sources)
            for row in _starts(source.height, size)
            for col in _starts(source.width, size)
            if not labelled or (source.read(Window.at((row, col), (size, size))).labels != UNLABELLED).any()
        ]

    def epoch(self, number: int, count: int) -> Sequence[ChipRef]:
        """The chips of an epoch: those of the grid, as often as needed."""
        first = number * count
        refs = []
        for i in range(first, first + count):
            rng = np.random.default_rng((self._seed, i // len(self._cells)))
            k, window = self._cells[rng.permutation(len(self._cells))[i % len(self._cells)]]
            refs.append(ChipRef(k, window, _key(np.random.default_rng((self._seed, i, 1)))))
        return refs


def _starts(extent: int, size: int) -> list[int]:
    """Starts of the cells of a grid; the last one ends with the scene."""
    return [min(start, max(0, extent - size)) for start in range(0, extent, size)]


SAMPLERS: Mapping[str, Callable[[Sequence[ChipSource], int, int, int], ChipSampler]] = {
    "area": AreaSampler,
    "grid": GridSampler,
    "class": ClassSampler,
    "hard": HardSampler,
}


def make_sampler(by: str, sources: Sequence[ChipSource], size: int, seed: int, classes: int) -> ChipSampler:
    """A sampler by name.

    Raises:
        ConfigError: It is not known, or there is nothing to draw from.
    """
    if by not in SAMPLERS:
        raise ConfigError(f"sample.by: {by!r} is not known; choose one of {', '.join(SAMPLERS)}")
    return SAMPLERS[by](sources, size, seed, classes)
