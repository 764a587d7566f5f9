"""Delays before what has failed for a passing reason is tried again."""

from __future__ import annotations

import random
from datetime import UTC, datetime

__all__ = ["delay_s", "due", "stamp"]

JITTER = 0.25
"""Share by which delays are drawn apart: scenes that failed together do not come back together."""
MOST_DOUBLINGS = 60


def delay_s(failures: int, first_s: float, most_s: float) -> float:
    """Seconds to wait after so many failures in a row: each time twice as long, up to a limit, with some chance in it."""
    grown = first_s * 2.0 ** min(failures - 1, MOST_DOUBLINGS)
    return min(most_s, grown) * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spreads retries, keeps no secret


def due(at: float | None, now: float, most_s: float) -> bool:
    """Whether a time has come. One that lies further off than any delay is of a clock that was ahead, and has come, too."""
    return at is None or at <= now or at - now > most_s * (1 + JITTER)


def stamp(seconds: float) -> str:
    """A time since 1970 as ISO 8601 in UTC."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, OSError, ValueError):
        return f"{seconds:.0f} s after 1970"
