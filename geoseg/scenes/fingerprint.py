"""Fingerprints, which tell that a scene's files have changed."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from geoseg.addresses import split_layer, unsigned
from geoseg.errors import ReadError
from geoseg.scenes.products.recognizing import files_of
from geoseg.scenes.remote import RemoteFacts, is_remote
from geoseg.scenes.stac.signer import Signer
from geoseg.scenes.stac.signing import probe_signed

__all__ = ["FileState", "fingerprint", "states_of", "with_ends"]

ENDS = 65536
"""Bytes at either end of a file that a fingerprint is of."""
BESIDE = (".msk", ".ovr", ".aux.xml")
"""Endings of files beside one that its fingerprint is of, too."""


@dataclass(frozen=True, slots=True)
class FileState:
    """A file of a scene, or one beside it, as it was at a look."""

    path: str
    """Absolute, but in an index, which has it from its own folder on."""
    size: int
    """In bytes."""
    modified_ns: int
    """Time of its last change, in nanoseconds since 1970."""
    ends: str | None = None
    """sha256 of its first and last 64 KiB; None where it was not read."""

    @property
    def mark(self) -> tuple[str, int, int]:
        """What differs once it is another, as far as that is known without opening it."""
        return self.path, self.size, self.modified_ns


def states_of(paths: Sequence[str], listed: dict[str, list[str]]) -> tuple[FileState, ...]:
    """States of the local files of a scene, and of those beside them that programs read with them; none is opened.

    Args:
        paths: The files, and products.
        listed: Names in folders, by their paths, in order; those of further folders are added.

    Raises:
        OSError: One has gone.
        SceneError: One is a product that can't be listed.
    """
    found: dict[str, FileState] = {}
    for file in (Path(own) for path in paths for own in files_of(path)):
        folder = os.path.abspath(file.parent)
        if folder not in listed:
            listed[folder] = sorted(os.listdir(folder))
        for name in {file.name, *_beside(file.stem, listed[folder])}:
            path = os.path.join(folder, name)
            stat = os.stat(path)
            found[path] = FileState(path, stat.st_size, stat.st_mtime_ns)
    return tuple(found[path] for path in sorted(found))


def _beside(stem: str, names: Sequence[str]) -> Iterator[str]:
    """Names, of some in order, that differ from one by what follows its stem; those of a scene whose name goes on are its own."""
    for name in itertools.islice(names, bisect_left(names, stem), None):
        if not name.startswith(stem):
            return
        if name[len(stem) :].lower().startswith((".", "_rpc")):
            yield name


def with_ends(states: Sequence[FileState], paths: Sequence[str]) -> tuple[FileState, ...]:
    """The states with the ends of those files that the fingerprint of a scene is of, which are read.

    Raises:
        OSError: One has gone.
    """
    own = {f"{os.path.abspath(file)}{ending}" for path in paths for file in files_of(path) for ending in ("", *BESIDE)}
    return tuple(replace(state, ends=_ends(Path(state.path), state.size)) if state.path in own else state for state in states)


def fingerprint(
    paths: Sequence[str],
    *,
    times: bool = True,
    signers: Mapping[str, Signer | None] | None = None,
    known: Mapping[str, RemoteFacts | None] | None = None,
    states: Iterable[FileState] = (),
) -> str:
    """sha256 over the identity of a scene's files: size, time of change, first and last 64 KiB; ETag for servers.

    Args:
        paths: The files.
        signers: How addresses among them are signed.
        known: What servers have just told of addresses among them.
        times: Also their times of change: any touch makes another scene. Without, a copy of a file is the same.
        states: Earlier looks at files: those that have the same size and time are not read again.

    Raises:
        ReadError: A file has gone.
    """
    facts: list[object] = []
    ends = {state.mark: state.ends for state in states if state.ends is not None}
    for path in paths:
        if is_remote(path):
            found = known[path] if known and path in known else probe_signed(path, (signers or {}).get(path))
            facts.append([unsigned(path), [found.size, found.version] if found else None])
            continue
        given, layer = split_layer(path)
        if layer is not None:
            facts.append(layer)
        try:
            own = files_of(os.fspath(given))
        except OSError as error:
            raise ReadError(f"{path}: {error.strerror}") from error
        for file in own:
            if file != os.fspath(given):
                # Of a product, which files it has is part of what it is.
                facts.append(os.path.relpath(file, given))
            facts += _facts_of(Path(file), path, ends, times=times)
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _facts_of(file: Path, path: str, ends: Mapping[tuple[str, int, int], str], *, times: bool) -> list[object]:
    """Size, time and ends of a file, and of what lies beside it."""
    facts: list[object] = []
    for local in [file, *(Path(f"{file}{suffix}") for suffix in BESIDE)]:
        try:
            stat = local.stat()
            digest = ends.get((os.path.abspath(local), stat.st_size, stat.st_mtime_ns)) or _ends(local, stat.st_size)
        except FileNotFoundError as error:
            if local == file:
                raise ReadError(f"{path}: the file has gone") from error
            continue
        except OSError as error:
            raise ReadError(f"{path}: {error.strerror}") from error
        facts.append([stat.st_size, stat.st_mtime_ns if times else None, digest])
    return facts


def _ends(file: Path, size: int) -> str:
    with file.open("rb") as opened:
        head = opened.read(ENDS)
        opened.seek(max(0, size - ENDS))
        return hashlib.sha256(head + opened.read(ENDS)).hexdigest()
