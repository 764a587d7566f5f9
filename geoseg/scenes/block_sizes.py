"""Sizes of the blocks of a raster once they are decoded, and whether they fit into memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import rasterio

from geoseg.dialect import setting
from geoseg.errors import SceneTooLargeError
from geoseg.grid import ceil_div
from geoseg.scenes.pixels.jp2 import DECODED_BYTES, Jp2Structure
from geoseg.tiff import TiffStructure

__all__ = ["MemoryLimit", "block_bytes_of", "blocks_of", "refuse_large_block"]

QUARTER = 4
"""The part of the memory that pixels get at least, however much the network is said to take."""
WARPED_PX = 512
"""Side of the blocks in which a scene is warped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLimit:
    """The memory of a process that reads scenes."""

    budget: int
    """Bytes that it may use."""
    base: int
    """Bytes that it takes before a block is decoded: libraries, the network."""
    processes: int = 1
    """Processes that share what was given, which is so many times the budget."""

    @property
    def spare(self) -> int:
        """Bytes for pixels: what is left, and a quarter where next to nothing is."""
        return max(self.budget - self.base, self.budget // QUARTER)

    def least(self, reading: int) -> int:
        """Bytes that are to be given where reading takes some, in steps of 10 MB."""
        needed = min(self.base + reading, QUARTER * reading)
        return ceil_div(needed * self.processes, 10**7) * 10**7


def block_bytes_of(dataset: rasterio.DatasetReader, structure: TiffStructure | Jp2Structure | None, *, warped: bool) -> int:
    """Bytes of the largest decoded block, as GDAL and the file's directories say."""
    size = max(np.dtype(name).itemsize for name in dataset.dtypes)
    height, width = dataset.block_shapes[0]
    together = dataset.interleaving is not None and dataset.interleaving.value == "PIXEL"
    found: int = height * width * size * (dataset.count if together else 1)
    if warped:
        # Warping takes all bands together, from and to blocks of this side.
        found = max(found, 2 * WARPED_PX**2 * size * dataset.count)
    if isinstance(structure, Jp2Structure) and structure.tile_shape == structure.shape:
        # GDAL asks for parts of an image of one tile, which OpenJPEG decodes alone.
        part: int = height * width * structure.components * DECODED_BYTES
        return max(found, part)
    return max(found, 0 if structure is None else structure.block_bytes)


def blocks_of(dataset: rasterio.DatasetReader, structure: TiffStructure | None) -> tuple[int, int]:
    """Rows and columns of blocks; GDAL shows one large strip as many."""
    if structure is not None:
        return structure.main.blocks[1:]
    height, width = dataset.block_shapes[0]
    return ceil_div(dataset.height, height), ceil_div(dataset.width, width)


def refuse_large_block(name: str, block_bytes: int, reading_bytes: int, memory: MemoryLimit) -> None:
    """Refuse a file whose blocks, once decoded, would not fit into memory.

    Args:
        name: The file, as it may be shown.
        block_bytes: Bytes of its largest block.
        reading_bytes: What reading takes of such blocks.
        memory: What there is.

    Raises:
        SceneTooLargeError: It would not.
    """
    if reading_bytes > memory.spare:
        raise SceneTooLargeError(
            f"{name}: a block of it is {block_bytes / 1e6:,.0f} MB when it is decoded, too much for "
            f"{memory.budget * memory.processes / 1e6:,.0f} MB; use "
            f"{setting('memory', f'{memory.least(reading_bytes) // 10**6}MB')}, or "
            "rewrite it with tiles, for example as a COG"
        )
