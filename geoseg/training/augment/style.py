"""Style transfer: labelled chips get the distribution of values, or the low frequencies, of another region."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import ConfigError
from geoseg.training.data.chips import Chip

__all__ = [
    "FourierStyle",
    "HistogramStyle",
    "Values",
    "low_frequencies",
    "match_histogram",
    "measure_values",
    "with_low_frequencies",
]

MOST = 65536
"""Distinct values by band that are counted exactly: all of 16 bits."""


@dataclass(frozen=True, slots=True, eq=False)
class Values:
    """The distribution of the valid values of each band."""

    values: tuple[NDArray[np.float64], ...]
    """By band: distinct values, rising."""
    shares: tuple[NDArray[np.float64], ...]
    """By band: the share of pixels that are not above each of them; ends with 1."""


def measure_values(chips: Iterable[Chip], *, most: int = MOST) -> Values:
    """Count the values of chips by band, one chip in memory at a time.

    Exact for up to ``most`` distinct values a band; of more, quantiles at even distances are kept, which are off by at most
    ``1 / most`` of the pixels for each time that there were twice as many.

    Raises:
        ConfigError: No chip has a valid pixel.
    """
    tallies: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
    for chip in chips:
        pixels = chip.image[:, chip.valid]
        if not pixels.size:
            continue
        found = [np.unique(band, return_counts=True) for band in pixels.astype(np.float64)]
        tallies = tallies or [(np.empty(0), np.empty(0))] * len(found)
        tallies = [_merged(old, new, most) for old, new in zip(tallies, found, strict=True)]
    if not tallies:
        raise ConfigError("the style of the target can't be measured: its chips have no valid pixels")
    return Values(
        tuple(_thinned(*tally, most)[0] for tally in tallies),
        tuple(np.cumsum(counts) / counts.sum() for counts in (_thinned(*tally, most)[1] for tally in tallies)),
    )


def _merged(
    old: tuple[NDArray[np.float64], NDArray[np.float64]], new: tuple[NDArray[Any], NDArray[Any]], most: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Counts of both; thinned once there are twice as many values as are kept."""
    values, places = np.unique(np.concatenate([old[0], new[0]]), return_inverse=True)
    counts = np.bincount(places, np.concatenate([old[1], new[1]]), len(values)).astype(np.float64)
    return (values, counts) if len(values) <= 2 * most else _thinned(values, counts, most)


def _thinned(
    values: NDArray[np.float64], counts: NDArray[np.float64], most: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """At most ``most`` of the values, at even distances of rank, each with the counts of those below it."""
    if len(values) <= most:
        return values, counts
    ranks = np.cumsum(counts)
    kept = np.unique(np.searchsorted(ranks, np.linspace(0, ranks[-1], most + 1)[1:]).clip(0, len(values) - 1))
    return values[kept], np.diff(ranks[kept], prepend=0.0)


def match_histogram(chip: Chip, target: Values, source: Values | None = None) -> Chip:
    """Map the values of each band so that they are distributed as the target's are.

    Without ``source``, the chip's own distribution becomes the target's, as ``skimage.exposure.match_histograms`` has it
    with all of the target as its reference. With ``source``, the distribution of its whole region does, so that a chip of
    nothing but water does not get the colours of fields; values between those measured are interpolated.
    """
    image = chip.image.copy()
    for band, (values, shares) in enumerate(zip(target.values, target.shares, strict=True)):
        pixels = chip.image[band, chip.valid].astype(np.float64)
        if source is None:
            _, places, counts = np.unique(pixels, return_inverse=True, return_counts=True)
            ranks = (np.cumsum(counts) / max(1, pixels.size))[places]
        else:
            ranks = np.interp(pixels, source.values[band], source.shares[band])
        image[band, chip.valid] = np.interp(ranks, shares, values)
    return replace(chip, image=image)


@dataclass(frozen=True, slots=True, eq=False)
class HistogramStyle:
    """An augmentation of chips: values as they are distributed in the target."""

    target: Values
    """Of the target's chips."""
    source: Values | None
    """Of all labelled chips, to map values alike everywhere; None matches each chip by itself."""
    share: float
    """Share of the chips that get it."""

    def __call__(self, chip: Chip, rng: np.random.Generator) -> Chip:
        """Change a chip, or not."""
        return match_histogram(chip, self.target, self.source) if rng.random() < self.share else chip


def low_frequencies(chip: Chip, beta: float) -> NDArray[np.float32]:
    """Amplitudes of a chip's low frequencies, by pixel of the chip: (C, 2b + 1, 2b + 1) for b = floor(beta * side).

    Element ``[band, b + i, b + j]`` has i periods along the rows and j along the columns. Pixels without data count as
    the mean of their band.
    """
    rows, cols = _places(chip.valid.shape, beta)
    spectrum = np.fft.fft2(_filled(chip))[:, rows, cols]
    return (np.abs(spectrum) / chip.valid.size).astype(np.float32)


def with_low_frequencies(chip: Chip, amplitudes: NDArray[np.float32]) -> Chip:
    """Fourier domain adaptation (Yang and Soatto 2020, arXiv:2004.05498): low frequencies with other amplitudes.

    The phases stay, and so do shapes and places; the colours and slow changes of light become those of the other chip.

    Args:
        chip: The chip to change; its values may leave the range of the sensor.
        amplitudes: From ``low_frequencies`` of a chip of about the same size.
    """
    spectrum = np.fft.fft2(_filled(chip))
    reach = amplitudes.shape[-1] // 2
    if 2 * reach >= min(chip.valid.shape):
        raise ConfigError(f"beta: {reach} periods to each side are too many for a chip of {chip.valid.shape[0]} rows")
    periods = np.arange(-reach, reach + 1)
    here = (slice(None), periods[:, None], periods)
    low = spectrum[here]
    size = np.abs(low)
    phase = np.divide(low, size, out=np.ones_like(low), where=size > 0)
    spectrum[here] = phase * amplitudes * chip.valid.size
    image = np.fft.ifft2(spectrum).real.astype(np.float32)
    image[:, ~chip.valid] = chip.image[:, ~chip.valid]
    return replace(chip, image=image)


def _places(shape: Sequence[int], beta: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if not 0 <= beta <= 0.5:
        raise ConfigError(f"beta: {beta} is not from 0 to 0.5")
    reach = min(int(beta * min(shape)), (min(shape) - 1) // 2)
    periods = np.arange(-reach, reach + 1)
    return periods[:, None], periods


def _filled(chip: Chip) -> NDArray[np.float32]:
    """The image with the mean of its band where it is not valid; a hole of zeros would be in all frequencies."""
    if chip.valid.all() or not chip.valid.any():
        return chip.image
    image = chip.image.copy()
    image[:, ~chip.valid] = image[:, chip.valid].mean(1, keepdims=True)
    return image


@dataclass(frozen=True, slots=True, eq=False)
class FourierStyle:
    """An augmentation of chips: the low frequencies of a chip of the target, drawn at random."""

    amplitudes: NDArray[np.float32]
    """(chips, C, 2b + 1, 2b + 1): ``low_frequencies`` of chips of the target."""
    share: float
    """Share of the chips that get it."""
    limits: tuple[float, float] | None = None
    """Least and largest value, for values of sensors; None for any."""

    @classmethod
    def of(cls, chips: Iterable[Chip], beta: float, *, share: float, limits: tuple[float, float] | None = None) -> FourierStyle:
        """Measure chips of the target; the paper took beta 0.01, 0.05 and 0.09.

        Raises:
            ConfigError: There are none, or beta is out of range.
        """
        found = [low_frequencies(chip, beta) for chip in chips if chip.valid.any()]
        if not found:
            raise ConfigError("the style of the target can't be measured: its chips have no valid pixels")
        return cls(np.stack(found), share, limits)

    def __call__(self, chip: Chip, rng: np.random.Generator) -> Chip:
        """Change a chip, or not."""
        if rng.random() >= self.share or not chip.valid.any():
            return chip
        changed = with_low_frequencies(chip, self.amplitudes[rng.integers(len(self.amplitudes))])
        if self.limits is not None:
            changed.image[:, chip.valid] = changed.image[:, chip.valid].clip(*self.limits)
        return changed
