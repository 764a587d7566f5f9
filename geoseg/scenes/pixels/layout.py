"""The blocks of a scene's file, the units in which they are read, and which of them were ever written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.arrays import Bools
from geoseg.errors import ReadError
from geoseg.scenes.products.container import in_archive
from geoseg.scenes.remote import is_remote
from geoseg.scenes.scene import Band, Scene, SceneFile
from geoseg.tiff import read_structure
from geoseg.windows import Window

__all__ = ["UNIT_PX", "Key", "Layout"]

UNIT_PX = 512
"""Blocks smaller than this are read several at a time."""
RUN_BYTES = 2 << 20
"""What units of a file on a server may decode to that are read at once: each reading has its price, beside that of its bytes."""
Key = tuple[int, int, int]
"""A unit: file, unit row, unit column."""


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The blocks of one file, and the bands that are wanted from it."""

    index: int
    """Position of the file in the scene."""
    file: SceneFile
    """The file."""
    wanted: tuple[tuple[int, Band], ...]
    """(position in the output, band)."""
    unit_shape: tuple[int, int]
    """Rows and columns of a unit: whole blocks, read together."""
    scene: Window
    """All pixels."""
    block_shape: tuple[int, int]
    """Rows and columns of a block."""
    written: Bools | None
    """(block rows, block cols); None where every block was written or it is not known."""
    run: int = 1
    """Units side by side that may be read at once."""

    @classmethod
    def of(cls, scene: Scene, index: int, bands: Sequence[Band]) -> Layout:
        """The blocks of a file, and those of the bands that are its own.

        Raises:
            ReadError: The file can't be read any more.
        """
        file = scene.files[index]
        wanted = tuple((i, band) for i, band in enumerate(bands) if band.file == index)
        whole = Window.of((scene.height, scene.width))
        if scene.view_of(file) is not None:
            return cls(index, file, wanted, (UNIT_PX, UNIT_PX), whole, (UNIT_PX, UNIT_PX), None)
        height, width = file.block_shape
        run = 1
        unit = (height * max(1, UNIT_PX // height), width * max(1, UNIT_PX // width))
        if width >= scene.width:
            unit = (height * max(1, min(UNIT_PX, (1 << 20) // max(1, width)) // height), width)
        elif is_remote(file.path) and height < UNIT_PX:
            # Tiles of a row lie side by side in most files, so that they are one request.
            unit = (height, width * max(1, UNIT_PX**2 // (height * width)))
            size = max(file.block_bytes, height * width * sum(np.dtype(band.dtype).itemsize for _, band in wanted))
            if file.driver == "GTiff":
                run = max(1, RUN_BYTES // max(1, size * (unit[1] // width)))
        written = None
        if file.driver == "GTiff" and not is_remote(file.path) and not in_archive(file.path):
            try:
                written = read_structure(Path(file.path)).main.written()
            except (OSError, EOFError, ValueError) as error:
                raise ReadError(f"{file.path}: can't be read any more: {error}; was it moved or replaced?") from error
            if written.all():
                written = None
        return cls(index, file, wanted, unit, whole, file.block_shape, written, run)

    def units_in(self, window: Window) -> list[Key]:
        """Keys (file, unit row, unit col) of the units that a window touches, in the order of the file."""
        rows, cols = window.cells(self.unit_shape)
        return [(self.index, row, col) for row in rows for col in cols] if self.wanted else []

    def unit_window(self, key: Key) -> Window:
        """The pixels of a unit, within the scene."""
        window = Window.cell(key[1:], self.unit_shape) & self.scene
        assert window is not None
        return window

    def part_of(self, data: NDArray[Any], window: Window, key: Key) -> NDArray[Any] | None:
        """The part of a window's pixels (bands, h, w) that is one unit; None where that holds more, or other types."""
        area, outputs = self.unit_window(key), [output for output, _ in self.wanted]
        first, last = outputs[0], outputs[-1] + 1
        same = outputs == list(range(first, last)) and all(np.dtype(band.dtype) == data.dtype for _, band in self.wanted)
        return data[(slice(first, last), *area.slices_in(window))] if same and (area & window) == area else None

    def _blocks(self, window: Window) -> tuple[slice, slice]:
        rows, cols = window.cells(self.block_shape)
        return slice(rows.start, rows.stop), slice(cols.start, cols.stop)

    def any_written(self, window: Window) -> bool:
        """Whether any block that a window touches was ever written."""
        assert self.written is not None
        return bool(self.written[self._blocks(window)].any())

    def without_unwritten(self, window: Window, valid: Bools | None, written: Bools | None) -> Bools | None:
        """The validity of a window, with blocks taken out that were never written: (block rows, block cols), None without any."""
        if written is None:
            return valid
        rows, cols = self._blocks(window)
        part = written[rows, cols]
        if part.all():
            return valid
        height, width = self.block_shape
        by_pixel = part.repeat(height, axis=0).repeat(width, axis=1)
        row, col = window.row_off - rows.start * height, window.col_off - cols.start * width
        by_pixel = by_pixel[row : row + window.height, col : col + window.width]
        return by_pixel if valid is None else valid & by_pixel
