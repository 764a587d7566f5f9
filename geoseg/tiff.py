"""The structure of a TIFF file, without its pixels: which blocks it has, where they lie, and whether they are all there.

TIFF 6.0 (Adobe, 1992) and BigTIFF (Adobe/AWare, 2007), both byte orders. Used to find truncated files and never-written
blocks before any pixel is decoded, and to assemble cloud-optimized files from blocks that are compressed already.
"""

from __future__ import annotations

import struct
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray

from geoseg.arrays import U64, Bools

__all__ = ["MAGICS", "Entry", "Ifd", "TiffStructure", "read_structure"]

MAGICS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
"""The first four bytes of every TIFF and BigTIFF file."""

IMAGE_WIDTH, IMAGE_LENGTH, PLANAR = 256, 257, 284
STRIP_OFFSETS, ROWS_PER_STRIP, STRIP_BYTE_COUNTS = 273, 278, 279
TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_BYTE_COUNTS = 322, 323, 324, 325
SAMPLES_PER_PIXEL, NEW_SUBFILE_TYPE, GDAL_NODATA = 277, 254, 42113
BITS_PER_SAMPLE = 258
REDUCED, MASK = 1, 4
"""Bits of NewSubfileType."""

# TIFF field type -> (bytes of one value, struct code)
FIELD_TYPES = {
    1: (1, "B"),
    2: (1, "s"),
    3: (2, "H"),
    4: (4, "I"),
    5: (8, "II"),
    6: (1, "b"),
    7: (1, "s"),
    8: (2, "h"),
    9: (4, "i"),
    10: (8, "ii"),
    11: (4, "f"),
    12: (8, "d"),
    13: (4, "I"),
    16: (8, "Q"),
    17: (8, "q"),
    18: (8, "Q"),
}
MAX_IFDS = 1024
"""Images of a file; GDAL reads them all, so that a file with more could hide one."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One field of an image file directory."""

    tag: int
    """TIFF tag number."""
    type: int
    """TIFF field type number."""
    count: int
    """Number of values."""
    raw: bytes
    """The values' bytes, in the file's byte order."""


@dataclass(frozen=True, slots=True)
class Ifd:
    """One image of the file: the main one, an overview or a mask."""

    entries: dict[int, Entry]
    """Its fields by tag."""
    byte_order: Literal["<", ">"]
    """``<`` or ``>``."""

    def values(self, tag: int) -> NDArray[np.generic]:
        """The values of a numeric field, in native byte order; empty where it is absent."""
        entry = self.entries.get(tag)
        if entry is None:
            return np.empty(0, np.uint64)
        code = FIELD_TYPES[entry.type][1]
        array = np.frombuffer(entry.raw, np.dtype(code).newbyteorder(self.byte_order))
        return array.astype(array.dtype.newbyteorder("="))

    def number(self, tag: int, default: int) -> int:
        """The first value of a field."""
        values = self.values(tag)
        return int(values[0]) if values.size else default

    def text(self, tag: int) -> str | None:
        """The value of a text field."""
        entry = self.entries.get(tag)
        return None if entry is None else entry.raw.split(b"\0", 1)[0].decode("utf-8", "replace")

    @property
    def tiled(self) -> bool:
        """Whether the blocks are tiles rather than strips."""
        return TILE_OFFSETS in self.entries

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)`` of the image."""
        return self.number(IMAGE_LENGTH, 0), self.number(IMAGE_WIDTH, 0)

    @property
    def block_shape(self) -> tuple[int, int]:
        """``(height, width)`` of a block."""
        height, width = self.shape
        if self.tiled:
            return self.number(TILE_LENGTH, 0), self.number(TILE_WIDTH, 0)
        return min(self.number(ROWS_PER_STRIP, height), height), width

    @property
    def blocks(self) -> tuple[int, int, int]:
        """``(planes, rows, cols)`` of blocks; one plane where the bands are interleaved by pixel."""
        (height, width), (block_height, block_width) = self.shape, self.block_shape
        planes = self.number(SAMPLES_PER_PIXEL, 1) if self.number(PLANAR, 1) == 2 else 1
        return planes, -(-height // max(1, block_height)), -(-width // max(1, block_width))

    @property
    def block_samples(self) -> int:
        """Values of a pixel in one block: all bands where they are interleaved by pixel, else one."""
        return self.number(SAMPLES_PER_PIXEL, 1) if self.number(PLANAR, 1) != 2 else 1

    @property
    def block_bytes(self) -> int:
        """Bytes of a decoded block: GDAL gives values of 1, 2, 4, 8 or 16 bytes, whatever their bits in the file."""
        height, width = self.block_shape
        bits = max((int(b) for b in self.values(BITS_PER_SAMPLE)), default=1)
        return height * width * self.block_samples * (1 << max(0, -(-bits // 8) - 1).bit_length())

    @property
    def offsets(self) -> U64:
        """Offsets of blocks in the file; 0 where one was never written."""
        return self.values(TILE_OFFSETS if self.tiled else STRIP_OFFSETS).astype(np.uint64)

    @property
    def byte_counts(self) -> U64:
        """Length of each block in the file; 0 where it was never written."""
        return self.values(TILE_BYTE_COUNTS if self.tiled else STRIP_BYTE_COUNTS).astype(np.uint64)

    def planes_written(self) -> Bools:
        """Blocks that hold data: (planes, rows, cols) bool."""
        offsets, counts = self.offsets, self.byte_counts
        if offsets.size != np.prod(self.blocks) or counts.size != offsets.size:
            return np.ones(self.blocks, bool)
        return np.asarray(((offsets > 0) & (counts > 0)).reshape(self.blocks))

    def written(self) -> Bools:
        """Blocks that hold data: (rows, cols) bool, True where any plane was written.

        A writer leaves out a block of one band where that band is 0 or its nodata value; the others are data.
        """
        return np.asarray(self.planes_written().any(axis=0))

    def end(self) -> tuple[int, int]:
        """``(bytes needed, index of the block that ends last)``; ``(0, -1)`` where no block was written."""
        offsets, counts = self.offsets, self.byte_counts
        if not offsets.size or offsets.size != counts.size:
            return 0, -1
        ends = np.where((offsets > 0) & (counts > 0), offsets + counts, 0)
        last = int(ends.argmax())
        return int(ends[last]), last if ends[last] else -1


@dataclass(frozen=True, slots=True)
class TiffStructure:
    """All image file directories of a TIFF file, the main image first."""

    ifds: tuple[Ifd, ...]
    """In the order of the file."""
    big: bool
    """Whether it is a BigTIFF."""
    size: int
    """Bytes of the file."""

    @property
    def main(self) -> Ifd:
        """The main image."""
        return self.ifds[0]

    @property
    def mask(self) -> Ifd | None:
        """The mask of the main image; None where it has none."""
        return next((ifd for ifd in self.ifds[1:] if ifd.number(NEW_SUBFILE_TYPE, 0) & (REDUCED | MASK) == MASK), None)

    @property
    def block_bytes(self) -> int:
        """Bytes of the largest decoded block of all its images."""
        return max(ifd.block_bytes for ifd in self.ifds)

    def image_after_preview(self) -> int | None:
        """Number, from 1, of the first whole image where a preview (reduced resolution) comes before it, which GDAL opens."""
        kinds = [ifd.number(NEW_SUBFILE_TYPE, 0) & (REDUCED | MASK) for ifd in self.ifds]
        return kinds.index(0) + 1 if kinds[0] and 0 in kinds else None

    def missing(self) -> tuple[int, int, Ifd] | None:
        """``(bytes needed, block, image)`` of the block that ends furthest past the end of the file; None if complete."""
        needed, block, ifd = max(((*ifd.end(), ifd) for ifd in self.ifds), key=lambda item: item[0])
        return (needed, block, ifd) if needed > self.size else None


def read_structure(source: Path | IO[bytes]) -> TiffStructure:
    """Read the directories of a TIFF file: one on this machine, or one that is open and can be sought.

    Raises:
        ValueError: It is not a TIFF file, or its directories are damaged.
        EOFError: The file ends before its directories do.
        OSError: It can't be read.
    """
    with source.open("rb") if isinstance(source, Path) else nullcontext(source) as file:
        size = file.seek(0, 2)
        file.seek(0)
        head = _read(file, 16) if size >= 16 else file.read()
        if head[:4] not in MAGICS:
            raise ValueError("not a TIFF file")
        if len(head) < 8:
            raise EOFError("the file ends inside its header")
        order: Literal["<", ">"] = "<" if head[:2] == b"II" else ">"
        big = head[2:4] in (b"+\x00", b"\x00+")
        offset = struct.unpack(order + "Q", head[8:16])[0] if big else struct.unpack(order + "I", head[4:8])[0]
        ifds: list[Ifd] = []
        seen: set[int] = set()
        while offset and offset not in seen:
            if len(ifds) == MAX_IFDS:
                raise ValueError(f"more than {MAX_IFDS:,} images in one file")
            seen.add(offset)
            entries, offset = _read_ifd(file, offset, order, big, size)
            ifds.append(Ifd(entries, order))
        if not ifds:
            raise ValueError("no image directory")
        return TiffStructure(tuple(ifds), big, size)


def _read(file: IO[bytes], count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise EOFError(f"the file ends at byte {file.tell()}, inside its directory")
    return data


def _read_ifd(file: IO[bytes], offset: int, order: str, big: bool, size: int) -> tuple[dict[int, Entry], int]:
    """The fields of the directory at an offset, and the offset of the next one."""
    count_code, entry_size, value_size, offset_code = ("Q", 20, 8, "Q") if big else ("H", 12, 4, "I")
    file.seek(offset)
    (count,) = struct.unpack(order + count_code, _read(file, struct.calcsize(count_code)))
    if count > 4096:
        raise ValueError(f"{count} fields in one image directory")
    table = _read(file, count * entry_size)
    (following,) = struct.unpack(order + offset_code, _read(file, value_size))
    entries: dict[int, Entry] = {}
    for i in range(count):
        row = table[i * entry_size : (i + 1) * entry_size]
        tag, field_type, values = struct.unpack(order + "HH" + offset_code, row[: entry_size - value_size])
        if field_type not in FIELD_TYPES:
            continue
        length = FIELD_TYPES[field_type][0] * values
        raw = row[entry_size - value_size :]
        if length <= value_size:
            raw = raw[:length]
        else:
            (where,) = struct.unpack(order + offset_code, raw)
            if where + length > size:
                raise EOFError(f"the file ends at byte {size}, but its directory reaches to {where + length}")
            file.seek(where)
            raw = _read(file, length)
        entries[tag] = Entry(tag, field_type, values, raw)
    return entries, following
