"""The facts of a card: statistics of the images that a model has learned from, and how far such images lie from each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.arrays import F64, Bools
from geoseg.domain.moments import WINDOW_PX, WindowStats, measure_windows, stack_of, taken
from geoseg.domain.reference import Reference, features, score_of
from geoseg.models.domain_facts import SHARES, DomainFacts

__all__ = ["CELL", "ImageFacts", "facts_of", "image_facts", "repeated_value"]

CELL = 2 * WINDOW_PX
"""Images are looked at in cells of so many rows and columns."""
EVERY = 7
"""Each such pixel of a cell counts in quantiles."""
LEAST_WINDOWS = 8
"""Fewer windows tell nothing of how windows differ."""
MANY_SCENES = 6
"""From so many scenes on each is measured against the others; of fewer, their cells are."""
FOLDS = 32
SHRINKAGE = 0.1
"""Share of the covariance that is left out at least: it makes the inverse of a sample's covariance of use."""
MARGIN, LEAST_LIMIT = 1.1, 1.25
"""The limit lies so many times above the worst of the scenes of the training, and not below that: expected is about 1."""
FEW_LIMIT = 1.6
"""Not below this where there are few scenes: their cells do not tell how scenes differ."""
DIGITS = 6
MANY_VALUES = 1 << 16
LARGEST_KEY = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True, eq=False)
class ImageFacts:
    """Measurements in cells of one image."""

    cells: tuple[WindowStats, ...]
    """The windows of each cell."""
    values: F64
    """(bands, n): some of the valid pixels."""
    constant: float
    """Share of the pixels that equal the one to their left in all bands."""

    @property
    def stats(self) -> WindowStats:
        """Statistics of all cells together."""
        return stack_of(self.cells, len(self.values))


def image_facts(cells: Iterable[tuple[NDArray[np.floating], Bools]], bands: int, *, step: int = WINDOW_PX) -> ImageFacts:
    """Measure the cells of an image.

    Args:
        cells: Pixels (bands, h, w), and (h, w) where they are data.
        bands: Number of bands.
        step: Rows and columns from one window to the next.
    """
    stats, values, same, pairs = [], [], 0, 0
    for image, valid in cells:
        stats.append(measure_windows(image, valid, step=step))
        values.append(np.asarray(taken(image, valid)[:, ::EVERY], np.float64))
        both = valid[:, 1:] & valid[:, :-1]
        same += int(((image[:, :, 1:] == image[:, :, :-1]).all(axis=0) & both).sum())
        pairs += int(both.sum())
    return ImageFacts(tuple(stats), np.concatenate([np.empty((bands, 0)), *values], axis=1), same / max(1, pairs))


def repeated_value(values: F64) -> tuple[tuple[float, ...], float]:
    """The most common pixel, as its value in each band, and its share of the pixels; (bands, n) pixels."""
    if values.shape[1] == 0:
        return (), 0.0
    # One number a pixel, which orders pixels by their last band first: several times as fast as sorting by all bands.
    keys, size = np.zeros(values.shape[1], np.int64), 1
    for row in values[::-1]:
        found, ranks = _ranked(row)
        if size > LARGEST_KEY // len(found):
            kept, keys = np.unique(keys, return_inverse=True)
            size = len(kept)
        keys, size = keys * len(found) + ranks, size * len(found)
    _, first, counts = np.unique(keys, return_index=True, return_counts=True)
    place = int(np.argmax(counts))
    return tuple(float(v) for v in values[:, first[place]]), float(counts[place] / values.shape[1])


def _ranked(row: F64) -> tuple[NDArray[np.generic], NDArray[np.integer]]:
    """The values (m,) of a band in rising order, and which of them each pixel (n,) has; of whole numbers also some between."""
    low, high = row.min(), row.max()
    if high - low < MANY_VALUES and (row == np.rint(row)).all():
        # No sorting: digital numbers are few.
        return np.arange(low, high + 1), (row - low).astype(np.int64)
    found, ranks = np.unique(row, return_inverse=True, equal_nan=False)
    return found, ranks


def facts_of(images: Sequence[ImageFacts], value_range: tuple[float, float] | None = None) -> DomainFacts | None:
    """The facts of a card; None where there are too few windows to tell how they differ."""
    some = [image for image in images if len(image.stats)]
    values = np.concatenate([image.values for image in some], axis=1) if some else np.empty((0, 0))
    windows = sum(len(image.stats) for image in some)
    if windows < LEAST_WINDOWS:
        return None
    center, spread = values.mean(axis=1), values.std(axis=1)
    spread = np.where(spread > 0, spread, 1.0)
    many = len(some) >= MANY_SCENES
    groups = [image.stats for image in some] if many else [cell for image in some for cell in image.cells if len(cell)]
    found = [features(group, center, spread) for group in groups]
    worst = _worst(groups, found, center, spread)
    reference = _fitted(np.concatenate(found), center, spread, limit=max(LEAST_LIMIT if many else FEW_LIMIT, MARGIN * worst))
    low, high = value_range if value_range is not None else (-np.inf, np.inf)
    ends = [float(((image.values <= low) | (image.values >= high)).any(axis=0).mean()) for image in some]
    return DomainFacts(
        mean=_rounded(center),
        stddev=_rounded(spread),
        quantiles=tuple(_rounded(q) for q in np.quantile(values, SHARES, axis=1).T),
        windows=windows,
        features=_rounded(reference.mean),
        covariance=tuple(map(_rounded, np.linalg.inv(reference.inverse))),
        limit=float(f"{reference.limit:.4g}"),
        saturated=_share(ends),
        constant=_share([image.constant for image in some]),
        repeated=_share([repeated_value(image.values)[1] for image in some]),
    )


def _worst(groups: Sequence[WindowStats], found: Sequence[F64], center: F64, spread: F64) -> float:
    """The highest score of a group of windows, each measured against those that are not of its fold."""
    folds, scores = min(FOLDS, len(groups)), []
    for fold in range(folds if len(groups) > 1 else 0):
        reference = _fitted(np.concatenate([f for i, f in enumerate(found) if i % folds != fold]), center, spread)
        scores += [score_of(reference.distances(group)) for i, group in enumerate(groups) if i % folds == fold]
    return max(scores, default=0.0)


def _fitted(found: F64, center: F64, spread: F64, limit: float = 0.0) -> Reference:
    """The reference of some features, the correlations of which are held back the more, the fewer windows there are."""
    size = found.shape[1]
    covariance = np.cov(found, rowvar=False, bias=True).reshape(size, size) + 1e-6 * np.eye(size)
    share = max(SHRINKAGE, size / (size + len(found)))
    held = (1 - share) * covariance + share * np.diag(np.diagonal(covariance))
    return Reference(center, spread, found.mean(axis=0), np.linalg.inv(held), limit, measured=True)


def _rounded(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(float(f"{value:.{DIGITS}g}") for value in values)


def _share(values: Iterable[float]) -> float:
    return float(f"{max(values, default=0.0):.4g}")
