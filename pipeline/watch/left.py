"""Published files as a watch has left them: those of the folder of a scene, or of all maps of a mosaic."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pipeline.files.reports import difference, note_files
from pipeline.files.run_folder import REPORT
from pipeline.mosaic.joined_zones import JOINED
from pipeline.mosaic.planning import NAME
from pipeline.mosaic.zone_maps import maps_in
from pipeline.watch.row import Row

__all__ = ["broken", "has_report", "note_left"]


def note_left(out: Path, name: str, *, zones: bool = False) -> str | None:
    """Sizes and times of the published files of a scene, as JSON for its row; None without a report.

    Args:
        out: The output folder.
        name: Of the scene.
        zones: Whether it is a mosaic, which may have a map for each of several zones.
    """
    beside = (out / name).parent
    if zones and (maps := maps_in(beside)) != [NAME]:
        noted = {one: note_files(beside / one) for one in (*maps, JOINED)}
        found = {one: files for one, files in noted.items() if files is not None}
        return json.dumps(found) if found else None
    files = note_files(out / name)
    return None if files is None else json.dumps(files)


def broken(out: Path, row: Row) -> str | None:
    """Name a published file of a scene that is not as it was left; None where all are."""
    maps = _maps(row)
    if not maps:
        return difference(out / row.name, row.noted)
    found = ((name, difference((out / row.name).with_name(name), files)) for name, files in maps.items())
    return next((f"{name}: {why}" for name, why in found if why is not None), None)


def has_report(out: Path, row: Row) -> bool:
    """Whether something says what was there: without it, a scene is begun anew."""
    own = out / row.name
    return any((folder / REPORT).is_file() for folder in [own.with_name(name) for name in _maps(row)] or [own])


def _maps(row: Row) -> Mapping[str, Mapping[str, object]]:
    """What was noted of each map of a row; nothing where it has one, of its name."""
    noted = row.noted or {}
    return {name: files for name, files in noted.items() if isinstance(files, Mapping)}
