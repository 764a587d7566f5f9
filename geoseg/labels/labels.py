"""Labels of a scene, read by window in its grid: class rasters and vector files.

A window's labels equal the same window of the labels of the whole scene.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from geoseg.arrays import I32, U8
from geoseg.codes import UNLABELLED
from geoseg.errors import GeoreferenceError
from geoseg.georeference import Georeference
from geoseg.labels.rasters import RasterLabels
from geoseg.labels.vectors import VECTORS, VectorLabels, is_vector
from geoseg.windows import Window

__all__ = ["VECTORS", "Labels", "RasterLabels", "VectorLabels", "corrected", "is_vector", "open_labels", "without_borders"]


class Labels(Protocol):
    """Labels bound to the grid of one scene."""

    def read(self, window: Window) -> tuple[U8, I32 | None]:
        """Class codes (h, w), or UNLABELLED, and object numbers (h, w) if known; the window lies within the scene."""
        ...


def open_labels(
    path: str,
    georeference: Georeference | None,
    height: int,
    width: int,
    codes: Mapping[str, int],
    *,
    column: str | None = None,
    outside: int = UNLABELLED,
    ignore: str | None = None,
    all_touched: bool = False,
    explain: str | None = None,
) -> Labels:
    """Labels for the grid of a scene: a vector file by its ending, else a raster.

    Args:
        path: The file; of one with several layers, ``FILE|layername=NAME``.
        georeference: The scene's; None for an image without a place, whose labels are a raster of the same size.
        height: Rows of the scene.
        width: Columns of the scene.
        codes: Class codes by raster value or by text of the class column.
        column: Of a vector file: the column that names the class. Without one, all features are the class under "".
        outside: Code of what lies outside all features.
        ignore: A vector file with areas that are not labelled.
        all_touched: Burn all pixels that a feature touches, not those whose centre it covers.
        explain: The option by which to say what values of a raster mean that are no class, which then are refused; None to leave
            them unlabelled, with a warning.
    """
    if is_vector(path):
        if georeference is None:
            raise GeoreferenceError(f"{path}: the image has no place on Earth, so a vector file can't label it; use COCO JSON")
        return VectorLabels(path, georeference, height, width, codes, column, outside, ignore, all_touched)
    labels = RasterLabels(path, georeference, height, width, codes, explain)
    labels.tell()
    if ignore is None:
        return labels
    if georeference is None:
        raise GeoreferenceError(f"{ignore}: the image has no place on Earth, so that areas to ignore have none, either")
    return _Masked(labels, VectorLabels(ignore, georeference, height, width, {"": 0}, None, UNLABELLED, None, all_touched=True))


@dataclass(frozen=True)
class _Masked:
    """Labels with areas to ignore."""

    labels: Labels
    areas: Labels

    def read(self, window: Window) -> tuple[U8, I32 | None]:
        codes, objects = self.labels.read(window)
        codes[self.areas.read(window)[0] != UNLABELLED] = UNLABELLED
        return codes, objects


@dataclass(frozen=True)
class _Corrected:
    """Labels, and those that outrank them where they say something."""

    labels: Labels
    corrections: tuple[Labels, ...]

    def read(self, window: Window) -> tuple[U8, I32 | None]:
        codes, objects = self.labels.read(window)
        for one in self.corrections:
            better = one.read(window)[0]
            codes = np.where(better == UNLABELLED, codes, better)
        # Numbers of objects speak of borders that may be others now.
        return codes, None if self.corrections else objects


def corrected(labels: Labels, corrections: Sequence[Labels]) -> Labels:
    """Labels of a scene in which corrections outrank what was there, where they are given; of several, the last one."""
    return _Corrected(labels, tuple(corrections)) if corrections else labels


def without_borders(codes: U8, objects: I32 | None, radius: int) -> U8:
    """Class codes with all pixels within ``radius`` px of a border between classes or objects UNLABELLED.

    The distance is that of the chessboard: a square of ``2 * radius + 1`` pixels around each holds more than one value.
    """
    from scipy import ndimage

    size = 2 * radius + 1
    mixed = np.zeros(codes.shape, np.bool_)
    known = codes != UNLABELLED
    for values in (codes, objects):
        if values is not None:
            # What is not labelled makes no border: it is below every maximum and above every minimum.
            signed = values.astype(np.int32)
            largest = ndimage.maximum_filter(np.where(known, signed, -1), size, mode="nearest")
            least = ndimage.minimum_filter(np.where(known, signed, 2**31 - 1), size, mode="nearest")
            mixed |= largest > least
    return np.where(mixed, np.uint8(UNLABELLED), codes)
