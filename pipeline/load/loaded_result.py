"""A result as it is loaded: its features, the run that made them, and the code of their CRS."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import pyproj

from geoseg.crs import crs_of, horizontal
from geoseg.dialect import setting
from geoseg.documents import LARGE, read_json
from geoseg.errors import ConfigError
from geoseg.vectors.polygon_file import PolygonFile
from pipeline.deliver.document import Reports
from pipeline.files.maps import BUILDINGS, POLYGONS, first_file, refuse_values_folder, result_folders
from pipeline.files.run_folder import REPORT, RunFolder

__all__ = ["LoadedResult", "results_of", "srid_of"]

LONLAT = 4326
CERTAIN = 100
"""Percent of confidence at which a CRS is that of a code, and no other that is much like it."""
RUN_DIGITS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedResult:
    """A result to load."""

    folder: Path
    kind: str
    """``polygons``, ``changes`` or ``buildings``: what the rows of its table are."""
    run: str
    """Digits of a hash of all that the features depend on: the same for the same run again."""
    project: str
    scene: str
    status: str
    model: str
    finished: str | None
    acquired: str | None
    """Date of the last image."""
    warnings: tuple[str, ...]
    features: PolygonFile
    style: str | None
    """Its QGIS style."""


def results_of(out: Path, project: str = "") -> list[LoadedResult]:
    """The results of an output folder; one without features is left out.

    Raises:
        ConfigError: There is none, or one has no record of its run.
    """
    if not out.is_dir():
        raise ConfigError(f"{out}: no such folder; give an output folder of geoseg segment, deforestation or damage")
    found = []
    for folder in result_folders(out):
        RunFolder(folder).settle()
        path = first_file(folder, (*BUILDINGS, *POLYGONS))
        if path is not None:
            name = folder.relative_to(out).as_posix()
            found.append(_result(folder, path, project, out.resolve().name if name == "." else name))
    if not found:
        refuse_values_folder(out, "loaded are polygons and buildings")
        raise ConfigError(
            f"{out}: holds neither polygons nor buildings; give an output folder of segment, deforestation or damage"
        )
    return found


def _result(folder: Path, path: Path, project: str, name: str) -> LoadedResult:
    if not (folder / REPORT).is_file():
        raise ConfigError(f"{folder}: has no {REPORT}, which says what run its features are of; make the result again")
    record = read_json(folder / REPORT, ConfigError, limit=LARGE)
    if not isinstance(record, dict) or "identity" not in record:
        raise ConfigError(f"{folder / REPORT}: is no record of a run of geoseg; make the result again")
    kind = "buildings" if path.stem == "buildings" else "changes" if (folder / "changes.json").is_file() else "polygons"
    reports = Reports.read(folder, {"buildings": "damage.json", "changes": "changes.json"}.get(kind, REPORT))
    scene = str(record.get("scene") or name)
    vector = record["config"].get("vector") if isinstance(record.get("config"), dict) else None
    facts = json.dumps([project, kind, scene, record["identity"], vector], sort_keys=True)
    style = folder / f"{path.stem}.qml"
    return LoadedResult(
        folder=folder,
        kind=kind,
        run=hashlib.sha256(facts.encode()).hexdigest()[:RUN_DIGITS],
        project=project,
        scene=scene,
        status=str(record.get("status", "done")),
        model=reports.model,
        finished=reports.finished,
        acquired=reports.images[-1].acquired if reports.images else None,
        warnings=reports.warnings,
        features=PolygonFile.open(path, layer=path.stem if path.suffix == ".gpkg" else None),
        style=style.read_text(encoding="utf-8") if style.is_file() else None,
    )


def srid_of(path: Path, crs: pyproj.CRS | None) -> int:
    """The EPSG code of a CRS, which is its SRID in PostGIS.

    Raises:
        ConfigError: There is no CRS, or it is that of no code.
    """
    if crs is None:
        raise ConfigError(f"{path}: has no CRS, so its polygons are nowhere on Earth; map again with --assume-crs")
    flat = horizontal(crs)
    if flat == crs_of("OGC:CRS84"):
        return LONLAT
    code = flat.to_epsg(CERTAIN)
    if code is None:
        raise ConfigError(
            f"{path}: its CRS ({crs.name}) has no EPSG code, by which PostGIS knows it; bring the polygons to one that has, "
            f"for example with {setting('crs', 'EPSG:4326')}"
        )
    return int(code)
