"""Cloud-optimized GeoTIFFs of codes or of numbers of objects, any size, sparse where there is no data.

The levels of the pyramid are written as plain GeoTIFFs (``pyramid``). The COG is then put together from their compressed
tiles without decoding them: directories first, then the tiles from the smallest overview to the full image.

Layout: https://docs.ogc.org/is/21-026/21-026.html (OGC 21-026), with GDAL's optional hints on it
(https://gdal.org/en/stable/drivers/raster/cog.html#header-ghost-area).
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import BinaryIO

import numpy as np

from geoseg.arrays import U64, Bools
from geoseg.formats.pyramid import LEVELS_AT_ONCE, TILE, Layer, Level, Levels, Read, write_overviews
from geoseg.formats.squares import Square, TileFile
from geoseg.georeference import Georeference
from geoseg.scenes.gdal import gdal_env
from geoseg.tiff import (
    NEW_SUBFILE_TYPE,
    STRIP_BYTE_COUNTS,
    STRIP_OFFSETS,
    TILE_BYTE_COUNTS,
    TILE_OFFSETS,
    Entry,
    Ifd,
    read_structure,
)
from geoseg.windows import Window

__all__ = ["Cog", "Encode", "Turn", "write_cog", "write_cogs"]

Turn = Callable[[], AbstractContextManager[None]]
"""Entered by what takes its turn with other work."""
Encode = Callable[[Iterable[Window], int], Generator[tuple[Window, Sequence[Square] | None]]]
"""Gives the windows that it takes in their order, each with its square of every raster, as of ``encode_square`` with so many
levels; or with None, where the square is to be read and compressed as others are."""
GHOST = (
    b"LAYOUT=IFDS_BEFORE_DATA\nBLOCK_ORDER=ROW_MAJOR\nBLOCK_LEADER=SIZE_AS_UINT4\n"
    b"BLOCK_TRAILER=LAST_4_BYTES_REPEATED\nKNOWN_INCOMPATIBLE_EDITION=NO\n "
)
GEO_TAGS = {33550, 33922, 34264, 34735, 34736, 34737, 42112}
"""Georeference and metadata, which stand in the full image only."""


@dataclass(frozen=True, slots=True)
class Cog:
    """A cloud-optimized GeoTIFF to be written."""

    path: Path
    """The file."""
    layer: Layer
    """What it holds."""
    reads: Sequence[Read]
    """Give the codes of a window, one for each band; each window is read once."""


def write_cog(
    path: Path,
    work: Path,
    shape: tuple[int, int],
    georeference: Georeference,
    layer: Layer,
    read: Read | Sequence[Read],
    superblocks: Iterable[Window],
    *,
    threads: int = 2,
) -> None:
    """Write a cloud-optimized GeoTIFF; arguments as of ``write_cogs``, and its file, content and reader."""
    cog = Cog(path, layer, [read] if callable(read) else read)
    write_cogs([cog], work, shape, georeference, superblocks, threads=threads)


def write_cogs(
    cogs: Sequence[Cog],
    work: Path,
    shape: tuple[int, int],
    georeference: Georeference,
    superblocks: Iterable[Window],
    *,
    threads: int = 2,
    turn: Turn = nullcontext,
    encode: Encode | None = None,
) -> None:
    """Write cloud-optimized GeoTIFFs of one place, square by square, as these come.

    Args:
        cogs: What to write.
        work: A folder for the levels, which are removed afterwards.
        shape: Rows and columns.
        georeference: Where the pixels lie.
        superblocks: The squares of ``SUPERBLOCK`` pixels on the grid from the origin that hold data, in any order; all
            others are nodata. Each is read and compressed before the next one is asked for.
        threads: Threads that compress.
        turn: Entered while a square is worked on.
        encode: Has squares compressed elsewhere.
    """
    work.mkdir(parents=True, exist_ok=True)
    shapes = [shape]
    while max(shapes[-1]) > TILE:
        shapes.append(((shapes[-1][0] + 1) // 2, (shapes[-1][1] + 1) // 2))
    levels = [[Level(work / f"{cog.path.stem}.{i}.tif", size) for i, size in enumerate(shapes)] for cog in cogs]
    deepest = min(len(shapes) - 1, LEVELS_AT_ONCE)
    apart = [
        [TileFile(level.file.with_suffix(".tiles"), level.shape, len(cog.reads)) for level in own[:deepest] if encode]
        for cog, own in zip(cogs, levels, strict=True)
    ]
    try:
        with gdal_env():
            windows = []
            with ExitStack() as stack:
                begun = [
                    Levels(stack, dict(enumerate(own[: 1 + deepest])), cog.layer, georeference, threads)
                    for cog, own in zip(cogs, levels, strict=True)
                ]
                given = ((window, None) for window in superblocks) if encode is None else encode(superblocks, deepest)
                # Whoever compresses elsewhere ends with this.
                for window, squares in stack.enter_context(closing(given)):
                    windows.append(window)
                    with turn():
                        if squares is None:
                            _write_square(cogs, begun, window)
                        else:
                            _put_square(apart, begun, window, squares)
            for cog, own in zip(cogs, levels, strict=True):
                with turn():
                    write_overviews(own, 1 + LEVELS_AT_ONCE, cog.layer, georeference, windows, len(cog.reads), threads)
        for cog, own, tiles in zip(cogs, levels, apart, strict=True):
            _assemble(cog.path, [level.file for level in own], tiles)
    finally:
        for file in [*(level.file for level in chain(*levels)), *(tiles.path for tiles in chain(*apart))]:
            file.unlink(missing_ok=True)


def _write_square(cogs: Sequence[Cog], begun: Sequence[Levels], window: Window) -> None:
    for cog, own in zip(cogs, begun, strict=True):
        for band, read in enumerate(cog.reads, start=1):
            own.write(read(window), window, band)


def _put_square(apart: Sequence[Sequence[TileFile]], begun: Sequence[Levels], window: Window, squares: Sequence[Square]) -> None:
    for files, own, square in zip(apart, begun, squares, strict=True):
        for level, (file, tiles) in enumerate(zip(files, square.tiles, strict=True)):
            file.put(tiles, window.row_off // (TILE << level), window.col_off // (TILE << level))
        own.write_last(square.last, window)


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """One image of the COG: its fields, and its tiles in the files that they come from."""

    entries: dict[int, Entry]
    offsets: U64
    counts: U64
    file: Path
    apart: Path | None
    """Of the tiles that were compressed apart."""
    is_apart: Bools
    """By tile."""


def _assemble(path: Path, files: list[Path], apart: Sequence[TileFile]) -> None:
    parts = [_part(file, tiles, overview=i > 0) for i, (file, tiles) in enumerate(zip_longest(files, apart))]
    data_bytes = sum(int(part.counts.sum()) + 8 * len(part.counts) for part in parts)
    big = data_bytes + (1 << 20) + sum(32 * len(part.counts) for part in parts) >= 1 << 32
    head = len(_header(big))
    # The directories' size does not depend on the offsets, so they are laid out first with none.
    directories = sum(len(_directory(part, part.offsets, 0, 0, big)) for part in parts)
    position = head + directories
    new_offsets: list[U64] = []
    for part in reversed(parts):
        sizes = np.where(part.counts > 0, part.counts + np.uint64(8), np.uint64(0))
        begins = np.uint64(position) + np.concatenate([np.zeros(1, np.uint64), np.cumsum(sizes)[:-1]]).astype(np.uint64)
        new_offsets.insert(0, np.where(part.counts > 0, begins + np.uint64(4), np.uint64(0)))
        position += int(sizes.sum())
    with path.open("wb") as out:
        out.write(_header(big))
        at = head
        for i, (part, offsets) in enumerate(zip(parts, new_offsets, strict=True)):
            size = len(_directory(part, offsets, 0, 0, big))
            following = at + size if i + 1 < len(parts) else 0
            out.write(_directory(part, offsets, at, following, big))
            at += size
        for part in reversed(parts):
            _copy_tiles(out, part)
        out.flush()
        os.fsync(out.fileno())


def _part(file: Path, tiles: TileFile | None, *, overview: bool) -> _Part:
    ifd: Ifd = read_structure(file).main
    entries = {
        tag: entry
        for tag, entry in ifd.entries.items()
        if tag not in (TILE_OFFSETS, TILE_BYTE_COUNTS, STRIP_OFFSETS, STRIP_BYTE_COUNTS) and not (overview and tag in GEO_TAGS)
    }
    if overview:
        entries[NEW_SUBFILE_TYPE] = Entry(NEW_SUBFILE_TYPE, 4, 1, struct.pack("<I", 1))
    if tiles is None:
        return _Part(entries, ifd.offsets, ifd.byte_counts, file, None, np.zeros(len(ifd.offsets), np.bool_))
    offsets, counts = tiles.offsets.ravel(), tiles.counts.ravel()
    there = counts > 0
    return _Part(
        entries, np.where(there, offsets, ifd.offsets), np.where(there, counts, ifd.byte_counts), file, tiles.path, there
    )


def _header(big: bool) -> bytes:
    ghost = b"GDAL_STRUCTURAL_METADATA_SIZE=%06d bytes\n" % len(GHOST) + GHOST
    size = 16 if big else 8
    first = size + len(ghost) + (len(ghost) & 1)
    start = struct.pack("<2sHHHQ", b"II", 43, 8, 0, first) if big else struct.pack("<2sHI", b"II", 42, first)
    return start + ghost + b"\0" * (len(ghost) & 1)


def _directory(part: _Part, offsets: U64, at: int, following: int, big: bool) -> bytes:
    """An image file directory that stands at ``at``, with the values that don't fit into it behind it."""
    kind, code = (16, "<u8") if big else (4, "<u4")
    entries = dict(part.entries)
    entries[TILE_OFFSETS] = Entry(TILE_OFFSETS, kind, len(offsets), offsets.astype(code).tobytes())
    entries[TILE_BYTE_COUNTS] = Entry(TILE_BYTE_COUNTS, 4, len(offsets), part.counts.astype("<u4").tobytes())
    inline = 8 if big else 4
    table = struct.pack("<Q" if big else "<H", len(entries))
    values = b""
    values_at = at + len(table) + len(entries) * (20 if big else 12) + inline
    for tag in sorted(entries):
        entry = entries[tag]
        if len(entry.raw) <= inline:
            value = entry.raw.ljust(inline, b"\0")
        else:
            values += b"\0" * (-(values_at + len(values)) % 8)
            value = struct.pack("<Q" if big else "<I", values_at + len(values))
            values += entry.raw
        table += struct.pack("<HHQ" if big else "<HHI", tag, entry.type, entry.count) + value
    whole = table + struct.pack("<Q" if big else "<I", following) + values
    return whole + b"\0" * (-(at + len(whole)) % 8)


def _copy_tiles(out: BinaryIO, part: _Part) -> None:
    """Copy the tiles in their order, each between its length and a repetition of its last four bytes."""
    with ExitStack() as stack:
        sources = [
            _mapped(stack, path) if path is not None and some.any() else b""
            for path, some in ((part.file, part.counts[~part.is_apart]), (part.apart, part.is_apart))
        ]
        for offset, count, which in zip(part.offsets.tolist(), part.counts.tolist(), part.is_apart.tolist(), strict=True):
            if count:
                tile = sources[which][offset : offset + count]
                out.write(struct.pack("<I", count) + tile + tile[-4:])


def _mapped(stack: ExitStack, path: Path) -> mmap.mmap:
    file = stack.enter_context(path.open("rb"))
    return stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
