"""Reading the pixels of a scene: by blocks, each decoded about once, by several threads.

A window is read in *units*, rectangles of whole blocks of a file. A unit that more than one of the expected windows
touches (their halos overlap) is kept until the last of them has it, within a limit of bytes. GDAL handles belong to one
thread each: a shared handle returns wrong pixels without a word.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import rasterio
import rasterio.crs
import rasterio.errors
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterioWindow

from geoseg.errors import ReadError
from geoseg.redaction import cause_of
from geoseg.scenes.alpha import without_alpha
from geoseg.scenes.gdal import gdal_env, open_dataset
from geoseg.scenes.remote import ask_again, is_remote, shown, unshared
from geoseg.scenes.scene import Band, Scene, SceneFile
from geoseg.tiff import read_structure
from geoseg.transient import is_transient
from geoseg.windows import Window

__all__ = ["Pixels", "ReadStats", "SceneReader"]

UNIT_PX = 512
"""Blocks smaller than this are read several at a time."""
TRIES = 12
DECODING = re.compile(r"decod|inflat|decompress|corrupt|inconsistent|jpeg|lzw|zstd", re.IGNORECASE)
"""What GDAL says of bytes that came whole and are damaged."""
"""Times that a unit is asked of a server; each takes about three requests, and any of them may fail."""
GDAL_ERRORS = (rasterio.errors.RasterioError, CPLE_BaseError, ReadError)
"""What GDAL's failures arrive as; some come without rasterio's own class around them."""


@dataclass(frozen=True, slots=True, eq=False)
class Pixels:
    """The pixels of a window."""

    data: NDArray[Any]
    """(bands, height, width) in the file's data type."""
    valid: NDArray[np.bool_]
    """(height, width), True where every band holds data."""
    bad: NDArray[np.bool_] | None
    """(height, width), True where a block could not be read; None where all were."""


@dataclass(slots=True)
class ReadStats:
    """What was read, for the report."""

    decoded_pixels: int = 0
    """Pixels of the units that were decoded, all files together."""
    asked_pixels: int = 0
    """Pixels of the windows that were asked for, times files."""
    seconds: float = 0.0
    """Time in GDAL, all threads together."""
    bad_blocks: int = 0
    """Blocks that could not be read."""


@dataclass(frozen=True, slots=True, eq=False)
class _Unit:
    """A decoded unit."""

    data: NDArray[Any] | None
    """(bands of the file, h, w); None where no block was ever written."""
    valid: NDArray[np.bool_] | None
    """(h, w); None where all is valid."""
    bad: NDArray[np.bool_] | None
    """(h, w); None where all was readable."""

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes for a in (self.data, self.valid, self.bad) if a is not None)


class SceneReader:
    """Reads windows of a scene; may be used by several threads.

    Args:
        scene: What to read.
        bands: Indices into ``scene.bands``, in the order wanted.
        threads: Threads that read and decode.
        cache_bytes: Limit for decoded blocks that are kept for another window.
        mask_bad_blocks: Report blocks that can't be read in ``Pixels.bad`` instead of raising ReadError.
        keep_blocks: Keep decoded blocks up to the limit, whatever was expected: for windows that come back again and again.
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
    ) -> None:
        self.scene = scene
        self.bands: tuple[Band, ...] = tuple(scene.bands[i] for i in bands)
        self.stats = ReadStats()
        self._mask_bad_blocks = mask_bad_blocks
        self._keep_blocks = keep_blocks
        self._cache_bytes = cache_bytes
        self._local = threading.local()
        self._handles: list[ExitStack] = []
        self._lock = threading.Lock()
        self._units: OrderedDict[tuple[int, int, int], Future[_Unit]] = OrderedDict()
        self._uses: dict[tuple[int, int, int], int] = {}
        self._palettes: dict[int, _Palette] = {}
        self._kept_bytes = 0
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="geoseg-read")
        self._layouts = [_Layout.of(scene, i, self.bands) for i in range(len(scene.files))]
        self.dtype = np.result_type(*(band.dtype for band in self.bands))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the threads and close the files."""
        self._pool.shutdown(cancel_futures=True)
        with self._lock:
            handles, self._handles = self._handles, []
            self._units.clear()
        for handle in handles:
            handle.close()

    def expect(self, windows: Iterable[Window]) -> None:
        """Say which windows will be read, once each, so that what two of them share is decoded once."""
        for window in windows:
            for layout in self._layouts:
                for key in layout.units_in(window):
                    self._uses[key] = self._uses.get(key, 0) + 1

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
        bad: NDArray[np.bool_] | None = None
        requests = [
            (layout, key, self._request(layout, key))
            for layout in self._layouts
            if layout.wanted
            for key in layout.units_in(window)
        ]
        try:
            for layout, key, future in requests:
                unit, area = future.result(), layout.unit_window(key)
                common = area & window
                assert common is not None
                inside, outside = common.slices_in(area), common.slices_in(window)
                for position, (output, _) in enumerate(layout.wanted):
                    data[(output, *outside)] = 0 if unit.data is None else unit.data[(position, *inside)]
                if unit.data is None:
                    valid[outside] = False
                elif unit.valid is not None:
                    valid[outside] &= unit.valid[inside]
                if unit.bad is not None:
                    bad = np.zeros(window.shape, np.bool_) if bad is None else bad
                    bad[outside] |= unit.bad[inside]
        finally:
            for _, key, _ in requests:
                self._release(key)
        if np.issubdtype(self.dtype, np.floating):
            _drop_non_finite(data, valid)
        with self._lock:
            self.stats.asked_pixels += window.pixels * sum(1 for layout in self._layouts if layout.wanted)
        return Pixels(data, valid, bad)

    def _request(self, layout: _Layout, key: tuple[int, int, int]) -> Future[_Unit]:
        with self._lock:
            future = self._units.get(key)
            if future is None:
                future = self._pool.submit(self._read_unit, layout, key)
                self._units[key] = future
            self._units.move_to_end(key)
            return future

    def _release(self, key: tuple[int, int, int]) -> None:
        """One expected window has had the unit; drop it with the last one, or when too much is kept."""
        with self._lock:
            left = self._uses.get(key, 1) - 1
            self._uses[key] = left
            future = self._units.get(key)
            failed = future is not None and future.done() and future.exception() is not None
            if (left <= 0 and not self._keep_blocks) or failed:
                self._drop(key)
            while self._kept_bytes > self._cache_bytes and len(self._units) > 1:
                oldest = next((k for k, f in self._units.items() if f.done()), None)
                if oldest is None:
                    break
                self._drop(oldest)

    def _drop(self, key: tuple[int, int, int]) -> None:
        future = self._units.pop(key, None)
        if future is not None and future.done() and future.exception() is None:
            self._kept_bytes -= future.result().nbytes

    def _read_unit(self, layout: _Layout, key: tuple[int, int, int]) -> _Unit:
        window = layout.unit_window(key)
        if layout.written is not None and not layout.any_written(window):
            return _Unit(None, None, None)
        start = time.perf_counter()
        try:
            data, valid, bad = self._read_retrying(layout, window)
        finally:
            with self._lock:
                self.stats.seconds += time.perf_counter() - start
                self.stats.decoded_pixels += window.pixels
        if layout.written is not None:
            valid = layout.without_unwritten(window, valid)
        unit = _Unit(data, valid, bad)
        with self._lock:
            self._kept_bytes += unit.nbytes
        return unit

    def _read_retrying(
        self, layout: _Layout, window: Window
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None, NDArray[np.bool_] | None]:
        remote, delay = is_remote(layout.file.path), 0.2
        for attempt in range(1, TRIES + 1):
            try:
                return (*self._read_once(layout, window), None)
            except GDAL_ERRORS as error:
                self._forget_handle(layout.index)
                if remote and attempt < TRIES:
                    time.sleep(delay * random.uniform(0.5, 1.5))
                    ask_again(layout.file.path)
                    delay = min(delay * 2, 3.0)
                    continue
                if not remote and attempt < 2:
                    continue
                if not self._mask_bad_blocks:
                    raise self._read_error(layout, window, error) from error
                return self._read_by_blocks(layout, window)
        raise AssertionError

    def _read_error(self, layout: _Layout, window: Window, error: Exception) -> ReadError:
        block_height, block_width = layout.file.block_shape
        cause = cause_of(error, layout.file.path)
        tail = (
            ""
            if is_remote(layout.file.path)
            else "; the file is damaged. --on-bad-block=mask marks that area as not analysed and goes on"
        )
        told = ReadError(
            f"{shown(layout.file.path)}: can't read the blocks of rows {window.row_off}..{window.row_stop - 1}, "
            f"cols {window.col_off}..{window.col_stop - 1} (blocks of {block_height} x {block_width} px): {cause}{tail}"
        )
        # A server that fails again and again may recover; bytes that can't be decoded are damaged wherever they lie.
        told.transient = is_transient(error) or (is_remote(layout.file.path) and DECODING.search(cause) is None)
        return told

    def _read_by_blocks(
        self, layout: _Layout, window: Window
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None, NDArray[np.bool_] | None]:
        """Read block by block, so that only the bad ones are lost."""
        block_height, block_width = layout.file.block_shape
        data = np.zeros((len(layout.wanted), *window.shape), np.result_type(*(b.dtype for _, b in layout.wanted)))
        valid = np.ones(window.shape, np.bool_)
        bad = np.zeros(window.shape, np.bool_)
        for row in range(window.row_off, window.row_stop, block_height):
            for col in range(window.col_off, window.col_stop, block_width):
                block = Window(row, col, min(block_height, window.row_stop - row), min(block_width, window.col_stop - col))
                rows, cols = block.slices_in(window)
                try:
                    pixels, block_valid = self._read_once(layout, block)
                except GDAL_ERRORS:
                    self._forget_handle(layout.index)
                    bad[rows, cols] = True
                    valid[rows, cols] = False
                    with self._lock:
                        self.stats.bad_blocks += 1
                    continue
                data[:, rows, cols] = pixels
                if block_valid is not None:
                    valid[rows, cols] = block_valid
        return data, valid, bad

    def _read_once(self, layout: _Layout, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        file, bands = layout.file, [band for _, band in layout.wanted]
        area = RasterioWindow(window.col_off, window.row_off, window.width, window.height)
        with gdal_env(remote=is_remote(file.path)):
            dataset = self._dataset(layout.index)
            if isinstance(dataset, WarpedVRT):
                if file.palette:
                    return self._read_warped_palette(dataset, layout, area)
                return _read_warped(dataset, file, bands, area)
            if file.palette:
                return self._read_palette(dataset, layout, area)
            indexes = [band.index for band in bands]
            if file.validity == "alpha" and file.alpha is not None:
                both = dataset.read([*indexes, file.alpha], window=area)
                return both[:-1], both[-1] > 0
            pixels = dataset.read(indexes, window=area)
            if file.validity == "mask":
                return pixels, dataset.read_masks(1, window=area) > 0
        if file.validity == "nodata" and not self.scene.ignore_nodata:
            return pixels, _differs_from_nodata(pixels, bands)
        return pixels, None

    def _read_palette(
        self, dataset: rasterio.DatasetReader, layout: _Layout, area: RasterioWindow
    ) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """Colours, and where they are data: by nodata value, mask or alpha band, and where the colour is not transparent."""
        file, table = layout.file, self._palette(layout.index, dataset)
        values = dataset.read(1, window=area)
        colors = table.colors(values, [band for _, band in layout.wanted])
        if self.scene.ignore_nodata:
            return colors, None
        valid = self._opaque(table, file, values)
        nodata = dataset.nodata if file.told_nodata is None else file.told_nodata
        if file.validity == "alpha" and file.alpha is not None:
            valid &= dataset.read(file.alpha, window=area) > 0
        elif file.validity == "mask":
            valid &= dataset.read_masks(1, window=area) > 0
        elif nodata is not None:
            valid &= values != nodata
        return colors, None if valid.all() else valid

    def _read_warped_palette(
        self, dataset: WarpedVRT, layout: _Layout, area: RasterioWindow
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        table = self._palette(layout.index, dataset.src_dataset)
        values, mask = dataset.read([1, _alpha_of(dataset, layout.file)], window=area)
        colors = table.colors(values, [band for _, band in layout.wanted])
        return colors, (mask > 0) & (True if self.scene.ignore_nodata else self._opaque(table, layout.file, values))

    def _palette(self, index: int, dataset: rasterio.DatasetReader) -> _Palette:
        """The palette of a file; asked for once, as it may have 65,536 entries."""
        if index not in self._palettes:
            self._palettes[index] = _Palette.of(dataset)
        return self._palettes[index]

    @staticmethod
    def _opaque(table: _Palette, file: SceneFile, values: NDArray[Any]) -> NDArray[np.bool_]:
        # GDAL makes the colour of the file's nodata value transparent, which does not count where the user gives another one.
        return np.ones(values.shape, np.bool_) if file.told_nodata is not None else table.opaque(values)

    def _dataset(self, index: int) -> rasterio.DatasetReader | WarpedVRT:
        """This thread's handle of a file."""
        handles: dict[int, tuple[ExitStack, rasterio.DatasetReader | WarpedVRT]] = self._local.__dict__.setdefault("handles", {})
        if index not in handles:
            file, stack = self.scene.files[index], ExitStack()
            dataset = stack.enter_context(open_dataset(unshared(file.path), file.driver))
            if self.scene.view is not None:
                if file.alpha is None:
                    dataset = stack.enter_context(without_alpha(dataset))
                dataset = stack.enter_context(_warped(dataset, self.scene, file))
            handles[index] = stack, dataset
            with self._lock:
                self._handles.append(stack)
        return handles[index][1]

    def _forget_handle(self, index: int) -> None:
        entry = self._local.__dict__.get("handles", {}).pop(index, None)
        if entry is not None:
            with self._lock:
                if entry[0] in self._handles:
                    self._handles.remove(entry[0])
            entry[0].close()


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """The blocks of one file, and the bands that are wanted from it."""

    index: int
    file: SceneFile
    wanted: tuple[tuple[int, Band], ...]
    """(position in the output, band)."""
    unit_shape: tuple[int, int]
    scene: Window
    block_shape: tuple[int, int]
    written: NDArray[np.bool_] | None
    """(block rows, block cols); None where every block was written or it is not known."""

    @classmethod
    def of(cls, scene: Scene, index: int, bands: Sequence[Band]) -> _Layout:
        file = scene.files[index]
        wanted = tuple((i, band) for i, band in enumerate(bands) if band.file == index)
        whole = Window(0, 0, scene.height, scene.width)
        if scene.view is not None:
            return cls(index, file, wanted, (UNIT_PX, UNIT_PX), whole, (UNIT_PX, UNIT_PX), None)
        height, width = file.block_shape
        unit = (height * max(1, UNIT_PX // height), width * max(1, UNIT_PX // width))
        if width >= scene.width:
            unit = (height * max(1, min(UNIT_PX, (1 << 20) // max(1, width)) // height), width)
        written = None
        if file.driver == "GTiff" and not is_remote(file.path):
            try:
                written = read_structure(Path(file.path)).main.written()
            except (OSError, EOFError, ValueError) as error:
                raise ReadError(f"{file.path}: can't be read any more: {error}; was it moved or replaced?") from error
            if written.all():
                written = None
        return cls(index, file, wanted, unit, whole, file.block_shape, written)

    def units_in(self, window: Window) -> list[tuple[int, int, int]]:
        """Keys (file, unit row, unit col) of the units that a window touches, in the order of the file."""
        height, width = self.unit_shape
        rows = range(window.row_off // height, (window.row_stop - 1) // height + 1)
        cols = range(window.col_off // width, (window.col_stop - 1) // width + 1)
        return [(self.index, row, col) for row in rows for col in cols] if self.wanted else []

    def unit_window(self, key: tuple[int, int, int]) -> Window:
        height, width = self.unit_shape
        window = Window(key[1] * height, key[2] * width, height, width) & self.scene
        assert window is not None
        return window

    def _blocks(self, window: Window) -> tuple[slice, slice]:
        height, width = self.block_shape
        return (
            slice(window.row_off // height, (window.row_stop - 1) // height + 1),
            slice(window.col_off // width, (window.col_stop - 1) // width + 1),
        )

    def any_written(self, window: Window) -> bool:
        assert self.written is not None
        return bool(self.written[self._blocks(window)].any())

    def without_unwritten(self, window: Window, valid: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
        """The validity of a unit, with never-written blocks taken out."""
        assert self.written is not None
        rows, cols = self._blocks(window)
        part = self.written[rows, cols]
        if part.all():
            return valid
        height, width = self.block_shape
        by_pixel = part.repeat(height, axis=0).repeat(width, axis=1)
        row, col = window.row_off - rows.start * height, window.col_off - cols.start * width
        by_pixel = by_pixel[row : row + window.height, col : col + window.width]
        return by_pixel if valid is None else valid & by_pixel


def _differs_from_nodata(pixels: NDArray[Any], bands: Sequence[Band]) -> NDArray[np.bool_] | None:
    """GDAL's rule for one dataset: a pixel is data where any of its bands is; None where all pixels are."""
    valid: NDArray[np.bool_] | None = None
    for values, band in zip(pixels, bands, strict=True):
        if band.nodata is None:
            return None
        nodata = band.nodata
        differs = ~np.isnan(values) if np.isnan(nodata) else values != np.asarray(nodata).astype(values.dtype)
        valid = differs if valid is None else valid | differs
    return None if valid is None or valid.all() else valid


def _drop_non_finite(data: NDArray[Any], valid: NDArray[np.bool_]) -> None:
    """NaN and infinity in any band are no data."""
    for values in data:
        finite = np.isfinite(values)
        if not finite.all():
            valid &= finite


@dataclass(frozen=True, slots=True, eq=False)
class _Palette:
    """A colour table: what its indices stand for."""

    table: NDArray[np.uint8]
    """(4, entries): red, green, blue, alpha; what the table does not name is black, as GDAL shows it."""

    @classmethod
    def of(cls, dataset: rasterio.DatasetReader) -> _Palette:
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

    def colors(self, values: NDArray[Any], bands: Sequence[Band]) -> NDArray[np.uint8]:
        """(bands, h, w)."""
        index = self._index(values)
        return np.stack([np.take(self.table[band.index - 1], index) for band in bands])

    def opaque(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """(h, w), False where the colour is wholly transparent."""
        return np.asarray(np.take(self.table[3], self._index(values)) > 0)


def _warped(dataset: rasterio.DatasetReader, scene: Scene, file: SceneFile) -> WarpedVRT:
    view = scene.view
    assert view is not None
    options: dict[str, Any] = {}
    if view.source_crs is not None:
        options["src_crs"] = rasterio.crs.CRS.from_wkt(view.source_crs)
    if scene.ignore_nodata:
        options["src_nodata"] = None
    elif file.told_nodata is not None:
        options["src_nodata"] = file.told_nodata
    # Next to no tolerance: each pixel is transformed exactly, so that it does not matter in which blocks it is asked for.
    # (None at all is refused where the grid is given, too.)
    return WarpedVRT(
        dataset,
        crs=rasterio.crs.CRS.from_wkt(view.crs),
        transform=Affine(*view.transform),
        height=view.height,
        width=view.width,
        resampling=Resampling.nearest if file.palette else Resampling[view.resampling],
        add_alpha=file.alpha is None,
        tolerance=1e-6,
        **options,
    )


def _alpha_of(dataset: WarpedVRT, file: SceneFile) -> int:
    """The band of a warped file that says which of its pixels are data."""
    return file.alpha if file.alpha is not None else int(dataset.count)


def _read_warped(
    dataset: WarpedVRT, file: SceneFile, bands: Sequence[Band], area: RasterioWindow
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    both = dataset.read([*(band.index for band in bands), _alpha_of(dataset, file)], window=area)
    return both[:-1], both[-1] > 0
