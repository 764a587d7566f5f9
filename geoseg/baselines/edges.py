"""Edges (Canny) made to regions by morphology."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import ndimage
from skimage.feature import canny

from geoseg.arrays import F32, F64, U8, Bools
from geoseg.baselines.draws import best_of, draw_chips, two_sides
from geoseg.baselines.indices import available, band_index
from geoseg.training.data.chips import ChipSource

__all__ = ["Edges", "fit_edges"]

CHIPS, SIDE = 16, 1024
"""Large windows: what is filled depends on how far edges can be followed."""
SIGMAS, QUANTILES, RADII = (1.0, 3.0), (0.8, 0.9), (1, 3, 6)


@dataclass(frozen=True, slots=True)
class Edges:
    """Two classes: what lies in closed edges, and the rest.

    Edges of an index of the bands (Canny 1986, its thresholds quantiles of the image's gradients) are closed by a
    diamond, holes in them are filled if that is asked for, and what the diamond does not fit into is opened away. All of
    the image counts: quantiles, edges followed along their course, and holes.
    """

    index: str
    """Name of the index of the bands."""
    bands: tuple[str, ...]
    """Names of the bands of images."""
    sigma: float
    """Deviation of the Gaussian, in pixels."""
    quantile: float
    """Share of gradients below those where edges begin; they go on down to a share 0.1 lower."""
    radius: int
    """Of the diamond, in pixels."""
    filled: bool
    """Whether holes are filled."""
    inside: int
    """Code of what lies in closed edges: 0 or 1."""

    @property
    def margin(self) -> int | None:
        """None: all of the image counts."""
        return None

    def predict(self, image: F32, valid: Bools) -> U8:
        """Class codes (h, w) of an image (C, h, w); 255 where not valid."""
        return two_sides(self._regions(band_index(self.index, image, self.bands), valid), self.inside, valid)

    def _regions(self, values: F64, valid: Bools) -> Bools:
        if not valid.any() or min(values.shape) < 3:
            return np.zeros(values.shape, np.bool_)
        edges = canny(
            np.where(valid, values, values[valid].mean()),
            sigma=self.sigma,
            mask=valid,
            use_quantiles=True,
            low_threshold=self.quantile - 0.1,
            high_threshold=self.quantile,
            mode="nearest",
        )
        grown = ndimage.binary_dilation(edges, iterations=self.radius)
        closed = ndimage.binary_erosion(grown, iterations=self.radius, border_value=1)
        if not self.filled:
            return np.asarray(closed, np.bool_)
        regions = ndimage.binary_fill_holes(closed)
        return np.asarray(ndimage.binary_opening(regions, iterations=self.radius), np.bool_)


def fit_edges(sources: Sequence[ChipSource], bands: Sequence[str], rng: np.random.Generator, index: str | None = None) -> Edges:
    """The scale, the morphology and the side that distinguish the classes best (mean IoU) on some windows of the scenes."""
    chips = draw_chips(sources, SIDE, CHIPS, rng)
    name = index or ("brightness" if "brightness" in available(bands) else bands[0])
    candidates = [
        Edges(name, tuple(bands), sigma, quantile, radius, filled, inside)
        for sigma, quantile, radius, filled, inside in product(SIGMAS, QUANTILES, RADII, (True, False), (1, 0))
    ]
    return best_of(candidates, chips)
