"""The stages of a scene as Prefect tasks: retries, timeouts, cache keys and a limit on GPUs around the pipeline's calls."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.concurrency.sync import concurrency
from prefect.context import TaskRunContext
from prefect.tasks import exponential_backoff

from geoseg.errors import Interrupted, SceneError, UsageError
from geoseg.transient import is_transient
from pipeline.segment.run import SceneRun

__all__ = ["infer", "may_pass", "plan", "publish", "run_stage", "stitch", "vectorize"]

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


def _key(stage: str) -> Callable[[TaskRunContext, dict[str, Any]], str]:
    def key(context: TaskRunContext, parameters: dict[str, Any]) -> str:
        del context
        return f"geoseg-{stage}-{parameters['run'].key(stage)}"

    return key


def _stage(name: str, hours: float) -> Callable[[Callable[[SceneRun], dict[str, Any]]], Task[[SceneRun], dict[str, Any]]]:
    # What a scene's stages depend on is known once it is planned.
    options: dict[str, Any] = {"cache_policy": NO_CACHE} if name == "plan" else {"cache_key_fn": _key(name)}
    return task(
        name=name,
        retries=3,
        retry_delay_seconds=exponential_backoff(10),
        retry_jitter_factor=0.5,
        timeout_seconds=hours * HOUR,
        retry_condition_fn=may_pass,
        persist_result=True,
        result_serializer="json",
        **options,
    )


def run_stage(stage: Task[[SceneRun], dict[str, Any]], run: SceneRun) -> dict[str, Any]:
    """Do a stage; what the cache remembers is believed only while its files verify."""
    return trusted(stage, run)(run)


def trusted(stage: Task[[SceneRun], dict[str, Any]], run: SceneRun) -> Task[[SceneRun], dict[str, Any]]:
    """The task, which leaves the cache aside unless the files of the stage verify."""
    return stage.with_options(refresh_cache=not run.verified(stage.name))


def _reference(run: SceneRun, stage: str) -> dict[str, Any]:
    """What a task hands on: where the stage's files are, and what they depend on."""
    return {"stage": stage, "folder": str(run.folder), "key": run.key(stage) if run.finished is None else None}


@_stage("plan", hours=1)
def plan(run: SceneRun) -> dict[str, Any]:
    """Open the scene and decide how it is mapped."""
    run.plan()
    return _reference(run, "plan") | {"plan": run.planned.describe()}


@_stage("infer", hours=72)
def infer(run: SceneRun) -> dict[str, Any]:
    """Run the network over all chunks; one scene at a time holds a GPU."""
    on_gpu = run.planned.device.startswith("cuda")
    with concurrency(GPU_LIMIT, occupy=1) if on_gpu else nullcontext():
        run.infer()
    return _reference(run, "infer")


@_stage("stitch", hours=12)
def stitch(run: SceneRun) -> dict[str, Any]:
    """Put the chunk results together to rasters."""
    run.stitch()
    return _reference(run, "stitch")


@_stage("vectorize", hours=24)
def vectorize(run: SceneRun) -> dict[str, Any]:
    """Trace polygons and coverage."""
    run.vectorize()
    return _reference(run, "vectorize")


@task(
    name="publish",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=exponential_backoff(10),
    timeout_seconds=2 * HOUR,
    retry_condition_fn=may_pass,
)
def publish(run: SceneRun) -> dict[str, Any]:
    """Give the files their names; gives the scene's entry of ``index.json``."""
    report = run.publish()
    return report.entry()
