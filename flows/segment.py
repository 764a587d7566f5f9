"""The flow that maps one scene."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.logging import get_run_logger

from flows import stages
from flows.access.allowed import allowed, check, check_scene, check_webhook
from flows.access.handed import HANDED, Handed
from flows.pages.run_artifacts import ProgressArtifact, logs_to_prefect
from flows.pages.scene_artifact import show_scene
from geoseg.errors import ConfigError
from geoseg.models.model_folder import load_model
from geoseg.scenes.sources import SceneRef, list_scenes
from geoseg.scenes.stac.search import StacSearch
from pipeline.config.sections import Config
from pipeline.files.index import IndexEntry
from pipeline.infer.choose import workers_for
from pipeline.plan.options import stac_search
from pipeline.publish.report import SceneReport
from pipeline.segment.folder import check_out
from pipeline.segment.planned import SceneJob
from pipeline.segment.publishing import clear, skipped
from pipeline.segment.run import held
from pipeline.watch.webhook import notify

__all__ = ["segment_scene"]

log = logging.getLogger(__name__)


def _tell(flow: Any, flow_run: FlowRun, state: State[Any]) -> None:
    """Send what became of a run to the webhook of its configuration."""
    del flow
    config = Config.model_validate(flow_run.parameters.get("config") or {})
    if not config.watch.webhook:
        return
    try:
        address = check_webhook(config.watch.webhook, allowed(flow_run.deployment_id))
    except ConfigError as error:
        log.warning("%s", error)
        return
    message = {
        "event": f"flow.{state.type.value.lower()}",
        "flow_run": flow_run.name,
        "scene": flow_run.parameters.get("name"),
        "paths": flow_run.parameters.get("paths"),
        "out": flow_run.parameters.get("out"),
        "message": state.message,
    }
    notify(address, message)


@flow(
    name="segment-scene",
    flow_run_name="{name}",
    on_completion=[_tell],
    on_failure=[_tell],
    on_crashed=[_tell],
    on_cancellation=[_tell],
    validate_parameters=True,
)
def segment_scene(
    paths: list[str],
    model: str,
    out: str,
    config: Config = Config(),  # noqa: B008 - frozen
    name: str | None = None,
    band_names: list[str] = [],  # noqa: B006 - shown as a default, never changed
) -> IndexEntry:
    """Map one scene; what an earlier run has finished is verified and kept.

    Args:
        paths: Its file or address, its band files, or a STAC item.
        model: A model folder, the name of a shipped model, or owner/name on the Hugging Face hub.
        out: Output folder; the scene's folder is made in it.
        config: All other settings.
        name: Name of the scene's folder; by default, that of its file.
        band_names: For band files, the name of each file's band.

    Returns:
        The scene's entry of ``index.json``.
    """
    started, handed = time.monotonic(), HANDED.get()
    check(read={"paths": () if handed else paths}, written={"out": [out]}, models={"model": [model]}, config=config)
    loaded = load_model(model)
    ref = _ref(handed.paths if handed else paths, name, band_names, stac_search(config, loaded.card.bands), config)
    if handed is not None:
        ref = replace(ref, told=handed.told)
    check_scene(ref, out)
    folder = Path(out)
    check_out(folder)
    progress, job = ProgressArtifact(), SceneJob.of(ref, loaded, config, folder)
    with logs_to_prefect(), workers_for(config) as open_workers, held(job), _stoppable(handed) as stop:
        report = _segmented(job, stages.Means(open_workers, progress.chunk, stop), progress)
    entry = replace(report, seconds=time.monotonic() - started).entry()
    for warning in report.warnings:
        get_run_logger().warning("%s: %s", report.scene, warning)
    show_scene(folder / report.scene)
    return entry


def _segmented(job: SceneJob, means: stages.Means, progress: ProgressArtifact) -> SceneReport:
    """Do the stages of a scene; those between plan and publish are one task, for they work beside each other."""
    planned = stages.plan(job)
    if planned.finished is not None:
        report = skipped(planned)
    else:
        progress.planned(planned.plan, planned.done)
        report = stages.publish(planned, stages.trusted(stages.map_scene, planned)(planned, means))
    clear(planned)
    return report


@contextmanager
def _stoppable(handed: Handed | None) -> Iterator[Event]:
    """The event that stops the run; while it lasts, the scan that the run belongs to can set it."""
    stops, stop = handed.stops if handed else [], Event()
    stops.append(stop)
    try:
        yield stop
    finally:
        stops.remove(stop)


def _ref(paths: Sequence[str], name: str | None, band_names: list[str], search: StacSearch, config: Config) -> SceneRef:
    if name is not None:
        return SceneRef(name, tuple(paths), tuple(band_names))
    found, refused = list_scenes(paths, allow_vrt=config.scene.allow_vrt, search=search)
    if refused or len(found) != 1:
        raise ConfigError(f"paths: {refused[0].reason if refused else f'{len(found)} scenes; give the files of one'}")
    return found[0]
