"""Class rasters that polygons are traced from, read by windows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from geoseg.arrays import U8
from geoseg.georeference import Georeference
from geoseg.polygons.block_grid import BlockGrid
from geoseg.windows import Window

__all__ = ["FINE_BLOCK", "ClassRaster", "ClassWindows"]

FINE_BLOCK = 1024
"""Side of a block where its size does not matter to the polygons: small blocks keep all threads busy in little memory."""


class ClassWindows(Protocol):
    """Class codes by windows, with or without confidence; read by several threads."""

    shape: tuple[int, int]
    georeference: Georeference
    has_confidence: bool

    def classes(self, window: Window) -> U8:
        """Class codes of a window."""
        ...

    def confidence(self, window: Window) -> U8:
        """Confidence of a window."""
        ...

    def uniform(self, window: Window) -> int | None:
        """The code of all pixels of a window where that is known without reading them."""
        ...


class ClassRaster(ClassWindows, Protocol):
    """A raster of class codes that knows where it holds any."""

    def blocks(self, grid: BlockGrid) -> Iterable[int]:
        """The blocks that may hold anything but nodata."""
        ...
