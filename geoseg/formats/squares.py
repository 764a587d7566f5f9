"""Squares of a raster that were compressed apart from it: their tiles are those of the whole, and are copied into it.

A tile's bytes depend on its pixels alone, so that one that GDAL has compressed in a file of the square's own size is the one
that it would have written into the file of the whole.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.io import MemoryFile

from geoseg.arrays import U8, U32, U64
from geoseg.formats.array_stream import read_arrays, write_arrays
from geoseg.formats.pyramid import TILE, Layer, Pixels, create_level, halve
from geoseg.grid import ceil_div
from geoseg.scenes.gdal import gdal_env
from geoseg.tiff import read_structure

__all__ = ["Square", "TileFile", "Tiles", "encode_square", "pack_squares", "unpack_squares"]


@dataclass(frozen=True, slots=True, eq=False)
class Tiles:
    """The tiles of a square in one level."""

    counts: U32
    """(bands, rows, columns) compressed bytes of each; 0 where there is no data."""
    data: U8
    """The tiles one behind the other."""


@dataclass(frozen=True, slots=True, eq=False)
class Square:
    """A square of a raster and of its first overviews."""

    tiles: Sequence[Tiles]
    """Of each level from the full image on, but for the last."""
    last: NDArray[np.generic]
    """(bands, h, w) pixels of the last level, which further ones are made from."""


def encode_square(layer: Layer, images: Sequence[Pixels], levels: int) -> Square:
    """Compress a square.

    Args:
        layer: What the raster holds.
        images: The square's pixels, an image (h, w) a band.
        levels: Levels whose tiles are compressed; of the one behind them the pixels are kept.
    """
    tiles = []
    for _ in range(levels):
        images = [np.ascontiguousarray(image, layer.dtype) for image in images]
        tiles.append(_compressed(layer, images))
        images = [halve(image, layer) for image in images]
    return Square(tiles, np.stack(images))


def pack_squares(squares: Sequence[Square]) -> bytes:
    """Squares of as many rasters as bytes."""

    def arrays() -> Iterator[NDArray[np.generic]]:
        for square in squares:
            yield np.array(len(square.tiles))
            for tiles in square.tiles:
                yield tiles.counts
                yield tiles.data
            yield square.last

    return write_arrays(arrays())


def unpack_squares(data: bytes) -> list[Square]:
    """The squares that ``pack_squares`` was given."""
    arrays, found = read_arrays(data), []
    for levels in arrays:
        tiles = [Tiles(np.asarray(next(arrays), np.uint32), np.asarray(next(arrays), np.uint8)) for _ in range(int(levels))]
        found.append(Square(tiles, next(arrays)))
    return found


class TileFile:
    """Compressed tiles of one level of a raster, in the order in which they come."""

    def __init__(self, path: Path, shape: tuple[int, int], bands: int) -> None:
        """Begin a file for a level with so many rows and columns of pixels."""
        self.path = path
        tiles = bands, ceil_div(shape[0], TILE), ceil_div(shape[1], TILE)
        self.offsets: U64 = np.zeros(tiles, np.uint64)
        """(bands, rows, columns) where each begins."""
        self.counts: U64 = np.zeros(tiles, np.uint64)
        """(bands, rows, columns) its bytes; 0 for none."""
        path.write_bytes(b"")

    def put(self, tiles: Tiles, row: int, col: int) -> None:
        """Append the tiles of a square whose first one stands in this row and column."""
        with self.path.open("ab") as file:
            begin = file.tell()
            file.write(tiles.data.tobytes())
        _, rows, cols = tiles.counts.shape
        place = slice(None), slice(row, row + rows), slice(col, col + cols)
        counts = tiles.counts.ravel().astype(np.uint64)
        begins = np.uint64(begin) + np.concatenate([np.zeros(1, np.uint64), np.cumsum(counts)[:-1]]).astype(np.uint64)
        self.counts[place] = counts.reshape(tiles.counts.shape)
        self.offsets[place] = begins.reshape(tiles.counts.shape)


def _compressed(layer: Layer, images: Sequence[Pixels]) -> Tiles:
    """The tiles of an image, as GDAL compresses them."""
    height, width = images[0].shape
    with gdal_env(), MemoryFile() as memory:
        with create_level(Path(memory.name), (height, width), None, layer, 1) as dataset:
            for band, image in enumerate(images, start=1):
                dataset.write(image, band)
        data = memory.read()
    ifd = read_structure(io.BytesIO(data)).main
    counts = ifd.byte_counts.astype(np.uint32).reshape(len(images), ceil_div(height, TILE), ceil_div(width, TILE))
    parts = [data[offset : offset + count] for offset, count in zip(ifd.offsets.tolist(), counts.ravel().tolist(), strict=True)]
    return Tiles(counts, np.frombuffer(b"".join(parts), np.uint8))
