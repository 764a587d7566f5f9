"""The one place where rasters are opened for reading: by which of GDAL's drivers, and beside which files.

GDAL opens whatever it recognizes, under any name, and more than it was given: masks and overviews that lie beside a file
(``.msk``, ``.ovr``, ``.aux``), or that its metadata name. A virtual raster among them reads any other file or address. So a
file is recognized by its first bytes, opened by the one driver for them, and refused where something beside it or named in it
would be opened by another. What a virtual raster names that was allowed is not looked at.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import IOBase
from pathlib import Path
from typing import Any
from uuid import uuid4

import rasterio
import rasterio.errors
import rasterio.shutil
from rasterio.enums import ColorInterp
from rasterio.io import MemoryFile

from geoseg.errors import NotARasterError, ReadError, SceneTooLargeError
from geoseg.redaction import cause_of
from geoseg.scenes.files.muting import muted
from geoseg.scenes.files.single_image import refuse_references, refuse_several
from geoseg.scenes.preflight import MAX_BLOCK_BYTES, check_file, first_bytes, sniff
from geoseg.scenes.remote import GDAL_OPTIONS, is_remote, probe, shown, unshared
from geoseg.tiff import MAGICS

__all__ = [
    "IMAGES",
    "RASTERS",
    "check_beside",
    "gdal_env",
    "open_dataset",
    "open_picture",
    "open_raster",
    "open_skeleton",
    "open_sought",
    "open_virtual",
    "open_written",
]

RASTERS = ("GTiff",)
"""Formats of scenes and maps."""
IMAGES = ("GTiff", "PNG", "JP2OpenJPEG", "JPEG")
"""Formats of labels, masks and references, which come as pictures, too."""
PICTURES = ("JPEG", "PNG", "BMP", "GIF", "WEBP")
"""Formats of pictures without a place that pillow reads; none of them runs a program or names a file."""
STARTS = {
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"\x00\x00\x00\x0cjP  ": "JP2OpenJPEG",
    b"\xff\x4f\xff\x51": "JP2OpenJPEG",
} | dict.fromkeys(MAGICS, "GTiff")
"""The first bytes of files by the driver that opens them."""
SIDE_IMAGES = (".msk", ".ovr")
"""Endings, after the whole name, of images that GDAL opens beside a raster; they may have such files of their own."""
ERDAS = b"EHFA_HEADER_TAG"
"""GDAL opens files that begin so as they are named for a raster beside them, and what they name in turn."""
CACHE_BYTES = 64 << 20
"""Decoded blocks that GDAL keeps, of all threads at once; rasterio takes a number as bytes, GDAL's own option as megabytes."""
MAX_SIDE_TEXT = 64 << 20
"""Bytes of the largest ``.aux.xml``, which is read at once."""


@contextmanager
def gdal_env(*, remote: bool = False) -> Iterator[None]:
    """GDAL configured for reading by geoseg: its cache of decoded blocks small, because the reader keeps its own."""
    options: dict[str, Any] = {
        "GDAL_CACHEMAX": CACHE_BYTES,
        "GDAL_NUM_THREADS": "1",
        # Files beside a raster are asked for by their exact names, those that are checked here, not found in a list.
        "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE",
        **(GDAL_OPTIONS if remote else {}),
    }
    with rasterio.Env(**options), muted(rasterio.errors.NotGeoreferencedWarning):
        yield


def open_raster(
    path: str | Path, drivers: Sequence[str] = RASTERS, *, local: bool = False, **options: Any
) -> rasterio.DatasetReader:
    """Open a raster of one of some formats, recognized by its content.

    Args:
        path: A local file, or the address of a GeoTIFF.
        drivers: GDAL's names of the formats.
        local: Ask no server, as for paths that somebody else's document names.
        options: Of the driver.

    Raises:
        NotARasterError: It is of another format, or what lies beside it is.
        TruncatedError: It ends before its blocks do.
        SceneTooLargeError: One of its blocks is larger than can be decoded.
        ReadError: It can't be opened.
    """
    text = os.fspath(path)
    if is_remote(text):
        if local:
            raise ReadError(f"{shown(text)}: an address, which is not asked here; download the file")
        probe(text)
        return open_dataset(unshared(text), "GTiff", **options)
    head = first_bytes(Path(text))
    driver = next((name for start, name in STARTS.items() if head.startswith(start)), None)
    if driver in drivers and driver != "GTiff":
        return open_dataset(text, str(driver), **options)
    check_file(Path(text))
    return open_dataset(text, "GTiff", **options)


def open_dataset(path: str, driver: str, *, max_block_bytes: int = MAX_BLOCK_BYTES, **options: Any) -> rasterio.DatasetReader:
    """Open a file with the one driver that was agreed on.

    Args:
        path: A local file, or an address.
        driver: GDAL's name of its format; a ``VRT`` may open whatever it names.
        max_block_bytes: What a block of a mask beside it may decode to.
        options: Of the driver.

    Raises:
        NotARasterError: What lies beside it, or what it names, would be opened by another driver; or it holds several images.
        SceneTooLargeError: A block of its mask passes the limit.
        ReadError: It can't be opened.
    """
    remote, given = is_remote(path), path
    with gdal_env(remote=remote):
        if driver == "VRT":
            return _opened(path, driver, options)
        if not remote:
            # A name with a colon could mean something to GDAL, an absolute path does not.
            path = os.path.abspath(path)
            check_beside(Path(path), max_block_bytes)
        dataset = _checked(_opened(path, driver, {}), given, driver)
        if not options:
            return dataset
        dataset.close()
        return _opened(path, driver, options)


def open_written(source: Path | bytes) -> rasterio.DatasetReader:
    """Open a GeoTIFF that this program wrote: a file, or the bytes of one, which last as long as the dataset."""
    if isinstance(source, Path):
        return open_dataset(str(source), "GTiff")
    memory = MemoryFile(source)
    dataset = memory.open(driver="GTiff")
    weakref.finalize(dataset, memory.close)
    return dataset


def open_sought(file: Callable[[], IOBase], path: str, driver: str) -> rasterio.DatasetReader:
    """Open a raster whose bytes Python gets, from a file that is opened as often as GDAL asks; GDAL sees none beside it."""
    name = f"{uuid4().hex}/image.tif"

    def opener(asked: str, mode: str = "rb", **_: object) -> IOBase:
        if asked != name or mode != "rb":
            raise FileNotFoundError(asked)
        return file()

    return _checked(_opened(name, driver, {"opener": opener}, shown(path)), path, driver)


def open_skeleton(data: bytes, path: str) -> rasterio.DatasetReader:
    """Open what a GeoTIFF on a server says of itself, without its pixels; refuse what ``open_dataset`` refuses.

    Args:
        data: A GeoTIFF of the same directories, none of whose blocks is written.
        path: The address, for messages.
    """
    try:
        dataset = open_written(data)
    except rasterio.errors.RasterioError as error:
        raise ReadError(f"{shown(path)}: can't be opened: {_reason(error, path)}") from error
    return _checked(dataset, path, "GTiff")


@contextmanager
def open_virtual(
    dataset: rasterio.DatasetReader, colors: Sequence[ColorInterp] | None = None
) -> Iterator[rasterio.DatasetReader]:
    """Open a virtual raster in memory of a data set that is open already, and of nothing else.

    Args:
        dataset: The data set.
        colors: Colour interpretations of its bands, where others are wanted.
    """
    path = f"/vsimem/{uuid4().hex}.vrt"
    rasterio.shutil.copy(dataset, path, driver="VRT")
    try:
        if colors is not None:
            with rasterio.open(path, "r+", driver="VRT") as copy:
                copy.colorinterp = colors
        with rasterio.open(path, driver="VRT") as view:
            yield view
    finally:
        rasterio.shutil.delete(path, driver="VRT")


def open_picture(path: str) -> Any:
    """Open a picture without a place, by pillow.

    Raises:
        ReadError: It is none of the formats, or damaged.
    """
    from PIL import Image

    try:
        image = Image.open(path, formats=PICTURES)
    except (OSError, ValueError, SyntaxError) as error:
        raise ReadError(f"{path}: can't be read as an image: {error}. Accepted: {', '.join(PICTURES)}, PNG and TIFF") from error
    if (frames := getattr(image, "n_frames", 1)) > 1:
        image.close()
        raise ReadError(f"{path}: a moving picture of {frames} images; write the one that is meant to a file of its own")
    return image


def check_beside(path: Path, max_block_bytes: int = MAX_BLOCK_BYTES) -> int:
    """Refuse a raster beside which lies what GDAL would open by another driver than that of GeoTIFF.

    Returns the bytes of the largest decoded block of the images beside it.

    Raises:
        NotARasterError: There is such a file.
        SceneTooLargeError: A block of its mask passes the limit.
    """
    largest = 0
    for ending in SIDE_IMAGES:
        side = path.with_name(path.name + ending)
        if os.path.lexists(side):
            largest = max(largest, _check_side_image(path, side, max_block_bytes))
    for side in (
        path.with_suffix(".aux"),
        path.with_suffix(".AUX"),
        *(path.with_name(path.name + end) for end in (".aux", ".AUX")),
    ):
        if side.is_file() and first_bytes(side).startswith(ERDAS):
            raise NotARasterError(
                f"{path}: {side.name} beside it is an ERDAS file, which can name any other; it was not opened. Move it away: "
                "a GeoTIFF needs none"
            )
    notes = path.with_name(path.name + ".aux.xml")
    if notes.is_file() and notes.stat().st_size > MAX_SIDE_TEXT:
        raise NotARasterError(
            f"{path}: {notes.name} beside it has {notes.stat().st_size / 2**20:,.0f} MiB; {MAX_SIDE_TEXT >> 20} MiB are the "
            "most. Move it away"
        )
    return largest


def _check_side_image(path: Path, side: Path, max_block_bytes: int) -> int:
    kind = sniff(first_bytes(side)) if side.is_file() else "not a file"
    if kind is not None:
        what = "a VRT, which can name any other file or address" if kind == "vrt" else kind
        raise NotARasterError(
            f"{path}: {side.name} beside it is {what}; it was not opened. Move it away, or write it as a GeoTIFF"
        )
    try:
        structure = check_file(side, max_block_bytes=max_block_bytes)
        open_dataset(str(side), "GTiff", max_block_bytes=max_block_bytes).close()
    except SceneTooLargeError:
        raise
    except (NotARasterError, ReadError) as error:
        raise NotARasterError(f"{path}: {side.name} beside it can't be used: {error}. Move it away, or write it anew") from error
    assert structure is not None
    return structure.block_bytes


def _opened(path: str, driver: str, options: dict[str, Any], name: str | None = None) -> rasterio.DatasetReader:
    try:
        return rasterio.open(path, driver=driver, **options)
    except rasterio.errors.RasterioError as error:
        raise ReadError(f"{name or shown(path)}: can't be opened: {_reason(error, path)}") from error


def _checked(dataset: rasterio.DatasetReader, path: str, driver: str) -> rasterio.DatasetReader:
    try:
        refuse_references(dataset, path)
        if driver == "GTiff":
            refuse_several(dataset, path)
    except NotARasterError:
        dataset.close()
        raise
    return dataset


def _reason(error: BaseException, path: str) -> str:
    """GDAL's own words, without the path, which may hold credentials."""
    text = cause_of(error, path)
    for prefix in (path, "/vsicurl/" + path, os.path.basename(path)):
        text = text.replace(prefix, "")
    return text.strip(" '\":.") or type(error).__name__
