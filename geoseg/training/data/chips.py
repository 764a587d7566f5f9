"""Chips: training samples as they are read, and as a network gets them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from geoseg.georeference import Georeference
from geoseg.windows import Window

if TYPE_CHECKING:
    import torch

__all__ = ["Batch", "Chip", "ChipSource"]


@dataclass(frozen=True, slots=True, eq=False)
class Chip:
    """A window of a labelled scene."""

    image: NDArray[np.float32]
    """(C, h, w): the values that the model takes, before normalization; 0 where not valid."""
    valid: NDArray[np.bool_]
    """(h, w): True where there is data."""
    labels: NDArray[np.uint8]
    """(h, w): class codes, or UNLABELLED."""
    objects: NDArray[np.int32] | None = None
    """(h, w): number of the labelled object that a pixel belongs to, 0 for none; None where labels don't distinguish them."""
    rasters: NDArray[np.float32] | None = None
    """(R, h, w): targets of regression, NaN where not known."""


class ChipSource(Protocol):
    """A scene with its labels, read by window; may be used by several threads."""

    name: str
    """Unique among the sources of a training."""
    height: int
    """Rows."""
    width: int
    """Columns."""
    georeference: Georeference | None
    """Place of its pixels; None for images without a place on Earth."""

    def read(self, window: Window) -> Chip:
        """The chip of a window, which may reach past the scene: there it is not valid and UNLABELLED."""
        ...


@dataclass(slots=True, eq=False)
class Batch:
    """Chips of one size as tensors, normalized and augmented."""

    image: torch.Tensor
    """(N, C, H, W) float32: normalized; 0 where not valid."""
    labels: torch.Tensor
    """(N, H, W) int64: class codes, or UNLABELLED."""
    weights: torch.Tensor | None = None
    """(N, H, W) float32: weight of each pixel in the loss; None for 1."""
    rasters: torch.Tensor | None = None
    """(N, R, H, W) float32: targets of regression, NaN where not known."""
    objects: torch.Tensor | None = None
    """(N, H, W) int32: numbers of objects, 0 for none; None where nothing asks for them."""
