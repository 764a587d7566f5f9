"""Colour tables of files whose values are indices into one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from geoseg.arrays import U8, Bools
from geoseg.scenes.scene import Band

__all__ = ["Palette"]


@dataclass(frozen=True, slots=True, eq=False)
class Palette:
    """A colour table: the colours of its indices."""

    table: U8
    """(4, entries): red, green, blue, alpha; what the table does not name is black, as GDAL shows it."""

    @classmethod
    def of(cls, dataset: rasterio.DatasetReader) -> Palette:
        """The colour table of the first band."""
        entries = dataset.colormap(1)
        table = np.zeros((4, max(entries, default=0) + 2), np.uint8)
        table[3] = 255
        for value, color in entries.items():
            table[:, value] = color
        return cls(table)

    def _index(self, values: NDArray[Any]) -> NDArray[Any]:
        # The last entry stands for all indices beyond the table.
        last = self.table.shape[1] - 1
        return np.where((values >= 0) & (values < last), values, last)

    def colors(self, values: NDArray[Any], bands: Sequence[Band]) -> U8:
        """(bands, h, w)."""
        index = self._index(values)
        return np.stack([np.take(self.table[band.index - 1], index) for band in bands])

    def opaque(self, values: NDArray[Any]) -> Bools:
        """(h, w), False where the colour is wholly transparent."""
        return np.asarray(np.take(self.table[3], self._index(values)) > 0)
