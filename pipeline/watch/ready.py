"""Scenes that a scan has found ready: mapped one by one, or as one."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from geoseg.errors import OutputError
from geoseg.scenes.sources import SceneRef
from pipeline.config.sections import Config
from pipeline.infer.workers import OpenWorkers
from pipeline.mosaic.run import maps_or_report
from pipeline.mosaic.scene_index import KnownScenes
from pipeline.mosaic.scenes import Given, survey
from pipeline.mosaic.zone_maps import beside
from pipeline.publish.report import SceneReport
from pipeline.segment.outcome import failed_scene
from pipeline.segment.planned import SceneJob
from pipeline.segment.progress import Progress, Quiet
from pipeline.watch.source import Found
from pipeline.watch.together import scenes_in, version_of
from pipeline.watch.work import FINISHED, after

if TYPE_CHECKING:
    from pipeline.watch.scan import Scan

__all__ = ["Told", "map_ready", "map_together"]


def map_ready(scan: Scan, start: Callable[[Found, Config], Future[SceneReport]]) -> list[SceneReport]:
    """Have the scenes that are ready mapped, at most ``watch.at_once`` at a time.

    Args:
        scan: The scan.
        start: Begins a scene; its future raises only what would stop every scene.

    Raises:
        OutputError: The ledger can't be written; scenes that were begun are finished first.
        Interrupted: The run was stopped.
    """
    waiting = list(scan.work.ready)
    running: dict[Future[SceneReport], Found] = {}
    reports = []
    begun: Found | None = None
    try:
        while waiting or running:
            while waiting and len(running) < scan.config.watch.at_once:
                begun = waiting.pop(0)
                config = scan.config_of(begun)
                scan.started(begun)
                running[start(begun, config)] = begun
                begun = None
            done, _ = wait(running, return_when=FIRST_COMPLETED, timeout=0.5)
            for future in done:
                report = _result(future, running[future], scan)
                found = running.pop(future)
                reports.append(report)
                scan.finished(found, report)
    except OutputError:
        # The disk is full, say. What runs may still succeed, and is told of where there is room again.
        for future, found in running.items():
            wait([future])
            with suppress(OutputError):
                scan.finished(found, _result(future, found, scan))
        raise
    except BaseException:
        for found in [*running.values(), *([begun] if begun else [])]:
            scan.stopped(found)
        raise
    return reports


def _result(future: Future[SceneReport], found: Found, scan: Scan) -> SceneReport:
    try:
        return future.result()
    except Exception as error:  # noqa: BLE001 - whatever a scene raises, the others go on
        return failed_scene(error, found.ref, scan.out)


@dataclass(frozen=True, slots=True)
class Told:
    """What the making of a mosaic has told, in whatever thread."""

    out: Path
    folders: Collection[Path]
    """Those that hold the mosaics."""
    had: Collection[str]
    """Names of the scenes of the mosaics that were there."""
    wholes: dict[str, SceneReport] = field(default_factory=dict)
    """By name, mosaics: one, or one of each area of interest."""
    maps: dict[str, list[SceneReport]] = field(default_factory=dict)
    """Of each mosaic, its maps; one a zone."""
    opened: list[Sequence[Given]] = field(default_factory=list)
    """Its scenes, once they were opened."""
    spared: dict[str, SceneReport] = field(default_factory=dict)
    """By name, scenes that were left out."""

    def left_out(self, ref: SceneRef, error: Exception) -> None:
        """Leave a scene out; see ``LeaveOut``."""
        report = failed_scene(error, ref, self.out)
        if report.transient and ref.name in self.had:
            raise error
        self.spared[ref.name] = report

    def made(self, job: SceneJob, progress: Progress, open_workers: OpenWorkers) -> SceneReport:
        """Make a mosaic; see ``maps_or_report``."""
        name, maps = job.ref.name, self.maps.setdefault(job.ref.name, [])

        def look() -> Sequence[Given]:
            if not self.opened:
                known = KnownScenes(self.folders, job.config, job.model)
                self.opened.append(survey(job.ref.later, job.config, job.model.card, self.left_out, known.given))
            return self.opened[0]

        self.wholes[name], _ = maps_or_report(job, progress, open_workers, maps.append, look)
        return self.wholes[name]


def map_together(
    scan: Scan, begin: Callable[[Found, Config, Told], Future[SceneReport]], progress: Progress | None = None
) -> list[SceneReport]:
    """Have mosaics made, without the scenes that can't be used; gives a report of each map, and one of each of these.

    A scene that fails by what may pass does not leave a mosaic that it is in: that one stays as it is until all answer.

    Args:
        scan: The scan.
        begin: Begins one; its future has the report of all maps, and raises only what would stop every mosaic.
        progress: Is told of each report.

    Raises:
        OutputError: The ledger can't be written.
        Interrupted: The run was stopped.
    """
    folders = {(scan.out / whole).parent for whole in scan.made.wholes}
    told = Told(scan.out, folders, scenes_in(scan.out, scan.made))
    wholes = map_ready(scan, lambda found, config: begin(found, config, told))
    _note(scan, told)
    maps = [report for made in told.maps.values() for report in made]
    # Of those that could not even be begun there are no maps.
    maps += [report for report in wholes if report not in told.wholes.values()]
    reports = [*maps, *told.spared.values()]
    for report in reports:
        (progress or Quiet()).scene(report)
    return reports


def _note(scan: Scan, told: Told) -> None:
    """Note what became of the scenes of mosaics, and of their maps."""
    now = time.time()
    for name, report in told.spared.items():
        begun = replace(scan.row(name), status="started", attempts=scan.row(name).attempts + 1)
        scan.tell(after(begun, report, scan.config.watch, now, None, repaired=False))
    used = [item for item in scan.work.parts if item.ref.name not in told.spared]
    for name, whole in told.wholes.items():
        zones = {beside(name, report.scene): report for report in told.maps[name]}
        zones.pop(name, None)
        for zone, report in zones.items():
            scan.mapped(zone, report)
        if whole.status not in (*FINISHED, "partial"):
            continue
        rows = [replace(scan.row(i.ref.name), status="done", attempts=0, delays=0, retry_at=None, entry=None) for i in used]
        # What was left out is new to the mosaic once it can be used.
        mosaic = replace(scan.row(name), version=version_of(used))
        # Of several maps each is told by itself.
        scan.note([*rows, replace(mosaic, entry=None) if zones and whole.status in FINISHED else mosaic])
        scan.forget_maps(name, zones)
