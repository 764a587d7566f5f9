"""Active contours without edges: the morphological form of Chan and Vese."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from skimage.segmentation import morphological_chan_vese

from geoseg.arrays import F32, F64, U8, Bools
from geoseg.baselines.draws import best_of, draw_chips, two_sides
from geoseg.baselines.indices import available, band_index
from geoseg.baselines.thresholds import otsu
from geoseg.training.data.chips import ChipSource

__all__ = ["Contour", "fit_contour"]

CHIPS, SIDE = 8, 256
STEPS = 40
SMOOTHINGS = (1, 3)


@dataclass(frozen=True, slots=True)
class Contour:
    """Two classes on the two sides of a contour that moves until each side is as even as it can be.

    Chan and Vese 2001, as morphological operators (Marquez-Neila, Baumela and Alvarez 2014); it begins at Otsu's
    threshold of the image. All of the image counts.
    """

    index: str
    """Name of the index of the bands."""
    bands: tuple[str, ...]
    """Names of the bands of images."""
    smoothing: int
    """Rounds of smoothing a step."""
    steps: int
    """Steps of the contour."""
    above: int
    """Code of the side where the index is larger: 0 or 1."""

    @property
    def margin(self) -> int | None:
        """None: all of the image counts."""
        return None

    def predict(self, image: F32, valid: Bools) -> U8:
        """Class codes (h, w) of an image (C, h, w); 255 where not valid."""
        values = band_index(self.index, image, self.bands)
        return two_sides(self._larger(values, valid), self.above, valid)

    def _larger(self, values: F64, valid: Bools) -> Bools:
        """The side where the index is larger."""
        first = values > otsu(values[valid])
        if not first[valid].any() or first[valid].all():
            return np.asarray(first)
        # What is not valid is neither bright nor dark.
        values = np.where(valid, values, values[valid].mean())
        side = morphological_chan_vese(values, self.steps, init_level_set=first & valid, smoothing=self.smoothing) > 0
        one, other = valid & side, valid & ~side
        if one.any() and other.any() and values[one].mean() < values[other].mean():
            side = ~side
        return np.asarray(side)


def fit_contour(
    sources: Sequence[ChipSource], bands: Sequence[str], rng: np.random.Generator, index: str | None = None
) -> Contour:
    """The index, the smoothing and the side that distinguish the classes best (mean IoU) on some windows of the scenes."""
    chips = draw_chips(sources, SIDE, CHIPS, rng)
    names = available(bands) if index is None else (index,)
    return best_of(
        [Contour(n, tuple(bands), smoothing, STEPS, above) for n in names for smoothing in SMOOTHINGS for above in (0, 1)], chips
    )
