"""Radiometric augmentation: gamma, gain, offset, haze and noise, in which scenes of the same land differ; and CutMix."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import ConfigError
from geoseg.training.data.chips import Batch, Chip

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["HAZY", "MOST_BRIGHT", "CutMix", "Exposure", "Radiometry"]

Floats = NDArray[np.float32]
HAZY = 0.875
"""Quantile of a band that is taken for the colour of the air."""
MOST_BRIGHT = 4096
"""Pixels of a chip, or up to twice as many, by which the colour of its air is measured."""


@dataclass(frozen=True, slots=True)
class Radiometry:
    """Random gamma, gain, offset, haze and noise by band; pixels without data stay 0. Picklable.

    Raises:
        ConfigError: A gamma without a range of values.
    """

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
    """Colour of the haze, by band; by default, the 87.5th percentile of each band of the chip."""
    noise: float = 0.0
    """Largest standard deviation of white noise, in units of the band's deviation; half of those that are changed have some."""
    probability: float = 0.8
    """Share of the chips that are changed."""
    value_range: tuple[float, float] | None = None
    """Least and largest value of the sensor."""
    gamma: float = 0.0
    """Standard deviation of the logarithm of the power to which values are raised first, as shares of ``value_range``."""

    def __post_init__(self) -> None:
        """Check that values have a range where they are to be bent."""
        if self.gamma and self.value_range is None:
            raise ConfigError(f"augment.gamma: {self.gamma:g} bends values between those of value_range, which is not given")

    def draw(self, rng: np.random.Generator, bands: int) -> Exposure | None:
        """Draw the change of the values of one chip, noise aside; None where they stay."""
        if rng.random() >= self.probability:
            return None
        unit = np.asarray(self.stddev, np.float32)
        gain = np.exp(rng.normal(0, 1) * self.gain + rng.normal(0, 1, bands) * self.band_gain)
        shift = (rng.normal(0, 1) * self.offset + rng.normal(0, 1, bands) * self.band_offset) * unit
        colour, clear = None, 1.0
        if self.haze and rng.random() < 0.5:
            colour = rng.normal(0, 0.3) * unit
            clear = rng.uniform(1 - self.haze, 1)
        noisy = bool(self.noise and rng.random() < 0.5)
        power = float(np.exp(rng.normal(0, self.gamma))) if self.gamma else 1.0
        return Exposure(gain, shift, clear, colour, noisy, power)

    def noise_level(self, rng: np.random.Generator) -> Floats:
        """(C,) the standard deviation of the noise of one chip that has some, by band."""
        level: Floats = np.asarray(rng.uniform(0, self.noise) * np.asarray(self.stddev, np.float32), np.float32)
        return level

    def __call__(self, chip: Chip, rng: np.random.Generator) -> Chip:
        """Change the values of a chip, or not."""
        drawn = self.draw(rng, len(chip.image))
        if drawn is None or not chip.valid.any():
            return chip
        image, shift = self._bent(chip.image, drawn.power) * _column(drawn.gain), drawn.shift
        if drawn.colour is not None:
            air = (self.air if self.air is not None else _bright(chip)) + drawn.colour
            image *= np.float32(drawn.clear)
            shift = shift * drawn.clear + air * (1 - drawn.clear)
        image += _column(shift)
        if drawn.noisy:
            noise = rng.standard_normal(image.shape, np.float32)
            noise *= _column(self.noise_level(rng))
            image += noise
        if self.value_range is not None:
            np.clip(image, *self.value_range, out=image)
        if not chip.valid.all():
            image[:, ~chip.valid] = 0
        return replace(chip, image=image)

    def _bent(self, image: Floats, power: float) -> Floats:
        """Values raised to a power as shares of the range; those outside of it are moved to its ends."""
        if power == 1 or self.value_range is None:
            return image
        low, high = self.value_range
        share = np.clip((image - np.float32(low)) / np.float32(high - low), 0, 1)
        bent: Floats = np.float32(high - low) * share ** np.float32(power) + np.float32(low)
        return bent


@dataclass(frozen=True, slots=True, eq=False)
class Exposure:
    """Change of the values of one chip, as drawn."""

    gain: NDArray[np.floating]
    """(C,): what its values are multiplied by."""
    shift: NDArray[np.floating]
    """(C,): what is then added."""
    clear: float
    """Share of its own colour that haze leaves."""
    colour: NDArray[np.floating] | None
    """(C,): how the haze differs from the colour of the air; None for no haze."""
    noisy: bool
    """Whether it has noise."""
    power: float = 1.0
    """To which its values are raised first, as shares of the range."""


def _column(values: NDArray[np.floating]) -> Floats:
    return np.asarray(values, np.float32).reshape(-1, 1, 1)


def _bright(chip: Chip) -> Floats:
    valid = np.flatnonzero(chip.valid)
    some = valid[:: max(1, len(valid) // MOST_BRIGHT)]
    found: Floats = np.percentile(chip.image.reshape(len(chip.image), -1)[:, some], 100 * HAZY, axis=1).astype(np.float32)
    return found


@dataclass(frozen=True, slots=True)
class CutMix:
    """A rectangle of each chip comes from another chip of the batch, with its labels (Yun et al. 2019, arXiv:1905.04899).

    French et al. 2020 (arXiv:1906.01916) found it to help segmentation, where labels are cut as images are. Picklable.
    """

    share: float
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

        def mixed(values: Tensor) -> Tensor:
            changed = values.clone()
            changed[here] = values.roll(turn, 0)[here]
            return changed

        return Batch(
            mixed(batch.image),
            mixed(batch.labels),
            None if batch.weights is None else mixed(batch.weights),
            None if batch.rasters is None else mixed(batch.rasters),
            None if batch.objects is None else mixed(batch.objects),
        )
