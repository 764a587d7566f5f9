"""Upkeep of a watched output folder: list scenes that wait, release them, forget those that are gone."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from geoseg.errors import ConfigError, OutputError
from geoseg.models.model_folder import Model
from pipeline.config.sections import Config
from pipeline.files.index import write_collection, write_index
from pipeline.files.lock import exclusive
from pipeline.files.run_folder import REPORT
from pipeline.mosaic.planning import NAME
from pipeline.mosaic.zone_maps import beside, is_map, joined_links, maps_in
from pipeline.plan.within import features_of
from pipeline.publish.folder_page import write_folder_page
from pipeline.segment.folder import LOCK
from pipeline.segment.outcome import ERRORS
from pipeline.watch.backoff import stamp
from pipeline.watch.ledger import LEDGER, open_ledger, read_fact, read_ledger
from pipeline.watch.looking import look
from pipeline.watch.made_with import COLUMN, MadeWith
from pipeline.watch.row import Row
from pipeline.watch.together import sort_mosaic, without_mosaic
from pipeline.watch.work import released, sort_work

__all__ = ["ALL", "Listed", "forget_removed", "list_scenes", "release", "would_map"]

ALL = "all"
"""Stands for every scene that waits or is in quarantine."""
HELD = ("quarantined", "waiting", "failed", "partial", "started")


@dataclass(frozen=True, slots=True)
class Listed:
    """A scene as ``--list`` shows it."""

    out: str
    name: str
    status: str
    attempts: int
    """By its own fault, and by what may pass."""
    next_try: str | None
    """ISO 8601, ``next scan``, or None where none is due."""
    reason: str | None

    @classmethod
    def of(cls, out: Path, row: Row) -> Listed:
        """A row of the ledger."""
        nxt = None if row.status in ("done", "quarantined") else "next scan"
        if row.status == "waiting" and row.retry_at is not None and row.retry_at > time.time():
            nxt = stamp(row.retry_at)
        return cls(str(out), row.name, row.status, row.attempts + row.delays, nxt, row.facts.get("reason"))

    def document(self) -> dict[str, object]:
        """It as JSON."""
        return {
            "out": self.out,
            "scene": self.name,
            "status": self.status,
            "attempts": self.attempts,
            "next_try": self.next_try,
            "reason": self.reason,
        }


def list_scenes(outs: Sequence[Path]) -> list[Listed]:
    """The scenes of output folders by name, those that need somebody first. Nothing is changed.

    Raises:
        OutputError: There is no ledger in one of them.
    """
    found = []
    for out in outs:
        _has_ledger(out)
        found += [Listed.of(out, row) for row in read_ledger(out).values()]
    order = {status: number for number, status in enumerate(("quarantined", "waiting", "failed", "partial", "started", "seen"))}
    return sorted(found, key=lambda item: (order.get(item.status, len(order)), item.out, item.name))


def release(outs: Sequence[Path], names: Sequence[str]) -> list[str]:
    """Have scenes tried again at the next scan, whatever they have failed by; gives their names. A scan may be under way.

    Args:
        outs: Output folders.
        names: Scenes, or ``all`` for every one that waits or is in quarantine.

    Raises:
        ConfigError: None of the folders has such a scene.
    """
    freed, rows_of = [], {out: read_ledger(out) for out in outs if _has_ledger(out)}
    for name in names:
        if name != ALL and not any(name in rows for rows in rows_of.values()):
            near = difflib.get_close_matches(name, [n for rows in rows_of.values() for n in rows], 3)
            raise ConfigError(
                f"--release: {name}: no such scene in {', '.join(map(str, outs))}; near: {', '.join(near) or 'none'}"
            )
    for out in outs:
        with open_ledger(out) as ledger:
            rows = ledger.rows()
            asked = {*names, *(beside(name, NAME) for name in names if is_map(name.rpartition("/")[2]))}
            wanted = [n for n, r in rows.items() if (r.status in HELD if ALL in names else n in asked)]
            ledger.put((released(rows[name]) for name in wanted), stale=bool(wanted))
            freed += wanted
    return freed


def forget_removed(sources: Sequence[str], config: Config, out: Path, *, only_say: bool = False) -> list[str]:
    """Forget scenes that have gone from the sources and from the output: their rows, index entries, and old logs.

    Args:
        sources: All sources of the watch.
        config: How they are listed.
        out: The output folder.
        only_say: Change nothing.

    Raises:
        OutputError: There is no ledger, or a scan is under way.
        ReadError: A source does not answer, so that nobody can say what has gone.
    """
    _has_ledger(out)
    column, features = read_fact(out, COLUMN), features_of(config)
    if column is not None and not features:
        raise ConfigError(f"{out}: holds maps of each feature of an area of interest; give --aoi and --aoi-column {column}, too")
    seen = look(sources, config, out)
    if seen.away:
        raise OutputError(f"{seen.away[0].reason}; nothing is forgotten until all sources answer")
    made = MadeWith("", features)
    there = {item.ref.name for one in (seen, made.scenes(seen)) for item in one.found}

    # The row of a mosaic stands for all of its maps.
    there |= {whole for whole in made.wholes if features or maps_in(out)}

    def gone(rows: dict[str, Row]) -> list[str]:
        return sorted(name for name in rows if name not in there and not (out / name / REPORT).is_file())

    if only_say:
        return gone(read_ledger(out))
    with exclusive(out / LOCK), open_ledger(out) as ledger:
        names = gone(ledger.rows())
        ledger.remove(names)
        entries = list(ledger.entries())
        write_index(out, entries)
        write_collection(out, entries)
        write_folder_page(out, entries, more=joined_links(out))
        ledger.note("stale", None)
        for old in (out / f"{ERRORS}.1", *out.glob(f"{LEDGER}.broken-*")):
            old.unlink(missing_ok=True)
    return names


def would_map(sources: Sequence[str], model: Model, config: Config, out: Path) -> Iterator[dict[str, object]]:
    """List what a scan would do now, and why; nothing is changed, nothing opened.

    Raises:
        ConfigError: A source can't be listed as it is written.
        ReadError: No source answers.
    """
    seen, made = look(sources, config, out), MadeWith.of(model, config)
    seen = without_mosaic(seen, made) if config.watch.mosaic else made.scenes(seen)
    for away in seen.away:
        yield {"scene": away.source, "action": "away", "reason": away.reason}
    for item in seen.refused:
        yield {"scene": item.name, "action": "refuse" if item.status == "failed" else "skip", "reason": item.reason}
    rows = read_ledger(out)
    if config.watch.mosaic:
        work, _ = sort_mosaic(seen, rows, out, made, config.watch, time.time())
    else:
        work, _ = sort_work(seen.found, rows, out, made.key, config.watch, time.time())
    for found in work.ready:
        yield {"scene": found.ref.name, "action": "map", "reason": work.reasons[found.ref.name]}
    for name in work.waiting:
        yield {"scene": name, "action": "wait", "reason": "still being written, or without its marker"}
    for name, at in work.delayed.items():
        yield {"scene": name, "action": "wait", "reason": f"{rows[name].facts.get('reason') or 'failed'} (due {stamp(at)})"}
    for name in work.quarantined:
        yield {"scene": name, "action": "none", "reason": rows[name].facts.get("reason") or "in quarantine"}
    for name, why in work.damaged.items():
        yield {"scene": name, "action": "none", "reason": f"published files are not as they were left: {why}"}


def _has_ledger(out: Path) -> bool:
    if not (out / LEDGER).is_file():
        raise OutputError(f"{out}: no {LEDGER} there, so that nothing is watched into it; name the --out of a geoseg watch")
    return True
