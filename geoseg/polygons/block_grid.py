"""The blocks of a class raster, which are worked on one by one."""

from __future__ import annotations

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
        return self.shape[0] * self.shape[1]

    @property
    def scene(self) -> Window:
        """The window of the whole raster."""
        return Window(0, 0, self.height, self.width)

    def core(self, index: int) -> Window:
        """The pixels of a block."""
        row, col = divmod(index, self.shape[1])
        window = Window(row * self.size, col * self.size, self.size, self.size) & self.scene
        assert window is not None
        return window

    def framed(self, index: int) -> Window:
        """The pixels of a block and one more to each side, within the raster."""
        core = self.core(index)
        window = Window(core.row_off - 1, core.col_off - 1, core.height + 2, core.width + 2) & self.scene
        assert window is not None
        return window
