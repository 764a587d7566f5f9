"""Texts with units: areas, distances, bytes, durations."""

from __future__ import annotations

import math
import re

__all__ = ["MAX_DURATION_S", "parse_area", "parse_bytes", "parse_distance", "parse_seconds", "parse_values"]

AREA = re.compile(r"^\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>m2|m²|ha|km2|km²|px)?\s*$", re.IGNORECASE)


DISTANCE = re.compile(r"^\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>px|m|km)\s*$", re.IGNORECASE)


MAX_DURATION_S = 366 * 86_400.0


DURATION = re.compile(r"^\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[smhd]?)\s*$", re.IGNORECASE)


BYTES = re.compile(r"^\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[KMGT]?i?B?)\s*$", re.IGNORECASE)


def _finite(text: str, number: float) -> float:
    """A number that digits without end have not made infinite."""
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]!r}… is too large")
    return number


def _matched(pattern: re.Pattern[str], text: str, what: str, examples: str) -> re.Match[str]:
    match = pattern.match(text)
    if match is None:
        raise ValueError(f"{text!r} is not {what}; write for example {examples}")
    return match


def parse_area(text: str) -> float:
    """Square metres of ``400``, ``400m2``, ``0.5ha`` or ``1km2``.

    Raises:
        ValueError: It is none of these.
    """
    match = _matched(AREA, text, "an area", "400m2, 0.5ha or 1km2")
    unit = (match["unit"] or "m2").lower().replace("²", "2")
    return _finite(text, float(match["number"]) * {"m2": 1.0, "px": 1.0, "ha": 1e4, "km2": 1e6}[unit])


def parse_distance(text: str) -> tuple[float, str]:
    """Number and unit, ``px`` or ``m``, of ``3px``, ``30m`` or ``1km``.

    Raises:
        ValueError: It is none of these.
    """
    match = _matched(DISTANCE, text, "a distance", "64px, 640m or 1km")
    number, unit = _finite(text, float(match["number"])), match["unit"].lower()
    return (number * 1000, "m") if unit == "km" else (number, unit)


def parse_values(text: str) -> tuple[float, ...]:
    """Pixel values of ``255``, ``0,0,255`` or ``nan``.

    Raises:
        ValueError: It is none of these.
    """
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{text!r} is no list of pixel values; write for example 255, or 0,0,255") from None
    if any(math.isinf(value) for value in values):
        raise ValueError(f"{text!r}: infinity is never data; write a pixel value")
    return values


def parse_bytes(text: str) -> int:
    """Bytes of ``2GB``, ``500MB`` or ``1.5GiB``; kB, MB and GB are powers of 1000.

    Raises:
        ValueError: It is none of these.
    """
    match = _matched(BYTES, text, "an amount of memory", "2GB")
    unit = match["unit"].upper().removesuffix("B")
    base = 1024 if unit.endswith("I") else 1000
    return int(_finite(text, float(match["number"]) * base ** " KMGT".index(unit[:1] or " ")))


def parse_seconds(text: str) -> float:
    """Seconds of ``45``, ``30s``, ``10m``, ``2h`` or ``1d``.

    Raises:
        ValueError: It is none of these.
    """
    match = _matched(DURATION, text, "a duration", "30s, 10m or 2h")
    return _finite(
        text, float(match["number"]) * {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}[match["unit"].lower()]
    )
