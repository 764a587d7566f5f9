"""Infer: the chunks of a plan, each read, run through the network and written, in any order and any number of times."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from geoseg.codes import NODATA, NOT_ANALYSED
from geoseg.dates.stack import open_reader
from geoseg.errors import ChunkError, ClusterError, Interrupted, SceneError, TileTimeoutError, UsageError
from geoseg.grid import Chunk
from geoseg.inference import chunks
from geoseg.inference.chunks import ChunkLayers, Extra, classify_chunk
from geoseg.inference.values import Decision
from geoseg.instances.objects import Objects
from geoseg.scenes.reader import Pixels
from geoseg.transient import is_transient
from pipeline.files.areas import measure_codes
from pipeline.files.atomic import DISK_ERRORS
from pipeline.files.machine import made_on
from pipeline.files.manifest import Manifest
from pipeline.infer.chunk_store import ChunkStore
from pipeline.infer.rolling import FutureLike, rolling
from pipeline.infer.storage import Storage
from pipeline.plan.plan import Member, Plan, open_member

__all__ = ["Blame", "ChunkWorker", "LocalWorkers", "OpenWorkers", "Receipt", "Workers", "infer", "unfinished"]

log = logging.getLogger(__name__)

TRIES = 3
MAX_LOSSES = 20
"""Times that a chunk may be lost with its scheduler."""
FORWARD_SLOTS = 2
"""Chunks that may be at the network at once: while one waits for it, the other prepares its next tile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What became of a chunk; all that travels back from a worker."""

    index: int
    status: str
    """``done`` or ``failed``."""
    files: dict[str, str]
    """sha256 by file name; empty where there is no data."""
    content: str | None = None
    """sha256 of its pixels and objects, see ``ChunkStore.content``; None where there is no data."""
    machine: str = ""
    """What computed it, see ``pipeline.machine``."""
    reason: str | None = None
    """Why it failed."""
    transient: bool = False
    """Whether that may pass: a lost worker, lack of memory."""
    pixels: dict[str, int] = field(default_factory=dict)
    """Number of pixels by code."""
    area_m2: dict[str, float] = field(default_factory=dict)
    """Geodesic area by code; empty without a CRS."""
    tiles: int = 0
    """Tiles that went through the network."""
    isolated: int = 0
    """Pixels without data among pixels with data on all four sides."""
    bad_pixels: int = 0
    """Pixels in blocks that could not be read."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Time by step."""
    decoded: int = 0
    """Pixels decoded for it."""

    def record(self) -> dict[str, Any]:
        """The line of the manifest."""
        return {key: value for key, value in asdict(self).items() if key != "index" and (key != "transient" or value)}


class ChunkWorker:
    """Does the chunks of one plan in one process; may be called by several threads."""

    def __init__(self, plan: Plan, storage: Storage, *, expect: Iterable[int] = ()) -> None:
        self.plan = plan
        self.stop = threading.Event()
        self._store = ChunkStore(storage, plan.grid, plan.layers)
        self._first, *self._others = (_opened(plan, member) for member in plan.members)
        counts = dict(plan.layers)
        self._extra = Extra(counts.get("probabilities", 0), "uncertainty" in counts)
        self._reader = open_reader(
            plan.scene, plan.bands, threads=plan.read_threads, cache_bytes=plan.cache_bytes, mask_bad_blocks=plan.mask_bad_blocks
        )
        self._reader.expect(plan.grid.chunk_at(i).window for i in expect)
        self._slots = threading.Semaphore(FORWARD_SLOTS)
        self.device = self._first.engine.device

    def interrupt(self) -> None:
        """Have what is under way end soon, with Interrupted."""
        self.stop.set()
        for member in (self._first, *self._others):
            member.engine.stop()

    def close(self) -> None:
        """Stop, and close the files."""
        self.interrupt()
        self._reader.close()

    def run(self, index: int) -> Receipt:
        """Read a chunk, run the network over it, and write its result.

        Raises:
            ReadError: A block can't be read.
            ChunkError: The network gave NaN or infinity, or took too long.
            Interrupted: The worker was told to stop.
        """
        chunk = self.plan.grid.chunk_at(index)
        started = time.perf_counter()
        pixels = self._reader.read(chunk.window)
        read = time.perf_counter()
        if self.stop.is_set():
            raise Interrupted("stopped before a chunk")
        with self._slots:
            waited = time.perf_counter()
            layers, objects = self._compute(chunk, pixels)
        computed = time.perf_counter()
        valid = pixels.valid[chunk.core.slices_in(chunk.window)]
        thumbnail = self.plan.thumbnail.take(pixels.data, chunk.window, chunk.core)
        files = self._store.write(index, layers, thumbnail, objects)
        written = time.perf_counter()
        counts, areas = measure_codes(layers.classes, chunk.core, self.plan.scene.georeference)
        return Receipt(
            index=index, status="done", files=files, content=self._store.content(layers, objects),
            machine=made_on(self.plan.engine, self.device), pixels=counts, area_m2=areas, tiles=layers.tiles,
            isolated=_isolated(valid), bad_pixels=int((layers.classes == NOT_ANALYSED).sum()),
            seconds={"read": read - started, "infer": computed - waited, "write": written - computed},
            decoded=self._reader.stats.decoded_pixels,
        )  # fmt: skip

    def anew(self, index: int) -> tuple[str | None, ChunkLayers]:
        """What ``Receipt.content`` says of a chunk, and the layers of its core, computed anew and kept nowhere."""
        chunk = self.plan.grid.chunk_at(index)
        layers, objects = self._compute(chunk, self._reader.read(chunk.window))
        return self._store.content(layers, objects), layers

    def _compute(self, chunk: Chunk, pixels: Pixels) -> tuple[ChunkLayers, Objects | None]:
        plan, first = self.plan, self._first
        if plan.task != "semantic":
            from geoseg.instances.chunks import detect_chunk

            return detect_chunk(
                plan.grid, chunk, pixels, first.engine, first.decision, plan.card, should_stop=self.stop.is_set
            )  # fmt: skip
        layers = classify_chunk(
            plan.grid, chunk, pixels, first.engine, first.decision,
            augment=plan.augment, should_stop=self.stop.is_set, extra=self._extra, others=self._others,
        )  # fmt: skip
        return layers, None

    def give_up(self, index: int, reason: str) -> Receipt:
        """The result of a chunk that could not be computed: not analysed, where there is data."""
        chunk = self.plan.grid.chunk_at(index)
        classes = np.full(chunk.core.shape, NOT_ANALYSED, np.uint8)
        thumbnail = np.zeros((len(self.plan.thumbnail.bands), 0, 0), np.uint8)
        try:
            pixels = self._reader.read(chunk.window)
            classes[~pixels.valid[chunk.core.slices_in(chunk.window)]] = NODATA
            if pixels.bad is not None:
                classes[pixels.bad[chunk.core.slices_in(chunk.window)]] = NOT_ANALYSED
            thumbnail = self.plan.thumbnail.take(pixels.data, chunk.window, chunk.core)
        except Exception as error:  # whatever made the chunk fail may fail here again
            log.warning("chunk %d: its validity is not known either: %s", index, error)
        files = self._store.write(index, self._extra.filled(classes), thumbnail)
        counts, areas = measure_codes(classes, chunk.core, self.plan.scene.georeference)
        status = "failed" if files else "done"
        return Receipt(
            index=index,
            status=status,
            files=files,
            machine=made_on(self.plan.engine, self.device),
            reason=reason,
            pixels=counts,
            area_m2=areas,
        )


def _opened(plan: Plan, member: Member) -> chunks.Member:
    return chunks.Member(open_member(plan, member, batch=plan.batch), Decision.of(plan.card if plan.series else member.card))


def _isolated(valid: NDArray[np.bool_]) -> int:
    """Pixels without data whose four neighbours all hold data: a sign that the nodata value is a real value."""
    if valid.all() or min(valid.shape) < 3:
        return 0
    inner = ~valid[1:-1, 1:-1]
    inner &= valid[:-2, 1:-1] & valid[2:, 1:-1]
    inner &= valid[1:-1, :-2] & valid[1:-1, 2:]
    return int(inner.sum())


Blame = Literal["chunk", "worker", "cluster"]
"""``chunk``: it failed by itself; ``worker``: its worker died, for which another chunk may be to blame; ``cluster``: the
scheduler was lost, for which no chunk is to blame."""


class Workers(Protocol):
    """Where chunks are done."""

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
        """Who is to blame for a failure."""
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


def infer(
    plan: Plan,
    manifest: Manifest,
    storage: Storage,
    open_workers: OpenWorkers,
    on_chunk: Callable[[Receipt], None],
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Do all chunks of a plan that are not done, and record each in the manifest.

    A chunk that fails three times is recorded as not analysed, and the others go on. A scene that can't be read ends the
    stage; what is finished is kept.

    Raises:
        SceneError: The scene can't be read.
        OutputError: A worker can't write where the results are kept.
        ClusterError: The cluster was lost and did not come back.
        Interrupted: The run was stopped.
    """
    todo = unfinished(plan, manifest, storage)
    if not todo:
        return
    workers = open_workers(plan, storage, todo)
    interrupted = True
    try:
        for receipt in _receipts(workers, todo, should_stop):
            manifest.add_chunk(receipt.index, receipt.record())
            on_chunk(receipt)
        interrupted = False
    finally:
        workers.close(interrupted=interrupted)


def unfinished(plan: Plan, manifest: Manifest, storage: Storage) -> list[int]:
    """The chunks without a verified result. What is on disk is compared with its checksum."""
    store = ChunkStore(storage, plan.grid, plan.layers)
    records = manifest.chunks
    return [
        index
        for index in plan.active
        if index not in records or records[index]["status"] != "done" or not store.verify(records[index]["files"])
    ]


def _receipts(workers: Workers, todo: list[int], should_stop: Callable[[], bool]) -> Iterator[Receipt]:
    def capacity() -> int:
        # Asked twice a second, also while nothing is done.
        if should_stop():
            raise Interrupted("stopped before a chunk")
        return workers.capacity()

    tries: dict[int, int] = {}
    losses: dict[int, int] = {}
    suspects: list[int] = []
    window = rolling(workers.submit, todo, capacity)
    for index, future in window:
        outcome = _outcome(future)
        if isinstance(outcome, Receipt):
            yield outcome
            continue
        if _ends_the_run(outcome):
            raise outcome
        blame = workers.blame(outcome)
        if blame == "cluster":
            losses[index] = losses.get(index, 0) + 1
            if losses[index] > MAX_LOSSES:
                raise ClusterError(f"chunk {index} was lost {losses[index]} times, last: {_reason(outcome)}; run again to go on")
            workers.reconnect()
            window.send(index)
            continue
        if blame == "worker":
            # Of the chunks that were on the lost worker one may be to blame: they are tried again, each alone.
            suspects.append(index)
            continue
        if isinstance(outcome, TileTimeoutError):
            # It would take as long again.
            log.error("chunk %d is not analysed: %s", index, _reason(outcome))
            yield workers.give_up(index, _reason(outcome))
            continue
        tries[index] = tries.get(index, 0) + 1
        if tries[index] < TRIES:
            log.warning("chunk %d failed, it is tried again: %s", index, _reason(outcome))
            window.send(index)
        else:
            log.error("chunk %d failed %d times and is not analysed: %s", index, TRIES, _reason(outcome))
            yield replace(workers.give_up(index, _reason(outcome)), transient=is_transient(outcome))
    for index in suspects:
        yield _try_alone(workers, index)


def _try_alone(workers: Workers, index: int) -> Receipt:
    tries = 0
    while True:
        ((_, future),) = rolling(workers.submit, [index], lambda: 1)
        outcome = _outcome(future)
        if isinstance(outcome, Receipt):
            return outcome
        if _ends_the_run(outcome):
            raise outcome
        if workers.blame(outcome) == "cluster":
            workers.reconnect()
            continue
        tries += 1
        log.warning("chunk %d failed alone: %s", index, _reason(outcome))
        if tries == TRIES or isinstance(outcome, TileTimeoutError):
            return replace(workers.give_up(index, _reason(outcome)), transient=is_transient(outcome))


def _outcome(future: FutureLike) -> Receipt | BaseException:
    """What became of a chunk. Dask's cancelled futures have no exception, but raise one."""
    try:
        receipt: Receipt = future.result()
    except (Exception, KeyboardInterrupt) as error:  # its cause decides what happens next
        return error
    return receipt


def _ends_the_run(error: BaseException) -> bool:
    """Whether all other chunks would fail in the same way: the scene, a setting or the disk is to blame."""
    if isinstance(error, SceneError | UsageError | Interrupted | KeyboardInterrupt):
        return True
    return isinstance(error, OSError) and error.errno in DISK_ERRORS


def _reason(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return (
        text[0] if isinstance(error, ChunkError) and text else f"{type(error).__name__}: {text[0] if text else ''}".rstrip(": ")
    )
