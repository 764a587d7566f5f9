"""Excerpts of TIFF files: some of an image's blocks, as they are compressed, as a file of their own (BigTIFF, in memory)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

from geoseg.tiff import (
    IMAGE_LENGTH,
    IMAGE_WIDTH,
    STRIP_BYTE_COUNTS,
    STRIP_OFFSETS,
    TILE_BYTE_COUNTS,
    TILE_OFFSETS,
    Entry,
    Ifd,
)

__all__ = ["decodable", "excerpt"]

COMPRESSION, OLD_JPEG = 259, 6
DECODING = frozenset(
    {
        *(258, COMPRESSION, 262, 266, 277, 278, 284, 292, 293, 317, 320, 322, 323, 338, 339),
        # Tables of JPEG and its colours, parameters of LERC, and the nodata value, which stands where no block was written.
        *(347, 529, 530, 531, 532, 50674, 42113),
    }
)
"""Fields that say how blocks are decoded; the others say what the pixels mean and where they lie."""
LONG8 = 16
HEADER = 16


def decodable(ifd: Ifd) -> bool:
    """Whether blocks of an image can be decoded apart from their file, as those of JPEG's first form in TIFF can't."""
    return ifd.number(COMPRESSION, 1) != OLD_JPEG


def excerpt(ifd: Ifd, shape: tuple[int, int], blocks: Sequence[bytes | bytearray | memoryview | None]) -> bytes:
    """The file of some blocks of an image.

    Args:
        ifd: The image.
        shape: Rows and columns of the excerpt.
        blocks: Its blocks, as they are compressed, by plane, row and column; None for those that were never written.
    """
    order = ifd.byte_order
    sizes = np.array([0 if block is None else len(block) for block in blocks], np.uint64)
    offsets = HEADER + np.cumsum(sizes) - sizes
    offsets[sizes == 0] = 0
    place, counts = (TILE_OFFSETS, TILE_BYTE_COUNTS) if ifd.tiled else (STRIP_OFFSETS, STRIP_BYTE_COUNTS)
    fields = {tag: entry for tag, entry in ifd.entries.items() if tag in DECODING}
    for tag, values in ((IMAGE_LENGTH, shape[:1]), (IMAGE_WIDTH, shape[1:]), (place, offsets), (counts, sizes)):
        raw = np.asarray(values).astype(np.dtype(np.uint64).newbyteorder(order)).tobytes()
        fields[tag] = Entry(tag, LONG8, len(raw) // 8, raw)
    start = HEADER + int(sizes.sum())
    after = start + 8 + 20 * len(fields) + 8
    table, values_after = [struct.pack(order + "Q", len(fields))], []
    for tag in sorted(fields):
        entry = fields[tag]
        table.append(struct.pack(order + "HHQ", tag, entry.type, entry.count))
        if len(entry.raw) <= 8:
            table.append(entry.raw.ljust(8, b"\0"))
        else:
            table.append(struct.pack(order + "Q", after))
            values_after.append(entry.raw)
            after += len(entry.raw)
    table.append(struct.pack(order + "Q", 0))
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HHHQ", 43, 8, 0, start)
    return b"".join([head, *(block for block in blocks if block is not None), *table, *values_after])
