"""Chips to batches: read by window, augmented, normalized; the same chips whatever the workers and the interruptions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NotRequired, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from geoseg.training.data.chips import Batch, Chip, ChipSource
from geoseg.training.data.object_sizes import objects_of
from geoseg.training.data.samplers import ChipRef, ChipSampler
from geoseg.windows import Window

__all__ = [
    "Change",
    "Check",
    "Collate",
    "Epochs",
    "Loaders",
    "Mix",
    "Preparation",
    "Reading",
    "check_loader",
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


class _Batches(Sampler[list[ChipRef]]):
    """The references of an epoch, batch by batch; each process of several takes its part of every batch."""

    def __init__(self, sampler: ChipSampler, batches: int, size: int, rank: int, world: int) -> None:
        self._sampler, self._batches, self._size = sampler, batches, size
        self._rank, self._world = rank, world
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before an epoch, also the first one after a resume."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[list[ChipRef]]:
        refs = self._sampler.epoch(self._epoch, self._batches * self._size * self._world)
        for first in range(0, len(refs), self._size * self._world):
            yield list(refs[first + self._rank : first + self._size * self._world : self._world])


class Epochs(_Batches):
    """The same for loaders without workers, whose epoch the loop sets before each by the steps done."""


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
    part: tuple[int, int] = (0, 1),
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
        part: Number of this process among those that train together, and how many those are.
        reading: Who reads.
    """
    loader: DataLoader[Batch] = DataLoader(
        _Chips(sources, preparation),  # type: ignore[arg-type]
        batch_sampler=_Batches(sampler, batches, size, *part),
        collate_fn=Collate(mix),
        num_workers=reading.workers,
        persistent_workers=reading.workers > 0,
        pin_memory=reading.pin,
        # One of its own: loaders draw seeds for their workers, which would disturb dropout.
        generator=torch.Generator(),
    )
    return loader


class Check(TypedDict):
    """A window of validation."""

    image: torch.Tensor
    """(1, C, H, W) float32: normalized, with some context."""
    labels: torch.Tensor
    """(1, H, W) int64."""
    core: tuple[slice, slice]
    """Rows and cols of it that count."""
    rasters: NotRequired[torch.Tensor]
    """(1, R, H, W) float32: targets of regression, NaN where not known."""


@dataclass(frozen=True, slots=True, eq=False)
class Loaders:
    """All that a training reads from."""

    training: Mapping[str, DataLoader[Batch]]
    """By name: ``labelled``, and ``target`` where it learns from chips without labels."""
    checks: DataLoader[Check]
    """Windows of validation."""


class _Checks(Dataset[Check]):
    """Windows of whole scenes with some context, of which only the core counts."""

    def __init__(
        self,
        sources: Sequence[ChipSource],
        areas: Sequence[tuple[int, Window]],
        preparation: Preparation,
        context: int,
        stride: int,
    ) -> None:
        self._sources, self._areas, self._preparation = sources, areas, preparation
        self._context, self._stride = context, stride

    def __len__(self) -> int:
        return len(self._areas)

    def __getitem__(self, number: int) -> Check:
        index, core = self._areas[number]
        source = self._sources[index]
        window = seen_window(core, self._context, self._stride, source.height, source.width)
        chip = source.read(window)
        # Past the scene the last row and column repeat, as engines have it.
        rows, cols = min(window.height, source.height - window.row_off), min(window.width, source.width - window.col_off)
        around = (0, window.height - rows), (0, window.width - cols)
        pixels = np.pad(chip.image[:, :rows, :cols], ((0, 0), *around), mode="edge")
        valid = np.pad(chip.valid[:rows, :cols], around, mode="edge")
        image = normalized(replace(chip, image=pixels, valid=valid), self._preparation.mean, self._preparation.stddev)
        check: Check = {
            "image": image[None],
            "labels": torch.from_numpy(chip.labels.astype(np.int64))[None],
            "core": core.slices_in(window),
        }
        if chip.rasters is not None:
            check["rasters"] = torch.from_numpy(chip.rasters)[None]
        return check


def seen_window(core: Window, context: int, stride: int, height: int, width: int) -> Window:
    """Window that a network sees for a core: some context as far as the scene goes, on the phase of the stride."""
    top, left = max(0, core.row_off - context) // stride * stride, max(0, core.col_off - context) // stride * stride
    bottom = -(-min(height, core.row_stop + context) // stride) * stride
    right = -(-min(width, core.col_stop + context) // stride) * stride
    return Window.between(top, bottom, left, right)


def check_loader(
    sources: Sequence[ChipSource],
    areas: Sequence[tuple[int, Window]],
    preparation: Preparation,
    *,
    context: int,
    stride: int,
    workers: int = 0,
) -> DataLoader[Check]:
    """Windows for validation, one at a time: ``image`` (1, C, H, W), ``labels`` (1, H, W), ``core`` as slices.

    Args:
        sources: The scenes.
        areas: Source and core of each window.
        preparation: For its normalization; nothing is augmented.
        context: Pixels seen around a core.
        stride: The network's; windows are multiples of it.
        workers: Processes that read.
    """
    checks = _Checks(sources, areas, preparation, context, stride)
    return DataLoader(checks, batch_size=None, num_workers=workers, persistent_workers=workers > 0, generator=torch.Generator())
