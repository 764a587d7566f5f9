"""Statistics of the data: mean, deviation and percentiles by band, frequencies of classes, and the facts of the card."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.codes import UNLABELLED
from geoseg.domain.facts import CELL, ImageFacts, facts_of, image_facts
from geoseg.domain.moments import WINDOW_PX as WINDOW
from geoseg.errors import ConfigError
from geoseg.models.domain_facts import DomainFacts
from geoseg.training.data.chips import ChipSource
from geoseg.windows import Window

__all__ = ["Statistics", "domain_facts", "measure", "percentiles"]

SIDE = 1024
MOST_CELLS = 2048
"""Of larger data sets so many cells are measured for the card, evenly spread."""
FEW_CELLS = 64
"""Of smaller ones windows overlap, which uses what there is."""
Areas = Iterable[tuple[int, Window]]


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of all valid pixels of some scenes."""

    mean: tuple[float, ...]
    """By band."""
    stddev: tuple[float, ...]
    """By band; of the population."""
    valid: int
    """Number of valid pixels."""
    counts: tuple[int, ...]
    """Labelled pixels by class."""


def measure(sources: Sequence[ChipSource], areas: Areas, classes: int) -> Statistics:
    """Mean and standard deviation of each band, and pixels of each class, over some windows of some scenes.

    Windows are read in parts; parts are merged as Chan, Golub and LeVeque (1979) do, in 64 bits, so that a large mean
    does not drown a small deviation.

    Raises:
        ConfigError: There is no valid pixel.
    """
    count, counts = 0, np.zeros(UNLABELLED + 1, np.int64)
    mean = squares = np.zeros(0)
    for source, window in areas:
        for part in _parts(window):
            chip = sources[source].read(part)
            counts += np.bincount(chip.labels.ravel(), minlength=UNLABELLED + 1)
            values = chip.image[:, chip.valid].astype(np.float64)
            n = values.shape[1]
            if n == 0:
                continue
            if count == 0:
                mean, squares = np.zeros(len(values)), np.zeros(len(values))
            part_mean = values.mean(axis=1)
            shift = part_mean - mean
            squares = squares + ((values - part_mean[:, None]) ** 2).sum(axis=1) + shift**2 * (count * n / (count + n))
            mean = mean + shift * (n / (count + n))
            count += n
    if count == 0:
        raise ConfigError("data: none of the scenes to train on has a valid pixel")
    deviation = np.sqrt(squares / count)
    return Statistics(tuple(mean.tolist()), tuple(deviation.tolist()), count, tuple(counts[:classes].tolist()))


def domain_facts(
    sources: Sequence[ChipSource], areas: Areas, value_range: tuple[float, float] | None = None
) -> DomainFacts | None:
    """Facts of the images for the card: statistics of windows, and distances between scenes.

    Args:
        sources: The scenes.
        areas: Number of a scene, and a window of it.
        value_range: Smallest and largest value that the network takes.

    Returns:
        None where there is too little data.
    """
    cells = [(source, cell) for source, window in areas for cell in _parts(window, CELL)]
    step = -(-len(cells) // MOST_CELLS)
    chosen: dict[int, list[Window]] = {}
    for source, cell in cells[:: max(1, step)]:
        chosen.setdefault(source, []).append(cell)
    overlap = WINDOW // 2 if len(cells) < FEW_CELLS else WINDOW
    return facts_of([_image_facts(sources[k], some, overlap) for k, some in chosen.items()], value_range)


def _image_facts(source: ChipSource, cells: Sequence[Window], step: int) -> ImageFacts:
    chips = [source.read(cells[0])]
    rest = (source.read(cell) for cell in cells[1:])
    return image_facts(((chip.image, chip.valid) for chip in (*chips, *rest)), len(chips[0].image), step=step)


def percentiles(sources: Sequence[ChipSource], areas: Areas, shares: Sequence[float]) -> NDArray[np.float64]:
    """(bands, shares): percentiles of each band over valid pixels; exact for whole numbers from 0 to 65535.

    The value is the least one that at least that share of the pixels does not exceed. Other values are counted in 65536
    bins between the least and the largest, so that they are right to a 65536th of the range.

    Raises:
        ConfigError: There is no valid pixel.
    """
    areas = list(areas)
    low, high, whole = _range(sources, areas)
    bins = 65536
    scale = np.ones(len(low)) if whole else (bins - 1) / np.maximum(high - low, 1e-12)
    start = np.zeros(len(low)) if whole else low
    counts = np.zeros((len(low), bins), np.int64)
    for source, window in areas:
        for part in _parts(window):
            chip = sources[source].read(part)
            values = chip.image[:, chip.valid]
            for band in range(len(low)):
                index = np.rint((values[band] - start[band]) * scale[band]).astype(np.int64)
                counts[band] += np.bincount(index, minlength=bins)
    below = counts.cumsum(axis=1)
    wanted = np.ceil(np.asarray(shares)[None, :] * below[:, -1:]).clip(1)
    found = np.stack([np.searchsorted(row, want) for row, want in zip(below, wanted, strict=True)])
    return found / scale[:, None] + start[:, None]


def _range(sources: Sequence[ChipSource], areas: Areas) -> tuple[NDArray[np.float64], NDArray[np.float64], bool]:
    """Least and largest value of each band, and whether all are whole numbers from 0 to 65535."""
    lows, highs, whole = [], [], True
    for source, window in areas:
        for part in _parts(window):
            chip = sources[source].read(part)
            values = chip.image[:, chip.valid]
            if values.shape[1]:
                lows.append(values.min(axis=1))
                highs.append(values.max(axis=1))
                whole = whole and bool((values == np.rint(values)).all())
    if not lows:
        raise ConfigError("data: none of the scenes to train on has a valid pixel")
    low, high = np.min(lows, axis=0).astype(np.float64), np.max(highs, axis=0).astype(np.float64)
    return low, high, whole and bool((low >= 0).all() and (high <= 65535).all())


def _parts(window: Window, side: int = SIDE) -> Iterator[Window]:
    for row in range(window.row_off, window.row_stop, side):
        for col in range(window.col_off, window.col_stop, side):
            yield Window.between(row, min(row + side, window.row_stop), col, min(col + side, window.col_stop))
