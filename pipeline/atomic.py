"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from geoseg.errors import OutputError
from geoseg.redaction import redact_all

__all__ = [
    "DISK_ERRORS",
    "atomic_folder",
    "atomic_path",
    "check_new_file",
    "check_new_folder",
    "remove_empty",
    "sync_folder",
    "write_json",
]

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)
"""What the system says when nothing more can be written."""


def check_new_file(path: Path, *, overwrite: bool) -> None:
    """Refuse a file that is there, before the work that would make it.

    Raises:
        OutputError: It is there, or its folder is not.
    """
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: is there already; use --overwrite")
    if not path.parent.is_dir():
        raise OutputError(f"{path.parent}: no such folder")


def check_new_folder(path: Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds something, before the work that would make it.

    Raises:
        OutputError: It is there.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())) and not overwrite:
        raise OutputError(f"{path}: exists; choose another --out, or replace it with --overwrite")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder, which becomes ``path`` when the block ends without an error.

    The content is on the disk before the name is. The ending stays: GDAL goes by it.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """A temporary folder beside ``path``, which becomes it when the block ends without an error.

    Args:
        path: The folder to make; an empty one may be there.
        replace: Remove the folder that is there, when the new one is whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.iterdir():
            if file.is_file():
                with file.open("rb") as opened:
                    os.fsync(opened.fileno())
        sync_folder(temporary)
        if replace and path.exists():
            path.rename(old)
        temporary.rename(path)
        sync_folder(path.parent)
    finally:
        if old.exists() and not path.exists():
            old.rename(path)
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(temporary, ignore_errors=True)


def remove_empty(*folders: Path) -> None:
    """Remove folders as far as they are empty, the inner ones first: another run may have begun there."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, document: Any, *, verbatim: bool = False) -> None:
    """Write a JSON file, whole or not at all; without secrets, as whoever gets a result gets all of its files.

    Args:
        path: The file.
        document: What it holds.
        verbatim: Whether its author has published it as it is, as the card of a model with the addresses of its data.
    """
    with atomic_path(path) as temporary:
        text = json.dumps(document if verbatim else redact_all(document), indent=2, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")
