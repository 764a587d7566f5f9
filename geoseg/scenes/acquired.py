"""Acquisition dates of scenes, from their tags or names; never from the clock."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime

__all__ = ["acquisition_date", "day_of", "iso_date", "year_of"]

ACQUISITION_TAGS = (
    "ACQUISITIONDATETIME",
    "ACQUISITION_DATETIME",
    "ACQUISITION_DATE",
    "DATE_ACQUIRED",
    "SENSING_TIME",
    "PRODUCT_START_TIME",
    "DATATAKE_1_DATATAKE_SENSING_START",
    "DATETIME",
)
# A date with or without a time, as satellite products write it in names: 20190704T140051, 2019-07-04, 20190704.
IN_NAME = re.compile(
    r"(?<!\d)(?P<y>(?:19|20)\d\d)(?P<sep>[-_]?)(?P<m>0[1-9]|1[0-2])(?P=sep)(?P<d>0[1-9]|[12]\d|3[01])"
    r"(?:T(?P<H>[01]\d|2[0-3])(?P<M>[0-5]\d)(?P<S>[0-5]\d))?(?!\d)"
)


def acquisition_date(tags: Mapping[str, str], name: str) -> str | None:
    """The acquisition date of a scene as ISO 8601 (a date, or a date and time in UTC).

    Tags that speak of the acquisition come first, then a date in the name, then TIFFTAG_DATETIME, which many programs
    set to the time of writing. None where nothing says it.
    """
    upper = {key.upper(): value for key, value in tags.items()}
    for key in ACQUISITION_TAGS:
        if (found := _parse(upper.get(key))) is not None:
            return found
    if (match := IN_NAME.search(name)) is not None:
        return _from_match(match)
    return _parse(upper.get("TIFFTAG_DATETIME"))


def iso_date(text: str) -> str | None:
    """A date, or a date and time, as tags and names are read: ISO 8601, times in UTC; None where it is neither."""
    text = text.strip()
    return _parse(f"{text[:4]}-{text[4:6]}-{text[6:]}" if re.fullmatch(r"\d{8}", text) else text)


def year_of(text: str) -> str | None:
    """A year alone, as people give the date of a map; None where a text is something else."""
    return text.strip() if re.fullmatch(r"[12]\d{3}", text.strip()) else None


def day_of(text: str) -> date:
    """The day of a date, with or without a time; of a year its middle, 2 July.

    Raises:
        ValueError: It is neither.
    """
    return date(int(text), 7, 2) if year_of(text) else date.fromisoformat(text[:10])


def _from_match(match: re.Match[str]) -> str | None:
    part = {key: int(value) for key, value in match.groupdict().items() if value and key != "sep"}
    try:
        moment = datetime(part["y"], part["m"], part["d"], part.get("H", 0), part.get("M", 0), part.get("S", 0), tzinfo=UTC)
    except ValueError:
        return None
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if "H" in part else moment.strftime("%Y-%m-%d")


def _parse(text: str | None) -> str | None:
    """A tag's value as ISO 8601; None where it is not a date."""
    if not text:
        return None
    text = text.strip()
    # TIFF 6.0 writes "2019:07:04 14:00:51".
    text = re.sub(r"^(\d{4}):(\d\d):(\d\d)", r"\1-\2-\3", text)
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        try:
            return date.fromisoformat(text).isoformat()
        except ValueError:
            return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
