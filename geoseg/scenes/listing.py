"""Listing of a folder or a list file: each entry once, or with a reason why it is left out."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from geoseg.errors import ConfigError
from geoseg.scenes.products.recognizing import PLANET_MASK, kind_of_names

__all__ = ["Entry", "OwnOutput", "files_below", "is_result", "kind_of_file", "lines_of_list", "odd_beside", "why_not"]

TIFFS = (".tif", ".tiff")
RASTERS = (*TIFFS, ".jp2")
UNFINISHED = re.compile(
    r".*\.(?:tiff?|jp2|zip|tar)\.(?:part|partial|crdownload|download|opdownload|filepart|tmp|temp|aria2|!ut|!qb)", re.IGNORECASE
)
"""Names that browsers and other programs give to what they have not got whole."""
BESIDE_COMPOSITE = re.compile(r"(?P<image>.+)_(?P<kind>observations|dates)\.tif")
KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
RECORD, RESULTS = "run.json", frozenset({"classes.tif", "values.tif", "buildings.gpkg"})
"""What a folder with a map of this program holds: the record of its run, and one of these."""
RECORD_BEGINS = 4096
"""Bytes of a record that say whose it is."""
MAX_LIST_BYTES = 64 << 20
BOMS = ((b"\xff\xfe\x00\x00", "utf-32"), (b"\x00\x00\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a folder."""

    path: str
    reason: str | None = None
    """Why it is left out."""
    status: str = "skipped"
    """``skipped``, or ``failed`` for what was to be read."""
    is_folder: bool = False
    """Whether it stands for all that lies in a folder."""
    is_product: bool = False
    """Whether it is a product, whose files are one scene."""


def kind_of_file(path: str | Path) -> str | None:
    """Name what a path is where it is neither a file nor a folder, and is not to be opened: a pipe would wait for ever.

    Raises:
        OSError: It is not there, or can't be looked at.
    """
    mode = os.stat(path).st_mode
    return next((kind for test, kind in KINDS if test(mode)), None)


def odd_beside(path: str | Path) -> tuple[str, str] | None:
    """Name and kind of a pipe, socket or device beside a file that GDAL may take for one of its side files; None without."""
    folder, name = os.path.split(os.path.abspath(path))
    stem = os.path.splitext(name)[0].casefold()
    odd = _odd_in(folder, os.stat(folder).st_mtime_ns)
    return next(((other, kind) for other, kind in odd if other != name and other.casefold().startswith(stem)), None)


@lru_cache(maxsize=64)
def _odd_in(folder: str, changed_ns: int) -> tuple[tuple[str, str], ...]:
    """What is neither file nor folder in a folder, which is listed once while it does not change."""
    del changed_ns
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                if not entry.is_file() and not entry.is_dir() and (kind := kind_of_file(entry.path)) is not None:
                    found.append((entry.name, kind))
    return tuple(sorted(found))


def why_not(path: str) -> str | None:
    """Say why the name of a file is that of no scene; None where it may be one."""
    name = os.path.basename(path)
    if name.startswith("._"):
        return "what macOS leaves beside a file on other systems"
    if name.startswith((".", "~$")):
        return "a hidden or temporary file"
    if PLANET_MASK.fullmatch(name):
        return "the usable data mask of a PlanetScope scene, which is read with it"
    if (image := _composite_of(path)) is not None:
        return f"what a composite tells of its image {os.path.basename(image)}, pixel by pixel"
    return "not whole: its name is that of a download or copy under way" if UNFINISHED.fullmatch(name) else None


def _composite_of(path: str) -> str | None:
    """The image of a composite that a file of counts or of dates lies beside, or in a folder beside; None of any other."""
    folder, name = os.path.split(path)
    match = BESIDE_COMPOSITE.fullmatch(name)
    if match is None:
        return None
    places = [folder] if os.path.basename(folder) != match["kind"] else [folder, os.path.dirname(folder)]
    images = (os.path.join(place, f"{match['image']}.tif") for place in places)
    return next((image for image in images if os.path.isfile(image)), None)


def is_result(folder: str, names: Collection[str] | None = None) -> bool:
    """Whether this program has written a map of classes, values or buildings into a folder, which is no scene to map.

    Args:
        folder: The folder.
        names: What lies in it, where that is known.
    """
    try:
        names = os.listdir(folder) if names is None else names
    except OSError:
        return False
    return RECORD in names and not RESULTS.isdisjoint(names) and _is_recorded(folder)


def _is_recorded(folder: str) -> bool:
    """Whether the record of a folder is of this program."""
    try:
        with open(os.path.join(folder, RECORD), "rb") as file:
            return b'"geoseg"' in file.read(RECORD_BEGINS)
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class OwnOutput:
    """What earlier runs have written into an output folder, or the output file: it may lie among the scenes, and is none of them.

    Images that this program has made of scenes are scenes to it elsewhere, and where their own folder is the input.
    """

    out: str
    """The output, without links."""

    @classmethod
    def of(cls, out: str | Path) -> OwnOutput:
        """What runs write there."""
        return cls(os.path.realpath(out))

    def has_folder(self, folder: str, root: str) -> bool:
        """Whether a folder of an input, without links, has been written there as a whole; the input itself never counts."""
        return folder != root and f"{folder}{os.sep}".startswith(f"{self.out}{os.sep}") and _is_recorded(folder)

    def has_file(self, file: str, root: str) -> bool:
        """Whether a file of an input, without links, has been written there."""
        folder = os.path.dirname(file)
        while folder.startswith(self.out) and len(folder) > len(root):
            if self.has_folder(folder, root):
                return True
            folder = os.path.dirname(folder)
        return file == self.out


def files_below(folder: str, own: OwnOutput | None = None) -> Iterator[Entry]:
    """All files below a folder; links are followed once, after all that is no link.

    Hidden folders are left out, and so are results of this program: an output folder may lie among the scenes.

    A folder with the ending of a raster is given like a file: whoever opens it says what it is.

    Args:
        folder: The folder.
        own: What is left out, besides.
    """
    walk = _Walk(os.path.realpath(folder), own)
    yield from walk.enter(folder)
    while walk.links:
        yield from walk.follow(walk.links.pop(0))


class _Walk:
    """A walk under way, and where it has been."""

    def __init__(self, root: str, own: OwnOutput | None) -> None:
        self.links: list[str] = []
        """Links that were met, to be followed at last."""
        self._root, self._own = root, own
        self._folders: set[str] = set()
        self._files: set[str] = set()

    def enter(self, folder: str) -> Iterator[Entry]:
        """The files of a folder and those below it; links are put aside."""
        waiting = [folder]
        while waiting:
            folder = waiting.pop()
            real = os.path.realpath(folder)
            if real in self._folders:
                continue
            self._folders.add(real)
            try:
                with os.scandir(folder) as scanned:
                    found = sorted(scanned, key=lambda entry: entry.name)
            except OSError as error:
                yield Entry(folder, f"the folder can't be read: {error.strerror}", "failed", is_folder=True)
                continue
            if kind_of_names(os.path.basename(real), [entry.name for entry in found]) is not None:
                yield Entry(folder, is_product=True)
                continue
            if is_result(folder, [entry.name for entry in found]) or self._is_own_folder(real):
                continue
            inner = []
            for entry in found:
                if entry.is_symlink():
                    self.links.append(entry.path)
                elif entry.is_dir(follow_symlinks=False):
                    if entry.name.lower().endswith(RASTERS):
                        yield Entry(entry.path)
                    elif not entry.name.startswith("."):
                        inner.append(entry.path)
                else:
                    self._files.add(file := os.path.join(real, entry.name))
                    if self._own is None or file != self._own.out:
                        yield Entry(entry.path)
            waiting += reversed(inner)

    def _is_own_folder(self, folder: str) -> bool:
        return self._own is not None and self._own.has_folder(folder, self._root)

    def follow(self, link: str) -> Iterator[Entry]:
        """What a link leads to, unless it was there already."""
        real = os.path.realpath(link)
        if not os.path.isdir(link):
            if real in self._files:
                yield Entry(link, f"a link to {real}, which is taken under its own name")
            else:
                self._files.add(real)
                yield Entry(link)
        elif os.path.basename(link).startswith("."):
            return
        elif os.path.basename(link).lower().endswith(RASTERS):
            yield Entry(link)
        elif (self._root + os.sep).startswith(real.rstrip(os.sep) + os.sep):
            yield Entry(link, f"a link to {real}, which leads back to where it lies", is_folder=True)
        elif real in self._folders:
            yield Entry(link, f"a link to {real}, whose files are taken already", is_folder=True)
        else:
            yield from self.enter(link)


def lines_of_list(path: Path) -> list[str]:
    """The entries of a list file, in UTF-8, UTF-16 or UTF-32 with its mark, or Windows-1252; comments and blanks left out.

    Raises:
        ConfigError: It can't be read, is too large, or is no text.
    """
    try:
        if (kind := kind_of_file(path)) is not None:
            raise ConfigError(f"inputs: {path}: {kind}, not a list file")
        with path.open("rb") as file:
            data = file.read(MAX_LIST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"inputs: {path}: can't be read: {error.strerror}") from error
    if len(data) > MAX_LIST_BYTES:
        raise ConfigError(f"inputs: {path}: has more than {MAX_LIST_BYTES >> 20} MiB, which is the most for a list file")
    lines = (line.strip() for line in re.split("\r\n|\r|\n", _text(data, path)))
    return [line for line in lines if line and not line.startswith("#")]


def _text(data: bytes, path: Path) -> str:
    encodings: Sequence[str] = next(([name] for mark, name in BOMS if data.startswith(mark)), ["utf-8-sig", "cp1252"])
    for encoding in encodings:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise ConfigError(
        f"inputs: {path}: can't be read as text: its encoding is none of UTF-8, UTF-16 with a byte order mark and Windows-1252; "
        "save it as UTF-8"
    )
