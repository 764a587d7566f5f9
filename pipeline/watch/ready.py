"""Scenes that a scan has found ready: mapped one by one, or as one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from geoseg.errors import OutputError
from geoseg.scenes.sources import SceneRef
from pipeline.config.sections import Config
from pipeline.mosaic.planning import NAME
from pipeline.mosaic.scenes import LeaveOut
from pipeline.publish.report import SceneReport
from pipeline.segment.outcome import failed_scene
from pipeline.segment.progress import Progress, Quiet
from pipeline.watch.source import Found
from pipeline.watch.together import scenes_in, version_of
from pipeline.watch.work import FINISHED, after

if TYPE_CHECKING:
    from pipeline.watch.scan import Scan

__all__ = ["map_ready", "map_together"]


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


def map_together(
    scan: Scan, begin: Callable[[Found, Config, LeaveOut], Future[SceneReport]], progress: Progress | None = None
) -> list[SceneReport]:
    """Have the mosaic made, without the scenes that can't be used; gives its report, and one of each of these.

    A scene that fails by what may pass does not leave a mosaic that it is in: that one stays as it is until all answer.

    Args:
        scan: The scan.
        begin: Begins it; its future raises only what would stop every mosaic.
        progress: Is told of each report.

    Raises:
        OutputError: The ledger can't be written.
        Interrupted: The run was stopped.
    """
    had, spared = scenes_in(scan.out), dict[str, SceneReport]()

    def left_out(ref: SceneRef, error: Exception) -> None:
        report = failed_scene(error, ref, scan.out)
        if report.transient and ref.name in had:
            raise error
        spared[ref.name] = report

    reports = map_ready(scan, lambda found, config: begin(found, config, left_out))
    _note(scan, {report.scene: report for report in reports}.get(NAME), spared)
    reports += spared.values()
    for report in reports:
        (progress or Quiet()).scene(report)
    return reports


def _note(scan: Scan, whole: SceneReport | None, spared: Mapping[str, SceneReport]) -> None:
    """Note what became of the scenes of a mosaic."""
    now = time.time()
    for name, report in spared.items():
        begun = replace(scan.row(name), status="started", attempts=scan.row(name).attempts + 1)
        scan.tell(after(begun, report, scan.config.watch, now, None, repaired=False))
    if whole is None or whole.status not in (*FINISHED, "partial"):
        return
    used = [item for item in scan.work.parts if item.ref.name not in spared]
    rows = [replace(scan.row(i.ref.name), status="done", attempts=0, delays=0, retry_at=None, entry=None) for i in used]
    # What was left out is new to the mosaic once it can be used.
    scan.note([*rows, replace(scan.row(NAME), version=version_of(used))])
