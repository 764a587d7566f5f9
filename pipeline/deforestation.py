"""Loss and gain of forest, or of another class, between dates of one place: a map, its summary, and zones."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from geoseg.errors import ConfigError, OutputError
from geoseg.models.ensemble import AnyModel
from geoseg.scenes.scene import OpenOptions
from geoseg.scenes.sources import SceneRef, list_scenes
from pipeline.atomic import atomic_path, write_json
from pipeline.config import Config
from pipeline.folder import check_out, segment_folder, segment_or_report
from pipeline.infer import LocalWorkers, OpenWorkers
from pipeline.polygon_files import PolygonFile
from pipeline.progress import Progress, Quiet
from pipeline.raster import open_class_raster
from pipeline.report import SceneReport
from pipeline.zones import areas_by_zone, write_zones

__all__ = ["SUMMARY", "MappedChanges", "map_changes", "pair_of"]

SUMMARY, TABLE, ZONES = "changes.json", "changes.csv", "zones"
DAYS_A_YEAR = 365.2425


@dataclass(frozen=True, slots=True)
class MappedChanges:
    """What became of a run."""

    report: SceneReport
    """Of the run."""
    folder: Path
    """Where its files are."""
    document: dict[str, Any]
    """The summary; empty where nothing was mapped."""


def pair_of(inputs: Sequence[str], *, allow_vrt: bool = False) -> SceneRef:
    """The dates of one place as one scene, in the order given.

    Raises:
        ConfigError: There are fewer than two, or one names no scene or several.
    """
    if len(inputs) < 2:
        raise ConfigError(f"inputs: {len(inputs)} date; give at least two, the oldest first")
    refs = []
    for text in inputs:
        found, refused = list_scenes([text], allow_vrt=allow_vrt)
        if refused:
            raise ConfigError(f"inputs: {refused[0].reason}")
        if len(found) != 1:
            raise ConfigError(
                f"inputs: {text}: {len(found)} scenes; each date is one scene: a GeoTIFF, or a folder of band files"
            )
        refs.append(found[0])
    if len({ref.paths for ref in refs}) < len(refs):
        raise ConfigError(f"inputs: {inputs[0]} is given twice; two dates are two files")
    stems = [Path(ref.name).name for ref in refs]
    return replace(refs[0], name=f"{stems[0]}_to_{stems[-1]}", later=tuple(refs[1:]))


def map_changes(
    ref: SceneRef, model: AnyModel, config: Config, out: Path, *, zones: str | None = None,
    open_workers: OpenWorkers = LocalWorkers, progress: Progress | None = None, alone: bool = True,
) -> MappedChanges:  # fmt: skip
    """Map changes between the dates of a scene into ``out / ref.name``, and sum them up.

    Args:
        ref: The dates; see ``pair_of``.
        model: A model of single dates, or one that compares dates.
        config: The settings.
        out: The output folder.
        zones: A file of polygons by which areas are summed up.
        open_workers: Where chunks are done.
        progress: Shows how it goes.
        alone: Whether this is all that the output folder is for, so that its index is written, too.

    Raises:
        ConfigError: The settings don't fit.
        OutputError: The folder can't be written, or holds other results.
        Interrupted: The run was stopped.
    """
    if zones is not None:
        PolygonFile.open(Path(zones), config.scene.assume_crs)
    if alone:
        (report,) = segment_folder([ref], [], model, config, out, open_workers, progress)
    else:
        check_out(out)
        report = segment_or_report(ref, model, config, out, progress or Quiet(), open_workers)
    folder = out / ref.name
    if report.status == "failed":
        return MappedChanges(report, folder, {})
    document = _summary(folder)
    write_json(folder / SUMMARY, document)
    _write_table(document, folder / TABLE)
    if zones is not None:
        document["zones"] = _zones(folder, zones, config, document)
        write_json(folder / SUMMARY, document)
    return MappedChanges(report, folder, document)


def _summary(folder: Path) -> dict[str, Any]:
    """Areas by class, and rates by interval."""
    try:
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(f"{folder}: its report can't be read: {error}; run again with --overwrite") from error
    card = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    changes = run.get("changes") or {}
    hectares = {entry["code"]: (entry["area_m2"] or 0.0) / 1e4 for entry in run["classes"]}
    document: dict[str, Any] = {
        "scene": run["scene"], "status": run["status"], "model": run["model"], "dates": run.get("dates", []),
        "registration": run.get("registration", []), "warnings": run["warnings"],
        "classes": [{"code": e["code"], "name": e["name"], "pixels": e["pixels"], "area_ha": round((e["area_m2"] or 0) / 1e4, 4)} for e in run["classes"]],
        "card": card.get("name") or card.get("mlm:name"),
    }  # fmt: skip
    if changes:
        document["intervals"] = _intervals(changes, hectares)
    return document


def _intervals(changes: dict[str, dict[str, str]], hectares: dict[int, float]) -> list[dict[str, Any]]:
    """Loss and gain by interval; the annual rate is that of compound interest (Puyravaud 2003, doi:10.1016/S0378-1127(02)00335-3)."""
    steps = list(dict.fromkeys((c["since"], c["until"]) for c in changes.values()))
    first = next(iter(changes.values()))["before"]
    lost = {(c["since"], c["until"]): hectares.get(int(code), 0.0) for code, c in changes.items() if c["before"] == first}
    gained = {(c["since"], c["until"]): hectares.get(int(code), 0.0) for code, c in changes.items() if c["before"] != first}
    # What was there at first: what has stayed, and all that was lost.
    there = hectares.get(1, 0.0) + sum(lost.values())
    rows = []
    for step in steps:
        years = _years(*step)
        after = there - lost[step]
        rate = math.log(after / there) / years * 100 if years and there > 0 and after > 0 else None
        rows.append({
            "since": step[0], "until": step[1], "years": None if years is None else round(years, 3),
            "first_loss_ha": round(lost[step], 4), "first_gain_ha": round(gained.get(step, 0.0), 4),
            "never_lost_before_ha": round(there, 4),
            "loss_ha_per_year": None if not years else round(lost[step] / years, 4),
            "annual_rate_percent": None if rate is None else round(rate, 4),
        })  # fmt: skip
        there = after
    return rows


def _years(since: str, until: str) -> float | None:
    try:
        days = (datetime.fromisoformat(until) - datetime.fromisoformat(since)).days
    except (ValueError, TypeError):
        return None
    return days / DAYS_A_YEAR if days > 0 else None


def _write_table(document: dict[str, Any], path: Path) -> None:
    rows = document.get("intervals") or document["classes"]
    with atomic_path(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _zones(folder: Path, zones: str, config: Config, document: dict[str, Any]) -> list[dict[str, Any]]:
    file = PolygonFile.open(Path(zones), config.scene.assume_crs)
    raster, _ = open_class_raster(str(folder / "classes.tif"), OpenOptions())
    found = areas_by_zone(raster, zones, assume_crs=config.scene.assume_crs)
    names = {entry["code"]: entry["name"] for entry in document["classes"]}
    write_zones(found, names, folder / ZONES, file.crs)
    return [
        {
            "zone": zone.number,
            "area_ha": {names.get(code, str(code)): round(area / 1e4, 4) for code, area in zone.area_m2.items()},
        }
        for zone in found
    ]
