"""Scenes that stay in the memory of a device, and chips cut and augmented there: no reading, no copies, while training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from geoseg.codes import UNLABELLED
from geoseg.errors import ConfigError
from geoseg.training.augment.geometry import Moves
from geoseg.training.augment.intensity import Radiometry
from geoseg.training.augment.tensors import ChipTensors, expose, move
from geoseg.training.data.chips import Batch, ChipSource
from geoseg.training.data.loaders import Collate, Epochs, Mix, Preparation
from geoseg.training.data.samplers import ChipRef, ChipSampler
from geoseg.windows import Window

__all__ = ["ResidentChips", "ResidentScenes", "resident_loader", "training_device"]


class ResidentScenes:
    """All pixels of some scenes on a device: 4 bytes a band and pixel, 8 for what else is known of it.

    Args:
        sources: The scenes; each is read once, whole.
        device: Where to.

    Raises:
        ConfigError: Some distinguish objects, and some don't; or they have rasters to regress.
    """

    def __init__(self, sources: Sequence[ChipSource], device: torch.device) -> None:
        chips = [source.read(Window.of((source.height, source.width))) for source in sources]
        if any(chip.rasters is not None for chip in chips):
            raise ConfigError(
                "data.rasters: chips that are cut on a device can't have rasters to regress; train from files, with geoseg train"
            )
        if len({chip.objects is None for chip in chips}) > 1:
            raise ConfigError("data.labels: some scenes distinguish objects, others don't; on a device all have to be alike")
        self.device = device
        sizes = [source.height * source.width for source in sources]
        self._start = np.cumsum([0, *sizes[:-1]])
        self._shape = np.array([(source.height, source.width) for source in sources])
        self._image = self._sent([chip.image.reshape(len(chip.image), -1) for chip in chips])
        self._valid = self._sent([chip.valid.ravel() for chip in chips])
        self._labels = self._sent([chip.labels.ravel() for chip in chips])
        objects = [chip.objects.ravel() for chip in chips if chip.objects is not None]
        self._objects = self._sent(objects) if objects else None

    def _sent(self, parts: Sequence[NDArray[np.generic]]) -> Tensor:
        """Scenes after each other along the last axis."""
        return torch.from_numpy(np.concatenate(parts, axis=-1)).to(self.device)

    @property
    def tells_objects(self) -> bool:
        """Whether the labels distinguish objects."""
        return self._objects is not None

    def read(self, which: Sequence[int], windows: Sequence[Window]) -> ChipTensors:
        """The chips of windows of one size; past a scene, they are neither valid nor labelled."""
        height, width = windows[0].shape

        def sent(values: Sequence[object]) -> Tensor:
            return torch.from_numpy(np.asarray(values, np.int64)).to(self.device)

        corners = sent([(window.row_off, window.col_off) for window in windows])
        rows = corners[:, :1] + torch.arange(height, device=self.device)
        cols = corners[:, 1:] + torch.arange(width, device=self.device)
        start, extent = sent([self._start[k] for k in which]), sent([self._shape[k] for k in which])
        inside = ((rows >= 0) & (rows < extent[:, :1]))[:, :, None] & ((cols >= 0) & (cols < extent[:, 1:]))[:, None, :]
        pixel = (start[:, None, None] + rows[:, :, None] * extent[:, 1, None, None] + cols[:, None, :]).masked_fill(~inside, 0)
        image = self._image[:, pixel].movedim(0, 1).masked_fill(~inside[:, None], 0)
        labels = self._labels[pixel].masked_fill(~inside, UNLABELLED)
        objects = self._objects[pixel].masked_fill(~inside, 0) if self._objects is not None else None
        return ChipTensors(image, self._valid[pixel] & inside, labels, objects)


class ResidentChips(Dataset[tuple[Batch, list[int]]]):
    """Whole batches of chips by reference, with the keys of their chance, prepared on the device.

    What comes out is what ``Preparation`` gives one by one.

    Args:
        sources: The scenes.
        preparation: How chips become what a network gets.
        device: Where the scenes are to lie.

    Raises:
        ConfigError: Something of the preparation can't be done there.
    """

    def __init__(self, sources: Sequence[ChipSource], preparation: Preparation, device: torch.device) -> None:
        for change in preparation.changes:
            if not isinstance(change, Moves | Radiometry):
                raise ConfigError(
                    f"adapt: {type(change).__name__} can't change chips on a device; train from files, with geoseg train"
                )
        if preparation.weigh is not None:
            raise ConfigError(
                "loss.border: weights of gaps can't be computed on a device; set it to 0, or train from files, with geoseg train"
            )
        self._scenes = ResidentScenes(sources, device)
        if preparation.objects and not self._scenes.tells_objects:
            raise ConfigError(
                "data.labels: they don't distinguish objects, which chips cut on a device need; train from files, with geoseg "
                "train"
            )
        self._preparation = preparation
        shape = (1, -1, 1, 1)
        self._mean = torch.tensor(preparation.mean, device=device).view(shape)
        self._stddev = torch.tensor(preparation.stddev, device=device).view(shape)

    def __getitems__(self, refs: Sequence[ChipRef]) -> tuple[Batch, list[int]]:
        """A batch; the same for the same references."""
        p, keys = self._preparation, [ref.key for ref in refs]
        chips = self._scenes.read([ref.source for ref in refs], [ref.window.grown(p.margin) for ref in refs])
        rngs = [np.random.default_rng(key) for key in keys]
        for change in p.changes:
            chips = self._changed(chips, change, rngs, keys)
        chips = _middle(chips, p.size)
        image = ((chips.image - self._mean) / self._stddev).masked_fill(~chips.valid[:, None], 0)
        objects = None
        if p.objects:
            assert chips.objects is not None
            wanted = torch.isin(chips.labels, torch.tensor(p.objects, dtype=torch.uint8, device=image.device))
            objects = chips.objects.masked_fill(~wanted, 0)
        return Batch(image, chips.labels.long(), objects=objects), keys

    def _changed(
        self, chips: ChipTensors, change: object, rngs: Sequence[np.random.Generator], keys: Sequence[int]
    ) -> ChipTensors:
        if isinstance(change, Moves):
            return move(chips, [change.geometry.draw(rng) for rng in rngs], change.size)
        assert isinstance(change, Radiometry)
        drawn = [change.draw(rng, chips.image.shape[1]) for rng in rngs]
        levels = [change.noise_level(rng) if d is not None and d.noisy else None for rng, d in zip(rngs, drawn, strict=True)]
        seed = int(np.random.SeedSequence(keys).generate_state(1, np.uint64)[0])
        generator = torch.Generator(self._scenes.device).manual_seed(seed >> 1)
        return expose(chips, drawn, levels, change, generator)


def _middle(chips: ChipTensors, size: int) -> ChipTensors:
    """The middle ``size`` x ``size`` pixels of each chip."""
    row, col = ((n - size) // 2 for n in chips.valid.shape[1:])
    here = (..., slice(row, row + size), slice(col, col + size))
    objects = None if chips.objects is None else chips.objects[here]
    return ChipTensors(chips.image[here], chips.valid[here], chips.labels[here], objects)


def resident_loader(
    sources: Sequence[ChipSource],
    sampler: ChipSampler,
    preparation: Preparation,
    device: torch.device,
    *,
    batches: int,
    size: int,
    mix: Mix | None = None,
) -> DataLoader[Batch]:
    """As ``training_loader``, for scenes that stay on a device, where chips are cut, augmented and mixed.

    A chip gets what it would get there, but for its noise, which is drawn on the device.

    Raises:
        ConfigError: Something of the preparation can't be done on the device.
    """
    loader: DataLoader[Batch] = DataLoader(
        ResidentChips(sources, preparation, device),  # type: ignore[arg-type]  # its items are chips, and batches come of them
        batch_sampler=Epochs(sampler, batches, size),
        collate_fn=Collate(mix).mixed,  # type: ignore[arg-type]  # likewise
        generator=torch.Generator(),
    )
    return loader


def training_device(*, gpu: bool) -> torch.device:
    """Device for the scenes."""
    return torch.device("cuda", torch.cuda.current_device()) if gpu else torch.device("cpu")
