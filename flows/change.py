"""The flows that compare dates: forest loss of a pair, of a stream of scenes, and damage of buildings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.tasks import exponential_backoff

from flows.access.allowed import Texts, check, check_scene, sort_out
from flows.access.references import resolve
from flows.outside import inside, outside
from flows.pages.run_artifacts import logs_to_prefect
from flows.pages.scene_artifact import show_scene
from flows.stages import may_pass
from geoseg.dialect import number_of
from geoseg.errors import OutsideAreaError
from geoseg.models.ensemble import load_models
from geoseg.models.model_folder import Model, load_model
from geoseg.scenes.sources import SceneRef, list_scenes
from pipeline.changes.pairs import consecutive_pairs
from pipeline.changes.run import map_changes, pair_under
from pipeline.config.sections import Config
from pipeline.damage.case import model_for
from pipeline.damage.fetched_footprints import addresses_of, footprints_for
from pipeline.damage.run import map_damage
from pipeline.damage.settings import FINDER, SUGGESTIONS, CountOptions, EventOptions
from pipeline.files.index import write_collection, write_index
from pipeline.infer.choose import workers_for
from pipeline.plan.options import scene_options, stac_search
from pipeline.plan.within import each_area
from pipeline.publish.folder_page import write_folder_page

__all__ = ["compare_dates", "compare_stream", "grade_damage", "grade_event"]

HOUR = 3600
Made: TypeAlias = dict[str, Any] | list[dict[str, Any]]
"""A summary, or one for each feature of a file of areas."""


@task(
    name="compare",
    task_run_name="{ref.name}",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=exponential_backoff(30),
    timeout_seconds=24 * HOUR,
    retry_condition_fn=may_pass,
)
def compare(
    ref: SceneRef, model: str, out: str, config: Config, zones: str | None, *, alone: bool = True
) -> dict[str, Any] | State[Any]:
    """Map the changes of one place; what an earlier run has finished is kept. One outside of the area ends as ``Outside``."""
    with workers_for(config) as open_workers:
        done = map_changes(ref, load_models([model]), config, Path(out), zones=zones, open_workers=open_workers, alone=alone)
    if done.report.left_out:
        return outside(OutsideAreaError(str(done.report.reason)))
    if done.report.status == "failed":
        raise RuntimeError(done.report.reason)
    show_scene(done.folder)
    return {
        **(done.document or {}),
        "scene": ref.name,
        "status": done.report.status,
        "folder": str(done.folder),
        "entry": done.report.entry(),
    }


def _each(ref: SceneRef, config: Config, make: Callable[[SceneRef], State[Any]]) -> Made | State[Any]:
    """What is made of a place, or of each feature of the file of areas that it touches; ``Outside`` where it touches none."""
    log, several = get_run_logger(), config.area.aoi_column is not None
    try:
        with logs_to_prefect():
            found = each_area(
                ref,
                config,
                lambda one: inside(make(one)),
                lambda one, error: log.warning("%s: skipped: %s", one.name, error),
            )
    except OutsideAreaError as error:
        return outside(error, [] if several else {"scene": ref.name, "status": "skipped", "reason": str(error)})
    return found if several else found[0]


@flow(name="compare-dates", flow_run_name="{out}", validate_parameters=True)
def compare_dates(
    dates: list[str],
    model: str,
    out: str,
    config: Config = Config(),  # noqa: B008 - frozen
    zones: str | None = None,
) -> Made | State[Any]:
    """Map loss and gain between dates of one place.

    Args:
        dates: The scenes, the oldest first.
        model: A model of single dates, or one that compares dates.
        out: The output folder.
        config: All other settings.
        zones: A file of polygons by which areas are summed up.

    Returns:
        The summary, as ``changes.json`` has it; with ``area.aoi_column`` one for each feature of the file of areas that the
        dates touch. Where they touch no area, the state is ``Outside``, which is complete.
    """
    check(read={"dates": dates, "zones": [zones]}, written={"out": [out]}, models={"model": [model]}, config=config)
    ref = pair_under(config, [resolve("dates", date) for date in dates], load_models([model]).card.bands)
    check_scene(ref, out)
    return _each(ref, config, lambda one: compare(one, model, out, config, zones, return_state=True))


@flow(name="compare-stream", flow_run_name="{out}", validate_parameters=True)
def compare_stream(
    sources: list[str],
    model: str,
    out: str,
    config: Config = Config(),  # noqa: B008 - frozen
    zones: str | None = None,
) -> list[dict[str, Any]]:
    """Compare each scene of a stream with the last one before it that shows the same ground; what is done is skipped.

    Args:
        sources: Files, folders, globs.
        model: A model of single dates, or one that compares two.
        out: The output folder.
        config: All other settings.
        zones: A file of polygons by which areas are summed up.

    Returns:
        The summaries of all pairs that touch the area of interest, if there is one.
    """
    check(read={"sources": sources, "zones": [zones]}, written={"out": [out]}, models={"model": [model]}, config=config)
    log = get_run_logger()
    places = [resolve("sources", source) for source in sources]
    search = stac_search(config, load_models([model]).card.bands)
    listed, refused = list_scenes(places, allow_vrt=config.scene.allow_vrt, may_be_empty=True, search=search, out=out)
    scenes, not_allowed = sort_out(listed, out)
    pairs, unplaced = consecutive_pairs(scenes, scene_options(config))
    for item in (*refused, *not_allowed, *unplaced):
        log.warning("%s: %s", item.name, item.reason)
    found: list[dict[str, Any]] = []
    failed: list[str] = []
    with logs_to_prefect():
        for ref in pairs:
            state = compare(ref, model, out, config, zones, alone=False, return_state=True)
            try:
                if state.is_completed():
                    found.append(inside(state))
                else:
                    failed.append(f"{ref.name}: {state.message}")
            except OutsideAreaError as error:
                log.warning("%s: skipped: %s", ref.name, error)
        if found:
            entries = [one["entry"] for one in found]
            write_index(Path(out), entries)
            write_collection(Path(out), entries)
            write_folder_page(Path(out), entries)
    if failed:
        raise RuntimeError(f"{len(failed)} of {number_of(len(pairs), 'pair')} could not be compared: {failed[0]}")
    return found


@task(
    name="grade",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=exponential_backoff(30),
    timeout_seconds=24 * HOUR,
    retry_condition_fn=may_pass,
)
def grade(
    ref: SceneRef,
    footprints: str | None,
    buildings: str,
    model: Model,
    out: str,
    config: Config,
    zones: str | None,
    event: EventOptions | None = None,
) -> dict[str, Any] | State[Any]:
    """Grade the buildings of a place; one outside of the area ends as ``Outside``."""
    try:
        given = footprints_for(ref, footprints, buildings, model.card, config, Path(out))
        done = map_damage(ref, given, model, config, Path(out), CountOptions(zones=zones), event=event)
    except OutsideAreaError as error:
        return outside(error)
    return {"folder": str(done.folder), **done.document}


def _places(footprints: str | None) -> tuple[str, ...]:
    """The files that footprints come from: of a name, those that the environment of this process has for it."""
    return () if footprints is None else addresses_of(footprints)


@flow(name="grade-damage", flow_run_name="{out}", validate_parameters=True)
def grade_damage(
    pre: str,
    post: str,
    model: str,
    out: str,
    footprints: str | None = None,
    buildings: str = "buildings",
    config: Config = Config(),  # noqa: B008 - frozen
    zones: str | None = None,
) -> Made | State[Any]:
    """Grade the damage of buildings between two images.

    Args:
        pre: The image before.
        post: The image after.
        model: A model that grades buildings.
        out: The output folder.
        footprints: A file of polygons; without, buildings are found on the image before.
        buildings: The model that finds them.
        config: All other settings.
        zones: A file of polygons by which buildings are counted.

    Returns:
        The summary, as ``damage.json`` has it; with ``area.aoi_column`` one for each feature of the file of areas that the
        images touch. Where there is no building in an area, the state is ``Outside``, which is complete.
    """
    read: Texts = {"pre": [pre], "post": [post], "footprints": _places(footprints), "zones": [zones]}
    check(read=read, written={"out": [out]}, models={"model": [model], "buildings": [buildings]}, config=config)
    loaded = load_model(model)
    ref = pair_under(config, [resolve("pre", pre), resolve("post", post)], loaded.card.bands)
    check_scene(ref, out)
    return _each(ref, config, lambda one: grade(one, footprints, buildings, loaded, out, config, zones, return_state=True))


@flow(name="grade-event", flow_run_name="{out}", validate_parameters=True)
def grade_event(
    pre: str,
    post: str,
    labels: list[str],
    out: str,
    footprints: str | None = None,
    model: str | None = None,
    config: Config = Config(),  # noqa: B008 - frozen
    zones: str | None = None,
) -> Made | State[Any]:
    """Grade the damage of buildings between two images by a model of this event, learned from some labelled ones.

    Args:
        pre: The image before.
        post: The image after.
        labels: Files of points or polygons with a class in the column ``damage``; none for a first file of what to label.
        out: The output folder.
        footprints: A file of polygons; without, buildings are found on the image before.
        model: A model that gives its encoder and, where it grades buildings, what is expected of the event.
        config: All other settings.
        zones: A file of polygons by which buildings are counted.

    Returns:
        The summary, as ``damage.json`` has it; with ``area.aoi_column`` one for each feature of the file of areas that the
        images touch. Where there is no building in an area, the state is ``Outside``, which is complete.
    """
    read: Texts = {"pre": [pre], "post": [post], "labels": labels, "footprints": _places(footprints), "zones": [zones]}
    check(read=read, written={"out": [out]}, models={"model": [model]}, config=config)
    event = EventOptions(labels=tuple(labels), label_next=SUGGESTIONS)
    loaded = model_for(model, event)
    ref = pair_under(config, [resolve("pre", pre), resolve("post", post)], loaded.card.bands)
    check_scene(ref, out)
    return _each(ref, config, lambda one: grade(one, footprints, FINDER, loaded, out, config, zones, event, return_state=True))
