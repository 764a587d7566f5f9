"""``status.json`` of a watch, as it is written; one that is read may be of anybody, and is tried with that in mind."""

from __future__ import annotations

from typing import TypedDict

__all__ = ["AwaySource", "Disk", "ScanStatus", "StatusDocument"]


class ScanStatus(TypedDict):
    """The scan under way, or the last one."""

    started: str | None
    finished: str | None
    seconds: float | None
    result: str | None
    """``done``, ``partial`` (a source did not answer), ``failed`` or ``stopped``."""
    reason: str | None


class AwaySource(TypedDict):
    """A source that did not answer."""

    source: str
    reason: str


class Disk(TypedDict):
    """The disk of the output folder, in bytes; None where it can't be asked."""

    free_bytes: int | None
    total_bytes: int | None


class StatusDocument(TypedDict):
    """The state of a watch."""

    format: str
    geoseg: str
    pid: int
    host: str
    state: str
    """``idle``, ``scanning`` or ``stopped``."""
    updated: str
    updated_at: float
    every_s: float | None
    scan: ScanStatus
    last_good_scan: str | None
    last_good_scan_at: float | None
    scenes: dict[str, int]
    """Numbers by state."""
    running: list[str]
    scenes_mapped_total: int
    away: list[AwaySource]
    seconds_by_stage: dict[str, float]
    disk: Disk
