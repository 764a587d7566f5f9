"""What is written beside a map of changes: the summary, its table, and areas by zone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from geoseg.digits import figure
from geoseg.formats.page.elements import Section
from geoseg.formats.text import write_table
from geoseg.scenes.scene import OpenOptions
from geoseg.vectors.polygon_file import PolygonFile
from pipeline.changes.changes_page import changes_sections
from pipeline.changes.document import ChangesDocument, MappedScene, ZoneEntry, summary_of
from pipeline.changes.rates import Change, intervals_of
from pipeline.config.sections import Config
from pipeline.files.atomic import atomic_path, write_json
from pipeline.files.class_rasters import open_class_raster
from pipeline.summarize.zones import areas_by_zone, write_zones

__all__ = ["SUMMARY", "write_summary"]

SUMMARY, TABLE, ZONES, ZONES_BY_INTERVAL = "changes.json", "changes.csv", "zones", "zones_by_interval.csv"


def write_summary(
    scene: MappedScene, card: Mapping[str, object], classes: Path, folder: Path, zones: str | None, config: Config
) -> tuple[Section, ...]:
    """Write the summary of a map, its table, and areas by zone, where there are zones.

    Args:
        scene: The map, as its record has it.
        card: Of the model.
        classes: The raster of changes.
        folder: Where to.
        zones: A file of polygons.
        config: The settings.

    Returns:
        What the page says of them.
    """
    document = summary_of(scene, card)
    _write_table(document.get("intervals") or document["classes"], folder / TABLE)
    if zones is not None:
        document["zones"] = _zones(classes, zones, document, scene.changes, folder, config.scene.assume_crs)
    write_json(folder / SUMMARY, document)
    return changes_sections(document, scene.changes)


def _zones(
    classes: Path, zones: str, document: ChangesDocument, changes: Mapping[str, Change], folder: Path, assume_crs: str | None
) -> list[ZoneEntry]:
    """Areas by zone; with dates, also what each lost in each interval, and the rate."""
    file = PolygonFile.open(Path(zones), assume_crs)
    raster, _ = open_class_raster(str(classes), OpenOptions())
    found = areas_by_zone(raster, zones, assume_crs=assume_crs)
    names = {entry["code"]: entry["name"] for entry in document["classes"]}
    write_zones(found, names, folder / ZONES, file.crs)
    entries: list[ZoneEntry] = []
    table: list[dict[str, object]] = []
    for zone in found:
        area_ha = {names.get(code, str(code)): figure(area / 1e4, 4) for code, area in zone.area_m2.items()}
        entry: ZoneEntry = {"zone": zone.number, "area_ha": area_ha}
        if changes:
            entry["intervals"] = intervals_of(changes, {code: area / 1e4 for code, area in zone.area_m2.items()})
            table += [{"zone": zone.number, **zone.facts, **row} for row in entry["intervals"]]
        entries.append(entry)
    if table:
        _write_table(table, folder / ZONES_BY_INTERVAL)
    return entries


def _write_table(rows: Sequence[Mapping[str, object]], path: Path) -> None:
    with atomic_path(path) as part:
        write_table(part, list(rows[0]), rows)
