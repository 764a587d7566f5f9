"""The blocks of a class raster, which are worked on one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from geoseg.grid import ceil_div
from geoseg.windows import Window

__all__ = ["BLOCK", "BlockGrid"]

BLOCK = 4096
"""Side of a block in pixels; also the grid along which ``max_vertices`` cuts and in which borders are simplified."""


@dataclass(frozen=True, slots=True)
class BlockGrid:
    """The blocks of a raster, which partition it from its origin."""

    height: int
    width: int
    size: int = BLOCK

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of blocks."""
        return ceil_div(self.height, self.size), ceil_div(self.width, self.size)

    def __len__(self) -> int:
        """Number of entries."""
        return self.shape[0] * self.shape[1]

    @property
    def scene(self) -> Window:
        """The window of the whole raster."""
        return Window.of((self.height, self.width))

    def core(self, index: int) -> Window:
        """The pixels of a block."""
        window = Window.cell(divmod(index, self.shape[1]), (self.size, self.size)) & self.scene
        assert window is not None
        return window

    def framed(self, index: int) -> Window:
        """The pixels of a block and one more to each side, within the raster."""
        window = self.core(index).grown(1) & self.scene
        assert window is not None
        return window

    def touched(self, window: Window) -> Iterator[int]:
        """The blocks that a window touches, in the order of reading."""
        rows, cols = window.cells((self.size, self.size))
        for row in rows:
            for col in cols:
                yield row * self.shape[1] + col
