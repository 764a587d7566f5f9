"""A class raster with the decisions of people burnt into it, window by window."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

import numpy as np
import rasterio.features
import shapely
from rasterio.transform import Affine

from geoseg.arrays import F64, I64, U8
from geoseg.codes import NODATA, NOT_ANALYSED
from geoseg.georeference import Georeference
from geoseg.windows import Window

__all__ = ["Burn", "BurnStore", "burnt"]

NONE = 0xFFFF
"""In a window of codes to burn, where there is none."""


@dataclass(frozen=True, slots=True)
class Burn:
    """A polygon that gets a code."""

    shape: shapely.Geometry
    """In the CRS of the raster."""
    code: int
    drawn: bool = False
    """Whether somebody has drawn it, and so has seen what the map had not analysed; no data stays in any case."""


@dataclass(slots=True)
class BurnStore:
    """Polygons to burn, in a file; of each, its box and code are in memory: 48 bytes."""

    georeference: Georeference
    file: BinaryIO
    _boxes: list[F64] = field(default_factory=list)
    _facts: list[tuple[int, bool, int, int]] = field(default_factory=list)
    """Code, whether it was drawn, and where its geometry begins and ends."""
    _at: int = 0

    @classmethod
    def create(cls, path: Path, georeference: Georeference) -> BurnStore:
        """Begin a store; the caller closes its file."""
        return cls(georeference, path.open("w+b"))

    def add(self, burns: Iterable[Burn]) -> None:
        """Add polygons; later ones are burnt over earlier ones."""
        for burn in burns:
            # Whole at corners of pixels, so that no window moves an edge.
            shape = shapely.transform(burn.shape, self._pixels)
            data = shapely.to_wkb(shape)
            self.file.write(data)
            self._boxes.append(shapely.bounds(shape))
            self._facts.append((burn.code, burn.drawn, self._at, self._at + len(data)))
            self._at += len(data)

    def _pixels(self, xy: F64) -> F64:
        rows, cols = self.georeference.rows_cols(xy)
        return np.stack([cols, rows], axis=1)

    def __len__(self) -> int:
        """Number of polygons."""
        return len(self._facts)

    def within(self, window: Window) -> Iterator[Burn]:
        """Those that may touch a window, in their order; x is the column and y the row."""
        for number in self._near(window).tolist():
            code, drawn, start, stop = self._facts[number]
            self.file.seek(start)
            yield Burn(shapely.from_wkb(self.file.read(stop - start)), code, drawn)

    def on_map(self) -> Iterator[shapely.Geometry]:
        """All of them in the CRS of the raster."""
        for _, _, start, stop in self._facts:
            self.file.seek(start)
            yield shapely.transform(shapely.from_wkb(self.file.read(stop - start)), self._on_map)

    def _on_map(self, xy: F64) -> F64:
        return self.georeference.xy(xy[:, 1], xy[:, 0])

    def _near(self, window: Window) -> I64:
        if not self._boxes:
            return np.zeros(0, np.int64)
        left, top, right, bottom = np.array(self._boxes).T
        near = (left < window.col_stop) & (right > window.col_off) & (top < window.row_stop) & (bottom > window.row_off)
        return np.flatnonzero(near)


def burnt(classes: U8, window: Window, store: BurnStore) -> U8:
    """Class codes of a window with the polygons burnt in: pixels whose centre lies within, as GDAL has it.

    Args:
        classes: (h, w) codes of the window.
        window: Where it lies; for equal results, always the same windows of a raster.
        store: What is burnt.
    """
    found = classes.copy()
    # What the map had not analysed stays so until somebody has drawn over it.
    free = (classes != NODATA) & (classes != NOT_ANALYSED)
    place = Affine.translation(window.col_off, window.row_off)
    for drawn, group in groupby(store.within(window), key=lambda burn: burn.drawn):
        codes = rasterio.features.rasterize(
            ((burn.shape, burn.code) for burn in group), window.shape, fill=NONE, transform=place, dtype="uint16"
        )
        there = (codes != NONE) & (classes != NODATA)
        if drawn:
            free |= there
        there &= free
        found[there] = codes[there]
    return found
