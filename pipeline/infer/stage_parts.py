"""Parts of the stages behind the network that workers do from the chunk results, and leave as files beside these.

A part is done from stored chunks alone, as the client would do it: whoever does it, its bytes are the same. Its file lives from
the worker that wrote it to the client that took it up; one that is lost or damaged is as if no worker had been asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from geoseg.grid import Grid
from pipeline.files.version import code_version
from pipeline.infer.chunk_store import ChunkStore
from pipeline.infer.storage import open_storage
from pipeline.plan.result_layers import Layers

__all__ = ["AT_ONCE", "OpenPartWorkers", "OtherCodeError", "Part", "PartWorkers", "Stop", "StoredChunks", "do_part"]

AT_ONCE = 8
"""Parts of a stage that are waited for at once: the client takes them up one after the other, and its memory bounds them."""
Stop = Callable[[], bool]
"""Asked while a part is waited for."""


class OtherCodeError(RuntimeError):
    """A worker that joined late has other code than the run: its bytes might be others."""


@dataclass(frozen=True, slots=True)
class StoredChunks:
    """Where chunk results lie, as another process finds them; ready to be pickled."""

    address: str
    """Of their storage."""
    grid: Grid
    layers: Layers
    filled: frozenset[int]
    """The chunks that have files, as far as they are read."""

    @classmethod
    def near(cls, store: ChunkStore, touched: Iterable[int], filled: Collection[int]) -> StoredChunks:
        """Those of some chunks of a store, of which these have files."""
        return cls(store.storage.address, store.grid, store.layers, frozenset(i for i in touched if i in filled))


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a stage; ready to be pickled."""

    name: str
    """Of the file that it leaves, see ``storage.CHUNK_FILE``."""
    chunks: StoredChunks
    work: Callable[[ChunkStore, Collection[int]], bytes]
    """Gives the file's content from the chunks that have files."""
    code: str
    """The version of the code that gave it away."""

    @classmethod
    def of(cls, name: str, chunks: StoredChunks, work: Callable[[ChunkStore, Collection[int]], bytes]) -> Part:
        """A part that this code gives away."""
        return cls(name, chunks, work, code_version())


class PartWorkers(Protocol):
    """Workers that do parts; may be asked by several threads."""

    def do(self, part: Part, should_stop: Stop) -> bytes | None:
        """The content of a part's file; None where the client is to do it by itself.

        Raises:
            Interrupted: ``should_stop`` said so.
        """
        ...


OpenPartWorkers = Callable[[], PartWorkers | None]
"""Gives the workers of a run; None before these are there."""


def do_part(part: Part) -> str:
    """Do a part and leave its file; called on a worker. Returns the file's sha256.

    Raises:
        OtherCodeError: This is not the code that the run is of.
    """
    if part.code != code_version():
        raise OtherCodeError(code_version())
    # Nothing read is kept for the next part: a later run may have other results under the same names.
    store = ChunkStore(open_storage(part.chunks.address), part.chunks.grid, part.chunks.layers)
    data = part.work(store, part.chunks.filled)
    store.storage.put(part.name, data)
    return hashlib.sha256(data).hexdigest()
