"""The mosaic of a scheduled scan: all scenes of its sources as one map, in a thread that the scan can stop."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import replace
from pathlib import Path
from threading import Event

from prefect.logging import get_run_logger

from flows.access.allowed import check_scene
from flows.pages.run_artifacts import ProgressArtifact, logs_to_prefect
from flows.pages.scene_artifact import show_scene
from flows.stages import gpu_turn
from geoseg.errors import OutputError, SceneError
from geoseg.models.model_folder import Model
from geoseg.scenes.sources import SceneRef
from pipeline.config.sections import Config
from pipeline.infer.choose import workers_for
from pipeline.mosaic.scenes import LeaveOut
from pipeline.publish.report import SceneReport
from pipeline.segment.outcome import failed_scene
from pipeline.segment.planned import SceneJob
from pipeline.segment.progress import Stoppable
from pipeline.watch.ready import Told, map_together
from pipeline.watch.scan import Scan
from pipeline.watch.source import Found

__all__ = ["map_as_one"]


def map_as_one(scan: Scan, model: Model, out: str) -> list[SceneReport]:
    """Make the mosaic, if anything has changed; scenes that the deployment may not read are left out, and told.

    Raises:
        OutputError: The ledger can't be written.
        Interrupted: The run was stopped.
    """
    stop, work = Event(), scan.work
    get_run_logger().info(
        "%s; %d scenes known, %d still being written or tried again later, %d in quarantine",
        "one map of all scenes is to be made" if work.ready else "nothing to map",
        work.known,
        len(work.waiting) + len(work.delayed),
        len(work.quarantined),
    )

    def make(found: Found, config: Config, told: Told) -> SceneReport:
        ref = replace(found.ref, later=tuple(_readable(found.ref, out, told.left_out)))
        if not ref.later:
            return failed_scene(SceneError("mosaic: this deployment may read none of its scenes"), ref, Path(out))
        job = SceneJob.of(ref, model, config, Path(out))
        with gpu_turn(config), workers_for(config) as open_workers:
            return told.made(job, Stoppable(ProgressArtifact(), stop), open_workers)

    with logs_to_prefect(), ThreadPoolExecutor(1, thread_name_prefix="geoseg-mosaic") as pool:

        def begin(found: Found, config: Config, told: Told) -> Future[SceneReport]:
            return pool.submit(copy_context().run, make, found, config, told)

        with _stopping(stop):
            reports = map_together(scan, begin)
    for report in reports:
        for warning in report.warnings:
            get_run_logger().warning("%s: %s", report.scene, warning)
        if report.status in ("done", "partial"):
            with suppress(OutputError):
                show_scene(Path(out) / report.scene)
    return reports


def _readable(ref: SceneRef, out: str, left_out: LeaveOut) -> Iterator[SceneRef]:
    for one in ref.later:
        try:
            check_scene(one, out)
        except SceneError as error:
            left_out(one, error)
        else:
            yield one


@contextmanager
def _stopping(stop: Event) -> Iterator[None]:
    """Have what is under way end where the block is left before its end."""
    try:
        yield
    except BaseException:
        stop.set()
        raise
