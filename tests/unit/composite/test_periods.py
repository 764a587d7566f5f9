"""Periods of the calendar: every day lies in the one that names it."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from pipeline.composite.periods import name_of, period_of, span_of


@pytest.mark.parametrize("period", ["year", "season", "month"])
def test_spans_partition_the_calendar(period: str) -> None:
    days = [date(2018, 12, 1) + timedelta(n) for n in range(1200)]
    by_key: dict[str, list[date]] = {}
    for day in days:
        by_key.setdefault(period_of(f"{day.isoformat()}T10:00:00Z", period), []).append(day)
    assert list(by_key) == sorted(by_key, key=lambda key: span_of(key)[0])
    for key, some in list(by_key.items())[1:-1]:
        assert span_of(key) == (some[0].isoformat(), some[-1].isoformat())


def test_winter_is_of_the_year_in_which_it_ends() -> None:
    assert period_of("2019-12-31", "season") == period_of("2020-02-29", "season") == "2020-DJF"
    assert period_of("2020-03-01", "season") == "2020-MAM"
    assert span_of("2020-DJF") == ("2019-12-01", "2020-02-29")
    assert (period_of("", "all"), span_of(""), name_of(""), name_of("2020")) == ("", None, "composite", "composite_2020")
