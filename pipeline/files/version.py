"""The version of the code."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import geoseg

__all__ = ["code_version"]


@lru_cache(maxsize=1)
def code_version() -> str:
    """The version, and a digest of the code, which tells versions under development apart."""
    digest = hashlib.sha256()
    for package in ("geoseg", "pipeline"):
        folder = Path(geoseg.__file__).parent.parent / package
        for path in sorted(folder.rglob("*.py*")):
            if path.suffix in (".py", ".pyx"):
                digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return f"{geoseg.__version__}+{digest.hexdigest()[:12]}"
