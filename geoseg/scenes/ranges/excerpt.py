"""Excerpts of TIFF files: some of an image's blocks, as they are compressed, as a file of their own (BigTIFF, in memory)."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from geoseg.arrays import U64
from geoseg.tiff import (
    IMAGE_LENGTH,
    IMAGE_WIDTH,
    NEW_SUBFILE_TYPE,
    STRIP_BYTE_COUNTS,
    STRIP_OFFSETS,
    TILE_BYTE_COUNTS,
    TILE_OFFSETS,
    Entry,
    Ifd,
    TiffStructure,
)

__all__ = ["decodable", "directories_alone", "excerpt", "skeleton"]

COMPRESSION, OLD_JPEG = 259, 6
DECODING = frozenset(
    {
        *(NEW_SUBFILE_TYPE, 258, COMPRESSION, 262, 266, 277, 278, 284, 292, 293, 317, 320, 322, 323, 338, 339),
        # Tables of JPEG and its colours, parameters of LERC, and the nodata value, which stands where no block was written.
        *(347, 529, 530, 531, 532, 50674, 42113),
    }
)
"""Fields that say how blocks are decoded; the others say what the pixels mean and where they lie."""
PLACES = frozenset({STRIP_OFFSETS, STRIP_BYTE_COUNTS, TILE_OFFSETS, TILE_BYTE_COUNTS})
OTHER_DIRECTORIES = frozenset({330, 34665, 34853})
"""Fields that name directories elsewhere in the file: images below an image, EXIF, GPS."""
PLAIN = frozenset({1, 5, 8, 32946, 34887, 34925, 50000})
"""Compressions whose blocks are not looked at until they are decoded: none, LZW, Deflate, LERC, LZMA, Zstandard."""
LONG8 = 16
HEADER = 16


def decodable(ifd: Ifd) -> bool:
    """Whether blocks of an image can be decoded apart from their file, as those of JPEG's first form in TIFF can't."""
    return ifd.number(COMPRESSION, 1) != OLD_JPEG


def excerpt(
    shape: tuple[int, int], images: Sequence[tuple[Ifd, U64, U64]], count: int, fill: Callable[[memoryview], None]
) -> bytes:
    """A file of some blocks of an image, and of those of its mask, which are got into their place in it.

    Args:
        shape: Rows and columns of the excerpt.
        images: The image, then its mask where it has one: of each, where its blocks begin in the body of the file, and their
            numbers of bytes, by plane, row and column; 0 bytes for those that were never written.
        count: Bytes of the body.
        fill: Writes the body: the blocks, as they are compressed.
    """
    order, end = images[0][0].byte_order, HEADER + count
    directories = []
    for ifd, starts, sizes in images:
        offsets = np.where(sizes > 0, HEADER + starts, 0)
        at, counts = (TILE_OFFSETS, TILE_BYTE_COUNTS) if ifd.tiled else (STRIP_OFFSETS, STRIP_BYTE_COUNTS)
        fields = {tag: entry for tag, entry in ifd.entries.items() if tag in DECODING}
        for tag, values in ((IMAGE_LENGTH, shape[:1]), (IMAGE_WIDTH, shape[1:]), (at, offsets), (counts, sizes)):
            raw = np.asarray(values).astype(np.dtype(np.uint64).newbyteorder(order)).tobytes()
            fields[tag] = Entry(tag, LONG8, len(raw) // 8, raw)
        directories.append(fields)
    # The only copy of the blocks: a buffer in memory gives its bytes away as they are.
    file = io.BytesIO()
    file.write(_head(order, end))
    file.seek(end)
    file.write(b"".join(_chained(directories, order, end)))
    with file.getbuffer() as whole, whole[HEADER:end] as body:
        fill(body)
    return file.getvalue()


def skeleton(structure: TiffStructure) -> bytes | None:
    """A TIFF file of the same images, none of whose blocks was ever written: what it says of itself, without its pixels.

    None where a reader would look at the pixels, or at places in the file, to say what it is.
    """
    if not all(_tells_itself(ifd) for ifd in structure.ifds):
        return None
    order = structure.main.byte_order
    directories = [
        {tag: replace(entry, raw=bytes(len(entry.raw))) if tag in PLACES else entry for tag, entry in ifd.entries.items()}
        for ifd in structure.ifds
    ]
    return directories_alone(directories, order)


def directories_alone(directories: Sequence[Mapping[int, Entry]], order: str) -> bytes:
    """A TIFF file of some directories, in a byte order (``<`` or ``>``), and of nothing else."""
    return b"".join([_head(order, HEADER), *_chained(directories, order, HEADER)])


def _tells_itself(ifd: Ifd) -> bool:
    return ifd.number(COMPRESSION, 1) in PLAIN and not OTHER_DIRECTORIES & ifd.entries.keys()


def _head(order: str, start: int) -> bytes:
    return (b"II" if order == "<" else b"MM") + struct.pack(order + "HHHQ", 43, 8, 0, start)


def _chained(directories: Sequence[Mapping[int, Entry]], order: str, start: int) -> Iterator[bytes]:
    """Directories from a place on, each of which names the place of the next one."""
    for number, fields in enumerate(directories, 1):
        following = start + len(_directory(fields, order, start, 0))
        yield _directory(fields, order, start, following if number < len(directories) else 0)
        start = following


def _directory(fields: Mapping[int, Entry], order: str, start: int, following: int) -> bytes:
    """A directory at a place in the file, the place of the next one behind it, and values that don't fit into it."""
    after = start + 8 + 20 * len(fields) + 8
    table, values = [struct.pack(order + "Q", len(fields))], []
    for tag in sorted(fields):
        entry = fields[tag]
        table.append(struct.pack(order + "HHQ", tag, entry.type, entry.count))
        if len(entry.raw) <= 8:
            table.append(entry.raw.ljust(8, b"\0"))
        else:
            table.append(struct.pack(order + "Q", after))
            values.append(entry.raw)
            after += len(entry.raw)
    return b"".join([*table, struct.pack(order + "Q", following), *values])
