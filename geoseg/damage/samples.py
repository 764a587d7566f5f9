"""Training data of a network that grades buildings: buildings with their classes, divided, drawn, and changed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from geoseg.arrays import F32, F64, I64
from geoseg.damage.scale import chances

__all__ = ["DamageSet", "Draws", "augmented", "groups_of"]

STRIPS = 20
"""Into so many strips a scene is cut; whole strips are held out."""


@dataclass(frozen=True, slots=True, eq=False)
class DamageSet:
    """Buildings with their classes."""

    image: F32
    """(N, dates * C, S, S), 0 without data."""
    mask: F32
    """(N, S, S)."""
    label: I64
    """(N,) classes."""
    place: F64
    """(N, 2) where they lie, in pixels: neighbours are held out together."""

    def __len__(self) -> int:
        """Number of entries."""
        return len(self.label)


def groups_of(place: F64, count: int, rng: np.random.Generator) -> I64:
    """The group (N,) of each building, of about as many each: strips of the scene, so that neighbours stay together."""
    order = np.argsort(place[:, 0] + 0.37 * place[:, 1])
    strips = max(count, STRIPS // count * count)
    group = np.empty(len(place), np.int64)
    for strip, members in zip(rng.permutation(strips) % count, np.array_split(order, strips), strict=True):
        group[members] = strip
    return group


def undamaged(image: F32, bands: int) -> F32:
    """The image before, in the light of the image after: bands (N, C, S, S) of the same mean and deviation over all buildings."""
    first, last = image[:, :bands], image[:, -bands:]
    known = (first != 0).any(axis=1) & (last != 0).any(axis=1)
    there = (first != 0).any(axis=1)
    found = np.empty_like(first)
    for band in range(bands):
        before, after = first[:, band], last[:, band]
        low, high = before[known], after[known]
        gain = high.std() / max(float(low.std()), 1e-6)
        found[:, band] = np.where(there, (before - low.mean()) * gain + high.mean(), 0)
    return found


class Draws:
    """Draws batches of buildings, by ``chances``.

    The image before shows every building undamaged: some of what is drawn has it in the place of the image after, as it is or
    in the light of that, and the class *no damage*. Of that class there are few buildings where a disaster has been.

    Args:
        data: The buildings.
        learn: Indices of those that are drawn from.
        bands: Bands of a date.
        undamaged_weight: How often that is, relative to all else.
        rng: The source of chance.
    """

    def __init__(self, data: DamageSet, learn: I64, bands: int, undamaged_weight: float, rng: np.random.Generator) -> None:
        self._data, self._learn, self._bands, self._share, self._rng = (
            data,
            learn,
            bands,
            undamaged_weight / (1 + undamaged_weight),
            rng,
        )
        self._chance = chances(data.label[learn])
        several = data.image.shape[1] > bands
        self._undamaged = undamaged(data.image, bands) if several and undamaged_weight > 0 else None
        by_band = data.image.reshape(len(data), -1, bands, *data.image.shape[2:])
        self._deviation: F64 = by_band.std(axis=(0, 1, 3, 4))

    def batch(self, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Images (size, dates * C, S, S), masks (size, 1, S, S) and classes (size,)."""
        which = self._rng.choice(self._learn, size, p=self._chance)
        image, mask, label = (values[which].copy() for values in (self._data.image, self._data.mask, self._data.label))
        if self._undamaged is not None:
            for k in np.flatnonzero(self._rng.random(size) < self._share):
                one = int(self._rng.choice(self._learn))
                before = self._data.image[one, : self._bands]
                image[k], mask[k], label[k] = self._data.image[one], self._data.mask[one], 0
                image[k, -self._bands :] = before if self._rng.random() < 0.5 else self._undamaged[one]
        pictures, masks = augmented(image, mask, self._bands, self._deviation, self._rng)
        return pictures, masks[:, None], torch.from_numpy(label)


def augmented(image: F32, mask: F32, bands: int, deviation: F64, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Crops turned and mirrored, moved a little, and each date in a light of its own."""
    scale = torch.tensor(deviation, dtype=torch.float32).view(1, bands, 1, 1)
    pictures, masks = [], []
    for one, place in zip(torch.from_numpy(image), torch.from_numpy(mask), strict=True):
        turns, flip, shift = int(rng.integers(4)), bool(rng.integers(2)), rng.integers(-5, 6, 2).tolist()
        parts = [torch.rot90(t, turns, (-2, -1)) for t in (one, place[None])]
        light, moved = (torch.roll(t.flip(-1) if flip else t, shift, (-2, -1)) for t in parts)
        dates = light.view(-1, bands, *light.shape[-2:])

        def by_date(every: float, each: float, dates: int = len(dates)) -> Tensor:
            return torch.from_numpy(rng.normal(0, every, (dates, 1, 1, 1)) + rng.normal(0, each, (dates, bands, 1, 1))).float()

        lit = dates * torch.exp(by_date(0.12, 0.05)) + by_date(0.25, 0.08) * scale
        pictures.append(lit.reshape(light.shape) * (light != 0))
        masks.append(moved[0])
    return torch.stack(pictures), torch.stack(masks)
