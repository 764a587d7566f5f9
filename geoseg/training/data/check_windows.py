"""Windows of validation: read with some context, of which only the core counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NotRequired, TypedDict

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from geoseg.training.data.chips import Batch, ChipSource
from geoseg.training.data.loaders import Preparation, normalized
from geoseg.windows import Window

__all__ = ["Check", "Loaders", "check_loader", "seen_window"]


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
