"""Windows of one file of a scene through GDAL: as stored, by its palette, or reprojected; and where they hold data.

GDAL handles belong to one thread each: a shared handle returns wrong pixels without a word.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import rasterio
import rasterio.crs
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterioWindow

from geoseg.arrays import Bools
from geoseg.scenes.bands.alpha import without_alpha
from geoseg.scenes.gdal import gdal_env, open_dataset, open_written
from geoseg.scenes.pixels.layout import Layout
from geoseg.scenes.pixels.palette import Palette
from geoseg.scenes.ranges.remote_tiff import RemoteTiff, remote_tiff
from geoseg.scenes.remote import is_remote, unshared
from geoseg.scenes.scene import Band, Scene, SceneFile, View
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
        self._remotes: dict[int, tuple[str, RemoteTiff | None]] = {}

    def close(self) -> None:
        """Close the handles of all threads."""
        with self._lock:
            handles, self._handles = self._handles, []
        for index, (address, _) in list(self._remotes.items()):
            self._drop(index, address)
        for handle in handles:
            handle.close()

    def read(self, layout: Layout, window: Window) -> tuple[NDArray[Any], Bools | None]:
        """Values (bands, h, w) in the file's type and validity (h, w), None where all is valid."""
        file, bands = layout.file, [band for _, band in layout.wanted]
        with gdal_env(remote=is_remote(file.path)), self._opened(layout, window) as (dataset, area):
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
        values, mask = dataset.read([1, _alpha_of(dataset, layout.file)], window=area)
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
    def _opened(self, layout: Layout, window: Window) -> Iterator[tuple[rasterio.DatasetReader | WarpedVRT, RasterioWindow]]:
        """A data set, and where in it a window lies: the file, or an excerpt of one on a server."""
        remote = self._remote(layout)
        if remote is None:
            yield self._dataset(layout.index), window.for_rasterio()
            return
        bands = [band.index for _, band in layout.wanted]
        excerpt, part = remote.excerpt(window, bands if layout.file.alpha is None else [*bands, layout.file.alpha])
        with open_written(excerpt) as dataset:
            yield dataset, window.within(part).for_rasterio()

    def _dataset(self, index: int) -> rasterio.DatasetReader | WarpedVRT:
        """This thread's handle of a file."""
        handles: dict[int, tuple[ExitStack, rasterio.DatasetReader | WarpedVRT]] = self._local.__dict__.setdefault("handles", {})
        if index not in handles:
            file, stack = self._scene.files[index], ExitStack()
            address = self._addresses()[index] = signed(file.path, file.signer)
            dataset = stack.enter_context(open_dataset(unshared(address), file.driver))
            if (view := self._scene.view_of(file)) is not None:
                if file.alpha is None:
                    dataset = stack.enter_context(without_alpha(dataset))
                dataset = stack.enter_context(_warped(dataset, view, file, ignore_nodata=self._scene.ignore_nodata))
            handles[index] = stack, dataset
            with self._lock:
                self._handles.append(stack)
        return handles[index][1]

    def _remote(self, layout: Layout) -> RemoteTiff | None:
        """The file on its server, where its blocks are got without GDAL, as they are stored."""
        file, index = layout.file, layout.index
        odd = file.driver != "GTiff" or file.palette or self._scene.view_of(file) is not None
        if odd or not is_remote(file.path):
            return None
        # Opened once for all threads, which wait for it.
        with self._opening[index]:
            if index not in self._remotes:
                address = signed(file.path, file.signer)
                self._remotes[index] = address, remote_tiff(address)
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


def _warped(dataset: rasterio.DatasetReader, view: View, file: SceneFile, *, ignore_nodata: bool) -> WarpedVRT:
    options: dict[str, Any] = {}
    if view.source_crs is not None:
        options["src_crs"] = rasterio.crs.CRS.from_wkt(view.source_crs)
    if ignore_nodata:
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


def _read_warped(dataset: WarpedVRT, file: SceneFile, bands: Sequence[Band], area: RasterioWindow) -> tuple[NDArray[Any], Bools]:
    both = dataset.read([*(band.index for band in bands), _alpha_of(dataset, file)], window=area)
    return both[:-1], both[-1] > 0
