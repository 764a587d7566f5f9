"""The flow that keeps images without clouds of a source up to date, and maps them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from prefect.tasks import exponential_backoff

from flows.access.allowed import check, check_scene
from flows.access.references import resolve
from flows.pages.run_artifacts import logs_to_prefect
from flows.pages.scene_artifact import show_scene
from flows.stages import gpu_turn, may_pass
from geoseg.dialect import number_of
from geoseg.errors import OutputError, SceneError
from geoseg.models.model_folder import load_model
from geoseg.scenes.sources import list_scenes
from pipeline.composite.mapped import IMAGES, clear_earlier, composites_of
from pipeline.config.sections import Config
from pipeline.files.index import IndexEntry
from pipeline.infer.choose import workers_for
from pipeline.plan.inputs import scenes_to_map
from pipeline.plan.options import stac_search
from pipeline.segment.folder import segment_folder

__all__ = ["composite_scenes"]

HOUR = 3600


@task(
    name="composite",
    cache_policy=NO_CACHE,
    retries=3,
    retry_delay_seconds=exponential_backoff(30),
    timeout_seconds=48 * HOUR,
    retry_condition_fn=may_pass,
)
def compose(places: Sequence[str], out: str, config: Config) -> tuple[list[str], Config]:
    """Make the images, or those that are not there yet; the images, and the settings with which they are mapped."""
    return composites_of(places, config, config.composite.method, Path(out), renew=True)


@task(
    name="map",
    cache_policy=NO_CACHE,
    retries=3,
    retry_delay_seconds=exponential_backoff(30),
    timeout_seconds=132 * HOUR,
    retry_condition_fn=may_pass,
)
def map_images(images: Sequence[str], model: str, out: str, config: Config) -> list[IndexEntry]:
    """Map the images; those whose maps are there, of the same pixels, are left as they are.

    Once all are mapped, maps of images that these have replaced are taken away, as of periods that are gone.
    """
    loaded = load_model(model)
    scenes, refused = scenes_to_map(images, config, loaded.card.bands)
    with gpu_turn(config), workers_for(config) as open_workers:
        reports = segment_folder(scenes, refused, loaded, config, Path(out), open_workers)
    failed = [report for report in reports if report.status in ("failed", "partial")]
    if failed:
        raise SceneError(
            f"{len(failed)} of {number_of(len(reports), 'image')} could not be mapped: {failed[0].scene}: {failed[0].reason}"
        )
    if not all(report.left_out for report in reports):
        clear_earlier(images, Path(out))
    return [report.entry() for report in reports]


@flow(name="composite", flow_run_name="{out}", validate_parameters=True)
def composite_scenes(
    sources: list[str],
    out: str,
    config: Config = Config(),  # noqa: B008 - frozen
    model: str | None = None,
) -> list[IndexEntry] | list[str]:
    """Make an image without clouds of all scenes that are there, or one a period, and map it; meant to run on a schedule.

    Run again, nothing is done where nothing has changed; with other scenes the images are made anew, and those that came out
    otherwise are mapped again. Maps of periods that have gone are taken away; what somebody has changed in them stays.

    Args:
        sources: Files, folders, globs, list files, addresses, STAC items and searches.
        out: Output folder; the images are in ``composites`` below it.
        config: All other settings; ``composite`` and ``scene`` say how the images are made.
        model: The model that maps them; None for the images alone.

    Returns:
        The entries of the maps, or the paths of the images.
    """
    check(read={"sources": sources}, written={"out": [out]}, models={"model": [model]}, config=config)
    places = [resolve("sources", source) for source in sources]
    for ref in list_scenes(places, allow_vrt=config.scene.allow_vrt, search=stac_search(config), out=out)[0]:
        check_scene(ref, out)
    with logs_to_prefect():
        images, own = compose(places, out, config)
        get_run_logger().info("%d images in %s", len(images), Path(out) / IMAGES)
        if model is None:
            return images
        # What was made of an earlier image of the same period gives way.
        own = own.model_copy(update={"run": own.run.model_copy(update={"overwrite": True})})
        entries = map_images(images, model, out, own)
    for entry in entries:
        with suppress(OutputError):
            show_scene(Path(out) / entry["scene"])
    return entries
