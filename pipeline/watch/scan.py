"""Scan: one look at a source. What is new, changed or half done is mapped; the rest is left alone.

The ledger in the output folder remembers each scene; plain loops (``geoseg watch``) and scheduled flows both scan with it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from geoseg.addresses import unsigned
from geoseg.errors import Interrupted, OutputError
from geoseg.models.model_folder import Model
from geoseg.scenes.sources import Refused
from geoseg.vectors.given_area import read_area
from pipeline.config.sections import Config
from pipeline.files.index import INDEX, IndexEntry, write_collection, write_index
from pipeline.files.lock import exclusive
from pipeline.files.reports import note_files
from pipeline.files.scene_record import SceneRecord
from pipeline.infer.workers import OpenWorkers
from pipeline.publish.folder_page import write_folder_page
from pipeline.publish.report import SceneReport
from pipeline.segment.folder import LOCK, check_out, segment_or_report
from pipeline.segment.outcome import failed_scene
from pipeline.segment.progress import Lasting, Progress, Quiet
from pipeline.watch.ledger import Ledger, open_ledger
from pipeline.watch.looking import Away, look
from pipeline.watch.row import Row
from pipeline.watch.source import Found
from pipeline.watch.status import StatusWriter
from pipeline.watch.webhook import notify, webhook_address
from pipeline.watch.work import PROCESS, REPAIR, Work, after, find_work

__all__ = ["Scan", "Work", "begin_scan", "find_work", "map_ready", "run_key", "scan_once", "scene_config"]

log = logging.getLogger(__name__)

STALE, SOURCES = "stale", "sources"
"""Facts of the ledger: ``index.json`` says something else; the sources that were listed before."""


class Scan:
    """A scan under way; for one thread."""

    def __init__(
        self,
        work: Work,
        refused: Sequence[Refused],
        away: Sequence[Away],
        ledger: Ledger,
        out: Path,
        config: Config,
        status: StatusWriter,
    ) -> None:
        self.work, self.out, self.config, self.away = work, out, config, tuple(away)
        self._refused, self._ledger, self._status = refused, ledger, status
        self._rows = ledger.rows()
        self._status.counted(self._rows, work)

    def config_of(self, found: Found) -> Config:
        """The settings for a scene: what an earlier scan has made of it is replaced."""
        return scene_config(self.config, found, again=bool(self._rows[found.ref.name].facts.get("outputs")))

    def started(self, found: Found) -> None:
        """Note that a scene is begun: should the process end now, it counts as an attempt."""
        row = self._rows[found.ref.name]
        self._put(replace(row, status="started", attempts=row.attempts + 1, holder=PROCESS))
        self._status.running(found.ref.name, begun=True)

    def stopped(self, found: Found) -> None:
        """Take back ``started``: the scan was stopped, the scene is not to blame."""
        row = self._rows[found.ref.name]
        # Where it can't be noted, the next scan of this process knows that it was begun here.
        with suppress(OutputError):
            self._put(replace(row, status="seen", attempts=max(0, row.attempts - 1), holder=None))
        self._status.running(found.ref.name, begun=False)
        self._status.counted(self._rows, self.work)

    def finished(self, found: Found, report: SceneReport) -> None:
        """Note what became of a scene, and tell the webhook.

        Raises:
            OutputError: It can't be noted; the next scan looks at the scene again.
        """
        row, folder = self._rows[found.ref.name], self.out / found.ref.name
        noted = note_files(folder)
        repaired = self.work.reasons.get(row.name, "").startswith(REPAIR)
        files = None if noted is None else json.dumps(noted)
        row = after(row, report, self.config.watch, time.time(), files, repaired=repaired)
        self._status.running(row.name, begun=False)
        if report.status == "done" and (record := SceneRecord.read(folder)) is not None:
            self._status.mapped(record.seconds)
        self._put(row, stale=True)
        self._status.counted(self._rows, self.work)
        if row.status == "waiting":
            log.warning("%s: %s", row.name, row.facts["reason"])
        if self.config.watch.webhook:
            notify(
                webhook_address(self.config.watch.webhook), {"event": f"scene.{row.status}", "out": str(self.out), **row.facts}
            )

    def _put(self, row: Row, *, stale: bool = False) -> None:
        # Known here even where the disk is full.
        self._rows[row.name] = row
        self._ledger.put([row], stale=stale)

    def close(self) -> None:
        """Write the index and the collection, if anything changed.

        Raises:
            OutputError: They can't be written; the next scan does it.
        """
        stale = self._ledger.fact(STALE) is not None
        if not stale and (self.out / INDEX).is_file() and not self._refused:
            return
        entries = [*self._ledger.entries(), *(_refused_entry(r) for r in self._refused)]
        write_index(self.out, entries)
        if stale:
            write_collection(self.out, entries)
            write_folder_page(self.out, entries)
            self._ledger.note(STALE, None)


def _mark(source: str) -> str:
    return hashlib.sha256(unsigned(source).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _refused_entry(item: Refused) -> IndexEntry:
    return SceneReport(scene=item.name, status=item.status, reason=item.reason).entry()


def scene_config(config: Config, found: Found, *, again: bool) -> Config:
    """The settings for one scene of a source."""
    changes: dict[str, object] = {}
    if again:
        changes["overwrite"] = True
    if found.acquired and config.run.date is None:
        changes["date"] = found.acquired
    return config.model_copy(update={"run": config.run.model_copy(update=changes)}) if changes else config


def run_key(model: Model, config: Config) -> str:
    """Key of the model and the settings that scenes are mapped with, as rows of the ledger hold it."""
    if config.area.aoi is None:
        return f"{model.sha256}:{config.result_hash()}"
    area = read_area(config.area.aoi, config.scene.assume_crs)
    return f"{model.sha256}:{config.result_hash()}:{area.digest}"


@contextmanager
def begin_scan(
    sources: Sequence[str], model: Model, config: Config, out: Path, status: StatusWriter | None = None
) -> Iterator[Scan]:
    """Look at a source. While the scan lasts, no other works on the same output.

    Raises:
        OutputError: The output folder can't be written, or another run is active there.
        ConfigError: A source can't be listed as it is written.
        ReadError: No source answers.
    """
    if config.watch.webhook:
        webhook_address(config.watch.webhook)
    check_out(out)
    status = status or StatusWriter(out)
    with exclusive(out / LOCK), open_ledger(out) as ledger, status.scanning():
        # As digests: what is secret in an address can't be known in all cases.
        known = (ledger.fact(SOURCES) or "").split("\n")
        seen = look(sources, config, [source for source in sources if _mark(source) in known])
        ledger.note(SOURCES, "\n".join(sorted({*known, *map(_mark, seen.seen)} - {""})))
        for item in seen.away:
            log.warning("%s; the other sources go on", item.reason)
        work = find_work(seen.found, ledger, out, run_key(model, config), config.watch, time.time())
        status.looked(seen.away)
        scan = Scan(work, seen.refused, seen.away, ledger, out, config, status)
        try:
            yield scan
        except BaseException:
            # What has ended the scan is told, rather than a full disk that met it at its end.
            with suppress(OSError):
                scan.close()
            raise
        scan.close()


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


class _Stoppable(Lasting):
    """Ends the run that tells it something after it was told to stop."""

    def __init__(self, inner: Progress, stop: threading.Event) -> None:
        super().__init__(inner)
        self._stop, self._one_at_a_time = stop, threading.Lock()

    def _tell(self, say: Callable[[], None]) -> None:
        if self._stop.is_set():
            raise Interrupted("stopped after a chunk")
        with self._one_at_a_time:
            super()._tell(say)


def scan_once(
    sources: Sequence[str],
    model: Model,
    config: Config,
    out: Path,
    open_workers: OpenWorkers,
    progress: Progress | None = None,
    status: StatusWriter | None = None,
) -> list[SceneReport]:
    """One scan in this process; gives a report of each scene that was mapped.

    Raises:
        OutputError: The output folder can't be written, or another run is active there.
        Interrupted: The run was stopped.
    """
    progress = progress or Quiet()
    with begin_scan(sources, model, config, out, status) as scan, ExitStack() as stack:
        work = scan.work
        if not work.ready:
            return []
        progress.folder(len(work.ready))
        pool: ThreadPoolExecutor | None = None
        told = progress
        if config.watch.at_once > 1:
            pool = stack.enter_context(ThreadPoolExecutor(config.watch.at_once, thread_name_prefix="geoseg-scene"))
            stop = threading.Event()
            told = _Stoppable(progress, stop)
            # Signals arrive in this thread; the others learn of them with their next chunk.
            stack.callback(stop.set)

        def start(found: Found, own: Config) -> Future[SceneReport]:
            if pool is not None:
                return pool.submit(segment_or_report, found.ref, model, own, out, told, open_workers)
            # In this thread, where signals arrive: a run that is told to end does so at its next batch.
            ended: Future[SceneReport] = Future()
            ended.set_result(segment_or_report(found.ref, model, own, out, progress, open_workers))
            return ended

        reports = map_ready(scan, start)
        for report in reports:
            progress.scene(report)
    return reports
