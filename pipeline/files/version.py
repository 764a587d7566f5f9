"""The version of the code."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import geoseg

__all__ = ["code_version"]


@lru_cache(maxsize=1)
def code_version() -> str:
    """The version, and a digest of the code, which tells versions under development apart."""
    digest = hashlib.sha256()
    for package in ("geoseg", "pipeline"):
        folder = os.fspath(Path(geoseg.__file__).parent.parent / package)
        for parts in sorted(_modules(folder)):
            name = "/".join(parts)
            # Unbuffered, and without objects for paths: there are eight hundred, in every process.
            with open(f"{folder}/{name}", "rb", buffering=0) as file:
                digest.update(name.encode() + b"\0" + file.read())
    return f"{geoseg.__version__}+{digest.hexdigest()[:12]}"


def _modules(folder: str) -> Iterator[list[str]]:
    """Parts of the names of the modules in a folder."""
    for root, _, names in os.walk(folder):
        inside = os.path.relpath(root, folder).split(os.sep) if root != folder else []
        yield from ([*inside, name] for name in names if name.endswith((".py", ".pyx")))
