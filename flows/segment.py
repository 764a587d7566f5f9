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
from flows.outside import OUTSIDE, inside, outside
from flows.pages.run_artifacts import ProgressArtifact, logs_to_prefect
from flows.pages.scene_artifact import show_scene
from geoseg.errors import ConfigError, OutsideAreaError
from geoseg.models.model_folder import load_model
from geoseg.scenes.sources import SceneRef, list_scenes
from geoseg.scenes.stac.search import StacSearch
from pipeline.config.sections import Config
from pipeline.files.index import IndexEntry
from pipeline.infer.choose import workers_for
from pipeline.plan.options import stac_search
from pipeline.plan.within import each_area, features_of
from pipeline.publish.report import SceneReport
from pipeline.segment.folder import check_out
from pipeline.segment.outcome import failed_scene
from pipeline.segment.planned import PlannedScene, SceneJob
from pipeline.segment.publishing import clear, skipped
from pipeline.segment.run import held
from pipeline.watch.webhook import notify

__all__ = ["segment_scene"]

log = logging.getLogger(__name__)


def _tell(flow: Any, flow_run: FlowRun, state: State[Any]) -> None:
    """Send what became of a run to the webhook of its configuration."""
    del flow
    if state.name == OUTSIDE and flow_run.parameters.get("feature") is not None:
        # Of many scenes and many areas most do not touch each other.
        return
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
    feature: str | None = None,
) -> IndexEntry | list[IndexEntry] | State[Any]:
    """Map one scene; what an earlier run has finished is verified and kept.

    Args:
        paths: Its file or address, its band files, or a STAC item.
        model: A model folder, the name of a shipped model, or owner/name on the Hugging Face hub.
        out: Output folder; the scene's folder is made in it.
        config: All other settings.
        name: Name of the scene's folder; by default, that of its file.
        band_names: For band files, the name of each file's band.
        feature: With ``area.aoi_column``, the feature of the file of areas that is mapped, by its value there; ``name`` is then
            that of the folder of its map. Without, there is a map of each feature, in a folder of its name.

    Returns:
        The scene's entry of ``index.json``; with ``area.aoi_column`` and no ``feature``, one for each feature that it touches.
        Where it touches no area, the state is ``Outside``, which is complete.
    """
    handed = HANDED.get()
    check(read={"paths": () if handed else paths}, written={"out": [out]}, models={"model": [model]}, config=config)
    loaded = load_model(model)
    ref = _ref(handed.paths if handed else paths, name, band_names, stac_search(config, loaded.card.bands), config)
    if handed is not None:
        ref = replace(ref, told=handed.told)
    if feature is not None:
        ref = _within(feature, ref, config, named=name is not None)
    check_scene(ref, out)
    folder = Path(out)
    check_out(folder)
    with logs_to_prefect(), workers_for(config) as open_workers, _stoppable(handed) as stop:

        def make(one: SceneRef) -> IndexEntry:
            began, progress = time.monotonic(), ProgressArtifact()
            report = _segmented(
                SceneJob.of(one, loaded, config, folder), stages.Means(open_workers, progress.chunk, stop), progress
            )
            return _shown(replace(report, seconds=time.monotonic() - began), folder / one.name)

        several = feature is None and config.area.aoi_column is not None
        try:
            return each_area(ref, config, make, _left_out) if several else make(ref)
        except OutsideAreaError as error:
            entry = failed_scene(error, ref, folder).entry()
            return outside(error, [] if several else entry)


def _within(feature: str, ref: SceneRef, config: Config, *, named: bool) -> SceneRef:
    """The scene as it is mapped within one of several areas of interest."""
    found = {one.value: one for one in features_of(config)}
    if feature not in found:
        column = config.area.aoi_column
        why = (
            "is one of the column area.aoi_column, which is missing" if column is None else f"no feature has {column} = {feature}"
        )
        raise ConfigError(f"feature: {why}")
    return replace(ref, area=feature) if named else found[feature].of(ref)


def _left_out(ref: SceneRef, error: OutsideAreaError) -> None:
    get_run_logger().info("%s: skipped: %s", ref.name, error)


def _shown(report: SceneReport, folder: Path) -> IndexEntry:
    """The entry of a scene, once its page and its warnings are shown."""
    for warning in report.warnings:
        get_run_logger().warning("%s: %s", report.scene, warning)
    show_scene(folder)
    return report.entry()


def _segmented(job: SceneJob, means: stages.Means, progress: ProgressArtifact) -> SceneReport:
    """Do the stages of a scene; those between plan and publish are one task, for they work beside each other.

    Raises:
        OutsideAreaError: The scene does not touch the area of interest.
    """
    with held(job):
        return _staged(job, means, progress)


def _staged(job: SceneJob, means: stages.Means, progress: ProgressArtifact) -> SceneReport:
    planned: PlannedScene = inside(stages.plan(job, return_state=True))
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
