"""Labelled objects: their numbers where labels give none, and their sizes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from geoseg.errors import ConfigError
from geoseg.training.data.chips import Chip, ChipSource
from geoseg.windows import Window

__all__ = ["ObjectSizes", "measure_objects", "objects_of"]

SIDE = 2048


def objects_of(chip: Chip, codes: Collection[int]) -> NDArray[np.int32]:
    """(h, w) numbers of the labelled objects of some classes, 0 for none.

    Labels that don't distinguish objects give the 4-connected regions of each class.
    """
    if chip.objects is not None:
        return np.where(np.isin(chip.labels, list(codes)), chip.objects, np.int32(0))
    numbers, total = np.zeros(chip.labels.shape, np.int32), 0
    for code in codes:
        regions, count = ndimage.label(chip.labels == code)
        numbers[regions > 0] = regions[regions > 0] + total
        total += count
    return numbers


@dataclass(frozen=True, slots=True, eq=False)
class ObjectSizes:
    """Sizes of labelled objects."""

    extents: NDArray[np.int64]
    """(N, 2) rows and columns of each."""
    pixels: NDArray[np.int64]
    """(N,) number of pixels of each."""

    @property
    def largest(self) -> int:
        """Rows or columns of the largest."""
        return int(self.extents.max())


def measure_objects(sources: Sequence[ChipSource], areas: Iterable[tuple[int, Window]], codes: Collection[int]) -> ObjectSizes:
    """Measure the objects of some classes in some windows of some scenes.

    Windows are read in parts. Objects that labels number are put together over the parts; regions of class rasters are not,
    and what a part cuts is measured as it is.

    Raises:
        ConfigError: There is no object.
    """
    boxes: dict[tuple[int, int], NDArray[np.int64]] = {}
    unnumbered = -1
    for source, window in areas:
        for part in window.parts(SIDE):
            chip = sources[source].read(part)
            numbers = objects_of(chip, codes)
            counts = np.bincount(numbers.ravel())
            for number, box in enumerate(ndimage.find_objects(numbers), 1):
                if box is None:
                    continue
                rows, cols = (
                    slice(s.start + off, s.stop + off) for s, off in zip(box, (part.row_off, part.col_off), strict=True)
                )
                key = (source, number if chip.objects is not None else unnumbered)
                unnumbered -= 1
                found = np.array([rows.start, rows.stop, cols.start, cols.stop, counts[number]])
                before = boxes.get(key)
                if before is not None:
                    ends = [
                        min(before[0], found[0]),
                        max(before[1], found[1]),
                        min(before[2], found[2]),
                        max(before[3], found[3]),
                    ]
                    found = np.array([*ends, before[4] + found[4]])
                boxes[key] = found
    if not boxes:
        raise ConfigError("data: no object is labelled in the scenes to train on; check the class column and data.outside")
    every = np.stack(list(boxes.values())).astype(np.int64)
    return ObjectSizes(np.stack([every[:, 1] - every[:, 0], every[:, 3] - every[:, 2]], axis=1), every[:, 4])
