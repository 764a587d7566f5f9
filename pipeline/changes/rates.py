"""Areas lost and gained in each interval, and annual rates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypedDict

from geoseg.dates.series import PRESENT
from geoseg.digits import figure
from geoseg.scenes.acquired import day_of

__all__ = ["Change", "Interval", "intervals_of"]

DAYS_A_YEAR = 365.2425


class Change(TypedDict):
    """A class of a map of changes: the interval, and the classes at its ends."""

    since: str
    until: str
    before: str
    after: str


class Interval(TypedDict):
    """Loss and gain between two dates; None where days are not known or nothing is left."""

    since: str
    until: str
    years: float | None
    first_loss_ha: float
    first_gain_ha: float
    never_lost_before_ha: float
    loss_ha_per_year: float | None
    annual_rate_percent: float | None


def intervals_of(changes: Mapping[str, Change], hectares: Mapping[int, float]) -> list[Interval]:
    """Loss and gain by interval.

    The annual rate is that of compound interest (Puyravaud 2003, doi:10.1016/S0378-1127(02)00335-3).

    Args:
        changes: By class code as text.
        hectares: By class code.
    """
    steps = list(dict.fromkeys((c["since"], c["until"]) for c in changes.values()))
    first = next(iter(changes.values()))["before"]
    lost = {(c["since"], c["until"]): hectares.get(int(code), 0.0) for code, c in changes.items() if c["before"] == first}
    gained = {(c["since"], c["until"]): hectares.get(int(code), 0.0) for code, c in changes.items() if c["before"] != first}
    # What was there at first: what has stayed, and all that was lost.
    there = hectares.get(PRESENT, 0.0) + sum(lost.values())
    rows: list[Interval] = []
    for step in steps:
        years = _years(*step)
        after = there - lost[step]
        rate = math.log(after / there) / years * 100 if years and there > 0 and after > 0 else None
        rows.append(
            {
                "since": step[0],
                "until": step[1],
                "years": None if years is None else round(years, 3),
                "first_loss_ha": figure(lost[step], 4),
                "first_gain_ha": figure(gained.get(step, 0.0), 4),
                "never_lost_before_ha": figure(there, 4),
                "loss_ha_per_year": None if not years else figure(lost[step] / years, 4),
                "annual_rate_percent": None if rate is None else round(rate, 4),
            }
        )
        there = after
    return rows


def _years(since: str, until: str) -> float | None:
    try:
        # Dates with and without a time may follow each other: days are what counts.
        days = (day_of(until) - day_of(since)).days
    except ValueError:
        return None
    return days / DAYS_A_YEAR if days > 0 else None
