"""Radiometric augmentation: what scenes of the same land differ in; and rectangles that change places."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from geoseg.training.chips import Batch, Chip

__all__ = ["CutMix", "Radiometry"]


@dataclass(frozen=True, slots=True)
class Radiometry:
    """Random gain, offset, haze and noise by band; pixels without data stay 0. Picklable."""

    stddev: tuple[float, ...]
    """Of the values of each band: the unit of offsets and noise."""
    gain: float = 0.0
    """Standard deviation of the logarithm of the gain that all bands share."""
    band_gain: float = 0.0
    """The same of each band's own."""
    offset: float = 0.0
    """Standard deviation of the offset that all bands share, in units of the band's deviation."""
    band_offset: float = 0.0
    """The same of each band's own."""
    haze: float = 0.0
    """Largest share of haze, a colour that all pixels are drawn towards; half of the chips that are changed have some."""
    air: tuple[float, ...] | None = None
    """Colour of the haze; by default, the mean of each chip's bands above their 75th percentile."""
    noise: float = 0.0
    """Largest standard deviation of white noise, in units of the band's deviation; half of those that are changed have some."""
    probability: float = 1.0
    """Share of the chips that are changed."""
    value_range: tuple[float, float] | None = None
    """Least and largest value of the sensor."""

    def __call__(self, chip: Chip, rng: np.random.Generator) -> Chip:
        """Change the values of a chip, or not."""
        if rng.random() >= self.probability or not chip.valid.any():
            return chip
        bands = len(chip.image)
        unit = np.asarray(self.stddev, np.float32)
        gain = np.exp(rng.normal(0, 1) * self.gain + rng.normal(0, 1, bands) * self.band_gain)
        shift = (rng.normal(0, 1) * self.offset + rng.normal(0, 1, bands) * self.band_offset) * unit
        image = chip.image * _column(gain) + _column(shift)
        if self.haze and rng.random() < 0.5:
            air = _column(self.air if self.air is not None else _bright(chip)) + _column(rng.normal(0, 0.3) * unit)
            clear = np.float32(rng.uniform(1 - self.haze, 1))
            image = image * clear + air * (1 - clear)
        if self.noise and rng.random() < 0.5:
            strength = rng.uniform(0, self.noise) * unit
            image = image + rng.standard_normal(image.shape, np.float32) * _column(strength)
        if self.value_range is not None:
            image = np.clip(image, *self.value_range)
        image = image.astype(np.float32, copy=False)
        image[:, ~chip.valid] = 0
        return replace(chip, image=image)


def _column(values: object) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.asarray(values, np.float32).reshape(-1, 1, 1)


def _bright(chip: Chip) -> list[float]:
    values = chip.image[:, chip.valid]
    found: list[float] = np.percentile(values[:, :: max(1, values.shape[1] // 4096)], 87.5, axis=1).tolist()
    return found


@dataclass(frozen=True, slots=True)
class CutMix:
    """A rectangle of each chip comes from another chip of the batch, with its labels (Yun et al. 2019, arXiv:1905.04899).

    French et al. 2020 (arXiv:1906.01916) found it to help segmentation, where labels are cut as images are. Picklable.
    """

    share: float = 0.5
    """Share of the batches that are mixed."""

    def __call__(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """Mix a batch, or not; the area of the rectangle is even between 0 and all of the chip, in the mean half."""
        count, _, height, width = batch.image.shape
        if rng.random() >= self.share or count < 2:
            return batch
        side = np.sqrt(rng.uniform(0, 1))
        h, w = max(1, round(height * side)), max(1, round(width * side))
        row, col = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
        here = (..., slice(row, row + h), slice(col, col + w))
        turn = int(rng.integers(1, count))

        def mixed(values: object) -> object:
            if values is None:
                return None
            changed = values.clone()  # type: ignore[attr-defined]
            changed[here] = values.roll(turn, 0)[here]  # type: ignore[attr-defined]
            return changed

        return Batch(mixed(batch.image), mixed(batch.labels), mixed(batch.weights), mixed(batch.rasters))  # type: ignore[arg-type]
