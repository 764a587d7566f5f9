"""Weights of classes and of pixels in the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import ConfigError
from geoseg.training.chips import Chip

__all__ = ["BorderWeights", "border_weights", "class_weights"]

Doubles = NDArray[np.float64]
BETA = 0.999999
FAR = 4.0
"""Beyond this many sigmas the border term is below 0.0004 of w0, and not computed."""


def _effective(counts: Doubles) -> Doubles:
    """Effective number of samples (Cui et al. 2019, arXiv:1901.05555), here of pixels."""
    return (1 - BETA) / (1 - BETA**counts)


BALANCES: Mapping[str, Callable[[Doubles], Doubles]] = {
    "inverse": lambda counts: 1 / counts,
    # Eigen and Fergus 2015, arXiv:1411.4734.
    "median": lambda counts: np.median(counts) / counts,
    "effective": _effective,
}


def class_weights(balance: str, counts: Sequence[int]) -> tuple[float, ...]:
    """Weights of classes by how many pixels they have; their mean over the pixels is 1, absent classes weigh 0.

    Args:
        balance: ``inverse`` frequency, ``median`` frequency, or ``effective`` number.
        counts: Labelled pixels of each class.

    Raises:
        ConfigError: The name is not known, or nothing is labelled.
    """
    if balance not in BALANCES:
        raise ConfigError(f"loss.balance: {balance!r} is not known; choose one of {', '.join(BALANCES)}")
    found = np.asarray(counts, np.float64)
    there = found > 0
    if not there.any():
        raise ConfigError("loss.balance: no pixel is labelled, so that classes can't be balanced")
    weights = np.zeros(len(found))
    weights[there] = BALANCES[balance](found[there])
    weights /= (weights * found).sum() / found.sum()
    return tuple(weights.tolist())


@dataclass(frozen=True, slots=True)
class BorderWeights:
    """Weights 1 + w0 exp(-(d1 + d2)^2 / (2 sigma^2)) of the background between two objects; 1 elsewhere.

    After Ronneberger, Fischer and Brox 2015 (arXiv:1505.04597, equation 2); d1 and d2 are the distances to the nearest
    and the second nearest object. Objects are those of the chip where it tells them apart, else the 4-connected regions of
    a class.
    """

    code: int
    """The class whose regions are objects."""
    w0: float = 10.0
    """Weight of a gap of no width."""
    sigma: float = 5.0
    """In pixels."""

    def __call__(self, chip: Chip) -> NDArray[np.float32]:
        """(h, w) float32."""
        from scipy import ndimage

        objects = chip.objects
        if objects is None:
            objects = ndimage.label(chip.labels == self.code)[0]
        return 1 + border_weights(objects, self.w0, self.sigma)


def border_weights(objects: NDArray[np.integer], w0: float, sigma: float) -> NDArray[np.float32]:
    """w0 exp(-(d1 + d2)^2 / (2 sigma^2)) where no object is, (h, w) float32; 0 in objects and where there are fewer than two.

    Args:
        objects: (h, w): numbers of objects, 0 for none.
        w0: Weight of a gap of no width.
        sigma: In pixels.

    The distance to the second nearest object is searched window by window: an object matters only up to ``4 sigma`` around
    it, so that the work grows with the area of the objects, not with their number times the image.
    """
    from scipy import ndimage

    reach = int(np.ceil(FAR * sigma)) + 1
    first = np.full(objects.shape, np.inf, np.float32)
    second = np.full(objects.shape, np.inf, np.float32)
    height, width = objects.shape
    for number, box in enumerate(ndimage.find_objects(objects.astype(np.int32)), start=1):
        if box is None:
            continue
        rows, cols = (slice(max(0, s.start - reach), min(n, s.stop + reach)) for s, n in zip(box, (height, width), strict=True))
        distance = ndimage.distance_transform_edt(objects[rows, cols] != number).astype(np.float32)
        near, next_ = first[rows, cols], second[rows, cols]
        np.minimum(next_, np.maximum(near, distance), out=next_)
        np.minimum(near, distance, out=near)
    with np.errstate(over="ignore"):
        weights = w0 * np.exp(-((first + second) ** 2) / (2 * sigma**2))
    weights[(objects != 0) | ~np.isfinite(second)] = 0
    found: NDArray[np.float32] = weights.astype(np.float32)
    return found
