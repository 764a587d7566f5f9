"""The state of a watch for other programs: ``status.json``, and the same as Prometheus text in ``status.prom``.

Both lie in the output folder, are replaced whole, and are written after every scan, and every some seconds while one is
under way or waited for. That they can't be written is no error: the disk may be full, and the maps matter more.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import socket
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import geoseg
from geoseg.documents import read_json, read_text
from geoseg.errors import ConfigError, ModelError
from pipeline.files.lock import exclusive
from pipeline.segment.folder import LOCK, check_out, unmade
from pipeline.segment.outcome import first_line
from pipeline.watch.backoff import stamp
from pipeline.watch.ledger import LEDGER, SOURCES, read_fact
from pipeline.watch.looking import Away
from pipeline.watch.prometheus import HEADER, exposition
from pipeline.watch.row import Row
from pipeline.watch.status_document import Disk, ScanStatus, StatusDocument
from pipeline.watch.work import Work

__all__ = ["FORMAT", "STATUS_JSON", "STATUS_PROM", "StatusWriter", "held", "read_status"]

log = logging.getLogger(__name__)

STATUS_JSON, STATUS_PROM = "status.json", "status.prom"
FORMAT = "geoseg-watch-status-1"
BEAT_S = 15.0
STATES = ("waiting", "running", "done", "partial", "failed", "quarantined", "backing_off")
OF_ROWS = {"seen": "waiting", "started": "waiting", "waiting": "backing_off"}
"""How states of rows are called here, where differently; what runs is known beside them."""


class StatusWriter:
    """Keeps the status of one output folder; may be told by several threads."""

    def __init__(self, out: Path, every_s: float | None = None) -> None:
        """Take up the totals of the process before.

        Args:
            out: The output folder.
            every_s: Seconds from one scan to the next; None where something else starts them.
        """
        self._out, self._every_s = out, every_s
        self._lock = threading.Lock()
        self._running: set[str] = set()
        self._state, self._counts = "idle", dict.fromkeys(STATES, 0)
        self._more = {"settling": 0, "damaged": 0}
        self._told: set[str] = set()
        self._beats = 0
        self._scan: ScanStatus = {"started": None, "finished": None, "seconds": None, "result": None, "reason": None}
        self.away: tuple[Away, ...] = ()
        """Sources that did not answer at the last look."""
        self._withdrawn = False
        earlier = read_status(out)
        self._first = earlier is None
        self._good = None if earlier is None else _number(earlier.get("last_good_scan_at"))
        self._seconds: dict[str, float] = defaultdict(float)
        self._mapped = 0
        with suppress(KeyError, TypeError, ValueError, AttributeError):
            if earlier is not None:
                self._spend({str(k): float(v) for k, v in earlier["seconds_by_stage"].items()})
                self._mapped = int(earlier.get("scenes_mapped_total", 0))

    def __enter__(self) -> Self:
        """Open until the block ends."""
        self._begin_beat()
        return self

    def __exit__(self, *error: object) -> None:
        """Close."""
        self._end_beat()
        self._state = "stopped"
        self.write()

    @contextmanager
    def scanning(self) -> Iterator[None]:
        """The time of a scan; what it raises is its result."""
        started, clock = time.time(), time.monotonic()
        self._state = "scanning"
        self._scan = {"started": stamp(started), "finished": None, "seconds": None, "result": None, "reason": None}
        self._begin_beat()
        try:
            yield
        except BaseException as error:
            stopped = not isinstance(error, Exception)
            self._ended(clock, "stopped" if stopped else "failed", str(error).split("\n")[0] or first_line(error))
            raise
        else:
            reason = "; ".join(item.reason for item in self.away) or None
            self._ended(clock, "partial" if self.away else "done", reason)
        finally:
            self._end_beat()

    def _ended(self, clock: float, result: str, reason: str | None) -> None:
        now = time.time()
        with self._lock:
            self._state = "idle"
            self._running.clear()
            self._scan |= {
                "finished": stamp(now),
                "seconds": round(time.monotonic() - clock, 3),
                "result": result,
                "reason": reason,
            }
            if result in ("done", "partial"):
                self._good = now
        self.write()

    def looked(self, away: Sequence[Away]) -> None:
        """Sources were listed."""
        self.away = tuple(away)

    def counted(self, rows: Mapping[str, Row], work: Work) -> None:
        """The states of all scenes are known anew."""
        counts = Counter(OF_ROWS.get(row.status, row.status) for row in rows.values())
        with self._lock:
            self._counts = {state: counts[state] for state in STATES}
            self._counts["waiting"] -= min(len(self._running), self._counts["waiting"])
            self._counts["running"] = len(self._running)
            self._more = {"settling": len(work.waiting), "damaged": len(work.damaged)}
        self.write()

    @property
    def settling(self) -> int:
        """Scenes that were not mapped because they may still be written."""
        with self._lock:
            return self._more["settling"]

    def running(self, name: str, *, begun: bool) -> None:
        """A scene is begun, or has ended."""
        with self._lock:
            if begun and name not in self._running:
                self._running.add(name)
                self._counts["waiting"] = max(0, self._counts["waiting"] - 1)
            elif not begun:
                self._running.discard(name)
            self._counts["running"] = len(self._running)
        self.write()

    def mapped(self, seconds: Mapping[str, float]) -> None:
        """Count a scene that was mapped, with its time by stage."""
        with self._lock:
            self._mapped += 1
            self._spend(seconds)

    def _spend(self, seconds: Mapping[str, float]) -> None:
        for stage, value in seconds.items():
            self._seconds[stage] += value

    def document(self) -> StatusDocument:
        """The content of ``status.json``."""
        now = time.time()
        with suppress(OSError):
            usage = shutil.disk_usage(self._out)
            disk: Disk = {"free_bytes": usage.free, "total_bytes": usage.total}
            return self._document(now, disk)
        return self._document(now, {"free_bytes": None, "total_bytes": None})

    def _document(self, now: float, disk: Disk) -> StatusDocument:
        with self._lock:
            return {
                "format": FORMAT,
                "geoseg": geoseg.__version__,
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "state": self._state,
                "updated": stamp(now),
                "updated_at": now,
                "every_s": self._every_s,
                "scan": self._scan.copy(),
                "last_good_scan": None if self._good is None else stamp(self._good),
                "last_good_scan_at": self._good,
                "scenes": {**self._counts, **self._more},
                "running": sorted(self._running),
                "scenes_mapped_total": self._mapped,
                "away": [{"source": a.source, "reason": a.reason} for a in self.away],
                "seconds_by_stage": {name: round(value, 3) for name, value in sorted(self._seconds.items())},
                "disk": disk,
            }

    def write(self) -> None:
        """Write both files; where that fails it is said once."""
        if self._withdrawn:
            return
        document = self.document()
        self._replace(STATUS_JSON, json.dumps(document, indent=2, ensure_ascii=False) + "\n")
        self._replace(STATUS_PROM, exposition(document))

    def withdraw(self) -> None:
        """Take back what was written, where nothing was there before, and write nothing more: nothing has begun."""
        self._withdrawn = True
        for path in (self._out / STATUS_JSON, self._out / STATUS_PROM) if self._first else ():
            if _is_ours(path):
                path.unlink(missing_ok=True)

    def _replace(self, name: str, text: str) -> None:
        path, part = self._out / name, self._out / f".{name}.{os.getpid()}.{threading.get_ident()}.tmp"
        if not _is_ours(path):
            self._say(name, f"{path}: is there, and geoseg has not written it; the status is not kept")
            return
        try:
            part.unlink(missing_ok=True)
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644), "w", encoding="utf-8") as file:
                file.write(text)
            part.replace(path)
            self._told.discard(name)
        except OSError as error:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            self._say(name, f"{path}: can't be written: {error.strerror}")

    def _say(self, name: str, text: str) -> None:
        if name not in self._told:
            self._told.add(name)
            log.warning("%s", text)

    def _begin_beat(self) -> None:
        with self._lock:
            self._beats += 1
            if self._beats > 1:
                return
            self._stop = threading.Event()
            self._thread = threading.Thread(target=self._beat, args=(self._stop,), name="geoseg-status", daemon=True)
        self._thread.start()

    def _end_beat(self) -> None:
        with self._lock:
            self._beats -= 1
            if self._beats:
                return
            self._stop.set()
        self._thread.join(2 * BEAT_S)

    def _beat(self, stop: threading.Event) -> None:
        while not stop.wait(BEAT_S):
            self.write()


@contextmanager
def held(out: Path, status: StatusWriter) -> Iterator[None]:
    """Hold an output folder for a scan. A first one that can't look at its sources as they are written leaves nothing there.

    Raises:
        OutputError: It can't be written, or another run is active there.
    """
    made = not out.exists()
    check_out(out)
    with unmade(out, made=made), exclusive(out / LOCK):
        ledger = out / LEDGER
        first = not ledger.exists()
        try:
            yield
        except (ConfigError, ModelError):
            if first and read_fact(out, SOURCES) is None:
                status.withdraw()
                ledger.unlink(missing_ok=True)
            raise


def read_status(out: Path) -> StatusDocument | None:
    """The status of an output folder; None where there is none that can be read."""
    try:
        found = read_json(out / STATUS_JSON)
    except (OSError, ValueError):
        return None
    is_status = isinstance(found, dict) and found.get("format") == FORMAT
    return found if is_status else None


def _is_ours(path: Path) -> bool:
    """Whether a file may be replaced: there is none, or a status that geoseg has written."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        return False
    try:
        text = read_text(path)[:2000]
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    return f'"{FORMAT}"' in text if path.name == STATUS_JSON else text.startswith(HEADER)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
