"""Fingerprints, which tell that a scene's files have changed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from geoseg.addresses import split_layer, unsigned
from geoseg.errors import ReadError
from geoseg.scenes.products.recognizing import files_of
from geoseg.scenes.remote import RemoteFacts, is_remote
from geoseg.scenes.stac.signer import Signer
from geoseg.scenes.stac.signing import probe_signed

__all__ = ["fingerprint"]


def fingerprint(
    paths: Sequence[str],
    *,
    times: bool = True,
    signers: Mapping[str, Signer | None] | None = None,
    known: Mapping[str, RemoteFacts | None] | None = None,
) -> str:
    """sha256 over the identity of a scene's files: size, time of change, first and last 64 KiB; ETag for servers.

    Args:
        paths: The files.
        signers: How addresses among them are signed.
        known: What servers have just told of addresses among them.
        times: Also their times of change: any touch makes another scene. Without, a copy of a file is the same.

    Raises:
        ReadError: A file has gone.
    """
    facts: list[object] = []
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
            facts += _facts_of(Path(file), path, times=times)
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _facts_of(file: Path, path: str, *, times: bool) -> list[object]:
    """Size, time and ends of a file, and of what lies beside it."""
    facts: list[object] = []
    for local in [file, *(Path(f"{file}{suffix}") for suffix in (".msk", ".ovr", ".aux.xml"))]:
        try:
            stat = local.stat()
            with local.open("rb") as opened:
                head = opened.read(65536)
                opened.seek(max(0, stat.st_size - 65536))
                tail = opened.read(65536)
        except FileNotFoundError as error:
            if local == file:
                raise ReadError(f"{path}: the file has gone") from error
            continue
        except OSError as error:
            raise ReadError(f"{path}: {error.strerror}") from error
        facts.append([stat.st_size, stat.st_mtime_ns if times else None, hashlib.sha256(head + tail).hexdigest()])
    return facts
