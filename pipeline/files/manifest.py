"""What is finished: one line a fact, appended when what it speaks of is on the disk.

The first line is the identity of the run (scene, model, settings, code, grid). Every line carries a checksum; a line that
was cut off or damaged is as if it had never been written, and what it spoke of is done again.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.files.atomic import no_follow

__all__ = ["Manifest", "Records"]

SYNC_EVERY_S = 1.0


class Records(Mapping[int, dict[str, Any]]):
    """Records by chunk, kept as text: a tenth of what they take as objects, which counts for a million chunks."""

    def __init__(self) -> None:
        self._texts: dict[int, bytes] = {}

    def put(self, index: int, record: Mapping[str, Any]) -> None:
        """Set the record of a chunk."""
        self._texts[index] = _encoded(record)

    def __getitem__(self, index: int) -> dict[str, Any]:
        record: dict[str, Any] = json.loads(self._texts[index])
        return record

    def __iter__(self) -> Iterator[int]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)


class Manifest:
    """The facts of one run, in ``manifest.jsonl``."""

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path = path
        self.identity = dict(identity)
        self.chunks = Records()
        """By chunk, its last record."""
        self.stages: dict[str, dict[str, Any]] = {}
        """By stage, its last record."""
        self.resumed = False
        """Whether records of an earlier run of the same identity were found."""
        self._synced = 0.0

    @classmethod
    def open(cls, path: Path, identity: Mapping[str, Any]) -> Manifest:
        """Take up the records of an earlier run with this identity, or begin anew."""
        manifest = cls(path, identity)
        lines = _read_lines(path)
        if lines and lines[0].get("identity") == manifest.identity:
            for record in lines[1:]:
                manifest._take(record)
            manifest.resumed = True
            # A line that was cut off would swallow the next one.
            manifest._append({"resumed": True}, prefix=b"\n")
        else:
            path.unlink(missing_ok=True)
            manifest._append({"identity": manifest.identity})
        return manifest

    @staticmethod
    def read_identity(path: Path) -> dict[str, Any] | None:
        """The identity of the run that wrote a manifest; None where there is none."""
        lines = _read_lines(path)
        identity = lines[0].get("identity") if lines else None
        return identity if isinstance(identity, dict) else None

    def add_chunk(self, index: int, record: Mapping[str, Any]) -> None:
        """Record what became of a chunk.

        The line outlives this process at once, and a loss of power after at most a second: chunks whose line is lost are
        done again.
        """
        due = time.monotonic() - self._synced > SYNC_EVERY_S
        self._write({"chunk": index, **record}, sync=due)

    def add_stage(self, name: str, record: Mapping[str, Any]) -> None:
        """Record the outcome of a stage."""
        self._write({"stage": name, **record})

    def _write(self, record: dict[str, Any], *, sync: bool = True) -> None:
        self._append(record, sync=sync)
        self._take(record)

    def _take(self, record: dict[str, Any]) -> None:
        if "chunk" in record:
            self.chunks.put(int(record["chunk"]), record)
        elif "stage" in record:
            self.stages[str(record["stage"])] = record

    def _append(self, record: Mapping[str, Any], prefix: bytes = b"", *, sync: bool = True) -> None:
        text = _encoded(record)
        with open(self.path, "ab", opener=no_follow) as file:
            file.write(prefix + text + b"\t%08x\n" % zlib.crc32(text))
            file.flush()
            if sync:
                os.fsync(file.fileno())
                self._synced = time.monotonic()


def _encoded(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode()


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines that are whole; none where the first one is not."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    records: list[dict[str, Any]] = []
    for number, line in enumerate(line for line in data.split(b"\n") if line):
        text, _, checksum = line.rpartition(b"\t")
        if checksum != b"%08x" % zlib.crc32(text):
            if number == 0:
                return []
            continue
        try:
            record = json.loads(text)
        except (ValueError, RecursionError):
            # A checksum can be right by the one who wrote nonsense.
            continue
        if isinstance(record, dict):
            records.append(record)
    return records
