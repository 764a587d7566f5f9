"""Periods of composites: months, seasons and years of the calendar."""

from __future__ import annotations

from datetime import date, timedelta

from pipeline.config.compositing import Period

__all__ = ["NAME", "name_of", "period_of", "span_of"]

NAME = "composite"
SEASONS = ("DJF", "MAM", "JJA", "SON")
"""Three months each, the first from December on: the meteorological seasons, named by the initials of their months."""


def period_of(acquired: str, period: Period) -> str:
    """The period that a date (ISO 8601) lies in: ``2019``, ``2019-07``, ``2019-JJA``; nothing for all.

    December belongs to the season of the year that follows.
    """
    if period == "all":
        return ""
    year, month = int(acquired[:4]), int(acquired[5:7])
    if period == "season":
        return f"{year + month // 12:04}-{SEASONS[month % 12 // 3]}"
    return f"{year:04}" if period == "year" else f"{year:04}-{month:02}"


def span_of(key: str) -> tuple[str, str] | None:
    """First and last day of a period by its name; None of all."""
    if not key:
        return None
    year, _, part = key.partition("-")
    if not part:
        return f"{year}-01-01", f"{year}-12-31"
    months = 1 if part.isdecimal() else 3
    first = int(part) if part.isdecimal() else 3 * SEASONS.index(part)
    start = date(int(year), first, 1) if first else date(int(year) - 1, 12, 1)
    after = start.month - 1 + months
    end = date(start.year + after // 12, after % 12 + 1, 1) - timedelta(days=1)
    return start.isoformat(), end.isoformat()


def name_of(key: str) -> str:
    """The name of the image of a period."""
    return f"{NAME}_{key}" if key else NAME
