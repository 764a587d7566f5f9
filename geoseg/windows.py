"""Rectangles of whole pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Window"]


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Window:
    """A rectangle of whole pixels; the origin is the scene's top-left corner.

    The order of windows is that of reading: by row, then by column. Rasterio and OGC count columns first; so that no call can
    be misread, a window is made by name: ``Window.of(shape)``, ``Window.at((row, col), shape)``, or by keywords.
    """

    row_off: int
    """First row."""
    col_off: int
    """First column."""
    height: int
    """Number of rows, at least 1."""
    width: int
    """Number of columns, at least 1."""

    def __post_init__(self) -> None:
        """Check the values."""
        if self.height < 1 or self.width < 1:
            raise ValueError(f"a window has at least one row and one column, not {self.height} x {self.width}")

    @classmethod
    def of(cls, shape: tuple[int, int]) -> Window:
        """The whole of a raster of ``(height, width)``."""
        return cls(row_off=0, col_off=0, height=shape[0], width=shape[1])

    @classmethod
    def at(cls, place: tuple[int, int], shape: tuple[int, int]) -> Window:
        """The window of ``(height, width)`` whose first pixel is ``(row, col)``."""
        return cls(row_off=place[0], col_off=place[1], height=shape[0], width=shape[1])

    @classmethod
    def cell(cls, place: tuple[int, int], shape: tuple[int, int]) -> Window:
        """The cell ``(row, col)`` of a lattice of cells of ``(height, width)`` pixels from the origin."""
        return cls.at((place[0] * shape[0], place[1] * shape[1]), shape)

    @classmethod
    def between(cls, row_off: int, row_stop: int, col_off: int, col_stop: int) -> Window:
        """The window of rows ``row_off <= row < row_stop`` and columns ``col_off <= col < col_stop``."""
        return cls.at((row_off, col_off), (row_stop - row_off, col_stop - col_off))

    @property
    def row_stop(self) -> int:
        """The row after the last one."""
        return self.row_off + self.height

    @property
    def col_stop(self) -> int:
        """The column after the last one."""
        return self.col_off + self.width

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)``."""
        return self.height, self.width

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """``(rows, cols)``, ready to index the last two axes of an array of the whole scene."""
        return slice(self.row_off, self.row_stop), slice(self.col_off, self.col_stop)

    def for_rasterio(self) -> Any:
        """The window as rasterio takes it."""
        from rasterio.windows import Window as RasterioWindow

        return RasterioWindow(self.col_off, self.row_off, self.width, self.height)

    def cells(self, shape: tuple[int, int]) -> tuple[range, range]:
        """Rows and columns of the cells that it touches, of a lattice of cells of ``(height, width)`` pixels from the origin."""
        height, width = shape
        rows = range(self.row_off // height, (self.row_stop - 1) // height + 1)
        return rows, range(self.col_off // width, (self.col_stop - 1) // width + 1)

    def parts(self, side: int) -> Iterator[Window]:
        """Windows of at most ``side`` rows and columns that partition it, in the order of reading."""
        for row in range(self.row_off, self.row_stop, side):
            for col in range(self.col_off, self.col_stop, side):
                yield Window.between(row, min(row + side, self.row_stop), col, min(col + side, self.col_stop))

    def grown(self, rows: int, cols: int | None = None) -> Window:
        """Grow by ``rows`` above and below, and by ``cols`` (else as many) left and right; it may reach beyond the scene."""
        cols = rows if cols is None else cols
        return Window.between(self.row_off - rows, self.row_stop + rows, self.col_off - cols, self.col_stop + cols)

    def __and__(self, other: Window) -> Window | None:
        """The common part, or None where the two don't overlap."""
        row_off, row_stop = max(self.row_off, other.row_off), min(self.row_stop, other.row_stop)
        col_off, col_stop = max(self.col_off, other.col_off), min(self.col_stop, other.col_stop)
        if row_off >= row_stop or col_off >= col_stop:
            return None
        return Window.between(row_off, row_stop, col_off, col_stop)

    def __contains__(self, other: object) -> bool:
        """Whether the other window lies wholly inside."""
        return isinstance(other, Window) and (self & other) == other

    def within(self, outer: Window) -> Window:
        """The same window as counted from the first pixel of ``outer``, which contains it."""
        return Window.at((self.row_off - outer.row_off, self.col_off - outer.col_off), self.shape)

    def slices_in(self, outer: Window) -> tuple[slice, slice]:
        """``(rows, cols)`` of this window in an array that holds ``outer``, which contains it."""
        return self.within(outer).slices
