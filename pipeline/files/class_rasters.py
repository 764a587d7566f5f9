"""Class rasters to make polygons of: chunk results, what was analysed of them, and files."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

from geoseg.codes import MAX_CLASS, NODATA, NOT_ANALYSED, RESERVED, VALUE_NOT_ANALYSED, keeps_codes
from geoseg.errors import BandError, DtypeError
from geoseg.georeference import Georeference
from geoseg.polygons.block_grid import BlockGrid
from geoseg.scenes.gdal import gdal_env, open_dataset
from geoseg.scenes.legend import Legend, legend_of
from geoseg.scenes.opening import open_scene
from geoseg.scenes.reader import SceneReader
from geoseg.scenes.scene import MemoryLimit, OpenOptions, Scene, View
from geoseg.windows import Window
from pipeline.config.memory import BASE_BYTES, default_memory

__all__ = ["RasterFile", "codes_for", "open_class_raster"]

Bytes = NDArray[np.uint8]
READ_SIDE = 2048
"""Rows and columns that are read at once where all is read."""


class RasterFile:
    """A class raster in a file, of this or another program: one band of whole numbers from 0 to 255."""

    def __init__(self, scene: Scene, confidence: Scene | None = None, *, own: bool = True) -> None:
        """Open it.

        Args:
            scene: The raster as a scene of one band.
            confidence: Its confidence.
            own: Whether 254 and 255 are its codes for what was not analysed and for no data, as in rasters of this program.
        """
        if len(scene.bands) != 1:
            raise BandError(f"{scene.path}: {len(scene.bands)} bands; a class raster has one")
        if confidence is not None and (confidence.height, confidence.width) != (scene.height, scene.width):
            raise BandError(
                f"{confidence.path}: {confidence.height} x {confidence.width} pixels; "
                f"the class raster has {scene.height} x {scene.width}"
            )
        self.shape = scene.height, scene.width
        self.georeference: Georeference = scene.georeference
        self.has_confidence = confidence is not None
        self.scene = scene
        self.confidence_scene = confidence
        self._scene, self._confidence = scene, confidence
        self.written: Mapping[int, int] = {}
        """Values of the file by the codes that stand for them, where the two differ."""
        self.own = own
        """Whether 254 and 255 are codes of this program in it."""
        self._reader = SceneReader(scene, (0,), threads=2)
        self._warped = None if confidence is None or confidence.view is None else SceneReader(confidence, (0,), threads=2)
        self._local = threading.local()

    def classes(self, window: Window) -> Bytes:
        """Class codes of a window; 255 where the file says no data.

        Raises:
            DtypeError: A value is no code, or it is one that this program reserves, in a file of another.
        """
        data, valid = self._values(window)
        if not self.own:
            reserved = valid & (data >= NOT_ANALYSED)
            if reserved.any():
                data = self._moved(data, reserved, window)
        return np.asarray(np.where(valid, data, np.uint8(NODATA)))

    def _values(self, window: Window) -> tuple[Bytes, NDArray[np.bool_]]:
        pixels = self._reader.read(window)
        data = pixels.data[0]
        if data.dtype != np.uint8:
            wrong = pixels.valid & ((data < 0) | (data > NODATA) | (data != np.floor(data)))
            if wrong.any():
                row, col = (int(k) for k in np.unravel_index(int(wrong.argmax()), wrong.shape))
                raise DtypeError(
                    f"{self._scene.path}: a value of {data[row, col]:g} at row {window.row_off + row}, column "
                    f"{window.col_off + col}; class codes are whole numbers from 0 to {MAX_CLASS}"
                )
            data = np.where(pixels.valid, data, 0).astype(np.uint8)
        return data, pixels.valid

    def _moved(self, data: Bytes, reserved: NDArray[np.bool_], window: Window) -> Bytes:
        found = data[reserved]
        if not {*np.unique(found).tolist()} <= {*self.written.values()}:
            row, col = (int(k) for k in np.unravel_index(int(reserved.argmax()), reserved.shape))
            raise DtypeError(
                f"{self._scene.path}: value {found[0]} at row {window.row_off + row}, column {window.col_off + col}, which in "
                f"class rasters of this program is {'no data' if found[0] == NODATA else 'not analysed'}; this file is of "
                "another and does not say so. If it means no data, write that into the file "
                f"(gdal_edit.py -a_nodata {found[0]} FILE); if it is a class, give it a code from 0 to {MAX_CLASS}"
            )
        table = np.arange(256, dtype=np.uint8)
        table[list(self.written.values())] = list(self.written)
        return np.asarray(table[data])

    def all_values(self) -> RasterFile:
        """The same raster with all its values as classes: in one of another program, 254 and 255 get codes that are free.

        Reads it through once. ``written`` then says what stands for what.

        Raises:
            DtypeError: There are more values than codes.
        """
        if not self.own:
            self.written = codes_for(self.values_there(), self._scene.path)
        return self

    def seen_on(self, view: View, georeference: Georeference) -> RasterFile:
        """The same raster, and its confidence, as they are read on another grid."""

        def moved(scene: Scene) -> Scene:
            return replace(scene, view=view, georeference=georeference, height=view.height, width=view.width)

        sure = self._confidence
        found = RasterFile(moved(self.scene), None if sure is None else moved(sure), own=self.own)
        found.written = self.written
        return found

    def values_there(self) -> NDArray[np.bool_]:
        """(256,) whether a pixel with data has a value; reads all of it."""
        there = np.zeros(NODATA + 1, np.bool_)
        for window in Window.of(self.shape).parts(READ_SIDE):
            data, valid = self._values(window)
            there[data[valid]] = True
        return there

    def confidence(self, window: Window) -> Bytes:
        """Confidence of a window, 0 to 100."""
        assert self._confidence is not None
        if self._warped is not None:
            pixels = self._warped.read(window)
            return np.where(pixels.valid, pixels.data[0], np.uint8(NODATA))
        file = self._confidence.files[0]
        dataset = self._local.__dict__.get("dataset")
        if dataset is None:
            with gdal_env():
                dataset = self._local.dataset = open_dataset(file.path, file.driver)
        assert isinstance(dataset, rasterio.DatasetReader)
        image = dataset.read(1, window=window.for_rasterio())
        return np.asarray(image, np.uint8)

    def uniform(self, window: Window) -> int | None:
        """No data, where the file has no blocks."""
        return NODATA if self._reader.is_empty(window) else None

    def blocks(self, grid: BlockGrid) -> Iterable[int]:
        """The blocks that the file holds."""
        return (block for block in range(len(grid)) if not self._reader.is_empty(grid.core(block)))


def codes_for(there: NDArray[np.bool_], path: str) -> dict[int, int]:
    """By codes that are free, the values 254 and 255 that stand in rasters of another program.

    Args:
        there: (256,) values that stand there.
        path: For messages.

    Raises:
        DtypeError: There are more values than codes.
    """
    free = np.flatnonzero(~there[: MAX_CLASS + 1])[::-1].tolist()
    used = [value for value in RESERVED if there[value]]
    if len(free) < len(used):
        raise DtypeError(
            f"{path}: has {int(there.sum())} different values; a class raster has {MAX_CLASS + 1} at most: is it an image?"
        )
    return dict(zip(free, used, strict=False))


def open_class_raster(path: str, options: OpenOptions, *, confidence: str | None = None) -> tuple[RasterFile, Legend]:
    """Open a class raster of this or another program, with the legend that it brings along.

    Raises:
        SceneError: It can't be read, or is no class raster.
    """
    options = replace(options, memory=options.memory or MemoryLimit(budget=default_memory(), base=BASE_BYTES))
    scene = open_scene([path], Path(path).stem, options)
    if scene.files[0].palette:
        scene = _codes_instead_of_colors(scene)
    with gdal_env(), open_dataset(path, scene.files[0].driver) as dataset:
        if f"code_{VALUE_NOT_ANALYSED}" in dataset.tags(1):
            raise DtypeError(f"{path}: is a map of values, of {dataset.descriptions[0]}; a map of classes is needed here")
        legend = legend_of(dataset, path)
    own = keeps_codes(legend.tags, {f"class_{code}": name for code, name in legend.names.items()})
    return RasterFile(scene, open_scene([confidence], "confidence", options) if confidence else None, own=own), legend


def _codes_instead_of_colors(scene: Scene) -> Scene:
    """The one band as it is stored: in a class raster the palette is the legend."""
    with gdal_env(), open_dataset(scene.files[0].path, scene.files[0].driver) as dataset:
        dtype, nodata = dataset.dtypes[0], dataset.nodata
    band = replace(scene.bands[0], index=1, name="classes", color="gray", dtype=dtype, nodata=nodata)
    return replace(scene, files=(replace(scene.files[0], palette=False),), bands=(band,))
