"""The stages of a scene as Prefect tasks: retries, timeouts, cache keys and a limit on GPUs around the pipeline's calls."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from threading import Event
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.concurrency.sync import concurrency
from prefect.context import TaskRunContext
from prefect.tasks import exponential_backoff

from geoseg.errors import Interrupted, SceneError, UsageError
from geoseg.transient import is_transient
from pipeline.files.manifest import StageRecord
from pipeline.infer.receipt import Receipt
from pipeline.infer.workers import LocalWorkers, OpenWorkers
from pipeline.publish.report import SceneReport
from pipeline.segment import planning, publishing, scene_stages
from pipeline.segment.planned import ChunkFiles, Inferred, PlannedScene, SceneJob

__all__ = ["Means", "infer", "join", "may_pass", "plan", "publish", "stitch", "trusted", "vectorize"]

P = ParamSpec("P")
R = TypeVar("R")

# Prefect warns in each run that timeouts can't end a thread that waits. The stages wait for half a second at a time.
logging.getLogger("prefect.task_runs").addFilter(lambda record: not str(record.msg).startswith("Timeout of %s seconds"))

GPU_LIMIT = "gpu"
"""Global concurrency limit that is held while the network runs on a GPU; without one of this name there is no limit."""
HOUR = 3600


def may_pass(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Whether a failure may be gone the next time: servers and disks recover, a wrong setting or file does not."""
    del task, task_run
    error = state.result(raise_on_failure=False)
    return is_transient(error) or not isinstance(error, UsageError | SceneError | Interrupted)


@dataclass(frozen=True, slots=True)
class Means:
    """Workers, progress and stop of a flow run; not a part of what its stages depend on."""

    open_workers: OpenWorkers = LocalWorkers
    on_chunk: Callable[[Receipt], None] = lambda _: None
    """Told of each chunk that is done."""
    stop: Event = field(default_factory=Event)
    """Ends the stages under way, once it is set."""


def _key(stage: str) -> Callable[[TaskRunContext, dict[str, Any]], str]:
    def key(context: TaskRunContext, parameters: dict[str, Any]) -> str:
        del context
        planned: PlannedScene = parameters["planned"]
        inferred: Inferred | None = parameters.get("inferred")
        return f"geoseg-{stage}-{planned.key(stage, None if inferred is None else ChunkFiles.of(inferred))}"

    return key


def _stage(name: str, hours: float) -> Callable[[Callable[P, R]], Task[P, R]]:
    return task(
        name=name,
        cache_key_fn=_key(name),
        retries=3,
        retry_delay_seconds=exponential_backoff(10),
        retry_jitter_factor=0.5,
        timeout_seconds=hours * HOUR,
        retry_condition_fn=may_pass,
        persist_result=True,
        result_serializer="json",
    )


def trusted(stage: Task[P, R], planned: PlannedScene, inferred: Inferred | None = None) -> Task[P, R]:
    """The task, which leaves the cache aside unless the files of the stage verify."""
    whole = planned.is_inferred() if inferred is None else planned.standing(stage.name, ChunkFiles.of(inferred)) is not None
    return stage.with_options(refresh_cache=not whole)


# What a scene's stages depend on is known once it is planned.
@task(
    name="plan",
    cache_policy=NO_CACHE,
    retries=3,
    retry_delay_seconds=exponential_backoff(10),
    retry_jitter_factor=0.5,
    timeout_seconds=HOUR,
    retry_condition_fn=may_pass,
    persist_result=False,
)
def plan(job: SceneJob) -> PlannedScene:
    """Open the scene and decide how it is mapped."""
    return planning.plan(job)


@_stage("infer", hours=72)
def infer(planned: PlannedScene, means: Means) -> StageRecord:
    """Run the network over all chunks; one scene at a time holds a GPU."""
    on_gpu = planned.plan.device.startswith("cuda")
    with concurrency(GPU_LIMIT, occupy=1) if on_gpu else nullcontext():
        inferred = Inferred.of(planned, scene_stages.infer(planned, means.open_workers, means.on_chunk, means.stop.is_set))
    return StageRecord(stage="infer", key=planned.key("infer"), files={}, seconds=inferred.seconds)


@_stage("join", hours=24)
def join(planned: PlannedScene, inferred: Inferred, means: Means) -> StageRecord | None:
    """Join objects over the seams of chunks, or apply the rules of a map of changes."""
    return scene_stages.join(planned, inferred, means.stop.is_set)


@_stage("stitch", hours=12)
def stitch(planned: PlannedScene, inferred: Inferred, joined: StageRecord | None) -> StageRecord:
    """Put the chunk results together to rasters."""
    return scene_stages.stitch(planned, inferred, joined)


@_stage("vectorize", hours=24)
def vectorize(
    planned: PlannedScene,
    inferred: Inferred,
    joined: StageRecord | None,
    means: Means,
) -> StageRecord:
    """Trace polygons and coverage."""
    return scene_stages.vectorize(planned, inferred, joined, means.stop.is_set)


@task(
    name="publish",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=exponential_backoff(10),
    timeout_seconds=2 * HOUR,
    retry_condition_fn=may_pass,
)
def publish(inferred: Inferred, joined: StageRecord | None, stitched: StageRecord, vectorized: StageRecord) -> SceneReport:
    """Give the files their names."""
    return publishing.publish(inferred, joined, stitched, vectorized)
