"""Scan: one look at a source. What is new, changed or half done is mapped; the rest is left alone.

The ledger in the output folder remembers each scene; plain loops (``geoseg watch``) and scheduled flows both scan with it.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from geoseg.errors import ConfigError, Interrupted, ModelError, OutputError, ReadError
from geoseg.models.folder import Model
from geoseg.scenes.sources import Refused
from pipeline.config import Config, WatchConfig
from pipeline.folder import LOCK, check_out, segment_or_report
from pipeline.index import INDEX, write_collection, write_index
from pipeline.infer import OpenWorkers
from pipeline.ledger import Ledger, Row, open_ledger
from pipeline.lock import exclusive
from pipeline.progress import Progress, Quiet
from pipeline.report import SceneReport
from pipeline.run_folder import REPORT
from pipeline.source import Found, list_source
from pipeline.webhook import notify, webhook_address

__all__ = ["Scan", "Work", "begin_scan", "find_work", "map_ready", "scan_once", "scene_config", "watch"]

log = logging.getLogger(__name__)

FINISHED = ("done", "skipped")


@dataclass(frozen=True, slots=True)
class Work:
    """What a look at the source has found."""

    ready: tuple[Found, ...]
    """To be mapped now."""
    waiting: tuple[str, ...]
    """Still being written, or without their marker."""
    quarantined: tuple[str, ...]
    """Given up on, until they change."""
    known: int
    """Mapped before."""


def find_work(found: Iterable[Found], ledger: Ledger, out: Path, key: str, watch: WatchConfig, now: float) -> Work:
    """Tell what is to be mapped, and note what is seen for the first time.

    Args:
        found: The scenes of the source.
        ledger: What is known of them.
        out: The output folder.
        key: What they are mapped with; scenes that were mapped with another are mapped again.
        watch: When a file is whole, and after how many attempts a scene is given up.
        now: Seconds since 1970.
    """
    rows = ledger.rows()
    ready, waiting, quarantined, known = [], [], [], 0
    fresh: list[Row] = []
    for item in found:
        row = rows.get(item.ref.name)
        if row is None or (row.version, row.key) != (item.version, key):
            row = Row(item.ref.name, item.version, key, now, "seen", 0, None if row is None else row.entry)
            fresh.append(row)
        if row.status == "done" and (out / row.name / REPORT).is_file():
            known += 1
        elif row.status != "done" and row.attempts >= watch.max_failures:
            if row.status != "quarantined":
                fresh.append(_quarantined(row))
            quarantined.append(row.name)
        elif not item.marked or not _rests(item, row, watch.settle_s, now):
            waiting.append(row.name)
        else:
            ready.append(item)
    ledger.put(fresh)
    return Work(tuple(ready), tuple(waiting), tuple(quarantined), known)


def _rests(item: Found, row: Row, settle_s: float, now: float) -> bool:
    """Whether the files have not changed for long enough, by their own time or by ours: servers' clocks differ."""
    return item.modified is None or now - item.modified >= settle_s or now - row.seen >= settle_s


def _outputs(row: Row) -> list[str]:
    """What an earlier scan has made of a scene."""
    return list(json.loads(row.entry)["outputs"]) if row.entry else []


def _quarantined(row: Row) -> Row:
    entry = json.loads(row.entry) if row.entry else {"scene": row.name, "outputs": [], "seconds": 0.0, "warnings": []}
    reason = entry.get("reason") if row.status != "started" else "the process ended while it was mapped"
    entry |= {"status": "failed", "reason": f"in quarantine after {row.attempts} attempts, until it changes: {reason}"}
    return replace(row, status="quarantined", entry=json.dumps(entry, ensure_ascii=False))


class Scan:
    """A scan under way; for one thread."""

    def __init__(self, work: Work, refused: Sequence[Refused], ledger: Ledger, out: Path, config: Config, key: str) -> None:
        self.work, self.out, self.config = work, out, config
        self._refused, self._ledger, self._key = refused, ledger, key
        self._rows = ledger.rows()
        self._touched = False

    def config_of(self, found: Found) -> Config:
        """The settings for a scene: what an earlier scan has made of it is replaced."""
        return scene_config(self.config, found, again=bool(_outputs(self._rows[found.ref.name])))

    def started(self, found: Found) -> None:
        """Note that a scene is begun: should the process end now, it counts as an attempt."""
        row = self._rows[found.ref.name]
        self._put(replace(row, status="started", attempts=row.attempts + 1))

    def stopped(self, found: Found) -> None:
        """Take back ``started``: the scan was stopped, the scene is not to blame."""
        row = self._rows[found.ref.name]
        self._put(replace(row, attempts=max(0, row.attempts - 1)))

    def finished(self, found: Found, report: SceneReport) -> None:
        """Note what became of a scene, and tell the webhook."""
        row = self._rows[found.ref.name]
        good = report.status in FINISHED
        entry = report.entry() | ({"status": "done", "reason": None} if good else {})
        if not entry["outputs"] and (self.out / row.name / REPORT).is_file():
            # The maps of the version before are still there.
            entry["outputs"] = _outputs(row)
        row = replace(
            row, status="done" if good else report.status, attempts=0 if good else row.attempts,
            entry=json.dumps(entry, ensure_ascii=False),
        )  # fmt: skip
        if not good and row.attempts >= self.config.watch.max_failures:
            row = _quarantined(row)
        self._put(row)
        self._touched = True
        if self.config.watch.webhook:
            notify(webhook_address(self.config.watch.webhook), {"event": f"scene.{row.status}", "out": str(self.out), **entry})

    def _put(self, row: Row) -> None:
        self._ledger.put([row])
        self._rows[row.name] = row

    def close(self) -> None:
        """Write the index and the collection, if anything changed."""
        entries = [*self._ledger.entries(), *(_refused_entry(r) for r in self._refused)]
        if self._touched or not (self.out / INDEX).is_file() or self._refused:
            write_index(self.out, entries)
        if self._touched:
            write_collection(self.out, entries)


def _refused_entry(item: Refused) -> dict[str, object]:
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
def begin_scan(sources: Sequence[str], model: Model, config: Config, out: Path) -> Iterator[Scan]:
    """Look at a source. While the scan lasts, no other works on the same output.

    Raises:
        OutputError: The output folder can't be written, or another run is active there.
        ConfigError: A source can't be listed as it is written.
        ReadError: A server does not answer.
    """
    if config.watch.webhook:
        webhook_address(config.watch.webhook)
    check_out(out)
    with exclusive(out / LOCK), open_ledger(out) as ledger:
        found, refused = list_source(sources, config)
        key = f"{model.sha256}:{config.result_hash()}"
        work = find_work(found, ledger, out, key, config.watch, time.time())
        scan = Scan(work, refused, ledger, out, config, key)
        try:
            yield scan
        finally:
            scan.close()


def map_ready(scan: Scan, start: Callable[[Found, Config], Future[SceneReport]]) -> list[SceneReport]:
    """Have the scenes that are ready mapped, at most ``watch.at_once`` at a time.

    Args:
        scan: The scan.
        start: Begins a scene; its future raises only what would stop every scene.

    Raises:
        Interrupted: The run was stopped.
    """
    waiting = list(scan.work.ready)
    running: dict[Future[SceneReport], Found] = {}
    reports = []
    try:
        while waiting or running:
            while waiting and len(running) < scan.config.watch.at_once:
                found = waiting.pop(0)
                config = scan.config_of(found)
                scan.started(found)
                running[start(found, config)] = found
            done, _ = wait(running, return_when=FIRST_COMPLETED, timeout=0.5)
            for future in done:
                report = future.result()
                scan.finished(running.pop(future), report)
                reports.append(report)
    except BaseException:
        for found in running.values():
            scan.stopped(found)
        raise
    return reports


def scan_once(
    sources: Sequence[str], model: Model, config: Config, out: Path, open_workers: OpenWorkers, progress: Progress | None = None
) -> list[SceneReport]:
    """One scan in this process; gives a report of each scene that was mapped.

    Raises:
        OutputError: The output folder can't be written, or another run is active there.
        Interrupted: The run was stopped.
    """
    progress = progress or Quiet()
    with begin_scan(sources, model, config, out) as scan:
        work = scan.work
        if not work.ready:
            return []
        progress.folder(len(work.ready))
        with ThreadPoolExecutor(config.watch.at_once, thread_name_prefix="geoseg-scene") as pool:

            def start(found: Found, own: Config) -> Future[SceneReport]:
                return pool.submit(segment_or_report, found.ref, model, own, out, progress, open_workers)

            reports = map_ready(scan, start)
        for report in reports:
            progress.scene(report)
    return reports


def watch(
    sources: Sequence[str],
    model: Model,
    config: Config,
    out: Path,
    open_workers: OpenWorkers,
    *,
    every_s: float,
    stop: threading.Event,
    progress: Progress | None = None,
    on_tick: Callable[[list[SceneReport]], None] = lambda _: None,
) -> None:
    """Scan again and again until ``stop`` is set; a source or an output that is away now is tried again the next time.

    Raises:
        ConfigError: The settings can't work.
        ModelError: The model can't be used.
        Interrupted: The run was stopped.
    """
    while not stop.is_set():
        started = time.monotonic()
        try:
            on_tick(scan_once(sources, model, config, out, open_workers, progress))
        except (ConfigError, ModelError, Interrupted):
            raise
        except (ReadError, OutputError) as error:
            log.warning("%s; tried again in %.0f s", error, every_s)
        stop.wait(max(0.0, every_s - (time.monotonic() - started)))
