"""Files that are there whole or not at all, and that never come to lie where a link points."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from geoseg.errors import GeosegError, OutputError
from geoseg.redaction import redact_all

__all__ = [
    "DISK_ERRORS",
    "TEMPORARY",
    "as_json",
    "atomic_path",
    "full_disks_told",
    "no_follow",
    "refuse_link",
    "remove_empty",
    "remove_tree",
    "sync_file",
    "sync_folder",
    "sync_tree",
    "temporary_beside",
    "write_json",
]

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)
"""What the system says when nothing more can be written."""
FULL = re.compile(
    r"no space left|disk is full|disk quota|file too large|read-only file system|\d+ requested and \d+ written", re.IGNORECASE
)
"""What libraries say of it, without a number: GDAL, SQLite, and ``ndarray.tofile`` of a short write."""
SYNCED_AT_ONCE = 8
TEMPORARY = re.compile(r"\..*\.[0-9a-f]{16}\.tmp(\..+)?")
"""Names that ``temporary_beside`` gives."""


@contextmanager
def atomic_path(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """A temporary path in the same folder, which becomes ``path`` when the block ends without an error.

    What is there is replaced, a link and not what it points to: for files of a user, see ``pipeline.files.outputs``. The content
    is on the disk before the name is; but not where ``sync`` is False, for files of a folder that is synced before it counts.
    The ending stays: GDAL goes by it.
    """
    temporary = temporary_beside(path)
    try:
        yield temporary
        if sync:
            sync_file(temporary)
        temporary.replace(path)
        if sync:
            sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def full_disks_told(path: Path) -> Iterator[None]:
    """Name what is being made, and the cure, where a disk is full or can't be written to.

    Raises:
        OutputError: In the place of what the system or a library says.
    """
    try:
        yield
    except GeosegError:
        raise
    except Exception as error:
        # GDAL's last word on a full disk may be another: no such table. Openers tell their own errors of what is read.
        by_gdal = type(error).__module__ == "pyogrio.errors"
        if not by_gdal and FULL.search(str(error)) is None:
            raise
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise OutputError(f"{path}: can't be written: {why}; make room or choose another place, then run again") from error


def temporary_beside(path: Path) -> Path:
    """A name in the folder of a path that nobody can have taken before, hidden, with the same ending."""
    return path.with_name(f".{path.stem}.{secrets.token_hex(8)}.tmp{path.suffix}")


def no_follow(path: str, flags: int) -> int:
    """An opener for ``open`` that takes no link, neither a symbolic one nor a second name of another file.

    Raises:
        OutputError: It is a link, or no plain file.
    """
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OutputError(f"{path}: is a link, and what it points to may be somebody's; remove it, then run again") from error
        raise
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode) or facts.st_nlink > 1:
        os.close(descriptor)
        what = "has a second name elsewhere" if stat.S_ISREG(facts.st_mode) else "is no plain file"
        raise OutputError(f"{path}: {what}, and may be somebody's; move it away, then run again")
    return descriptor


def refuse_link(path: Path) -> None:
    """Refuse a path at which a symbolic link lies.

    Raises:
        OutputError: There is one.
    """
    if path.is_symlink():
        raise OutputError(f"{path}: is a link, and what it points to may be somebody's; remove it, then run again")


def remove_empty(*folders: Path) -> None:
    """Remove folders as far as they are empty, the inner ones first: another run may have begun there."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def remove_tree(path: Path) -> None:
    """Remove a file, a link, or a folder with all that is in it; what links point to stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sync_file(path: Path) -> None:
    """Have the content of a file on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    sync_file(folder)


def sync_tree(folder: Path) -> None:
    """Have all files below a folder on the disk, whoever wrote them, and their names."""
    paths = [path for path in folder.rglob("*") if not path.is_symlink()]
    # The disk takes several at once as fast as one.
    with ThreadPoolExecutor(SYNCED_AT_ONCE, thread_name_prefix="geoseg-sync") as pool:
        for _ in pool.map(sync_file, paths):
            pass
    sync_folder(folder)


def as_json(document: object) -> str:
    """A document as the text of a JSON file."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, document: object, *, verbatim: bool = False, sync: bool = True) -> None:
    """Write a JSON file, whole or not at all; without secrets, as whoever gets a result gets all of its files.

    Args:
        path: The file.
        document: What it holds.
        verbatim: Whether its author has published it as it is, as the card of a model with the addresses of its data.
        sync: See ``atomic_path``.
    """
    with atomic_path(path, sync=sync) as temporary:
        temporary.write_text(as_json(document if verbatim else redact_all(document)), encoding="utf-8")
