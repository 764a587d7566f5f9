"""Files and folders that a command is told to make: there whole or not at all, and in nobody's place.

What is there already stays unless it is geoseg's own: a file is moved to ``NAME.kept-DATE``, a folder has a record in
``.geoseg.json`` of what was written into it, and one without is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from geoseg.errors import OutputError
from geoseg.redaction import redact_all
from pipeline.files.atomic import (
    as_json,
    full_disks_told,
    remove_empty,
    remove_tree,
    sync_file,
    sync_folder,
    sync_tree,
    temporary_beside,
)
from pipeline.files.owned import CHECKSUMS, FileFacts, keep_aside, not_ours, write_record
from pipeline.files.run_folder import MADE, RunFolder
from pipeline.files.version import code_version

__all__ = ["atomic_folder", "check_new_file", "check_new_folder", "output_file", "take_away", "write_output_json"]

log = logging.getLogger(__name__)


def check_new_file(path: Path, *, overwrite: bool) -> None:
    """Refuse a file that is there, before the work that would make it.

    Raises:
        OutputError: It is there, or its folder is not.
    """
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; name a file")
    if (path.exists() or path.is_symlink()) and not overwrite:
        raise OutputError(f"{path}: is there already; use --overwrite")
    if not path.parent.is_dir():
        raise OutputError(f"{path.parent}: no such folder for {path.name}; make it first")


def check_new_folder(path: Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds something, before the work that would make it; end a publish that was cut off there.

    Raises:
        OutputError: It is there and may not be replaced, or holds what geoseg has not written.
    """
    made = RunFolder(path, MADE)
    made.settle()
    if (path.exists() or path.is_symlink()) and (not path.is_dir() or any(path.iterdir())):
        if not overwrite:
            raise OutputError(f"{path}: exists; choose another --out, or replace it with --overwrite")
        made.refuse_foreign()


@contextmanager
def output_file(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder, which becomes ``path`` when the block ends without an error.

    Another file that is there by then is moved to ``NAME.kept-DATE``, for it may hold somebody's work.
    """
    temporary = temporary_beside(path)
    try:
        with full_disks_told(path):
            yield temporary
            sync_file(temporary)
            kept = None if FileFacts.of(temporary).hold(path) else keep_aside(path)
            temporary.replace(path)
            sync_folder(path.parent)
        if kept is not None:
            log.warning("%s: was there with another content, which is kept as %s", path, kept.name)
    finally:
        temporary.unlink(missing_ok=True)


def write_output_json(path: Path, document: object) -> None:
    """Write a JSON file that a command was told to make."""
    with output_file(path) as temporary:
        temporary.write_text(as_json(redact_all(document)), encoding="utf-8")


@contextmanager
def atomic_folder(path: Path, *, replace: bool = False, checksums: str | None = None) -> Iterator[Path]:
    """A temporary folder beside ``path``, which becomes it when the block ends without an error.

    Args:
        path: The folder to make; an empty one may be there.
        replace: Let the files of one that geoseg has made give way, when the new ones are whole; all others stay.
        checksums: The name of a file of the checksums of all others, if one is to be written.

    Raises:
        OutputError: What is there may not be replaced, or the disk is full.
    """
    path = path.resolve() if path.is_symlink() else path
    check_new_folder(path, overwrite=replace)
    temporary = temporary_beside(path)
    try:
        with full_disks_told(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.mkdir()
            yield temporary
            document = {"geoseg": code_version(), **({} if checksums is None else {CHECKSUMS: checksums})}
            if path.is_dir() and any(path.iterdir()):
                _replace(path, temporary, document)
            else:
                _place(path, temporary, document)
    finally:
        remove_tree(temporary)


def _replace(path: Path, temporary: Path, document: dict[str, str]) -> None:
    made = RunFolder(path, MADE)
    with made.held():
        made.publish(document, stage=temporary)
    made.leave()


def take_away(place: RunFolder) -> None:
    """Remove what a run has published, and what is under way there; without its record nothing is removed.

    A file that somebody has changed is moved to ``NAME.kept-DATE``, and what else is there stays. The record goes last, so that
    a removal that was cut off is ended by the next.

    Raises:
        OutputBusyError: Another run holds the folder.
    """
    if place.record() is None:
        return
    with place.held():
        record = place.record()
        files = {} if record is None else record.files
        changed = not_ours(place.folder, files, record)
        for name in files:
            if name in changed and (kept := keep_aside(place.folder / name)) is not None:
                log.warning(
                    "%s: was changed, or opened, since it was published; it is kept as %s", place.folder / name, kept.name
                )
            (place.folder / name).unlink(missing_ok=True)
            remove_empty(*(place.folder / part for part in PurePosixPath(name).parents if part.name))
        place.record_path.unlink(missing_ok=True)
        place.prune()
    place.leave()


def _place(path: Path, temporary: Path, document: dict[str, str]) -> None:
    files = {p.relative_to(temporary).as_posix(): FileFacts.of(p) for p in sorted(temporary.rglob("*")) if p.is_file()}
    write_record(temporary / MADE, document, files)
    sync_tree(temporary)
    try:
        temporary.rename(path)
    except OSError as error:
        raise OutputError(f"{path}: another run has filled it meanwhile; choose another --out") from error
    sync_folder(path.parent)
