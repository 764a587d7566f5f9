"""Work of a scan that keeps a mosaic: the scenes of the sources as one, whose version is that of all of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from geoseg.scenes.sources import Refused
from pipeline.config.sections import WatchConfig
from pipeline.files.run_folder import RunFolder
from pipeline.mosaic.planning import NAME
from pipeline.mosaic.zone_maps import is_map_of, maps_in
from pipeline.watch.ledger import Ledger
from pipeline.watch.looking import Look
from pipeline.watch.made_with import MadeWith
from pipeline.watch.row import Row
from pipeline.watch.source import Found
from pipeline.watch.work import Work, sort_work

__all__ = ["find_mosaic", "scenes_in", "sort_mosaic", "version_of", "without_mosaic"]


def find_mosaic(seen: Look, ledger: Ledger, out: Path, made: MadeWith, watch: WatchConfig, now: float) -> Work:
    """Tell whether the mosaic is to be made, and note what is seen for the first time; arguments as of ``find_work``."""
    work, fresh = sort_mosaic(seen, ledger.rows(), out, made, watch, now)
    ledger.put(fresh, stale=any(row.status == "quarantined" for row in fresh))
    return work


def sort_mosaic(
    seen: Look, rows: Mapping[str, Row], out: Path, made: MadeWith, watch: WatchConfig, now: float
) -> tuple[Work, list[Row]]:
    """The same, from rows; gives those that have changed instead of writing them.

    The mosaic is of the scenes that are there now and whole, and not in quarantine. It is left as it is while a source is away,
    and while one of its scenes is being written or waits for what may pass: it would shrink for as long. Each of several areas of
    interest has one.
    """
    key = made.key
    known = [item for item in seen.found if _is_in(rows.get(item.ref.name), item, key)]
    names = {item.ref.name for item in known}
    own, fresh = sort_work([item for item in seen.found if item.ref.name not in names], rows, out, key, watch, now)
    parts = sorted([*known, *own.ready], key=lambda item: item.ref.name)
    held = {*own.waiting, *own.delayed}
    if seen.away or not parts or (held and held & scenes_in(out, made)):
        return replace(own, ready=(), reasons={}, known=len(known)), fresh
    work, more = sort_work(made.as_one(parts, version_of(parts)), rows, out, key, watch, now)
    both = Work(
        work.ready,
        (*own.waiting, *work.waiting),
        (*own.quarantined, *work.quarantined),
        len(known),
        {**own.delayed, **work.delayed},
        work.reasons,
        work.damaged,
        tuple(parts),
    )
    return both, [*fresh, *more]


def without_mosaic(seen: Look, made: MadeWith) -> Look:
    """Refuse scenes that have the name of a folder of a mosaic, or of one of its zones."""
    same = [item.ref for item in seen.found if any(is_map_of(whole, item.ref.name) for whole in (NAME, *made.wholes))]
    told = tuple(
        Refused(ref.name, ref.paths, "failed", f"its name is that of the folder of the mosaic; give it another than {ref.name!r}")
        for ref in same
    )
    return replace(seen, found=tuple(item for item in seen.found if item.ref not in same), refused=(*seen.refused, *told))


def version_of(parts: Sequence[Found]) -> str:
    """Version of a mosaic: changes when scenes come, go or change."""
    facts = sorted([item.ref.name, item.version] for item in parts)
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def scenes_in(out: Path, made: MadeWith) -> set[str]:
    """Names of the scenes of the mosaics that are there, in all of their maps."""
    folders = [(out / whole).parent for whole in made.wholes]
    records = [RunFolder(folder / name).record() for folder in folders for name in maps_in(folder)]
    return {str(one.get("name")) for record in records if record is not None for one in record.document.get("scenes", ())}


def _is_in(row: Row | None, item: Found, key: str) -> bool:
    """Whether a mosaic was made with a scene as it is now."""
    return row is not None and row.status == "done" and (row.version, row.key) == (item.version, key)
