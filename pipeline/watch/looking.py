"""One look at several sources: each has its time, and one that does not answer does not hold up the others."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from geoseg.deadline import Attempt
from geoseg.errors import ConfigError, ReadError
from geoseg.scenes.refs import without_equal_names
from geoseg.scenes.remote import is_remote, shown
from geoseg.scenes.sources import STAC, Refused
from geoseg.transient import passing
from pipeline.config.sections import Config
from pipeline.segment.outcome import first_line
from pipeline.watch.source import Found, list_source

__all__ = ["Away", "Look", "look"]

Listing = tuple[list[Found], list[Refused]]


@dataclass(frozen=True, slots=True)
class Away:
    """A source that can't be looked at now."""

    source: str
    """As it may be shown."""
    reason: str


@dataclass(frozen=True, slots=True)
class Look:
    """Content of the sources."""

    found: tuple[Found, ...]
    refused: tuple[Refused, ...]
    away: tuple[Away, ...]
    seen: tuple[str, ...]
    """The sources that were listed."""


_open: dict[tuple[str, ...], Attempt[Listing]] = {}
"""By sources and settings, listings that were given up. No second one is begun beside one that still waits for an answer, and
one that is late is good for the next look: a source may take longer than its time."""


def look(sources: Sequence[str], config: Config, out: Path, known: Collection[str] = ()) -> Look:
    """List sources at the same time, each for at most ``watch.scan_timeout``.

    Args:
        sources: Folders, globs, files, list files, addresses, ``s3://bucket/prefix/`` and ``stac+https://api``.
        config: How.
        out: Where the maps go: what earlier runs have written there is no scene.
        known: Sources that were listed before: one that is not there now is away, rather than written wrongly.

    Raises:
        ConfigError: A source that was never listed can't be listed as it is written.
        ReadError: No source can be listed.
    """
    groups = _groups(sources)
    attempts = {group: _attempt(group, config, out) for group in groups}
    found: list[Found] = []
    refused: list[Refused] = []
    away: list[Away] = []
    seen: list[str] = []
    deadline = time.monotonic() + config.watch.scan_timeout_s
    for group, attempt in attempts.items():
        name = ", ".join(map(_shown, group))
        try:
            listed, odd = attempt.result(max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            waited = time.monotonic() - attempt.started
            away.append(Away(name, f"{name}: no answer within {max(1.0, waited):.0f} s (--scan-timeout)"))
            continue
        except ConfigError as error:
            if not set(group) & set(known):
                raise
            away.append(Away(name, str(error)))
        except ReadError as error:
            away.append(Away(name, str(error)))
        except Exception as error:  # noqa: BLE001 - a server or a mount can make any library fail
            away.append(Away(name, f"{name}: can't be listed: {first_line(error)}"))
        else:
            found += listed
            refused += odd
            seen += group
        _open.pop(_key(group, config, out), None)
    if away and not seen:
        raise passing(ReadError("; ".join(item.reason for item in away)))
    # Scenes of several sources whose names are equal would be mapped over each other.
    own, equal = without_equal_names([item.ref for item in found])
    kept = set(own)
    return Look(tuple(item for item in found if item.ref in kept), (*refused, *equal), tuple(away), tuple(seen))


def _groups(sources: Sequence[str]) -> list[tuple[str, ...]]:
    """Servers each alone; what lies on this machine together, so that equal names and files given twice are found."""
    apart = [source for source in sources if source.startswith(STAC) or (is_remote(source) and source.endswith("/"))]
    local = tuple(source for source in sources if source not in apart)
    return list(dict.fromkeys([*((source,) for source in apart), *([local] if local else [])]))


def _attempt(group: tuple[str, ...], config: Config, out: Path) -> Attempt[Listing]:
    key = _key(group, config, out)
    if key not in _open:
        _open[key] = Attempt(lambda: list_source(group, config, out), "geoseg-listing")
    return _open[key]


def _key(group: tuple[str, ...], config: Config, out: Path) -> tuple[str, ...]:
    return (*group, str(out), config.model_dump_json(include={"stac", "scene", "watch"}))


def _shown(source: str) -> str:
    return STAC + shown(source.removeprefix(STAC)) if source.startswith(STAC) else shown(source)
