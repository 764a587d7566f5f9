"""Workers that compute chunks: the interface, and threads of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, Protocol

from pipeline.infer.chunk import ChunkWorker
from pipeline.infer.receipt import Receipt
from pipeline.infer.rolling import FutureLike
from pipeline.infer.stage_parts import PartWorkers
from pipeline.infer.storage import Storage
from pipeline.plan.plan import Plan

__all__ = ["Blame", "LocalWorkers", "OpenWorkers", "Workers"]

Blame = Literal["chunk", "worker", "cluster"]
"""``chunk``: it failed by itself; ``worker``: its worker died, for which another chunk may be to blame; ``cluster``: the
scheduler was lost, for which no chunk is to blame."""


class Workers(Protocol):
    """Workers that do chunks."""

    @property
    def parts(self) -> PartWorkers | None:
        """Who does parts of the later stages, also when all chunks are done; None where nobody does who is not at hand anyway."""
        ...

    def submit(self, index: int) -> FutureLike:
        """Do a chunk."""
        ...

    def give_up(self, index: int, reason: str) -> Receipt:
        """Record a chunk as not analysed."""
        ...

    def capacity(self) -> int:
        """Chunks that may be under way at once."""
        ...

    def blame(self, error: BaseException) -> Blame:
        """Tell who is to blame for a failure."""
        ...

    def reconnect(self) -> None:
        """Find the cluster again that was lost.

        Raises:
            ClusterError: It does not come back.
        """
        ...

    def close(self, *, interrupted: bool) -> None:
        """End the work."""
        ...


OpenWorkers = Callable[[Plan, Storage, list[int]], Workers]
"""Makes the workers for the chunks of a plan, whose results go to a storage."""


class LocalWorkers:
    """Threads of this process."""

    def __init__(self, plan: Plan, storage: Storage, chunks: Iterable[int]) -> None:
        self._worker = ChunkWorker(plan, storage, expect=chunks)
        self._threads = plan.in_flight
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="geoseg-chunk")

    @property
    def parts(self) -> None:
        """The later stages have threads of this process."""

    def submit(self, index: int) -> Future[Receipt]:
        """Do a chunk in one of the threads."""
        return self._pool.submit(self._worker.run, index)

    def give_up(self, index: int, reason: str) -> Receipt:
        """Record a chunk as not analysed."""
        return self._worker.give_up(index, reason)

    def capacity(self) -> int:
        """As many as there are threads: a chunk that waits would only hold memory."""
        return self._threads

    def blame(self, error: BaseException) -> Blame:
        """Threads don't die alone."""
        del error
        return "chunk"

    def reconnect(self) -> None:
        """There is nothing that could be lost."""

    def close(self, *, interrupted: bool) -> None:
        """Wait for the threads, which stop at their next batch if interrupted."""
        if interrupted:
            self._worker.interrupt()
        self._pool.shutdown(cancel_futures=True)
        self._worker.close()
