"""Weights of classes and of pixels in the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.codes import UNLABELLED
from geoseg.errors import ConfigError
from geoseg.training.data.chips import Chip

__all__ = ["BorderWeights", "border_weights", "class_weights"]

Doubles = NDArray[np.float64]
BETA = 0.999999
FAR = 4.0
"""Where d1 + d2 is more than this many sigmas, the border term would be below 0.0004 of w0, and is 0."""


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
    """Weights of pixels for which the weight in the loss is wc(x) + w0 exp(-(d1 + d2)^2 / (2 sigma^2)) in all.

    After Ronneberger, Fischer and Brox 2015 (arXiv:1505.04597, equation 2); wc(x) is the weight of the class, d1 and d2 are
    the distances to the nearest and the second nearest object. Objects are those of the chip where it distinguishes them,
    else the 4-connected regions of a class. As losses multiply weights of pixels with those of classes, the second summand
    is divided by wc(x) here.
    """

    code: int
    """The class whose regions are objects."""
    w0: float
    """Weight of a gap of no width."""
    sigma: float
    """In pixels."""
    class_weights: tuple[float, ...] | None = None
    """wc by class, those of the loss; 1 where there are none. Pixels of classes that weigh nothing get no border."""

    def __call__(self, chip: Chip) -> NDArray[np.float32]:
        """(h, w) float32, 1 where no border is."""
        from scipy import ndimage

        objects = chip.objects
        if objects is None:
            objects = ndimage.label(chip.labels == self.code)[0]
        border = border_weights(objects, self.w0, self.sigma)
        if self.class_weights is not None:
            share = np.zeros(UNLABELLED + 1, np.float32)
            given = np.asarray(self.class_weights, np.float32)
            share[: len(given)] = np.divide(1, given, out=np.zeros_like(given), where=given > 0)
            border *= share[chip.labels]
        return 1 + border


def border_weights(objects: NDArray[np.integer], w0: float, sigma: float) -> NDArray[np.float32]:
    """w0 exp(-(d1 + d2)^2 / (2 sigma^2)) where no object is, (h, w) float32; 0 in objects and where there are fewer than two.

    Exact up to d1 + d2 = 4 sigma, 0 beyond.

    Args:
        objects: (h, w): numbers of objects, 0 for none.
        w0: Weight of a gap of no width.
        sigma: In pixels.

    An object's distances are computed only as far around it as they matter, so that the work grows with the area around
    the objects, not with their number times the image.
    """
    from scipy import ndimage

    # The nearest object is at least 1 px away, so the second nearest may be this far.
    reach = max(1, int(np.ceil(FAR * sigma)) - 1)
    first = np.full(objects.shape, np.inf, np.float32)
    second = np.full(objects.shape, np.inf, np.float32)
    for number, box in enumerate(ndimage.find_objects(objects.astype(np.int32, copy=False)), start=1):
        if box is None:
            continue
        around = tuple(slice(max(0, s.start - reach), s.stop + reach) for s in box)
        distance = ndimage.distance_transform_edt(objects[around] != number).astype(np.float32)
        near, next_ = first[around], second[around]
        np.minimum(next_, np.maximum(near, distance), out=next_)
        np.minimum(near, distance, out=near)
    both = first + second
    with np.errstate(over="ignore"):
        weights = w0 * np.exp(-(both**2) / (2 * sigma**2))
    weights[(objects != 0) | (both > FAR * sigma)] = 0
    found: NDArray[np.float32] = weights.astype(np.float32)
    return found
