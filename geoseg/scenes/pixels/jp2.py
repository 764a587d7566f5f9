"""Structure of JPEG 2000 files (ISO/IEC 15444-1): size, tiles, and whether all of the codestream is there, undecoded."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import IO

__all__ = ["DECODED_BYTES", "STARTS", "Jp2Structure", "read_jp2"]

BOX_START = b"\x00\x00\x00\x0cjP  "
STREAM_START = b"\xff\x4f\xff\x51"
STARTS = (BOX_START, STREAM_START)
"""The first bytes of a JP2 file, and of a bare codestream."""
SOT, EOC = 0xFF90, 0xFFD9
MAX_BOXES = 4096
MAX_MARKERS = 4096
MAX_TILE_PARTS = 1 << 20
DECODED_BYTES = 4
"""OpenJPEG decodes a sample to so many bytes."""


@dataclass(frozen=True, slots=True)
class Jp2Structure:
    """Facts of a JPEG 2000 codestream."""

    shape: tuple[int, int]
    """Rows and columns."""
    tile_shape: tuple[int, int]
    """Rows and columns of a tile."""
    components: int
    """Bands."""
    bits: int
    """Bits of a sample, of the band that has most."""

    @property
    def block_bytes(self) -> int:
        """Bytes of a tile once it is decoded, all components; no larger than the image."""
        rows, cols = (min(a, b) for a, b in zip(self.tile_shape, self.shape, strict=True))
        return rows * cols * self.components * DECODED_BYTES

    @property
    def raw_bytes(self) -> int:
        """Bytes of all pixels as they are stored in memory."""
        return self.shape[0] * self.shape[1] * self.components * (1 if self.bits <= 8 else 2 if self.bits <= 16 else 4)


def read_jp2(file: IO[bytes], size: int, *, walk: bool = True) -> Jp2Structure:
    """Read the headers of a JPEG 2000 file.

    Args:
        file: At its beginning.
        size: Its bytes.
        walk: Follow the tiles to the end, for which the file is read at many places.

    Raises:
        ValueError: It is no JPEG 2000 file, or damaged.
        EOFError: It ends before its codestream does.
    """
    start, end = _codestream(file, size)
    structure, place = _size_of(file, start)
    if walk:
        _walk(file, place, end, structure)
    return structure


def _codestream(file: IO[bytes], size: int) -> tuple[int, int]:
    """Where the codestream begins and ends."""
    head = _at(file, 0, 8)
    if head.startswith(STREAM_START):
        return 0, size
    if head != BOX_START:
        raise ValueError("not a JPEG 2000 file")
    place = 0
    for _ in range(MAX_BOXES):
        if place >= size:
            raise EOFError("it has no codestream")
        length, kind = struct.unpack(">I4s", _at(file, place, 8))
        header = 8
        if length == 1:
            (length,), header = struct.unpack(">Q", _at(file, place + 8, 8)), 16
        stop = size if length == 0 else place + length
        if stop < place + header:
            raise ValueError("a box of it is shorter than its header")
        if kind == b"jp2c":
            if stop > size:
                raise EOFError(f"its codestream ends at byte {stop}")
            return place + header, stop
        place = stop
    raise ValueError(f"more than {MAX_BOXES:,} boxes")


def _size_of(file: IO[bytes], start: int) -> tuple[Jp2Structure, int]:
    """What the segment SIZ says, and where the next one begins."""
    if _at(file, start, 4) != STREAM_START:
        raise ValueError("its codestream does not begin with its size")
    facts = struct.unpack(">HHIIIIIIIIH", _at(file, start + 4, 38))
    length, _, right, bottom, left, top, cols, rows, _, _, components = facts
    if not (left < right and top < bottom and cols and rows and components) or length != 38 + 3 * components:
        raise ValueError(f"{bottom} x {right} pixels in tiles of {rows} x {cols}, {components} bands")
    samples = _at(file, start + 42, 3 * components)
    bits = max((depth & 0x7F) + 1 for depth in samples[::3])
    return Jp2Structure((bottom - top, right - left), (rows, cols), components, bits), start + 4 + length


def _walk(file: IO[bytes], place: int, end: int, structure: Jp2Structure) -> None:
    """Follow the main header and the parts of tiles to the end of the codestream."""
    for _ in range(MAX_MARKERS):
        marker, length = struct.unpack(">HH", _at(file, place, 4))
        if marker == SOT:
            break
        if marker < 0xFF00 or length < 2:
            raise ValueError(f"a damaged header at byte {place}")
        place += 2 + length
    else:
        raise ValueError("its header does not end")
    seen: set[int] = set()
    for _ in range(MAX_TILE_PARTS):
        if place + 2 > end:
            break
        (marker,) = struct.unpack(">H", _at(file, place, 2))
        if marker == EOC:
            break
        if marker != SOT:
            raise ValueError(f"damaged at byte {place}: no tile begins there")
        tile, part = struct.unpack(">HI", _at(file, place + 4, 6))
        seen.add(tile)
        if part == 0:
            # The last one reaches to the end of the codestream.
            place = end
            break
        if place + part > end:
            raise EOFError(f"tile {tile} ends at byte {place + part}")
        place += max(part, 12)
    (height, width), (rows, cols) = structure.shape, structure.tile_shape
    tiles = -(-height // rows) * -(-width // cols)
    if len(seen) < tiles:
        raise EOFError(f"it holds {len(seen):,} of {tiles:,} tiles")


def _at(file: IO[bytes], place: int, count: int) -> bytes:
    file.seek(place)
    data = file.read(count)
    if len(data) < count:
        raise EOFError(f"its headers go on at byte {place + len(data)}")
    return data
