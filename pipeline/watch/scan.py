"""Scan: one look at a source. What is new, changed or half done is mapped; the rest is left alone.

The ledger in the output folder remembers each scene; plain loops (``geoseg watch``) and scheduled flows both scan with it.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from geoseg.addresses import unsigned
from geoseg.errors import ConfigError, OutputError, ReadError
from geoseg.models.model_folder import Model
from geoseg.scenes.sources import Refused
from geoseg.transient import passing
from pipeline.config.sections import Config
from pipeline.files.index import INDEX, IndexEntry, write_collection, write_index
from pipeline.files.scene_record import SceneRecord
from pipeline.infer.workers import OpenWorkers
from pipeline.mosaic.zone_maps import is_map_of, joined_links
from pipeline.publish.folder_page import write_folder_page
from pipeline.publish.report import SceneReport
from pipeline.segment.folder import clear_above, segment_or_report
from pipeline.segment.planned import SceneJob
from pipeline.segment.progress import Progress, Quiet, Stoppable
from pipeline.watch.ledger import SOURCES, Ledger, open_ledger
from pipeline.watch.left import note_left
from pipeline.watch.looking import Away, look
from pipeline.watch.made_with import MadeWith, made_with
from pipeline.watch.ready import Told, map_ready, map_together
from pipeline.watch.row import Row
from pipeline.watch.source import Found
from pipeline.watch.status import StatusWriter, held
from pipeline.watch.together import find_mosaic, without_mosaic
from pipeline.watch.webhook import notify, webhook_address
from pipeline.watch.work import PROCESS, REPAIR, Work, after, find_work

__all__ = ["Scan", "Work", "begin_scan", "find_work", "scan_once", "scene_config"]

log = logging.getLogger(__name__)

STALE = "stale"
"""Fact of the ledger: ``index.json`` says something else."""


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
        made: MadeWith,
        status: StatusWriter,
    ) -> None:
        self.work, self.out, self.config, self.away = work, out, config, tuple(away)
        self.refused, self.made = tuple(refused), made
        self._ledger, self._status = ledger, status
        self._rows = ledger.rows()
        self._unmapped: set[str] = set()
        self._status.counted(self._rows, work)

    def config_of(self, found: Found) -> Config:
        """The settings for a scene: what an earlier scan has made of it is replaced."""
        own = found.ref.name
        names = [name for name in self._rows if is_map_of(own, name)] if self.config.watch.mosaic else [own]
        return scene_config(self.config, found, again=any(self._rows[name].facts.get("outputs") for name in names))

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
        repaired = self.work.reasons.get(row.name, "").startswith(REPAIR)
        files = note_left(self.out, row.name, zones=self.config.watch.mosaic)
        row = after(row, report, self.config.watch, time.time(), files, repaired=repaired)
        self._status.running(row.name, begun=False)
        if report.status == "done" and (record := SceneRecord.read(folder)) is not None:
            self._status.mapped(record.seconds)
        if not report.outputs:
            self._unmapped.add(row.name)
        # Of many scenes and many areas most do not touch each other: nobody waits to be told.
        self.tell(row, hook=found.area is None or not report.left_out)

    def tell(self, row: Row, *, hook: bool = True) -> None:
        """Note the row of a scene that was tried, and tell the webhook, unless that is nothing to it.

        Raises:
            OutputError: It can't be noted.
        """
        self._put(row, stale=True)
        self._status.counted(self._rows, self.work)
        if row.status == "waiting":
            log.warning("%s: %s", row.name, row.facts["reason"])
        if self.config.watch.webhook and hook:
            notify(
                webhook_address(self.config.watch.webhook), {"event": f"scene.{row.status}", "out": str(self.out), **row.facts}
            )

    def mapped(self, name: str, report: SceneReport) -> None:
        """Note one of several maps of a mosaic, which has a row of its own; nothing is told of one that has not changed.

        Raises:
            OutputError: It can't be noted.
        """
        now = time.time()
        before = self._rows.get(name) or Row(name, "", "", now, "seen")
        row = after(before, report, self.config.watch, now, note_left(self.out, name), repaired=False)
        if report.status == "done" and (record := SceneRecord.read(self.out / row.name)) is not None:
            self._status.mapped(record.seconds)
        if report.status == "skipped" and before.status == "done":
            self.note([row])
        else:
            self.tell(row)

    def forget_maps(self, whole: str, but: Collection[str]) -> None:
        """Forget maps of a mosaic but for some: others have replaced them."""
        gone = {name for name in self._rows if is_map_of(whole, name) and name not in {whole, *but}}
        if gone:
            self._rows = {name: row for name, row in self._rows.items() if name not in gone}
            self._ledger.remove(gone)
            self._status.counted(self._rows, self.work)

    def row(self, name: str) -> Row:
        """The row of a scene as it is known now."""
        return self._rows[name]

    def note(self, rows: Iterable[Row]) -> None:
        """Change rows of scenes of which there is nothing to tell."""
        changed = [row for row in rows if row != self._rows[row.name]]
        self._rows |= {row.name: row for row in changed}
        self._ledger.put(changed, stale=bool(changed))
        self._status.counted(self._rows, self.work)

    def _put(self, row: Row, *, stale: bool = False) -> None:
        # Known here even where the disk is full.
        self._rows[row.name] = row
        self._ledger.put([row], stale=stale)

    def close(self) -> None:
        """Write the index and the collection, if anything changed.

        Raises:
            OutputError: They can't be written; the next scan does it.
        """
        for name in self._unmapped:
            clear_above(self.out, name)
        stale = self._ledger.fact(STALE) is not None
        if not stale and (self.out / INDEX).is_file() and not self.refused:
            return
        entries = [*self._ledger.entries(), *(_refused_entry(r) for r in self.refused)]
        write_index(self.out, entries)
        if stale:
            write_collection(self.out, entries)
            write_folder_page(self.out, entries, more=joined_links(self.out))
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
    status = status or StatusWriter(out)
    with held(out, status), open_ledger(out) as ledger, status.scanning():
        # As digests: what is secret in an address can't be known in all cases.
        known = (ledger.fact(SOURCES) or "").split("\n")
        seen = look(sources, config, out, [source for source in sources if _mark(source) in known])
        made = made_with(model, config, ledger)
        seen = without_mosaic(seen, made) if config.watch.mosaic else made.scenes(seen)
        ledger.note(SOURCES, "\n".join(sorted({*known, *map(_mark, seen.seen)} - {""})))
        for item in seen.away:
            log.warning("%s; the other sources go on", item.reason)
        if config.watch.mosaic:
            work = find_mosaic(seen, ledger, out, made, config.watch, time.time())
        else:
            work = find_work(seen.found, ledger, out, made.key, config.watch, time.time())
        status.looked(seen.away)
        scan = Scan(work, seen.refused, seen.away, ledger, out, config, made, status)
        try:
            yield scan
        except BaseException as error:
            # What has ended the scan is told, rather than a full disk that met it at its end.
            with suppress(OSError):
                scan.close()
            if isinstance(error, ConfigError) and made.has_changed(model, config):
                raise passing(ReadError(f"{error}; the area of interest has changed meanwhile, and is read anew")) from error
            raise
        scan.close()


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
        if config.watch.mosaic:

            def begin(found: Found, own: Config, told: Told) -> Future[SceneReport]:
                return _ended(told.made(SceneJob.of(found.ref, model, own, out), progress, open_workers))

            return map_together(scan, begin, progress)
        progress.folder(len(work.ready))
        pool: ThreadPoolExecutor | None = None
        told = progress
        if config.watch.at_once > 1:
            pool = stack.enter_context(ThreadPoolExecutor(config.watch.at_once, thread_name_prefix="geoseg-scene"))
            stop = threading.Event()
            told = Stoppable(progress, stop)
            # Signals arrive in this thread; the others learn of them with their next chunk.
            stack.callback(stop.set)

        def start(found: Found, own: Config) -> Future[SceneReport]:
            if pool is not None:
                return pool.submit(segment_or_report, found.ref, model, own, out, told, open_workers)
            # In this thread, where signals arrive: a run that is told to end does so at its next batch.
            return _ended(segment_or_report(found.ref, model, own, out, progress, open_workers))

        reports = map_ready(scan, start)
        for report in reports:
            progress.scene(report)
    return reports


def _ended(report: SceneReport) -> Future[SceneReport]:
    ended: Future[SceneReport] = Future()
    ended.set_result(report)
    return ended
