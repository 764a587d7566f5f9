"""The pyramid of a raster: the full image and its overviews as plain GeoTIFFs, sparse where there is no data.

The levels are written by GDAL, block by block; each is made from the one before, four blocks to one, and only where there
is data. GDAL's own COG driver visits every pixel of the overviews, which on a sparse image of 400,000 x 400,000 pixels
takes minutes a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rasterio
import rasterio.crs
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from geoseg.arrays import F32, I16, U8, U16, U32
from geoseg.codes import MAX_CONFIDENCE, MAX_VALUE, NO_VALUE, NODATA
from geoseg.formats import _pyramid
from geoseg.georeference import Georeference
from geoseg.scenes.gdal import gdal_env, open_written
from geoseg.windows import Window

__all__ = [
    "LEVELS_AT_ONCE",
    "SUPERBLOCK",
    "TILE",
    "Layer",
    "Level",
    "Levels",
    "Pixels",
    "Read",
    "create_level",
    "halve",
    "write_overviews",
]

TILE = 512
SUPERBLOCK = 4096
"""Side of the squares in which the image is read; a power of two times the tile."""
LEVELS_AT_ONCE = 3
"""A superblock gives its own part of so many overviews; 4096 / 2**3 is one tile."""
Pixels = U8 | U16 | I16 | U32 | F32
Read = Callable[[Window], Pixels]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """The content of a raster: its type, nodata value, colours, tags and bands."""

    overview: Literal["mode", "mean", "nearest", "average", "values"]
    """How overviews are made: the most frequent code, the mean of the values up to 100, every second pixel, or the mean of
    whatever is no nodata, the mean of codes of values."""
    dtype: Literal["uint8", "uint16", "int16", "uint32", "float32"] = "uint8"
    """Data type; overviews of modes and means are of bytes."""
    nodata: int = NODATA
    """Value of pixels without data."""
    colormap: Mapping[int, tuple[int, int, int]] | None = None
    """Colours by code."""
    tags: Mapping[str, str] | None = None
    """Metadata of the file."""
    band_tags: Mapping[str, str] | None = None
    """Metadata of the band."""
    description: str = ""
    """Name of the band."""
    bands: tuple[str, ...] = ()
    """Names of the bands, where there are several; they stand one behind the other in the file."""
    scales: tuple[tuple[float, float], ...] = ()
    """Of the bands of an image, scale and offset: physical value = pixel * scale + offset; empty for what is no image."""
    colors: tuple[str, ...] = ()
    """Of the bands of an image, their colour interpretation: ``red``, ``gray``, ``undefined``."""
    unit: str = ""
    """Of the values of the bands."""


@dataclass(frozen=True, slots=True)
class Level:
    """The file of a level."""

    file: Path
    shape: tuple[int, int]
    """Its rows and columns."""


class Levels:
    """Levels of one raster that are written together, square by square: the first one or its overviews from it."""

    def __init__(self, stack: ExitStack, levels: Mapping[int, Level], layer: Layer, place: Georeference, threads: int) -> None:
        """Create the files, which the stack closes.

        Args:
            stack: Closes them.
            levels: By number, from 0 for the full image.
            layer: What the raster holds.
            place: Where the pixels of the full image lie.
            threads: Threads that compress.
        """
        self._layer = layer
        self._datasets = {
            i: stack.enter_context(create_level(level.file, level.shape, place if i == 0 else None, layer, threads))
            for i, level in levels.items()
        }
        self._from = 0 if 0 in levels else min(levels, default=1) - 1

    def write(self, image: NDArray[np.generic], window: Window, band: int) -> None:
        """Write a square of the level that these are made from, or of the first of these."""
        image = np.ascontiguousarray(image)
        for i in range(self._from, max(self._datasets, default=-1) + 1):
            if i > self._from:
                image = halve(image, self._layer)
            if i in self._datasets:
                scale = 1 << (i - self._from)
                at = (window.row_off // scale, window.col_off // scale)
                self._datasets[i].write(image, band, window=Window.at(at, image.shape).for_rasterio())

    def write_last(self, images: NDArray[np.generic], window: Window) -> None:
        """Write the pixels (bands, h, w) of a square of the first level into the last one; others have the levels between."""
        last = max(self._datasets)
        at = window.row_off >> last, window.col_off >> last
        self._datasets[last].write(images, window=Window.at(at, images.shape[1:]).for_rasterio())


def write_overviews(
    levels: Sequence[Level], first: int, layer: Layer, place: Georeference, windows: list[Window], bands: int, threads: int
) -> None:
    """Write the overviews from a level on, each from the one before.

    Args:
        levels: All levels; those before ``first`` are written.
        first: The first one to write.
        layer: What the raster holds.
        place: Where the pixels of the full image lie.
        windows: The superblocks of the level ``first - 1 - LEVELS_AT_ONCE`` that hold data.
        bands: Number of bands.
        threads: Threads that compress.
    """
    while first < len(levels):
        base = levels[first - 1]
        windows = _parents(windows, base.shape)
        some = {i: levels[i] for i in range(first, min(first + LEVELS_AT_ONCE, len(levels)))}
        with ExitStack() as stack:
            written = Levels(stack, some, layer, place, threads)
            for band in range(1, bands + 1):
                read = _reader(base.file, band)
                for window in windows:
                    written.write(read(window), window, band)
        first += LEVELS_AT_ONCE


def halve(image: Any, layer: Layer) -> Pixels:
    """The overview of an image (h, w)."""
    if layer.overview == "nearest":
        return np.ascontiguousarray(image[::2, ::2])
    if layer.overview == "average":
        mean = _halve_average(image, layer.nodata)
        return np.asarray(mean if layer.dtype == "float32" else np.rint(mean).astype(layer.dtype))
    if layer.overview == "values":
        return _halve_values(image)
    if layer.overview == "mode":
        return np.asarray(_pyramid.halve_mode(image, NODATA))
    return np.asarray(_pyramid.halve_mean(image, MAX_CONFIDENCE, NODATA))


def _halve_average(image: Any, nodata: int) -> F32:
    """The mean of each two by two pixels that are no nodata; at odd rims, of those that are there."""
    height, width = image.shape
    padded = np.pad(image, ((0, height % 2), (0, width % 2)), constant_values=nodata)
    fours = padded.reshape(padded.shape[0] // 2, 2, padded.shape[1] // 2, 2)
    known = fours != nodata
    count = known.sum(axis=(1, 3))
    total = np.where(known, fours, 0).sum(axis=(1, 3), dtype=np.float64)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), nodata), np.float32)


def _halve_values(codes: U16) -> U16:
    """The mean of each two by two codes that stand for values; where none does, *not analysed* before no data."""
    height, width = codes.shape
    padded = np.pad(codes, ((0, height % 2), (0, width % 2)), constant_values=NO_VALUE)
    fours = padded.reshape(padded.shape[0] // 2, 2, padded.shape[1] // 2, 2)
    is_value = fours <= MAX_VALUE
    count = is_value.sum(axis=(1, 3), dtype=np.int64)
    total = fours.sum(axis=(1, 3), dtype=np.int64, where=is_value)
    # Half is rounded up, as in overviews of percents.
    mean = (2 * total + count) // np.maximum(2 * count, 1)
    return np.asarray(np.where(count > 0, mean, fours.min(axis=(1, 3))), np.uint16)


def _parents(windows: list[Window], shape: tuple[int, int]) -> list[Window]:
    """The superblocks of a level that hold something of the given ones, which are of the level three before."""
    factor = 2**LEVELS_AT_ONCE
    places = sorted({(w.row_off // factor // SUPERBLOCK, w.col_off // factor // SUPERBLOCK) for w in windows})
    whole = Window.of(shape)
    found = [Window.cell(place, (SUPERBLOCK, SUPERBLOCK)) & whole for place in places]
    return [w for w in found if w is not None]


def _reader(file: Path, band: int) -> Read:
    def read(window: Window) -> Pixels:
        with gdal_env(), open_written(file) as dataset:
            image: Pixels = dataset.read(band, window=window.for_rasterio())
        return image

    return read


def create_level(file: Path, shape: tuple[int, int], georeference: Georeference | None, layer: Layer, threads: int) -> Any:
    """Create the file of a level, to be written; only the full image has a georeference."""
    options: dict[str, Any] = {"interleave": "band"} if layer.bands else {}
    if layer.scales:
        # By default GDAL takes the fourth band of an image of bytes for transparency.
        options["photometric"] = "MINISBLACK"
    if georeference is not None:
        options["transform"] = Affine(*georeference.transform)
        options["crs"] = rasterio.crs.CRS.from_wkt(georeference.crs) if georeference.crs else None
    dataset = rasterio.open(
        file,
        "w",
        driver="GTiff",
        height=shape[0],
        width=shape[1],
        count=max(1, len(layer.bands)),
        dtype=layer.dtype,
        nodata=layer.nodata,
        tiled=True,
        blockxsize=TILE,
        blockysize=TILE,
        compress="deflate",
        zlevel=6,
        num_threads=threads,
        sparse_ok=True,
        bigtiff="IF_SAFER",
        **options,
    )
    if layer.colormap:
        dataset.write_colormap(1, {code: (*color, 255) for code, color in layer.colormap.items()})
    if georeference is not None:
        dataset.update_tags(**(layer.tags or {}))
        if layer.scales:
            dataset.scales, dataset.offsets = zip(*layer.scales, strict=True)
            dataset.colorinterp = [ColorInterp[color] for color in layer.colors]
        if layer.unit:
            dataset.units = [layer.unit] * dataset.count
        for band, name in enumerate(layer.bands or (layer.description,), start=1):
            dataset.update_tags(band, **(layer.band_tags or {}))
            if name:
                dataset.set_band_description(band, name)
    return dataset
