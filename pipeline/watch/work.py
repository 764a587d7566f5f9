"""Work of a scan: the scenes of a source held against the ledger, and against what lies in the output folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.config.sections import WatchConfig
from pipeline.publish.report import SceneReport
from pipeline.watch.backoff import delay_s, due, stamp
from pipeline.watch.ledger import Ledger
from pipeline.watch.left import broken, has_report
from pipeline.watch.row import Row
from pipeline.watch.source import Found

__all__ = ["FINISHED", "PROCESS", "REPAIR", "Work", "after", "find_work", "quarantined", "released"]

FINISHED = ("done", "skipped")
PROCESS = f"{os.getpid()}-{os.urandom(6).hex()}"
"""This process, as rows name the one that began a scene."""
CLOCK_S = 60.0
"""Seconds that times may lie ahead of ours, as those of servers do."""
REPAIR = "repair"
FREE_REPAIRS, REPAIR_FIRST_S, REPAIR_MOST_S = 3, 600.0, 86_400.0
"""Published files that change again and again are made anew so many times at once, then after growing delays."""


@dataclass(frozen=True, slots=True)
class Work:
    """Work that a look at the source has found."""

    ready: tuple[Found, ...]
    """To be mapped now."""
    waiting: tuple[str, ...]
    """Still being written, or without their marker."""
    quarantined: tuple[str, ...]
    """Given up on, until they change or are released."""
    known: int
    """Mapped before."""
    delayed: Mapping[str, float] = field(default_factory=dict)
    """Tried again when it is time, in seconds since 1970: what they failed by may pass."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """By name, why a scene is ready."""
    damaged: Mapping[str, str] = field(default_factory=dict)
    """Scenes whose published files are not as they were left, and are not made anew now."""
    parts: tuple[Found, ...] = ()
    """Of a mosaic, the scenes that it is made of."""


def find_work(found: Iterable[Found], ledger: Ledger, out: Path, key: str, watch: WatchConfig, now: float) -> Work:
    """Tell what is to be mapped, and note what is seen for the first time.

    Args:
        found: The scenes of the source.
        ledger: What is known of them.
        out: The output folder.
        key: Of the model and the settings that they are mapped with; scenes that were mapped with others are mapped again.
        watch: When a file is whole, and after how many attempts a scene is given up.
        now: Seconds since 1970.
    """
    work, fresh = sort_work(found, ledger.rows(), out, key, watch, now)
    ledger.put(fresh, stale=any(row.status == "quarantined" for row in fresh))
    return work


def sort_work(
    found: Iterable[Found], rows: Mapping[str, Row], out: Path, key: str, watch: WatchConfig, now: float
) -> tuple[Work, list[Row]]:
    """The same, from rows; gives those that have changed instead of writing them."""
    ready: list[Found] = []
    fresh: list[Row] = []
    waiting, given_up, known = [], [], 0
    delayed: dict[str, float] = {}
    reasons: dict[str, str] = {}
    damaged: dict[str, str] = {}
    for item in found:
        before = rows.get(item.ref.name)
        row, why = _seen(before, item, item.key(key), now)
        name = row.name
        if row.status == "done" and row.facts.get("status") == "skipped":
            # It lies outside of the area of interest: there is nothing to be held against it.
            known += 1
            continue
        if row.status == "done":
            differs = broken(out, row)
            if differs is None:
                known += 1
                continue
            why = f"{REPAIR}: {differs}"
            # Where the report itself has gone, nothing says what was there: that is a new beginning.
            if not watch.repair and has_report(out, row):
                known += 1
                damaged[name] = differs
                continue
            if not due(row.retry_at, now, REPAIR_MOST_S):
                known += 1
                damaged[name] = differs
                continue
        elif row.attempts >= watch.max_failures:
            if row.status != "quarantined":
                row = quarantined(row)
            given_up.append(name)
            _note(fresh, before, row)
            continue
        elif not due(row.retry_at, now, watch.retry_most_s):
            assert row.retry_at is not None
            delayed[name] = row.retry_at
            continue
        _note(fresh, before, row)
        if not item.marked or not _rests(item, row, watch.settle_s, now):
            waiting.append(name)
        else:
            ready.append(item)
            reasons[name] = why
    return Work(tuple(ready), tuple(waiting), tuple(given_up), known, delayed, reasons, damaged), fresh


def _note(fresh: list[Row], before: Row | None, row: Row) -> None:
    if row is not before:
        fresh.append(row)


def _seen(row: Row | None, item: Found, key: str, now: float) -> tuple[Row, str]:
    """The row of a scene as it is seen now, and why it would be mapped."""
    name = item.ref.name
    if row is None:
        return Row(name, item.version, key, now, "seen"), "new"
    if row.version != item.version or row.key != key:
        why = (
            "the ledger was made anew"
            if not row.version
            else "changed"
            if row.version != item.version
            else "other model, settings or area"
        )
        return Row(name, item.version, key, now, "seen", entry=row.entry), why
    if row.seen > now + CLOCK_S:
        # The clock was ahead when it was seen; waiting for it would take as long as it was.
        row = replace(row, seen=now)
    if row.status == "started" and row.holder == PROCESS:
        # It has ended in this very process, which could not note how: the disk was full.
        row = replace(row, status="seen", attempts=max(0, row.attempts - 1))
    why = {
        "started": "the process ended while it was mapped",
        "waiting": f"tried again after {row.delays} failures that may pass",
        "seen": "new",
    }.get(row.status, f"tried again after {row.attempts} attempts")
    return row, why


def _rests(item: Found, row: Row, settle_s: float, now: float) -> bool:
    """Whether the files have not changed for long enough, by their own time or by ours: servers' clocks differ."""
    return item.modified is None or now - item.modified >= settle_s or now - row.seen >= settle_s


def after(row: Row, report: SceneReport, watch: WatchConfig, now: float, files: str | None, *, repaired: bool) -> Row:
    """The row of a scene that was tried.

    Args:
        row: Its row, ``started``.
        report: What became of it.
        watch: When it is tried again.
        now: Seconds since 1970.
        files: What ``note_files`` says of its published files, as JSON.
        repaired: Whether published files were not as they were left.
    """
    entry = report.entry() | {"scene": row.name}
    if not entry["outputs"] and files is not None:
        # The maps of the version before are still there.
        entry["outputs"] = row.facts.get("outputs") or []
    if report.status in FINISHED:
        if not report.left_out:
            entry |= {"status": "done", "reason": None}
        repairs, again = _repairs(row, now) if repaired else (row.repairs, row.retry_at if row.repairs else None)
        return replace(
            row,
            status="done",
            attempts=0,
            delays=0,
            retry_at=again,
            files=files,
            repairs=repairs,
            holder=None,
            entry=_text(entry),
        )
    if report.transient:
        delays = row.delays + 1
        at = now + delay_s(delays, watch.retry_delay_s, watch.retry_most_s)
        entry["reason"] = f"{report.reason}; waiting, tried again at {stamp(at)}"
        return replace(
            row,
            status="waiting",
            attempts=max(0, row.attempts - 1),
            delays=delays,
            retry_at=at,
            files=files,
            holder=None,
            entry=_text(entry),
        )
    row = replace(row, status=report.status, delays=0, retry_at=None, files=files, holder=None, entry=_text(entry))
    return quarantined(row) if row.attempts >= watch.max_failures else row


def _repairs(row: Row, now: float) -> tuple[int, float | None]:
    """Count of files made anew of late, and the time when that may be done again: a person may be at work on them."""
    quiet = row.retry_at is None or now - row.retry_at > REPAIR_MOST_S
    repairs = 1 if quiet and row.repairs >= FREE_REPAIRS else row.repairs + 1
    if repairs < FREE_REPAIRS:
        return repairs, None
    return repairs, now + delay_s(repairs - FREE_REPAIRS + 1, REPAIR_FIRST_S, REPAIR_MOST_S)


def quarantined(row: Row) -> Row:
    """The row of a scene that is given up on."""
    entry = row.facts or {"scene": row.name, "outputs": [], "seconds": 0.0, "warnings": []}
    reason = entry.get("reason") if row.status != "started" else "the process ended while it was mapped"
    entry |= {
        "status": "failed",
        "reason": f"in quarantine after {row.attempts} attempts, until it changes or is released: {reason}",
    }
    return replace(row, status="quarantined", entry=_text(entry))


def released(row: Row) -> Row:
    """The row of a scene that is tried again at the next scan, whatever it has failed by."""
    entry = row.facts
    if entry:
        entry |= {"status": "failed", "reason": "released: tried again at the next scan"}
    status = "seen" if row.status in ("quarantined", "waiting", "failed", "partial", "started") else row.status
    return replace(
        row,
        status=status,
        attempts=0,
        delays=0,
        retry_at=None,
        repairs=0,
        holder=None,
        entry=_text(entry) if entry and status == "seen" else row.entry,
    )


def _text(entry: Mapping[str, object]) -> str:
    return json.dumps(entry, ensure_ascii=False)
