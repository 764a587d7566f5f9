"""Thresholds on an index of the bands: of its histogram alone (Otsu), or of the histograms of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from skimage.filters import threshold_otsu

from geoseg.arrays import F32, F64, U8, Bools
from geoseg.baselines.draws import best_of, draw_chips, draw_pixels, two_sides
from geoseg.baselines.indices import available, band_index
from geoseg.training.data.chips import Chip, ChipSource

__all__ = ["Threshold", "fit_histogram", "fit_otsu", "fit_scene_otsu", "otsu"]

PIXELS, CHIPS, SIDE = 200_000, 24, 512
BINS = 256


@dataclass(frozen=True, slots=True)
class Threshold:
    """Two classes on the two sides of a threshold."""

    index: str
    """Name of the index of the bands."""
    bands: tuple[str, ...]
    """Names of the bands of images."""
    threshold: float | None
    """In units of the index; None for Otsu's threshold of each image."""
    above: int
    """Code where the index is larger: 0 or 1."""

    @property
    def margin(self) -> int | None:
        """0: each pixel by itself. None where the threshold is that of the image."""
        return None if self.threshold is None else 0

    def predict(self, image: F32, valid: Bools) -> U8:
        """Class codes (h, w) of an image (C, h, w); 255 where not valid."""
        values = band_index(self.index, image, self.bands)
        limit = otsu(values[valid]) if self.threshold is None else self.threshold
        return two_sides(values > limit, self.above, valid)


def otsu(values: F64) -> float:
    """The threshold between two parts of a histogram of 256 bins that are far apart for their spread (Otsu 1979); 0 for none."""
    if values.size == 0:
        return 0.0
    return float(threshold_otsu(values, nbins=BINS))


def fit_otsu(
    sources: Sequence[ChipSource], bands: Sequence[str], rng: np.random.Generator, index: str | None = None
) -> Threshold:
    """Otsu's threshold of all scenes together; labels decide only the index, where none is given, and which side is which."""
    drawn = _drawn(sources, rng)
    limits = {name: otsu(_values(name, drawn, bands)) for name in _names(index, bands)}
    return best_of([Threshold(name, tuple(bands), limit, above) for name, limit in limits.items() for above in (0, 1)], [drawn])


def fit_histogram(
    sources: Sequence[ChipSource], bands: Sequence[str], rng: np.random.Generator, index: str | None = None
) -> Threshold:
    """The threshold that distinguishes the classes best (mean IoU) by their histograms of 256 bins."""
    drawn = _drawn(sources, rng)
    limits = {name: _separating(_values(name, drawn, bands), drawn.labels[0]) for name in _names(index, bands)}
    return best_of([Threshold(name, tuple(bands), limit, above) for name, limit in limits.items() for above in (0, 1)], [drawn])


def fit_scene_otsu(
    sources: Sequence[ChipSource], bands: Sequence[str], rng: np.random.Generator, index: str | None = None
) -> Threshold:
    """Otsu's threshold of each image; labels decide only the index, where none is given, and which side is which."""
    chips = draw_chips(sources, SIDE, CHIPS, rng)
    return best_of([Threshold(name, tuple(bands), None, above) for name in _names(index, bands) for above in (0, 1)], chips)


def _names(index: str | None, bands: Sequence[str]) -> tuple[str, ...]:
    return available(bands) if index is None else (index,)


def _drawn(sources: Sequence[ChipSource], rng: np.random.Generator) -> Chip:
    """Labelled pixels as an image of one row."""
    drawn = draw_pixels(sources, _bands, 0, PIXELS, rng)
    return Chip(drawn.values.T[:, None, :], np.ones((1, len(drawn.labels)), np.bool_), drawn.labels[None])


def _bands(image: F32, valid: Bools) -> F32:
    del valid
    return image


def _values(name: str, chip: Chip, bands: Sequence[str]) -> F64:
    return np.asarray(band_index(name, chip.image, bands)[0])


def _separating(values: F64, labels: U8) -> float:
    """The edge between two bins that gives the best mean IoU, whichever side is which."""
    edges = np.histogram_bin_edges(values, BINS)
    below = [np.histogram(values[labels == code], edges)[0].cumsum() for code in (0, 1)]
    total = [counts[-1] for counts in below]
    scores = []
    for low in (0, 1):
        # Code ``low`` below the edge, the other one above it.
        hit_low, hit_high = below[low], total[1 - low] - below[1 - low]
        union_low = total[low] + below[1 - low]
        union_high = total[1 - low] + total[low] - below[low]
        scores.append(hit_low / np.maximum(union_low, 1) + hit_high / np.maximum(union_high, 1))
    best = int(np.maximum(*scores).argmax())
    return float(edges[best + 1])
