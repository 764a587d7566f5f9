"""Combined chunks by what they depend on, kept for a later run with more scenes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.files.atomic import atomic_path
from pipeline.infer.receipt import Receipt
from pipeline.infer.storage import Storage

__all__ = ["KeptChunks"]

NAME = 7
"""Characters of a file's name that are the number of its chunk."""


class KeptChunks:
    """Files of combined chunks in a folder, by key; the number of a chunk may be another when it is taken up again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, key: str, index: int, storage: Storage) -> Receipt | None:
        """Put the files of a chunk where results are kept, as those of a chunk number; None where there are none, whole."""
        try:
            record: Mapping[str, Any] = json.loads((self._folder / f"{key}.json").read_text(encoding="utf-8"))
            receipt = Receipt.of(index, record)
            data = {name: (self._folder / f"{key}{name[NAME:]}").read_bytes() for name in receipt.files}
        except (OSError, ValueError, TypeError, KeyError):
            return None
        if any(hashlib.sha256(data[name]).hexdigest() != digest for name, digest in receipt.files.items()):
            return None
        files = {f"{index:07d}{name[NAME:]}": digest for name, digest in receipt.files.items()}
        for name, content in data.items():
            storage.put(f"{index:07d}{name[NAME:]}", content)
        return replace(receipt, files=files)

    def put(self, key: str, receipt: Receipt, storage: Storage) -> None:
        """Keep the files of a chunk; its record comes last."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for name in receipt.files:
            self._write(f"{key}{name[NAME:]}", storage.get(name))
        self._write(f"{key}.json", json.dumps(receipt.record()).encode())

    def keep_only(self, keys: Collection[str]) -> None:
        """Remove all that is under other keys."""
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            if path.name.partition(".")[0] not in keys:
                path.unlink(missing_ok=True)

    def _write(self, name: str, data: bytes) -> None:
        with atomic_path(self._folder / name) as part:
            part.write_bytes(data)
