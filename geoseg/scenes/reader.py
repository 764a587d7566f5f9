"""Reading the pixels of a scene: by blocks, each decoded about once, by several threads.

A window is read in *units*, rectangles of whole blocks of a file. A unit that more than one of the expected windows
touches (their halos overlap) is kept until the last of them has it, within a limit of bytes.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import rasterio
import rasterio.crs
import rasterio.errors
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError

from geoseg.arrays import Bools
from geoseg.dialect import setting
from geoseg.errors import ReadError
from geoseg.redaction import cause_of
from geoseg.scenes.pixels import handed_on
from geoseg.scenes.pixels.file_pixels import FilePixels
from geoseg.scenes.pixels.layout import Key, Layout
from geoseg.scenes.pixels.unit_cache import Unit, UnitCache
from geoseg.scenes.remote import ask_again, is_remote, shown
from geoseg.scenes.scene import Band, Scene
from geoseg.transient import is_transient
from geoseg.windows import Window

__all__ = ["Pixels", "ReadStats", "SceneReader"]

TRIES = 12
"""Times that a unit is asked of a server; each takes about three requests, and any of them may fail."""
RENEWALS = 3
"""Times that the address of a file is signed anew for one unit."""
DECODING = re.compile(r"decod|inflat|decompress|corrupt|inconsistent|jpeg|lzw|zstd", re.IGNORECASE)
"""Words of GDAL for bytes that came whole and are damaged."""
GDAL_ERRORS = (rasterio.errors.RasterioError, CPLE_BaseError, ReadError)
"""What GDAL's failures arrive as; some come without rasterio's own class around them."""


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """The pixels of a window."""

    data: NDArray[Any]
    """(bands, height, width) in the file's data type."""
    valid: Bools
    """(height, width), True where every band holds data."""
    bad: Bools | None
    """(height, width), True where a block could not be read; None where all were."""
    hidden: Bools | None = None
    """(height, width), True where there is data, and clouds hide the ground; None where nothing says so."""

    @property
    def shown(self) -> Bools:
        """(height, width), True where there is data that shows the ground: all that statistics may see."""
        return self.valid if self.hidden is None else self.valid & ~self.hidden


@dataclass(slots=True)
class ReadStats:
    """Counts of what was read, for the report."""

    decoded_pixels: int = 0
    """Pixels of the units that were decoded, all files together."""
    asked_pixels: int = 0
    """Pixels of the windows that were asked for, times files."""
    seconds: float = 0.0
    """Time in GDAL, all threads together."""
    bad_blocks: int = 0
    """Blocks that could not be read."""


class SceneReader:
    """Reads windows of a scene; may be used by several threads.

    Args:
        scene: What to read.
        bands: Indices into ``scene.bands``, in the order wanted.
        threads: Threads that read and decode.
        cache_bytes: Limit for decoded blocks that are kept for another window.
        mask_bad_blocks: Report blocks that can't be read in ``Pixels.bad`` instead of raising ReadError.
        keep_blocks: Keep decoded blocks up to the limit, whatever was expected: for windows that come back again and again.
        take_over: Begin with what a look at the scene has decoded; see ``hand_on``.
    """

    def __init__(
        self,
        scene: Scene,
        bands: Sequence[int],
        *,
        threads: int = 2,
        cache_bytes: int = 256 << 20,
        mask_bad_blocks: bool = False,
        keep_blocks: bool = False,
        take_over: bool = False,
    ) -> None:
        self.scene, self._indices = scene, tuple(bands)
        self.bands: tuple[Band, ...] = tuple(scene.bands[i] for i in bands)
        self.stats = ReadStats()
        self._mask_bad_blocks = mask_bad_blocks
        self._lock = threading.Lock()
        self._files = FilePixels(scene)
        # The time of a server goes by in waiting, that of a disk in decoding.
        ahead = 2 * threads if any(is_remote(file.path) for file in scene.files) else 0
        known = handed_on.take(scene, bands) if take_over else None
        self._layouts = [Layout.of(scene, i, self.bands) for i in range(len(scene.files))]
        self._units = UnitCache(
            threads,
            cache_bytes,
            self._read_units,
            lambda key: self._layouts[key[0]].run,
            keep=keep_blocks,
            ahead=ahead,
            known=known,
        )
        self.dtype = np.result_type(*(band.dtype for band in self.bands))

    def __enter__(self) -> Self:
        """Open until the block ends."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Stop the threads and close the files."""
        self._units.close()
        self._files.close()

    def hand_on(self) -> None:
        """Leave what is decoded and kept to the reader of this scene that takes it over."""
        handed_on.leave(self.scene, self._indices, self._units.whole())

    def expect(self, windows: Iterable[Window]) -> None:
        """Say which windows will be read, once each, so that what two of them share is decoded once."""
        for window in windows:
            for layout in self._layouts:
                for key in layout.units_in(window):
                    self._units.expect(key)

    def is_empty(self, window: Window) -> bool:
        """Whether no block in the window was ever written, as far as that is known without decoding."""
        return any(layout.wanted and layout.written is not None and not layout.any_written(window) for layout in self._layouts)

    def read(self, window: Window) -> Pixels:
        """Read a window that lies within the scene.

        Raises:
            ReadError: A block can't be read, also not when tried again.
        """
        data = np.empty((len(self.bands), *window.shape), self.dtype)
        valid = np.ones(window.shape, np.bool_)
        bad: Bools | None = None
        keys = [key for layout in self._layouts for key in layout.units_in(window)]
        place = lambda key: self._layouts[key[0]].part_of(data, window, key)  # noqa: E731
        requests = deque(zip(keys, self._units.request(keys, place), strict=True))
        self._units.read_ahead()
        try:
            while requests:
                key, future = requests[0]
                layout = self._layouts[key[0]]
                unit, area = future.result(), layout.unit_window(key)
                common = area & window
                assert common is not None
                inside, outside = common.slices_in(area), common.slices_in(window)
                if unit.data is None or not np.may_share_memory(unit.data, data):
                    for position, (output, _) in enumerate(layout.wanted):
                        data[(output, *outside)] = 0 if unit.data is None else unit.data[(position, *inside)]
                if unit.data is None:
                    valid[outside] = False
                elif unit.valid is not None:
                    valid[outside] &= unit.valid[inside]
                if unit.bad is not None:
                    bad = np.zeros(window.shape, np.bool_) if bad is None else bad
                    bad[outside] |= unit.bad[inside]
                # Each as soon as it is copied: together they take as much memory as the window.
                requests.popleft()
                self._units.release(key)
                del unit, future
        finally:
            for key, _ in requests:
                self._units.release(key)
        if np.issubdtype(self.dtype, np.floating):
            _drop_non_finite(data, valid)
        with self._lock:
            self.stats.asked_pixels += window.pixels * sum(1 for layout in self._layouts if layout.wanted)
        return Pixels(data, valid, bad)

    def _read_units(self, keys: Sequence[Key], into: NDArray[Any] | None) -> list[Unit]:
        """Units side by side; one is tried again where it can't be read, and may be decoded into a part of a window."""
        layout = self._layouts[keys[0][0]]
        areas = [layout.unit_window(key) for key in keys]
        window = Window.between(areas[0].row_off, areas[0].row_stop, areas[0].col_off, areas[-1].col_stop)
        if layout.written is not None and not layout.any_written(window):
            return [Unit(None, None, None)] * len(keys)
        start = time.perf_counter()
        try:
            if len(keys) == 1:
                units = [Unit(*self._read_retrying(layout, window, into))]
            else:
                data, valid = self._read_once(layout, window)
                parts = [area.slices_in(window) for area in areas]
                units = [Unit(data[(slice(None), *part)], None if valid is None else valid[part], None) for part in parts]
        finally:
            with self._lock:
                self.stats.seconds += time.perf_counter() - start
        with self._lock:
            self.stats.decoded_pixels += window.pixels
        return units

    def _read_once(self, layout: Layout, window: Window, into: NDArray[Any] | None = None) -> tuple[NDArray[Any], Bools | None]:
        try:
            return self._files.read(layout, window, into)
        except GDAL_ERRORS as error:
            self._files.forget(layout.index, error)
            raise

    def _read_retrying(
        self, layout: Layout, window: Window, into: NDArray[Any] | None
    ) -> tuple[NDArray[Any], Bools | None, Bools | None]:
        remote, delay, renewals = is_remote(layout.file.path), 0.2, 0
        for attempt in range(1, TRIES + 1):
            try:
                return (*self._read_once(layout, window, into), None)
            except GDAL_ERRORS as error:
                if remote and renewals < RENEWALS and self._files.renew(layout.index):
                    renewals += 1
                    continue
                if remote and attempt < TRIES:
                    time.sleep(delay * random.uniform(0.5, 1.5))  # noqa: S311 - spreads retries, keeps no secret
                    ask_again(layout.file.path)
                    delay = min(delay * 2, 3.0)
                    continue
                if not remote and attempt < 2:
                    continue
                if not self._mask_bad_blocks:
                    raise self._read_error(layout, window, error) from error
                return self._read_by_blocks(layout, window)
        raise AssertionError

    def _read_error(self, layout: Layout, window: Window, error: Exception) -> ReadError:
        block_height, block_width = layout.file.block_shape
        cause = cause_of(error, self._files.address(layout.index))
        tail = (
            ""
            if is_remote(layout.file.path)
            else f"; the file is damaged. {setting('on_bad_block')}=mask marks that area as not analysed and goes on"
        )
        told = ReadError(
            f"{shown(layout.file.path)}: can't read the blocks of rows {window.row_off}..{window.row_stop - 1}, "
            f"cols {window.col_off}..{window.col_stop - 1} (blocks of {block_height} x {block_width} px): {cause}{tail}"
        )
        # A server that fails again and again may recover; bytes that can't be decoded are damaged wherever they lie.
        told.transient = is_transient(error) or (is_remote(layout.file.path) and DECODING.search(cause) is None)
        return told

    def _read_by_blocks(self, layout: Layout, window: Window) -> tuple[NDArray[Any], Bools | None, Bools | None]:
        """Read block by block, so that only the bad ones are lost."""
        block_height, block_width = layout.file.block_shape
        data = np.zeros((len(layout.wanted), *window.shape), np.result_type(*(b.dtype for _, b in layout.wanted)))
        valid = np.ones(window.shape, np.bool_)
        bad = np.zeros(window.shape, np.bool_)
        for row in range(window.row_off, window.row_stop, block_height):
            for col in range(window.col_off, window.col_stop, block_width):
                block = Window.at((row, col), (min(block_height, window.row_stop - row), min(block_width, window.col_stop - col)))
                rows, cols = block.slices_in(window)
                try:
                    pixels, block_valid = self._files.read(layout, block)
                except GDAL_ERRORS as error:
                    self._files.forget(layout.index, error)
                    bad[rows, cols] = True
                    valid[rows, cols] = False
                    with self._lock:
                        self.stats.bad_blocks += 1
                    continue
                data[:, rows, cols] = pixels
                if block_valid is not None:
                    valid[rows, cols] = block_valid
        return data, valid, bad


def _drop_non_finite(data: NDArray[Any], valid: Bools) -> None:
    """NaN and infinity in any band are no data."""
    for values in data:
        finite = np.isfinite(values)
        if not finite.all():
            valid &= finite
