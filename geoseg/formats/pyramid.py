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
from rasterio.transform import Affine

from geoseg.arrays import F32, U8, U16, U32
from geoseg.codes import MAX_CONFIDENCE, NODATA
from geoseg.formats import _pyramid
from geoseg.georeference import Georeference
from geoseg.scenes.gdal import gdal_env, open_written
from geoseg.windows import Window

__all__ = ["SUPERBLOCK", "TILE", "Layer", "Read", "write_levels"]

TILE = 512
SUPERBLOCK = 4096
"""Side of the squares in which the image is read; a power of two times the tile."""
LEVELS_AT_ONCE = 3
"""A superblock gives its own part of so many overviews; 4096 / 2**3 is one tile."""
Pixels = U8 | U16 | U32 | F32
Read = Callable[[Window], Pixels]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """The content of a raster: its type, nodata value, colours, tags and bands."""

    overview: Literal["mode", "mean", "nearest", "average"]
    """How overviews are made: the most frequent code, the mean of the values up to 100, every second pixel, or the mean of
    whatever is no nodata."""
    dtype: Literal["uint8", "uint16", "uint32", "float32"] = "uint8"
    """Data type; overviews of modes and means are of bytes, averages of floats."""
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


def write_levels(
    files: list[Path],
    shapes: list[tuple[int, int]],
    georeference: Georeference,
    layer: Layer,
    reads: Sequence[Read],
    windows: list[Window],
    threads: int,
) -> None:
    """Write the full image from ``reads``, and each overview from the level before; arguments as of ``cog.write_cog``."""
    level = 0
    while True:
        last = min(level + LEVELS_AT_ONCE, len(files) - 1)
        with ExitStack() as stack:
            own = [level] if level == 0 else []
            datasets = {
                i: stack.enter_context(_create(files[i], shapes[i], georeference if i == 0 else None, layer, threads))
                for i in [*own, *range(level + 1, last + 1)]
            }
            for band, read in enumerate(reads, start=1):
                for window in windows:
                    image = np.ascontiguousarray(read(window))
                    if level == 0:
                        _write(datasets[0], image, window, band)
                    for i in range(level + 1, last + 1):
                        image = _halve(image, layer)
                        scale = 1 << (i - level)
                        _write(
                            datasets[i], image, Window.at((window.row_off // scale, window.col_off // scale), image.shape), band
                        )
        if last == len(files) - 1:
            return
        level = last
        reads = [_reader(files[level], band) for band in range(1, len(reads) + 1)]
        windows = _parents(windows, shapes[level])


def _halve(image: Any, layer: Layer) -> Pixels:
    if layer.overview == "nearest":
        return np.ascontiguousarray(image[::2, ::2])
    if layer.overview == "average":
        return _halve_average(image, layer.nodata)
    if layer.overview == "mode":
        return np.asarray(_pyramid.halve_mode(image, NODATA))
    return np.asarray(_pyramid.halve_mean(image, MAX_CONFIDENCE, NODATA))


def _halve_average(image: F32, nodata: int) -> F32:
    """The mean of each two by two pixels that are no nodata; at odd rims, of those that are there."""
    height, width = image.shape
    padded = np.pad(image, ((0, height % 2), (0, width % 2)), constant_values=nodata)
    fours = padded.reshape(padded.shape[0] // 2, 2, padded.shape[1] // 2, 2)
    known = fours != nodata
    count = known.sum(axis=(1, 3))
    total = np.where(known, fours, 0).sum(axis=(1, 3), dtype=np.float64)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), nodata), np.float32)


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


def _create(file: Path, shape: tuple[int, int], georeference: Georeference | None, layer: Layer, threads: int) -> Any:
    options: dict[str, Any] = {"interleave": "band"} if layer.bands else {}
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
        for band, name in enumerate(layer.bands or (layer.description,), start=1):
            dataset.update_tags(band, **(layer.band_tags or {}))
            if name:
                dataset.set_band_description(band, name)
    return dataset


def _write(dataset: Any, image: NDArray[Any], window: Window, band: int) -> None:
    dataset.write(image, band, window=window.for_rasterio())
