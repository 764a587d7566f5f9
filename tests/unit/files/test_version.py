"""The version of the code is a digest of all modules, in the order of their paths."""

from __future__ import annotations

import hashlib
from pathlib import Path

import geoseg
from pipeline.files.version import code_version


def test_version_is_of_all_modules_in_the_order_of_paths() -> None:
    root, digest = Path(geoseg.__file__).parent.parent, hashlib.sha256()
    for package in ("geoseg", "pipeline"):
        for path in sorted(path for path in (root / package).rglob("*") if path.suffix in (".py", ".pyx")):
            digest.update(path.relative_to(root / package).as_posix().encode() + b"\0" + path.read_bytes())
    assert code_version() == f"{geoseg.__version__}+{digest.hexdigest()[:12]}"
