"""Windows of one file of a scene through GDAL: as stored, by its palette, or reprojected; and where they hold data.

GDAL handles belong to one thread each: a shared handle returns wrong pixels without a word.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from functools import partial
from typing import Any

import numpy as np
import rasterio
import rasterio.errors
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.enums import MaskFlags
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterioWindow

from geoseg.arrays import Bools
from geoseg.errors import ReadError
from geoseg.scenes.bands.alpha import without_alpha
from geoseg.scenes.gdal import gdal_env, open_dataset, open_sought, open_written
from geoseg.scenes.pixels.file_views import alpha_of_warped, read_warped, source_window, warped
from geoseg.scenes.pixels.layout import Layout
from geoseg.scenes.pixels.palette import Palette
from geoseg.scenes.ranges.range_file import Pieces, RangeFile
from geoseg.scenes.ranges.remote_tiff import RemoteTiff, remote_tiff
from geoseg.scenes.ranges.served_file import ServedFile
from geoseg.scenes.remote import is_remote, probe, shown, unshared
from geoseg.scenes.scene import Band, Scene, SceneFile
from geoseg.scenes.stac.signing import renewed, signed
from geoseg.transient import is_transient
from geoseg.windows import Window

__all__ = ["FilePixels"]


class FilePixels:
    """Reads windows of a scene's files, with a handle a thread and file."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._local = threading.local()
        self._handles: list[ExitStack] = []
        self._lock = threading.Lock()
        self._palettes: dict[int, Palette] = {}
        self._opening = [threading.Lock() for _ in scene.files]
        self._remotes: dict[int, tuple[str, RemoteTiff | ServedFile | None]] = {}

    def close(self) -> None:
        """Close the handles of all threads."""
        with self._lock:
            handles, self._handles = self._handles, []
        for index, (address, _) in list(self._remotes.items()):
            self._drop(index, address)
        for handle in handles:
            handle.close()

    def read(self, layout: Layout, window: Window, into: NDArray[Any] | None = None) -> tuple[NDArray[Any], Bools | None]:
        """Values (bands, h, w) in the file's type and validity (h, w), None where all is valid.

        Blocks that were never written hold no data. ``into`` may be taken for the values, where they are as the file has them.
        """
        with gdal_env(remote=is_remote(layout.file.path)):
            remote = self._remote(layout)
            with self._opened(layout, window, remote) as (dataset, area):
                pixels, valid = self._decoded(layout, dataset, area, into)
        if isinstance(dataset, WarpedVRT):
            return pixels, valid
        return pixels, layout.without_unwritten(window, valid, layout.written if remote is None else remote.written)

    def _decoded(
        self, layout: Layout, dataset: rasterio.DatasetReader | WarpedVRT, area: RasterioWindow, into: NDArray[Any] | None
    ) -> tuple[NDArray[Any], Bools | None]:
        """What a data set says of a part of it."""
        file, bands = layout.file, [band for _, band in layout.wanted]
        if isinstance(dataset, WarpedVRT):
            if file.palette:
                return self._read_warped_palette(dataset, layout, area)
            return read_warped(dataset, file, bands, area)
        if file.palette:
            return self._read_palette(dataset, layout, area)
        indexes = [band.index for band in bands]
        if file.validity == "alpha" and file.alpha is not None:
            both = dataset.read([*indexes, file.alpha], window=area)
            return both[:-1], both[-1] > 0
        pixels = dataset.read(indexes, window=area, out=into)
        if file.validity == "mask":
            return pixels, dataset.read_masks(1, window=area) > 0
        if file.validity == "nodata" and not self._scene.ignore_nodata:
            return pixels, _differs_from_nodata(pixels, bands)
        return pixels, None

    def _read_palette(
        self, dataset: rasterio.DatasetReader, layout: Layout, area: RasterioWindow
    ) -> tuple[NDArray[Any], Bools | None]:
        """Colours, and where they are data: by nodata value, mask or alpha band, and where the colour is not transparent."""
        file, table = layout.file, self._palette(layout.index, dataset)
        values = dataset.read(1, window=area)
        colors = table.colors(values, [band for _, band in layout.wanted])
        if self._scene.ignore_nodata:
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

    def _read_warped_palette(self, dataset: WarpedVRT, layout: Layout, area: RasterioWindow) -> tuple[NDArray[Any], Bools]:
        table = self._palette(layout.index, dataset.src_dataset)
        values, mask = dataset.read([1, alpha_of_warped(dataset, layout.file)], window=area)
        colors = table.colors(values, [band for _, band in layout.wanted])
        return colors, (mask > 0) & (True if self._scene.ignore_nodata else self._opaque(table, layout.file, values))

    def _palette(self, index: int, dataset: rasterio.DatasetReader) -> Palette:
        """The palette of a file; asked for once, as it may have 65,536 entries."""
        if index not in self._palettes:
            self._palettes[index] = Palette.of(dataset)
        return self._palettes[index]

    @staticmethod
    def _opaque(table: Palette, file: SceneFile, values: NDArray[Any]) -> Bools:
        # GDAL makes the colour of the file's nodata value transparent, which does not count where the user gives another one.
        return np.ones(values.shape, np.bool_) if file.told_nodata is not None else table.opaque(values)

    @contextmanager
    def _opened(
        self, layout: Layout, window: Window, remote: RemoteTiff | ServedFile | None
    ) -> Iterator[tuple[rasterio.DatasetReader | WarpedVRT, RasterioWindow]]:
        """A data set, and where in it a window lies: the file, or an excerpt of one on a server."""
        bands = [1] if layout.file.palette else [band.index for _, band in layout.wanted]
        bands += [] if layout.file.alpha is None else [layout.file.alpha]
        if isinstance(remote, RemoteTiff) and remote.usable and self._scene.view_of(layout.file) is None:
            excerpt, part = remote.excerpt(window, bands)
            with open_written(excerpt) as dataset:
                yield dataset, window.within(part).for_rasterio()
            return
        handle = self._dataset(layout.index, remote)
        if remote is None:
            yield handle, window.for_rasterio()
            return
        pieces: Pieces = self._local.pieces[layout.index]
        source = source_window(handle, window) if isinstance(handle, WarpedVRT) else window
        with _telling(pieces):
            pieces.hold([] if source is None else remote.spans(source, bands))
            yield handle, window.for_rasterio()
        pieces.hold([])

    def _dataset(self, index: int, remote: RemoteTiff | ServedFile | None) -> rasterio.DatasetReader | WarpedVRT:
        """This thread's handle of a file."""
        handles: dict[int, tuple[ExitStack, rasterio.DatasetReader | WarpedVRT]] = self._local.__dict__.setdefault("handles", {})
        if index not in handles:
            with ExitStack() as opening:
                dataset = self._open(index, remote, opening)
                inner, stack = opening.pop_all(), ExitStack()
            # What Python reads for GDAL is known in the context of this thread; another one may close it.
            stack.callback(copy_context().run, inner.close)
            handles[index] = stack, dataset
            with self._lock:
                self._handles.append(stack)
        return handles[index][1]

    def _open(self, index: int, remote: RemoteTiff | ServedFile | None, stack: ExitStack) -> rasterio.DatasetReader | WarpedVRT:
        """A new handle of a file, which a stack closes."""
        file = self._scene.files[index]
        if remote is None:
            address = self._addresses()[index] = signed(file.path, file.signer)
            dataset = stack.enter_context(open_dataset(unshared(address), file.driver))
            _refuse_without_mask(dataset, file)
        else:
            pieces = self._local.__dict__.setdefault("pieces", {})[index] = remote.pieces()
            with _telling(pieces):
                dataset = stack.enter_context(open_sought(partial(RangeFile, pieces), file.path, file.driver))
                _refuse_without_mask(dataset, file)
        if (view := self._scene.view_of(file)) is None:
            return dataset
        if file.alpha is None:
            dataset = stack.enter_context(without_alpha(dataset))
        return stack.enter_context(warped(dataset, view, file, ignore_nodata=self._scene.ignore_nodata))

    def _remote(self, layout: Layout) -> RemoteTiff | ServedFile | None:
        """The file on its server, where that is asked without GDAL."""
        file, index = layout.file, layout.index
        if file.driver not in ("GTiff", "JP2OpenJPEG") or not is_remote(file.path):
            return None
        # Opened once for all threads, which wait for it.
        with self._opening[index]:
            if index not in self._remotes:
                address = signed(file.path, file.signer)
                self._remotes[index] = address, _served(address, file.driver)
            self._addresses()[index], remote = self._remotes[index]
            return remote

    def _addresses(self) -> dict[int, str]:
        """By file, the address that this thread has opened it at last."""
        found: dict[int, str] = self._local.__dict__.setdefault("addresses", {})
        return found

    def address(self, index: int) -> str:
        """The address of a file as this thread has opened it, with what signs it: for messages, to be redacted."""
        return self._addresses().get(index, self._scene.files[index].path)

    def renew(self, index: int) -> bool:
        """Whether a file's address is signed anew, because its server denies the signature that this thread has used.

        Raises:
            ReadError: No signature is to be had.
        """
        file, used = self._scene.files[index], self._addresses().get(index)
        if used is None or not renewed(file.path, file.signer, used):
            return False
        self._drop(index, used)
        return True

    def _drop(self, index: int, used: str) -> None:
        """Forget what is known of a file on a server, where it was opened by this address."""
        with self._opening[index]:
            if index in self._remotes and self._remotes[index][0] == used:
                _, remote = self._remotes.pop(index)
                if remote is not None:
                    remote.close()

    def forget(self, index: int, error: Exception) -> None:
        """Close this thread's handle of a file, which is opened anew when it is asked for again.

        What all threads know of a file on a server is forgotten, too, unless it was only its server that failed.
        """
        if not is_transient(error):
            self._drop(index, self.address(index))
        entry = self._local.__dict__.get("handles", {}).pop(index, None)
        if entry is not None:
            with self._lock:
                if entry[0] in self._handles:
                    self._handles.remove(entry[0])
            entry[0].close()


def _served(address: str, driver: str) -> RemoteTiff | ServedFile | None:
    """A file on its server; None where GDAL asks for it."""
    if driver == "GTiff":
        return remote_tiff(address)
    facts = probe(address)
    return None if facts is None else ServedFile(address, facts)


@contextmanager
def _telling(pieces: Pieces) -> Iterator[None]:
    """Raise why bytes could not be got, whatever GDAL makes of it.

    Raises:
        ReadError: They could not.
    """
    pieces.failure = None
    try:
        yield
    except (rasterio.errors.RasterioError, CPLE_BaseError, ReadError) as error:
        if pieces.failure is None:
            raise
        raise _read_error(pieces.failure) from error
    if pieces.failure is not None:
        raise _read_error(pieces.failure)


def _read_error(failure: Exception) -> ReadError:
    return failure if isinstance(failure, ReadError) else ReadError(str(failure))


def _refuse_without_mask(dataset: rasterio.DatasetReader, file: SceneFile) -> None:
    """Refuse an open file that has lost its mask: where GDAL can't read the mask's directory, it says that all pixels are data.

    Raises:
        ReadError: It has.
    """
    if file.validity == "mask" and MaskFlags.per_dataset not in dataset.mask_flag_enums[0]:
        raise ReadError(f"{shown(file.path)}: its mask can't be read")


def _differs_from_nodata(pixels: NDArray[Any], bands: Sequence[Band]) -> Bools | None:
    """GDAL's rule for one dataset: a pixel is data where any of its bands is; None where all pixels are."""
    valid: Bools | None = None
    for values, band in zip(pixels, bands, strict=True):
        if band.nodata is None:
            return None
        nodata = band.nodata
        differs = ~np.isnan(values) if np.isnan(nodata) else values != np.asarray(nodata).astype(values.dtype)
        valid = differs if valid is None else valid | differs
    return None if valid is None or valid.all() else valid
