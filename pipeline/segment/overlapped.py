"""infer -> join -> stitch | vectorize, the later ones beside the first: their work begins when its pixels are there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from functools import partial

from geoseg.inference.choice import uses_gpu
from geoseg.parallel import cores
from pipeline.files.manifest import StageRecord
from pipeline.files.spool import FeatureSpool
from pipeline.infer.arrivals import Arrivals, ChunkFiles
from pipeline.infer.choose import is_clustered
from pipeline.infer.receipt import Receipt
from pipeline.infer.stage_parts import PartWorkers
from pipeline.infer.storage import Storage
from pipeline.infer.workers import LocalWorkers, OpenWorkers, Workers
from pipeline.plan.plan import Plan
from pipeline.segment.halt import Halt, Stop, never
from pipeline.segment.planned import Inferred, PlannedScene
from pipeline.segment.scene_stages import infer, join, join_kind, stitch, vectorize
from pipeline.segment.turns import Turns

__all__ = ["Mapped", "is_mapped", "map_scene"]

WAIT_S = 0.5
"""Without a timeout the wait could not be interrupted on all systems."""

OnTraced = Callable[[Future[StageRecord], FeatureSpool], None]


@dataclass(frozen=True, slots=True)
class Mapped:
    """References to the outcomes of the stages of a scene whose files are whole, and not yet named."""

    infer_s: float
    """Duration of the inference."""
    joined: StageRecord | None
    stitched: StageRecord
    vectorized: StageRecord


def map_scene(
    planned: PlannedScene,
    open_workers: OpenWorkers = LocalWorkers,
    on_chunk: Callable[[Receipt], None] = lambda _: None,
    should_stop: Stop = never,
    *,
    network: AbstractContextManager[object] | None = None,
    on_inferred: Callable[[], None] = lambda: None,
    on_traced: OnTraced = lambda _stitched, _spool: None,
) -> Mapped:
    """Do all stages between plan and publish; the first failure of any ends the others.

    Args:
        planned: The scene.
        open_workers: Makes what does the chunks.
        on_chunk: Told of each chunk when it is done, in any order, by the calling thread.
        should_stop: Asked before every chunk, square and block.
        network: Held while the network runs.
        on_inferred: Told that it has ended.
        on_traced: Given the end of ``stitch``, and the polygons before they are written to files.

    Raises:
        SceneError: The scene can't be read.
        OutputError: The folder can't be written.
        ClusterError: The cluster was lost and did not come back.
        Interrupted: The run was stopped.
    """
    arrivals, turns, config = Arrivals(), Turns(_threads_beside(planned)), planned.job.config
    opened = _Opened(open_workers)
    halt, joined = Halt(should_stop, arrivals.give_up), Future[StageRecord | None]()
    try:
        with ThreadPoolExecutor(2, thread_name_prefix="geoseg-tail") as pool:
            given = planned, arrivals, joined.result, halt, turns, opened.parts if is_clustered(config) else None
            try:
                rasters = pool.submit(halt.guard, partial(stitch, *given))
                polygons = partial(vectorize, *given, on_traced=partial(on_traced, rasters))
                behind = [rasters, pool.submit(halt.guard, polygons)]
                with network or nullcontext(), closing(infer(planned, opened, on_chunk, halt)) as receipts:
                    inferred = Inferred.of(planned, arrivals.taking(receipts))
                turns.open()
                on_inferred()
                joined.set_result(join(planned, arrivals, halt))
                stitched, vectorized = _results(behind)
            except BaseException as error:
                halt.cause(error)
                joined.cancel()
                raise
    except BaseException as error:
        cause = halt.cause(error)
        if cause is error:
            raise
        raise cause from None
    return Mapped(inferred.seconds, joined.result(), stitched, vectorized)


class _Opened:
    """Opens the workers of a scene, and knows them from then on."""

    def __init__(self, open_workers: OpenWorkers) -> None:
        self._open, self._workers = open_workers, list[Workers]()

    def __call__(self, plan: Plan, storage: Storage, chunks: list[int]) -> Workers:
        """Open them."""
        self._workers.append(self._open(plan, storage, chunks))
        return self._workers[-1]

    def parts(self) -> PartWorkers | None:
        """Who does parts of the stages behind the network; None while nobody does."""
        return self._workers[-1].parts if self._workers else None


def is_mapped(planned: PlannedScene) -> bool:
    """Whether all stages were done, and their files are there as they were left."""
    if not planned.is_inferred():
        return False
    chunks, stages = ChunkFiles.of(Inferred(planned)), ["stitch", "vectorize"]
    if (kind := join_kind(planned)) is not None:
        stages.append(kind)
    return all(planned.standing(stage, chunks) is not None for stage in stages)


def _results(futures: Sequence[Future[StageRecord]]) -> list[StageRecord]:
    left = set(futures)
    while left:
        done, left = wait(left, WAIT_S, FIRST_EXCEPTION)
        for future in done:
            future.result()
    return [future.result() for future in futures]


def _threads_beside(planned: PlannedScene) -> int:
    """Threads that work beside the network: one where it has the cores of this machine, all where it leaves them alone."""
    plan = planned.plan
    elsewhere = planned.job.config.run.scheduler is not None or uses_gpu(plan.engine, plan.device)
    return plan.threads or cores() if elsewhere else 1
