"""A mosaic, from its scenes to published files: each scene by the network, then all combined, and the rest as of one scene."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from geoseg.errors import OutputError
from geoseg.models.ensemble import AnyModel
from geoseg.scenes.sources import Refused, SceneRef
from pipeline.config.sections import Config
from pipeline.files.atomic import remove_tree
from pipeline.files.index import Index, write_collection
from pipeline.files.lock import exclusive
from pipeline.files.manifest import Manifest
from pipeline.files.run_folder import RunFolder
from pipeline.infer import run as chunk_run
from pipeline.infer.storage import Storage, open_storage
from pipeline.infer.workers import OpenWorkers
from pipeline.mosaic.combining import CombineWorkers, Recipe
from pipeline.mosaic.kept import KeptChunks
from pipeline.mosaic.lattice import Lattice
from pipeline.mosaic.planning import SceneSettings, plan_mosaic, plan_scene
from pipeline.mosaic.results import SceneResult
from pipeline.mosaic.scene_index import KnownScenes, write_scenes
from pipeline.mosaic.scenes import Given, PlacedScene, in_order, survey
from pipeline.mosaic.store import PlannedMosaic
from pipeline.mosaic.utm_zones import by_zones, jobs_by_area
from pipeline.mosaic.zone_maps import clear_others, join_maps, joined_links, refuse_others, report_of_all
from pipeline.plan.domain import DomainCheck
from pipeline.plan.plan import Plan
from pipeline.publish.folder_page import write_folder_page
from pipeline.publish.report import SceneReport
from pipeline.segment.drawn_ahead import DrawnAhead
from pipeline.segment.folder import LOCK, check_out, clear_above, unmade
from pipeline.segment.outcome import failed_scene
from pipeline.segment.overlapped import map_scene
from pipeline.segment.planned import SceneJob
from pipeline.segment.progress import Progress, Quiet
from pipeline.segment.publishing import clear, publish, skipped
from pipeline.segment.run import held

__all__ = ["map_mosaic", "maps_or_report", "mosaic_or_report"]

WORK = "mosaic"
"""Below the folder of what is under way: the results of scenes, and combined chunks for later runs."""
COMBINED, LOOKS = "combined", "looks.npz"
MOST_NOTES = 100


def map_mosaic(
    scenes: Sequence[SceneRef],
    refused: Sequence[Refused],
    model: AnyModel,
    config: Config,
    out: Path,
    open_workers: OpenWorkers,
    progress: Progress | None = None,
) -> list[SceneReport]:
    """Map scenes as one into ``out / "mosaic"``, with an index beside it; those of several UTM zones into a folder for each.

    With a column of areas of interest there is a mosaic of each feature, ``out / FEATURE / "mosaic"``.

    Raises:
        OutputError: The output folder can't be written, or another run is active there.
        ConfigError: The settings can't work, or a scene can't be used.
        Interrupted: The run was stopped.
    """
    progress = progress or Quiet()
    jobs, made = jobs_by_area(scenes, refused, model, config, out), not out.exists()
    check_out(out)
    with unmade(out, made=made), exclusive(out / LOCK):
        index, reports, gone = Index(out), list[SceneReport](), list[str]()
        known = KnownScenes({job.folder.parent for job in jobs}, config, model)
        look = cache(partial(survey, jobs[0].ref.later, config, model.card, known=known.given))

        def each(report: SceneReport) -> None:
            reports.append(report)
            progress.scene(report)
            index.put(report.entry())
            index.write()

        for job in jobs:
            whole, replaced = maps_or_report(job, progress, open_workers, each, look)
            gone += replaced
            if not whole.outputs:
                clear_above(out, job.ref.name)
        index.forget(gone)
        index.write()
        write_collection(out, index.entries)
        if len(reports) > 1 or gone:
            write_folder_page(out, index.entries, more=joined_links(out))
    return reports


def maps_or_report(
    job: SceneJob,
    progress: Progress,
    open_workers: OpenWorkers,
    each: Callable[[SceneReport], None],
    look: Callable[[], Sequence[Given]],
) -> tuple[SceneReport, list[str]]:
    """Map scenes as one, those of several UTM zones into a map for each, and join their polygons; what is raised is reported.

    Args:
        job: See ``jobs_by_area``.
        progress: Is told of what happens.
        open_workers: Makes what does the chunks.
        each: Is told of each map, and of all together where these can't be told or joined.
        look: Opens the scenes, see ``survey``.

    Returns:
        The report of all maps as that of the job, and the names of maps that others have replaced.

    Raises:
        Interrupted: The run was stopped.
        ConfigError: The settings can't work for any scene.
        ModelError: The model can't be used.
    """
    reports, gone, started = list[SceneReport](), list[str](), time.monotonic()
    try:
        given = look()
        jobs = by_zones(job, given)
        refuse_others(job, jobs)
        for one in jobs:
            reports.append(_or_report(one, partial(_mapped, one, given, progress, open_workers)))
            each(reports[-1])
        if join_maps(jobs, reports):
            gone = clear_others(job, jobs)
    except Exception as error:  # noqa: BLE001 - whatever it is, the index tells it
        whole = failed_scene(error, job.ref, job.out, time.monotonic() - started)
        each(whole)
    else:
        whole = reports[0] if jobs[0] is job else report_of_all(job, reports)
    return whole, gone


def mosaic_or_report(
    job: SceneJob,
    progress: Progress,
    open_workers: OpenWorkers,
    look: Callable[[], Sequence[Given]],
    lattice: Lattice | None = None,
) -> SceneReport:
    """Map scenes of one CRS as one; whatever is raised is reported.

    Args:
        job: See ``jobs_by_area``.
        progress: Is told of what happens.
        open_workers: Makes what does the chunks.
        look: Opens the scenes, see ``survey``.
        lattice: That of another mosaic that this one is to lie on.

    Raises:
        Interrupted: The run was stopped.
        ConfigError: The settings can't work for any scene.
        ModelError: The model can't be used.
    """
    return _or_report(job, lambda: _mapped(job, look(), progress, open_workers, lattice))


def _or_report(job: SceneJob, make: Callable[[], SceneReport]) -> SceneReport:
    started = time.monotonic()
    try:
        report = make()
    except Exception as error:  # noqa: BLE001 - whatever it is, the index tells it
        report = failed_scene(error, job.ref, job.out)
        with suppress(OutputError):
            RunFolder(job.folder).leave()
    return replace(report, seconds=time.monotonic() - started)


def _mapped(
    job: SceneJob, given: Sequence[Given], progress: Progress, open_workers: OpenWorkers, lattice: Lattice | None = None
) -> SceneReport:
    with held(job):
        planned, common = plan_mosaic(job, given, lattice)
        if planned.finished is not None:
            report = skipped(planned)
        else:
            planned, results = _infer_scenes(planned, common, progress, open_workers)
            progress.planned(planned.plan, planned.done)
            kept = KeptChunks(planned.work / WORK / COMBINED) if job.config.run.keep else None
            recipe = Recipe(planned.lattice, results, job.config.mosaic, kept)
            combining = partial(CombineWorkers, recipe)
            with DrawnAhead(planned) as ahead:
                mapped = map_scene(
                    planned,
                    lambda plan, storage, _: combining(plan, storage),
                    progress.chunk,
                    on_inferred=partial(progress.stage, "stitch and vectorize"),
                    on_traced=ahead.begin,
                )
                progress.stage("publish")
                report = publish(planned, mapped, partial(write_scenes, planned), ahead.pictures)
            if kept is not None:
                kept.keep_only({recipe.key(planned.plan, index) for index in planned.plan.active})
        if not job.config.run.keep:
            for scene in planned.scenes:
                _storage(planned, scene).clear()
        clear(planned)
    return report


def _infer_scenes(
    planned: PlannedMosaic, common: SceneSettings, progress: Progress, open_workers: OpenWorkers
) -> tuple[PlannedMosaic, list[SceneResult]]:
    """Run the network over each scene, one after the other; what earlier runs have finished is verified and kept."""
    results, notes, domains = {}, list(planned.plan.warnings), planned.plan.domains
    # They and the mosaic itself are planned one after the other.
    progress.folder(len(planned.scenes) + 1)
    for scene in planned.scenes:
        folder = planned.work / WORK / _slug(scene)
        folder.mkdir(parents=True, exist_ok=True)
        plan = plan_scene(scene, common, folder / LOOKS)
        results[scene.name] = _infer_scene(planned, scene, plan, progress, open_workers)
        notes += [f"{scene.name}: {note}" for note in plan.warnings]
        domains = max(domains, plan.domains, key=_distance)
    _remove_others(planned)
    warnings = tuple(dict.fromkeys(notes))[:MOST_NOTES]
    whole = replace(planned, plan=replace(planned.plan, warnings=warnings, domains=domains))
    return whole, [results[scene.name] for scene in in_order(planned.scenes, planned.order)]


def _distance(domains: Sequence[DomainCheck]) -> tuple[bool, int, float]:
    """How far a scene lies from what its models were made for, to compare scenes."""
    return bool(domains), sum(len(one.reasons) for one in domains), max((one.score or 0.0 for one in domains), default=0.0)


def _remove_others(planned: PlannedMosaic) -> None:
    """Remove the results of scenes that are no longer of the mosaic."""
    own = {COMBINED, *map(_slug, planned.scenes)}
    for path in (planned.work / WORK).iterdir():
        if path.name not in own:
            remove_tree(path)


def _infer_scene(
    planned: PlannedMosaic, scene: PlacedScene, plan: Plan, progress: Progress, open_workers: OpenWorkers
) -> SceneResult:
    folder = planned.work / WORK / _slug(scene)
    manifest = Manifest.open(folder / "manifest.jsonl", plan.identity(planned.job.config))
    storage = _storage(planned, scene)
    progress.planned(plan, len(manifest.chunks))
    receipts = list(chunk_run.infer(plan, manifest, storage, open_workers, progress.chunk))
    plan.scene.verify_unchanged()
    return SceneResult.of(scene, plan, storage, receipts)


def _storage(planned: PlannedMosaic, scene: PlacedScene) -> Storage:
    """Where the chunk results of a scene are: below the run folder, or where all workers reach them."""
    if planned.job.config.run.scratch is None:
        return open_storage(str(planned.work / WORK / _slug(scene) / "chunks"))
    return open_storage(f"{planned.storage().address.rstrip('/')}-{_slug(scene)}")


def _slug(scene: PlacedScene) -> str:
    return hashlib.sha256(scene.name.encode()).hexdigest()[:16]
