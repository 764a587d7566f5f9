"""Ownership of the files in an output folder.

A file is geoseg's where a record lists it with the hash that it has; all else is somebody's, and is moved aside, never
replaced or removed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from geoseg.models.model_folder import file_hash
from geoseg.redaction import redact_all
from pipeline.files.atomic import write_json

__all__ = [
    "CHECKSUMS",
    "DIGEST",
    "KEPT",
    "PAGE_DIGEST",
    "UNSEALED",
    "FileFacts",
    "Finished",
    "Record",
    "checksums_of",
    "digest_of",
    "is_below",
    "is_sealed_page",
    "keep_aside",
    "kept_names",
    "not_ours",
    "sealed",
    "sealed_page",
    "write_record",
]

SIDES = ("-wal", "-shm", "-journal")
"""What SQLite leaves beside a file while somebody has it open; it may hold changes that the file does not have yet."""
KEPT = re.compile(rf".+\.kept-\d{{8}}T\d{{6}}Z(-\d+)?({'|'.join(SIDES)})?", re.DOTALL)
"""Names of files that were moved aside."""
DIGEST = "digest"
PAGE_DIGEST, UNSEALED = "geoseg-digest", "0" * 64
"""Of a page that stands in no record, the name of what holds its digest, and what stands there before it has one."""
SEAL = re.compile(f'name="{PAGE_DIGEST}" content="([0-9a-f]{{64}})"')
CHECKSUMS = "checksums"
"""Of a record, the name of a file of the checksums of all others, the record among them: it can't list that one itself."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """Size and hash of a file when it was written."""

    bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> FileFacts:
        """Those of a file."""
        return cls(path.stat().st_size, file_hash(path))

    def hold(self, path: Path) -> bool:
        """Whether a path is a plain file with this content."""
        try:
            if path.is_symlink() or not path.is_file() or path.stat().st_size != self.bytes:
                return False
            return file_hash(path) == self.sha256
        except OSError:
            return False

    def to_json(self) -> dict[str, int | str]:
        """As it stands in a record."""
        return {"bytes": self.bytes, "sha256": self.sha256}


@dataclass(frozen=True, slots=True)
class Record:
    """Record of the files that a run has published: ``run.json``, or ``.geoseg.json``."""

    document: Mapping[str, Any]
    files: Mapping[str, FileFacts]
    """By name, with / between folders."""
    intact: bool
    """Whether nobody has changed the record itself."""

    @classmethod
    def read(cls, path: Path) -> Record | None:
        """The record at a path; None where there is none, or none that geoseg wrote."""
        if path.is_symlink() or not path.is_file():
            return None
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            files = {name: FileFacts(int(f["bytes"]), str(f["sha256"])) for name, f in document["files"].items()}
            if CHECKSUMS in document:
                text = checksums_of({**files, path.name: FileFacts.of(path)})
                files[str(document[CHECKSUMS])] = FileFacts(len(text), hashlib.sha256(text).hexdigest())
            known = isinstance(document["geoseg"], str) and all(map(is_below, files))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        return cls(document, files, document.get(DIGEST) in (None, digest_of(document))) if known else None

    def differing(self, identity: Mapping[str, object]) -> list[str]:
        """Keys of a run's identity that differ; the version of the code does not count."""
        earlier = self.document.get("identity")
        if not isinstance(earlier, Mapping):
            return ["its report can't be read"]
        return [key for key in {**identity, **earlier} if key != "code" and earlier.get(key) != identity.get(key)]


@dataclass(frozen=True, slots=True)
class Finished:
    """The record of an earlier run with the same result, whose files are there as it has left them."""

    document: Mapping[str, object]
    code: str | None
    """The version that made it, where that is not the one which asks."""

    @property
    def reason(self) -> str:
        """Reason why there is nothing to do."""
        return f"finished by geoseg {self.code}; --overwrite redoes it" if self.code else "finished by an earlier run"


def is_below(name: str) -> bool:
    """Whether a name stays in its folder: a record may come from anywhere."""
    pure = PurePosixPath(name)
    return bool(name) and not pure.is_absolute() and ".." not in pure.parts and pure.as_posix() == name and "\0" not in name


def digest_of(document: Mapping[str, object]) -> str:
    """sha256 of a record in canonical JSON (keys sorted, no spaces, UTF-8), its own ``digest`` left out."""
    facts = {key: value for key, value in document.items() if key != DIGEST}
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def checksums_of(files: Mapping[str, FileFacts]) -> bytes:
    """Checksums of files, for ``sha256sum --check``."""
    return "".join(f"{files[name].sha256}  {name}\n" for name in sorted(files)).encode()


def sealed(document: Mapping[str, object]) -> dict[str, object]:
    """A record without secrets, with its digest, by which a change of the record itself is found; all keys are text."""
    public = redact_all(dict(document))
    return {**public, DIGEST: digest_of(public)}


def sealed_page(text: str) -> str:
    """A page with the sha256 of itself, by which a change of it is found; ``UNSEALED`` is where that goes, and counts as it."""
    return text.replace(UNSEALED, hashlib.sha256(text.encode()).hexdigest(), 1)


def is_sealed_page(path: Path) -> bool:
    """Whether a page is one that geoseg has written and nobody has changed."""
    if path.is_symlink() or not path.is_file():
        return False
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
    found = SEAL.search(text)
    return found is not None and sealed_page(text[: found.start(1)] + UNSEALED + text[found.end(1) :]) == text


def write_record(
    path: Path, document: Mapping[str, object], files: Mapping[str, FileFacts], *, sync: bool = True
) -> dict[str, object]:
    """Write a record of files, and the file of checksums that it names, if any; returns it. ``sync`` is as of ``atomic_path``."""
    record = sealed({**document, "files": {name: files[name].to_json() for name in sorted(files)}})
    write_json(path, record, verbatim=True, sync=sync)
    if CHECKSUMS in document:
        (path.parent / str(document[CHECKSUMS])).write_bytes(checksums_of({**files, path.name: FileFacts.of(path)}))
    return record


def kept_names(folder: Path, name: str) -> dict[str, str]:
    """Names under which a foreign file is kept, with what SQLite has beside it. Nothing has those names."""
    there = [side for side in ("", *SIDES) if os.path.lexists(folder / f"{name}{side}")]
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    number = 1
    while True:
        kept = f"{name}.kept-{moment}{f'-{number}' if number > 1 else ''}"
        if not any(os.path.lexists(folder / f"{kept}{side}") for side in ("", *SIDES)):
            return {f"{name}{side}": f"{kept}{side}" for side in there}
        number += 1


def keep_aside(path: Path) -> Path | None:
    """Move what is at a path to ``NAME.kept-DATE``; None where nothing is there."""
    if not os.path.lexists(path):
        return None
    names = kept_names(path.parent, path.name)
    for name, kept in names.items():
        os.rename(path.with_name(name), path.with_name(kept))
    return path.with_name(names[path.name])


def not_ours(folder: Path, names: Iterable[str], record: Record | None) -> list[str]:
    """Of some names, those at which something lies that no record lists as it is, or somebody has open in SQLite."""
    files = {} if record is None else record.files
    found = []
    for name in names:
        path = folder / name
        if os.path.lexists(path):
            facts = files.get(name)
            open_in_sqlite = any(os.path.lexists(folder / f"{name}{side}") for side in SIDES)
            if facts is None or open_in_sqlite or not facts.hold(path):
                found.append(name)
    return found
