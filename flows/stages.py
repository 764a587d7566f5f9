"""The stages of a scene as Prefect tasks: retries, timeouts, cache keys and a limit on GPUs around the pipeline's calls."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from threading import Event
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.concurrency.sync import concurrency
from prefect.context import TaskRunContext
from prefect.logging import get_run_logger
from prefect.tasks import exponential_backoff

from flows.outside import outside
from geoseg.errors import Interrupted, OutsideAreaError, SceneError, UsageError
from geoseg.inference.choice import uses_gpu
from geoseg.transient import is_transient
from pipeline.config.sections import Config
from pipeline.infer.receipt import Receipt
from pipeline.infer.workers import LocalWorkers, OpenWorkers
from pipeline.publish.report import SceneReport
from pipeline.segment import overlapped, planning, publishing
from pipeline.segment.overlapped import Mapped, is_mapped
from pipeline.segment.planned import PlannedScene, SceneJob

__all__ = ["Means", "map_scene", "may_pass", "plan", "publish", "trusted"]

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


def _key(context: TaskRunContext, parameters: dict[str, Any]) -> str:
    del context
    planned: PlannedScene = parameters["planned"]
    return f"geoseg-map-{planned.key('map')}"


def trusted(stage: Task[P, R], planned: PlannedScene) -> Task[P, R]:
    """The task, which leaves the cache aside unless the files of all its stages verify."""
    return stage.with_options(refresh_cache=not is_mapped(planned))


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
def plan(job: SceneJob) -> PlannedScene | State[Any]:
    """Open the scene and decide how it is mapped; one that does not touch the area of interest ends as ``Outside``."""
    try:
        return planning.plan(job)
    except OutsideAreaError as error:
        return outside(error)


def gpu_turn(config: Config) -> AbstractContextManager[None]:
    """The turn of a run that maps several scenes, where its network runs on a GPU: no other scene is mapped there meanwhile."""
    on_gpu = config.infer.engine != "onnx" and uses_gpu("torch", config.infer.device)
    return concurrency(GPU_LIMIT, occupy=1) if on_gpu else nullcontext()


@task(
    name="map",
    cache_key_fn=_key,
    retries=3,
    retry_delay_seconds=exponential_backoff(10),
    retry_jitter_factor=0.5,
    timeout_seconds=132 * HOUR,
    retry_condition_fn=may_pass,
    persist_result=True,
    result_serializer="json",
)
def map_scene(planned: PlannedScene, means: Means) -> Mapped:
    """Run the network over all chunks, join, stitch and trace them; one scene at a time holds a GPU, while its network runs."""
    on_gpu = uses_gpu(planned.plan.engine, planned.plan.device)
    network = concurrency(GPU_LIMIT, occupy=1) if on_gpu else None
    return overlapped.map_scene(
        planned,
        means.open_workers,
        means.on_chunk,
        means.stop.is_set,
        network=network,
        on_inferred=lambda: get_run_logger().info("the network is done; what is left of stitching and tracing follows"),
    )


@task(
    name="publish",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=exponential_backoff(10),
    timeout_seconds=2 * HOUR,
    retry_condition_fn=may_pass,
)
def publish(planned: PlannedScene, mapped: Mapped) -> SceneReport:
    """Give the files their names."""
    return publishing.publish(planned, mapped)
