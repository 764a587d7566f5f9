"""Checks of a local file before any pixel is decoded: what it is, and whether all of it is there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

from geoseg.dialect import setting
from geoseg.errors import NotARasterError, ReadError, SceneTooLargeError, TruncatedError
from geoseg.scenes.listing import kind_of_file, odd_beside
from geoseg.scenes.pixels.jp2 import STARTS, Jp2Structure, read_jp2
from geoseg.tiff import MAGICS, TiffStructure, read_structure

__all__ = [
    "MAX_BLOCK_BYTES",
    "accepted_formats",
    "check_file",
    "check_jp2",
    "check_jp2_stream",
    "check_structure",
    "check_tiff_stream",
    "first_bytes",
    "sniff",
]

MAX_BLOCK_BYTES = 2 << 30
"""A block that decodes to more than this is refused: a file of a few bytes can declare any block size."""

SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "a git-lfs pointer, not the file itself; run `git lfs pull`"),
    (b"\x89PNG", "a PNG image named as a GeoTIFF"),
    (b"\xff\xd8\xff", "a JPEG image named as a GeoTIFF"),
    (b"\x00\x00\x00\x0cjP", "a JPEG 2000 image named as a GeoTIFF; name it .jp2"),
    (b"PK\x03\x04", "a zip archive of no product that is known; unpack it first"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"\x89HDF", "an HDF5 or netCDF-4 file"),
    (b"CDF", "a netCDF file"),
    (b"%PDF", "a PDF document"),
    (b"SQLite format 3", "an SQLite or GeoPackage file"),
)


def sniff(head: bytes) -> str | None:
    """Name the format of a file that begins with these bytes, if it is not a TIFF; ``"vrt"`` for a GDAL virtual raster."""
    if head[:4] in MAGICS:
        return None
    for signature, meaning in SIGNATURES:
        if head.startswith(signature):
            return meaning
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "an HTML page, so a download has failed; download it again"
    if text.startswith(b"<vrtdataset"):
        return "vrt"
    if text.startswith(b"<?xml"):
        return "vrt" if b"<vrtdataset" in text else "an XML document"
    if head[257:262] == b"ustar":
        return "a tar archive of no product that is known; unpack it first"
    return "not a raster that is known"


def first_bytes(path: Path) -> bytes:
    """The first bytes of a regular file.

    Raises:
        NotARasterError: It is a folder, empty, or no regular file.
        ReadError: It is not there or can't be read.
    """
    try:
        if path.is_dir():
            raise NotARasterError(f"{path}: a folder, not a file; pass the folder itself to take the scenes in it")
        # Opening a pipe would wait for somebody to write into it.
        if (odd := kind_of_file(path)) is not None:
            raise NotARasterError(f"{path}: {odd}, not a file; it was not opened")
        if (beside := odd_beside(path)) is not None:
            raise NotARasterError(f"{path}: beside it lies {beside[0]}, {beside[1]}, for which GDAL would wait; remove it")
        found = path.stat()
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        reason = "links to itself" if error.errno == 40 else os.strerror(error.errno or 5).lower()
        if path.is_symlink() and error.errno == 2:
            reason = f"a link to {os.readlink(path)}, which is not there"
        raise ReadError(f"{path}: {reason}; check the path and its permissions") from error
    if found.st_size == 0:
        raise NotARasterError(f"{path}: an empty file (0 bytes); copy or download it again")
    return head


def accepted_formats() -> str:
    """The formats of files that are accepted, for messages."""
    return (
        "GeoTIFF and COG (.tif, .tiff), JPEG 2000 (.jp2), products of Sentinel-2 (.SAFE, .zip), Landsat (.tar), HLS and "
        f"PlanetScope, and VRT with {setting('allow_vrt')}"
    )


def check_file(path: Path, *, allow_vrt: bool = False, max_block_bytes: int = MAX_BLOCK_BYTES) -> TiffStructure | None:
    """Refuse what can't be a whole, readable raster.

    Returns the TIFF structure, or None for a VRT.

    Raises:
        NotARasterError: It is a folder, empty, of another format, or has no valid directory.
        TruncatedError: It ends before the blocks that its directory lists.
        ReadError: It is not there or can't be read.
        SceneTooLargeError: One of its blocks would decode to more than the limit.
    """
    head = first_bytes(path)
    kind = sniff(head)
    if kind == "vrt":
        if not allow_vrt:
            raise NotARasterError(
                f"{path}: a VRT, which can name any other file or address; it was not opened. Use "
                f"{setting('allow_vrt')} if you trust it"
            )
        return None
    if kind is not None:
        raise NotARasterError(f"{path}: {kind}. Accepted: {accepted_formats()}")
    with path.open("rb") as file:
        return check_tiff_stream(file, path.stat().st_size, path, max_block_bytes)


def check_tiff_stream(file: IO[bytes], size: int, path: Path, max_block_bytes: int = MAX_BLOCK_BYTES) -> TiffStructure:
    """Refuse what can't be a whole, readable TIFF; raises as ``check_file``.

    Args:
        file: The open file.
        size: Its bytes.
        path: Its name, for messages.
        max_block_bytes: Most bytes of a decoded block.
    """
    try:
        structure = read_structure(file)
    except EOFError as error:
        raise TruncatedError(f"{path}: truncated: {error} ({size} bytes); copy or download it again") from error
    except (ValueError, OSError) as error:
        raise NotARasterError(f"{path}: a damaged TIFF: {error}") from error
    check_structure(structure, str(path), max_block_bytes)
    return structure


def check_structure(structure: TiffStructure, name: str, max_block_bytes: int = MAX_BLOCK_BYTES) -> None:
    """Refuse a TIFF file whose directories say that it isn't whole, or not readable; raises as ``check_file``.

    Args:
        structure: Its directories.
        name: Its path or address, for messages.
        max_block_bytes: Most bytes of a decoded block.
    """
    if (number := structure.image_after_preview()) is not None:
        height, width = structure.main.shape
        raise NotARasterError(
            f"{name}: its first image is a preview of {height} x {width} px, and the image itself its number {number}; write "
            "that to a file of its own, for example with gdal_translate (or rio convert) "
            f"GTIFF_DIR:{number}:{os.path.basename(name)} image.tif"
        )
    _check_blocks(name, structure, max_block_bytes)


def check_jp2(path: Path, *, max_block_bytes: int = MAX_BLOCK_BYTES) -> Jp2Structure:
    """Refuse what can't be a whole, readable JPEG 2000 file; raises as ``check_file``."""
    head = first_bytes(path)
    if not head.startswith(STARTS):
        kind = sniff(head) or "a TIFF"
        what = "a VRT" if kind == "vrt" else kind
        raise NotARasterError(f"{path}: {what}, and named as JPEG 2000. Accepted: {accepted_formats()}")
    with path.open("rb") as file:
        return check_jp2_stream(file, path.stat().st_size, path, max_block_bytes)


def check_jp2_stream(
    file: IO[bytes], size: int, path: Path, max_block_bytes: int = MAX_BLOCK_BYTES, *, walk: bool = True
) -> Jp2Structure:
    """Refuse what can't be a whole, readable JPEG 2000 file; as ``check_tiff_stream``.

    Args:
        file: The open file.
        size: Its bytes.
        path: Its name, for messages.
        max_block_bytes: Most bytes of a decoded tile.
        walk: Follow its tiles to the end.
    """
    try:
        structure = read_jp2(file, size, walk=walk)
    except EOFError as error:
        raise TruncatedError(f"{path}: truncated: {error}, but the file has {size} bytes; copy or download it again") from error
    except (ValueError, OSError) as error:
        raise NotARasterError(f"{path}: a damaged JPEG 2000 file: {error}") from error
    if structure.tile_shape != structure.shape and structure.block_bytes > max_block_bytes:
        rows, cols = structure.tile_shape
        raise SceneTooLargeError(
            f"{path}: one tile is {rows} x {cols} x {structure.components} pixels, {structure.block_bytes / 2**20:,.0f} MiB "
            f"decoded; {max_block_bytes / 2**20:,.0f} MiB are the most. Rewrite it with smaller tiles, for example as a COG"
        )
    return structure


def _check_blocks(name: str, structure: TiffStructure, max_block_bytes: int) -> None:
    # Masks and overviews in the file are decoded like the image.
    for ifd in structure.ifds:
        height, width = ifd.shape
        block_height, block_width = ifd.block_shape
        if min(height, width, block_height, block_width) < 1:
            raise NotARasterError(
                f"{name}: a damaged TIFF: {height} x {width} pixels in blocks of {block_height} x {block_width}"
            )
        if ifd.block_bytes > max_block_bytes:
            raise SceneTooLargeError(
                f"{name}: one block is {block_height} x {block_width} x {ifd.block_samples} pixels, "
                f"{ifd.block_bytes / 2**20:,.0f} MiB decoded; {max_block_bytes / 2**20:,.0f} MiB are the most. "
                "Rewrite it with tiles, for example as a COG"
            )
    missing = structure.missing()
    if missing is not None:
        needed, block, where = missing
        _, rows, cols = where.blocks
        row, col = divmod(block % (rows * cols), cols)
        raise TruncatedError(
            f"{name}: truncated: block {col},{row} ends at byte {needed}, but the file has {structure.size} bytes; "
            "copy or download it again"
        )
