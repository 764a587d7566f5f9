"""Verify: whether an output folder holds what its records say, file by file; nothing is changed.

The records are ``run.json`` of scenes and ``.geoseg.json`` of folders that are made at once. ``pipeline.verify.recompute`` goes
further, and computes chunks anew.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoseg.documents import LARGE, Json, read_json
from geoseg.errors import ConfigError
from geoseg.formats.stac_parquet import is_item_table
from pipeline.files.index import COLLECTION, INDEX, INDEX_PAGE, ITEMS
from pipeline.files.owned import DIGEST, Record, digest_of, is_sealed_page
from pipeline.files.reviews import REVIEWS, is_reviews, walk_results
from pipeline.files.run_folder import MADE, REPORT, RunFolder
from pipeline.files.scene_record import SceneRecord

__all__ = ["Verified", "VerifiedFolder", "verify_output"]

RECORDS = (REPORT, MADE)
DONE = ("done", "partial")


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedFolder:
    """A folder with a record, held against it."""

    name: str
    """Its path below the output folder; ``.`` for that itself."""
    folder: Path
    digest: str
    """sha256 of its record in canonical JSON; one hash for the run."""
    files: int
    """Files that the record lists."""
    faults: tuple[str, ...]
    """A sentence for each file that is not as it was published, and for the record if it was changed."""
    notes: tuple[str, ...]
    """Further remarks: files of others, a publish that was cut off."""
    record: Record | None
    """The record; None where it can't be read."""

    @property
    def document(self) -> Mapping[str, object]:
        """The record as JSON, empty where it can't be read."""
        return {} if self.record is None else self.record.document

    @property
    def scene(self) -> SceneRecord | None:
        """The record as that of a map; None where it is of something else, or can't be read."""
        try:
            return SceneRecord.of(self.document)
        except ValueError:
            return None

    def to_json(self) -> dict[str, Json]:
        """For programs."""
        return {
            "name": self.name,
            "digest": self.digest,
            "files": self.files,
            "faults": list(self.faults),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """An output folder, held against its records."""

    out: Path
    folders: tuple[VerifiedFolder, ...]
    faults: tuple[str, ...]
    """What is wrong with ``index.json`` and ``collection.json``."""

    @property
    def whole(self) -> bool:
        """Whether all is as it was published."""
        return not self.faults and not any(found.faults for found in self.folders)

    @property
    def digest(self) -> str:
        """One hash for all: that of the record itself where there is one, else sha256 of lines ``digest  name``, by name.

        Its input is what ``sha256sum`` would print of files that hold the canonical records.
        """
        if [found.name for found in self.folders] == ["."]:
            return self.folders[0].digest
        lines = "".join(f"{found.digest}  {found.name}\n" for found in sorted(self.folders, key=lambda f: f.name))
        return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()


def verify_output(out: Path) -> Verified:
    """Hold all that geoseg has published in a folder, and below it, against its records.

    Raises:
        ConfigError: There is no such folder, or nothing in it is geoseg's.
    """
    if not out.is_dir():
        raise ConfigError(f"{out}: no such folder; give the output folder of a run, or one of its scenes")
    folders = tuple(_folders(out))
    if not folders:
        raise ConfigError(f"{out}: holds no {REPORT} and no {MADE}, so nothing is known of what was published there")
    return Verified(out=out, folders=folders, faults=tuple(_index_faults(out, folders)))


def _folders(out: Path) -> Iterator[VerifiedFolder]:
    for folder, names in walk_results(out):
        made = Record.read(folder / MADE) if REPORT in names and MADE in names else None
        for record in RECORDS:
            # A folder that is made at once has the hash of its report in its own record.
            if record in names and not (record == REPORT and made is not None and REPORT in made.files):
                yield _verified(folder, folder.relative_to(out).as_posix(), record)


def _verified(folder: Path, name: str, record_name: str) -> VerifiedFolder:
    record = Record.read(folder / record_name)
    place = RunFolder(folder, record_name)
    notes = []
    if place.is_cut_off():
        notes.append("a publish was cut off; the next run over it ends it, whole")
    if record is None:
        faults: tuple[str, ...] = (f"{record_name} can't be read as a record of geoseg",)
        return VerifiedFolder(name=name, folder=folder, digest="", files=0, faults=faults, notes=tuple(notes), record=None)
    faults = tuple(_faults(folder, record, record_name))
    if DIGEST not in record.document:
        notes.append(f"{record_name} is of an earlier version and has no digest, so that a change of it could not be seen")
    notes += _strangers(folder, record, record_name)
    if record.document.get("status") == "partial":
        notes.append(str(record.document.get("reason")))
    return VerifiedFolder(
        name=name,
        folder=folder,
        digest=digest_of(record.document),
        files=len(record.files),
        faults=faults,
        notes=tuple(notes),
        record=record,
    )


def _faults(folder: Path, record: Record, record_name: str) -> Iterator[str]:
    if not record.intact:
        yield f"{record_name} was changed since it was written: its digest is another"
    for name, facts in record.files.items():
        path = folder / name
        if not os.path.lexists(path):
            yield f"{name} is missing"
        elif path.is_symlink() or not path.is_file():
            yield f"{name} is no plain file"
        elif not facts.hold(path):
            size = path.stat().st_size
            what = f"has {size:,} bytes, not {facts.bytes:,}" if size != facts.bytes else "has other content of the same size"
            yield f"{name} {what}"


def _strangers(folder: Path, record: Record, record_name: str) -> list[str]:
    """Files beside those that were published; they are nobody's fault."""
    own = {name.split("/", 1)[0] for name in record.files} | {record_name}
    own |= {REVIEWS} if is_reviews(folder / REVIEWS) else set()
    found = [
        entry.name
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name)
        if entry.name not in own and not entry.name.startswith(".") and not (entry.is_dir() and _has_record(Path(entry.path)))
    ]
    if not found:
        return []
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return [f"not of this run: {', '.join(found[:3])}{more}"]


def _has_record(folder: Path) -> bool:
    return any(record in names for _, _, names in os.walk(folder) for record in RECORDS)


def _index_faults(out: Path, folders: tuple[VerifiedFolder, ...]) -> Iterator[str]:
    scenes = {found.name for found in folders if found.document.get("scene") is not None and found.name != "."}
    if not scenes:
        return
    index = _document(out / INDEX)
    if index is None:
        if len(scenes) > 1 or (out / INDEX).exists():
            yield f"{INDEX} is missing or can't be read; a run over the folder writes it anew"
        return
    if index.get(DIGEST) not in (None, digest_of(index)):
        yield f"{INDEX} was changed since it was written: its digest is another"
    entries = {entry["scene"]: entry for entry in index.get("scenes", ()) if isinstance(entry, dict) and "scene" in entry}
    for name in sorted(scenes - entries.keys()):
        yield f"{INDEX} has no entry for {name}"
    for name, entry in sorted(entries.items()):
        gone = [text for text in entry.get("outputs", ()) if not os.path.lexists(out / str(text))]
        if gone:
            yield f"{INDEX} lists {gone[0]}{f' and {len(gone) - 1} more' if len(gone) > 1 else ''} of {name}, which is not there"
        elif entry.get("status") in DONE and name not in scenes:
            yield f"{INDEX} calls {name} {entry['status']}, but there is no {REPORT} of it"
    collection = _document(out / COLLECTION)
    if collection is not None and collection.get(DIGEST) not in (None, digest_of(collection)):
        yield f"{COLLECTION} was changed since it was written: its digest is another"
    if os.path.lexists(out / ITEMS) and not is_item_table(out / ITEMS):
        yield f"{ITEMS} was changed since it was written; a run over the folder writes it anew"
    if os.path.lexists(out / INDEX_PAGE) and not is_sealed_page(out / INDEX_PAGE):
        yield f"{INDEX_PAGE} was changed since it was written: its digest is another; a run over the folder writes it anew"


def _document(path: Path) -> dict[str, Any] | None:
    try:
        found = read_json(path, limit=LARGE)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
