"""Manifest of a run: one line a finished fact, appended when what it speaks of is on the disk.

The first line is the identity of the run (scene, model, settings, code, grid). Every line carries a checksum; a line that
was cut off or damaged is as if it had never been written, and what it spoke of is done again.
"""

from __future__ import annotations

import json
import os
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from geoseg.documents import Json
from geoseg.errors import OutputError
from pipeline.files.atomic import no_follow

__all__ = ["Manifest", "Records", "StageRecord"]

SYNC_EVERY_S = 1.0
STAGE_LINE = b'{"stage"'
_APPENDING = threading.Lock()
"""Stages that run side by side each have a manifest of their own over the one file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRecord:
    """A finished stage: the files it has left, and the hash of all that they depend on. A reference: stages take and give it."""

    stage: str
    key: str
    """sha256 of scene, model, settings, code and chunk results."""
    files: Mapping[str, str]
    """sha256 by path below the folder of what is under way."""
    pixels: Mapping[str, int] | None = None
    """Of ``stitch``: pixels by code, empty where those of the chunks hold."""
    area_m2: Mapping[str, float] | None = None
    """Of ``stitch``: geodesic area by code."""
    features: int | None = None
    """Of ``vectorize``: number of polygons."""
    seconds: float | None = field(default=None, compare=False)
    """Duration, as far as it is known: the manifest does not record it."""
    overlap_s: float | None = field(default=None, compare=False)
    """How much of it was worked while the network ran, as far as it is known."""

    @classmethod
    def of(cls, line: Line) -> StageRecord | None:
        """Read it from its line of the manifest; None where that is none of a stage."""
        if not isinstance(line.get("key"), str) or not isinstance(line.get("files"), dict):
            return None
        return cls(
            stage=str(line["stage"]),
            key=line["key"],
            files=line["files"],
            pixels=line.get("pixels"),
            area_m2=line.get("area_m2"),
            features=line.get("features"),
        )

    def line(self) -> dict[str, Json]:
        """The line of the manifest."""
        facts: dict[str, Json] = {"pixels": self.pixels, "area_m2": self.area_m2, "features": self.features}
        known = {name: value for name, value in facts.items() if value is not None}
        return {"stage": self.stage, "key": self.key, "files": self.files, **known}


class Line(TypedDict, total=False):
    """A line of the manifest: the identity, a chunk with its record, or a stage."""

    identity: dict[str, Json]
    chunk: int
    stage: str
    key: str
    files: dict[str, str]
    pixels: dict[str, int]
    area_m2: dict[str, float]
    features: int


class Records(Mapping[int, Mapping[str, Any]]):
    """Records by chunk, kept as text: a tenth of what they take as objects, which counts for a million chunks."""

    def __init__(self) -> None:
        self._texts: dict[int, bytes] = {}

    def put(self, index: int, record: Mapping[str, object]) -> None:
        """Set the record of a chunk."""
        self._texts[index] = _encoded(record)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        """The record of a chunk."""
        record: Mapping[str, Any] = json.loads(self._texts[index])
        return record

    def __iter__(self) -> Iterator[int]:
        """Chunks in the order of their numbers."""
        return iter(self._texts)

    def __len__(self) -> int:
        """Number of entries."""
        return len(self._texts)


class Manifest:
    """The facts of one run, in ``manifest.jsonl``."""

    def __init__(self, path: Path, identity: Mapping[str, object]) -> None:
        self.path = path
        self.identity = dict(identity)
        self.chunks = Records()
        """By chunk, its last record."""
        self.stages: dict[str, StageRecord] = {}
        """By stage, its last record."""
        self.resumed = False
        """Whether records of an earlier run of the same identity were found."""
        self._synced = 0.0

    @classmethod
    def open(cls, path: Path, identity: Mapping[str, object]) -> Manifest:
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

    @classmethod
    def read(cls, path: Path, identity: Mapping[str, object]) -> Manifest:
        """Read the records of the run that is under way; nothing is written.

        Raises:
            OutputError: The file is gone, or of another run.
        """
        manifest = cls(path, identity)
        lines = _read_lines(path)
        if not lines or lines[0].get("identity") != manifest.identity:
            raise _lost(path)
        for record in lines[1:]:
            manifest._take(record)
        return manifest

    @classmethod
    def read_stages(cls, path: Path, identity: Mapping[str, object]) -> dict[str, StageRecord]:
        """Read the records of stages alone, of the run that is under way; raises as ``read``."""
        lines = _read_lines(path, beginning=STAGE_LINE)
        if not lines or lines[0].get("identity") != dict(identity):
            raise _lost(path)
        records = (StageRecord.of(line) for line in lines[1:])
        return {record.stage: record for record in records if record is not None}

    @staticmethod
    def read_identity(path: Path) -> dict[str, Json] | None:
        """The identity of the run that wrote a manifest; None where there is none."""
        lines = _read_lines(path)
        identity = lines[0].get("identity") if lines else None
        return identity if isinstance(identity, dict) else None

    def add_chunk(self, index: int, record: Mapping[str, Json]) -> None:
        """Record what became of a chunk.

        The line outlives this process at once, and a loss of power after at most a second: chunks whose line is lost are
        done again.
        """
        due = time.monotonic() - self._synced > SYNC_EVERY_S
        line = {"chunk": index, **record}
        self._append(line, sync=due)
        self.chunks.put(index, line)

    def add_stage(self, record: StageRecord) -> None:
        """Record the outcome of a stage."""
        self._append(record.line())
        self.stages[record.stage] = record

    def _take(self, line: Line) -> None:
        if "chunk" in line:
            self.chunks.put(int(line["chunk"]), line)
        elif "stage" in line and (record := StageRecord.of(line)) is not None:
            self.stages[record.stage] = record

    def _append(self, record: Mapping[str, object], prefix: bytes = b"", *, sync: bool = True) -> None:
        text = _encoded(record)
        with _APPENDING, open(self.path, "ab", opener=no_follow) as file:
            file.write(prefix + text + b"\t%08x\n" % zlib.crc32(text))
            file.flush()
            if sync:
                os.fsync(file.fileno())
                self._synced = time.monotonic()


def _encoded(record: Mapping[str, object]) -> bytes:
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode()


def _lost(path: Path) -> OutputError:
    return OutputError(f"{path}: damaged, gone, or of another run; run again to go on")


def _read_lines(path: Path, beginning: bytes = b"") -> list[Line]:
    """The first line, and those with a beginning, that are whole; none where the first one is not."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    records: list[Line] = []
    for number, line in enumerate(line for line in data.split(b"\n") if line):
        if number and not line.startswith(beginning):
            continue
        text, _, checksum = line.rpartition(b"\t")
        if checksum != b"%08x" % zlib.crc32(text):
            if number == 0:
                return []
            continue
        if (record := _parsed(text)) is not None:
            records.append(record)
    return records


def _parsed(text: bytes) -> Line | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        # A checksum can be right by the one who wrote nonsense.
        return None
    is_object = isinstance(found, dict)
    return found if is_object else None
