"""Infer: the chunks of a plan, each read, run through the network and written, in any order and any number of times."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace

from geoseg.errors import ChunkError, ClusterError, Interrupted, SceneError, TileTimeoutError, UsageError
from geoseg.transient import is_transient
from pipeline.files.atomic import DISK_ERRORS
from pipeline.files.manifest import Manifest
from pipeline.infer.chunk_store import ChunkStore
from pipeline.infer.freed import give_back
from pipeline.infer.receipt import Receipt, Receipts
from pipeline.infer.rolling import FutureLike, rolling
from pipeline.infer.storage import Storage
from pipeline.infer.workers import OpenWorkers, Workers
from pipeline.plan.plan import Plan

__all__ = ["infer", "unfinished"]

log = logging.getLogger(__name__)

TRIES = 3
MAX_LOSSES = 20
"""Times that a chunk may be lost with its scheduler."""


def infer(
    plan: Plan,
    manifest: Manifest,
    storage: Storage,
    open_workers: OpenWorkers,
    on_chunk: Callable[[Receipt], None],
    should_stop: Callable[[], bool] = lambda: False,
) -> Generator[Receipt]:
    """Do all chunks of a plan that are not done, and record each in the manifest; yields the receipts of all in row order.

    Chunks are done in any order: a receipt is yielded once those before it are. A chunk that fails three times is recorded as
    not analysed, and the others go on. A scene that can't be read ends the stage; what is finished is kept.

    Args:
        plan: The plan.
        manifest: Of the run.
        storage: Where the results are kept.
        open_workers: Makes what does the chunks.
        on_chunk: Told of each chunk when it is done, in any order.
        should_stop: Asked before every chunk, and while nothing is done.

    Raises:
        SceneError: The scene can't be read.
        OutputError: A worker can't write where the results are kept.
        ClusterError: The cluster was lost and did not come back.
        Interrupted: The run was stopped.
    """
    todo = unfinished(plan, manifest, storage)
    missing, waiting, receipts = set(todo), deque(plan.active), Receipts(manifest.chunks)

    def whole() -> Iterator[Receipt]:
        while waiting and waiting[0] not in missing:
            yield receipts[waiting.popleft()]

    yield from whole()
    if not todo:
        return
    workers = open_workers(plan, storage, todo)
    interrupted = True
    try:
        for receipt in _receipts(workers, todo, should_stop):
            manifest.add_chunk(receipt.index, receipt.record())
            on_chunk(receipt)
            give_back()
            missing.discard(receipt.index)
            yield from whole()
        interrupted = False
    finally:
        workers.close(interrupted=interrupted)


def unfinished(plan: Plan, manifest: Manifest, storage: Storage) -> list[int]:
    """The chunks without a verified result. What is on disk is compared with its checksum."""
    store = ChunkStore(storage, plan.grid, plan.layers)
    records = manifest.chunks

    def is_done(index: int) -> bool:
        record = records.get(index)
        return record is not None and record["status"] == "done" and store.verify(record["files"])

    return [index for index in plan.active if not is_done(index)]


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
    """The receipt of a chunk, or its error. Dask's cancelled futures have no exception, but raise one."""
    try:
        receipt = future.result()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - its cause decides what happens next
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
