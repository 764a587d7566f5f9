"""Chips to batches: read by window, augmented, normalized; the same chips whatever the workers and the interruptions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from geoseg.training.data.chips import Batch, Chip, ChipSource
from geoseg.training.data.object_sizes import objects_of
from geoseg.training.data.samplers import ChipRef, ChipSampler

__all__ = [
    "Change",
    "Collate",
    "Epochs",
    "Mix",
    "Preparation",
    "Reading",
    "normalized",
    "training_loader",
]

Change = Callable[[Chip, np.random.Generator], Chip]
"""Augmentation of a chip; all chance comes from the generator."""
Weigh = Callable[[Chip], NDArray[np.float32]]
"""Weight (h, w) float32 of each pixel of a chip in the loss."""
Mix = Callable[[Batch, np.random.Generator], Batch]
"""Augmentation of a whole batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """Chips to inputs of a network; picklable, for worker processes."""

    mean: tuple[float, ...]
    """By band, in the units of the input."""
    stddev: tuple[float, ...]
    """By band, in the units of the input."""
    size: int
    """Rows and columns of what the network gets."""
    margin: int = 0
    """Pixels that are read around a chip for the geometric augmentation."""
    changes: tuple[Change, ...] = ()
    """In order, each on what the one before gave; the first that gives chips of ``size`` uses up the margin."""
    weigh: Weigh | None = None
    """Weights of pixels in the loss."""
    objects: tuple[int, ...] = ()
    """Codes of the classes whose objects are distinguished; without any, batches have no objects."""

    def __call__(self, source: ChipSource, ref: ChipRef) -> Batch:
        """Read and prepare one chip, as a batch of one."""
        window = ref.window
        chip = source.read(window.grown(self.margin))
        rng = np.random.default_rng(ref.key)
        for change in self.changes:
            chip = change(chip, rng)
        if chip.valid.shape != (self.size, self.size):
            chip = cropped(chip, self.size)
        weights = self.weigh(chip) if self.weigh is not None else None
        return Batch(
            normalized(chip, self.mean, self.stddev)[None],
            torch.from_numpy(chip.labels.astype(np.int64))[None],
            torch.from_numpy(weights)[None] if weights is not None else None,
            torch.from_numpy(chip.rasters)[None] if chip.rasters is not None else None,
            torch.from_numpy(objects_of(chip, self.objects))[None] if self.objects else None,
        )


def normalized(chip: Chip, mean: Sequence[float], stddev: Sequence[float]) -> torch.Tensor:
    """(C, h, w) float32: ``(value - mean) / stddev``, 0 where not valid, as engines do it."""
    shape = (-1, 1, 1)
    image = (chip.image - np.asarray(mean, np.float32).reshape(shape)) / np.asarray(stddev, np.float32).reshape(shape)
    image[:, ~chip.valid] = 0
    return torch.from_numpy(np.ascontiguousarray(image, np.float32))


def cropped(chip: Chip, size: int) -> Chip:
    """The middle ``size`` x ``size`` pixels of a chip."""
    row, col = ((n - size) // 2 for n in chip.valid.shape)
    here = (..., slice(row, row + size), slice(col, col + size))
    return Chip(
        chip.image[here],
        chip.valid[here],
        chip.labels[here],
        chip.objects[here] if chip.objects is not None else None,
        chip.rasters[here] if chip.rasters is not None else None,
    )


class _Chips(Dataset[tuple[Batch, int]]):
    """Chips by reference, with the key of their chance."""

    def __init__(self, sources: Sequence[ChipSource], preparation: Preparation) -> None:
        self._sources, self._preparation = sources, preparation

    def __getitem__(self, ref: ChipRef) -> tuple[Batch, int]:
        return self._preparation(self._sources[ref.source], ref), ref.key


class Epochs(Sampler[list[ChipRef]]):
    """The references of an epoch, batch by batch; each process of several takes its part of every batch.

    The trainer knows nothing of epochs of batch samplers: the loop says which it is, and which part.
    """

    def __init__(self, sampler: ChipSampler, batches: int, size: int) -> None:
        self._sampler, self._batches, self._size = sampler, batches, size
        self._rank, self._world = 0, 1
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next iterator is of."""
        self._epoch = epoch

    def take_part(self, rank: int, world: int) -> None:
        """Say which of ``world`` processes that train together this is, from 0."""
        self._rank, self._world = rank, world

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self._batches

    def __iter__(self) -> Iterator[list[ChipRef]]:
        """The batches of this process."""
        refs = self._sampler.epoch(self._epoch, self._batches * self._size * self._world)
        for first in range(0, len(refs), self._size * self._world):
            yield list(refs[first + self._rank : first + self._size * self._world : self._world])


@dataclass(slots=True)
class Collate:
    """Joins chips, then mixes them; the mixing depends on which chips they are, not on who joins them."""

    mix: Mix | None

    def __call__(self, parts: Sequence[tuple[Batch, int]]) -> Batch:
        """One batch of chips with the keys of their chance."""
        chips = [chip for chip, _ in parts]
        batch = Batch(
            torch.cat([chip.image for chip in chips]),
            torch.cat([chip.labels for chip in chips]),
            _joined([chip.weights for chip in chips]),
            _joined([chip.rasters for chip in chips]),
            _joined([chip.objects for chip in chips]),
        )
        return self.mixed((batch, [key for _, key in parts]))

    def mixed(self, given: tuple[Batch, list[int]]) -> Batch:
        """A batch and the keys of its chips, mixed."""
        batch, keys = given
        return batch if self.mix is None else self.mix(batch, np.random.default_rng(keys))


def _joined(parts: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    found = [part for part in parts if part is not None]
    return torch.cat(found) if found else None


@dataclass(frozen=True, slots=True)
class Reading:
    """Processes that read chips, and their memory."""

    workers: int = 0
    """Processes that read; 0 reads in this one. The chips are the same."""
    pin: bool = False
    """Hand tensors over in memory that GPUs copy from."""


def training_loader(
    sources: Sequence[ChipSource],
    sampler: ChipSampler,
    preparation: Preparation,
    *,
    batches: int,
    size: int,
    mix: Mix | None = None,
    reading: Reading = Reading(),
) -> DataLoader[Batch]:
    """Batches of ``size`` chips a process, ``batches`` an epoch.

    Args:
        sources: What is read from; picklable where there are workers.
        sampler: Which chips.
        preparation: How they become what the network gets.
        batches: Batches an epoch.
        size: Chips of a batch.
        mix: Augmentation of whole batches.
        reading: Who reads.
    """
    loader: DataLoader[Batch] = DataLoader(
        _Chips(sources, preparation),  # type: ignore[arg-type]  # its items are chips, and batches come of them
        batch_sampler=Epochs(sampler, batches, size),
        collate_fn=Collate(mix),
        num_workers=reading.workers,
        persistent_workers=reading.workers > 0,
        pin_memory=reading.pin,
        # One of its own: loaders draw seeds for their workers, which would disturb dropout.
        generator=torch.Generator(),
    )
    return loader
