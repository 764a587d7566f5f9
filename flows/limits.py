"""Time limits of flows, from the environment of the process that runs them."""

from __future__ import annotations

import os

from geoseg.errors import ConfigError
from pipeline.config.units import parse_seconds

__all__ = ["SCAN_S"]


def _seconds(name: str, default: str) -> float:
    try:
        return parse_seconds(os.environ.get(name) or default)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from error


SCAN_S = _seconds("GEOSEG_SCAN_TIMEOUT", "24h")
"""Seconds after which a scan ends, and stops its scenes; the next one goes on from there."""
