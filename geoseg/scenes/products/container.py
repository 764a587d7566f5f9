"""Containers of products: a folder, a zip or a tar archive, whose files are read by their names, and by nothing outside of it."""

from __future__ import annotations

import os
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Literal, NamedTuple

from geoseg.errors import NotARasterError, ReadError, SceneError, TruncatedError

__all__ = ["MAX_METADATA", "Container", "in_archive", "is_archive", "open_beside", "open_container"]

Form = Literal["folder", "zip", "tar", "server"]
MAX_MEMBERS = 20_000
"""A product of Sentinel-2 has some hundred files."""
MAX_METADATA = 64 << 20
"""Bytes of a document of metadata; those of Sentinel-2 have less than one million."""
ARCHIVES: Mapping[str, Form] = {".zip": "zip", ".tar": "tar"}
DAMAGED = (OSError, EOFError, ValueError, NotImplementedError, zipfile.BadZipFile, tarfile.TarError, RuntimeError)
"""What the readers of archives raise on damaged, encrypted or unknown ones."""


@dataclass(frozen=True, slots=True)
class Container:
    """The files of a product."""

    path: str
    """The folder or the archive, as it was given."""
    form: Form
    root: str
    """Folder within an archive that holds the product, with a slash at its end; empty where it is the archive itself."""
    sizes: Mapping[str, int]
    """Bytes of each file, by its name relative to the product, with slashes."""
    stored: bool = True
    """Whether the bytes of its files lie in it as they are, so that any of them can be read by itself."""
    lost: frozenset[str] = frozenset()
    """Files of an archive, by their whole names, that GDAL does not find."""

    def find(self, name: str) -> str | None:
        """The file of a name that may differ in case; None where it is not there.

        Raises:
            SceneError: The name leads out of the product.
        """
        parts = name.split("/")
        if name.startswith("/") or "\\" in name or "\0" in name or ":" in name or {"", ".", ".."} & {*parts}:
            raise SceneError(f"{self.path}: its metadata name the file {name!r}, which is none of its own; it was not opened")
        if name in self.sizes:
            return name
        lower = name.lower()
        return next((own for own in self.sizes if own.lower() == lower), None)

    def gdal_path(self, name: str) -> str:
        """The path by which GDAL opens one of its files.

        Raises:
            SceneError: The path of the archive, or the name of the file in it, is none that GDAL can take.
        """
        if self.form == "folder":
            return os.path.join(self.path, *name.split("/"))
        path = os.path.abspath(self.path)
        if not _braces_match(path):
            raise SceneError(f"{self.path}: its path holds braces that don't match, by which GDAL can't find its end; rename it")
        if self.root + name in self.lost:
            raise SceneError(
                f"{self.path}: GDAL can't find {name} in it: its name is in a header of the form pax, as those of more than 100 "
                "letters often are; unpack it, or pack it as GNU tar does (tar --format=gnu) or as a .zip"
            )
        return f"/vsi{self.form}/{{{path}}}/{self.root}{name}"

    def shown(self, name: str) -> str:
        """A file of it, for messages."""
        return os.path.join(self.path, name)

    def read(self, name: str) -> bytes:
        """The content of a document of metadata.

        Raises:
            SceneError: It can't be read, or is larger than such a document is.
        """
        if self.sizes[name] > MAX_METADATA:
            raise SceneError(f"{self.shown(name)}: {self.sizes[name]:,} bytes; metadata have {MAX_METADATA:,} at most")
        with self.opened(name) as file:
            try:
                data: bytes = file.read(MAX_METADATA + 1)
            except DAMAGED as error:
                raise ReadError(f"{self.shown(name)}: can't be read: {error}; download the product again") from error
        if len(data) > MAX_METADATA:
            raise SceneError(f"{self.shown(name)}: metadata have {MAX_METADATA:,} bytes at most, and this has more")
        return data

    @contextmanager
    def opened(self, name: str) -> Iterator[IO[bytes]]:
        """One of its files, which can be read and sought.

        Raises:
            ReadError: It can't be opened.
        """
        try:
            if self.form == "folder":
                with open(self.gdal_path(name), "rb") as file:
                    yield file
            elif self.form == "zip":
                with zipfile.ZipFile(self.path) as archive, archive.open(self.root + name) as opened:
                    yield opened
            else:
                with tarfile.open(self.path, "r:") as tar:
                    yield _member_of(tar, self.root + name)
        except SceneError:
            raise
        except (KeyError, *DAMAGED) as error:
            raise ReadError(f"{self.shown(name)}: can't be read: {error}; download the product again") from error


class _Members(NamedTuple):
    """The files of an archive, as ``Container`` has them, under their whole names."""

    sizes: dict[str, int]
    stored: bool = True
    lost: frozenset[str] = frozenset()


def _member_of(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    """A file of an archive; programs write names as they are, or after ``./``."""
    found = next((info for info in tar if info.name.removeprefix("./") == name), None)
    if found is None or (member := tar.extractfile(found)) is None:
        raise KeyError(name)
    return member


def is_archive(path: str) -> bool:
    """Whether the name of a file is that of an archive that may hold a product."""
    return os.path.splitext(path)[1].lower() in ARCHIVES


def in_archive(path: str) -> bool:
    """Whether a path is that by which GDAL opens a file of an archive."""
    return path.startswith(tuple(f"/vsi{form}/{{" for form in ARCHIVES.values()))


def open_container(path: str) -> Container:
    """The files of a folder or an archive; those of an archive may lie in one folder of it.

    Raises:
        NotARasterError: It is neither.
        TruncatedError: The archive is not whole.
        SceneError: It holds more files than a product does.
    """
    if os.path.isdir(path):
        return Container(path, "folder", "", _files_of(path))
    form = ARCHIVES.get(os.path.splitext(path)[1].lower())
    if form is None:
        raise NotARasterError(f"{path}: neither a folder nor a .zip or .tar")
    try:
        sizes, stored, lost = _zipped(path) if form == "zip" else _tarred(path)
    except DAMAGED as error:
        if isinstance(error, SceneError):
            raise
        raise TruncatedError(f"{path}: no whole {form} archive: {error}; copy or download it again") from error
    tops = {name.split("/")[0] for name in sizes}
    root = f"{tops.pop()}/" if len(tops) == 1 and all("/" in name for name in sizes) else ""
    return Container(path, form, root, {name.removeprefix(root): size for name, size in sizes.items()}, stored, lost)


def _braces_match(path: str) -> bool:
    """Whether GDAL finds the end of a path in braces."""
    open_ = 0
    for letter in path:
        open_ += (letter == "{") - (letter == "}")
        if open_ < 0:
            return False
    return open_ == 0


def open_beside(path: str, start: str) -> Container:
    """The files beside one whose names begin like this, itself among them."""
    folder = os.path.dirname(path) or "."
    with os.scandir(folder) as entries:
        sizes = {entry.name: entry.stat().st_size for entry in entries if entry.name.startswith(start) and entry.is_file()}
    return Container(folder, "folder", "", sizes)


def _files_of(folder: str) -> dict[str, int]:
    """Files below a folder; links are not followed out of it."""
    inside, found = os.path.realpath(folder) + os.sep, {}
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            path = os.path.join(place, name)
            if os.path.isfile(path) and os.path.realpath(path).startswith(inside):
                found[os.path.relpath(path, folder).replace(os.sep, "/")] = os.path.getsize(path)
            if len(found) > MAX_MEMBERS:
                raise SceneError(f"{folder}: more than {MAX_MEMBERS:,} files; a product has fewer")
    return found


def _zipped(path: str) -> _Members:
    with zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if not info.is_dir() and _is_inside(info.filename)]
    _refuse_many(path, len(members))
    stored = all(info.compress_type == zipfile.ZIP_STORED for info in members)
    return _Members({info.filename: info.file_size for info in members}, stored)


def _tarred(path: str) -> _Members:
    found: dict[str, int] = {}
    lost: set[str] = set()
    size = os.path.getsize(path)
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            name = member.name.removeprefix("./")
            if not member.isfile() or member.issparse() or not _is_inside(name):
                continue
            if member.offset_data + member.size > size:
                end = member.offset_data + member.size
                raise TruncatedError(
                    f"{path}: truncated: {member.name} ends at byte {end}, but the file has {size} bytes; download it again"
                )
            found[name] = member.size
            if "path" in member.pax_headers:
                lost.add(name)
            _refuse_many(path, len(found))
    return _Members(found, lost=frozenset(lost))


def _is_inside(name: str) -> bool:
    """Whether the name of a member leads nowhere but below the archive."""
    return not {"", ".", ".."} & {*name.split("/")} and "\\" not in name


def _refuse_many(path: str, count: int) -> None:
    if count > MAX_MEMBERS:
        raise SceneError(f"{path}: more than {MAX_MEMBERS:,} files; a product has fewer")
