"""A run over many scenes: each on its own, an index of all."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import shapely

from geoseg.documents import read_json
from geoseg.errors import OutputError
from geoseg.formats.stac import collection_document
from geoseg.models.ensemble import AnyModel
from geoseg.scenes.sources import Refused, SceneRef
from pipeline.atomic import remove_empty, write_json
from pipeline.config import Config
from pipeline.infer import OpenWorkers
from pipeline.lock import exclusive
from pipeline.outcome import failed_scene
from pipeline.progress import Progress, Quiet
from pipeline.report import SceneReport
from pipeline.run import segment_scene

__all__ = ["COLLECTION", "INDEX", "LOCK", "check_out", "segment_folder", "segment_or_report", "write_collection", "write_index"]

INDEX, COLLECTION, LOCK = "index.json", "collection.json", ".geoseg.lock"
OVERLAP_SHARE = 0.02


def segment_folder(
    scenes: Sequence[SceneRef],
    refused: Sequence[Refused],
    model: AnyModel,
    config: Config,
    out: Path,
    open_workers: OpenWorkers,
    progress: Progress | None = None,
) -> list[SceneReport]:
    """Map scenes one after the other; one that fails does not stop the others, unless the configuration is strict.

    ``index.json`` has an entry for every input, and is written after each scene.

    Raises:
        OutputError: The output folder can't be written, or another run is active there.
        Interrupted: The run was stopped.
    """
    progress = progress or Quiet()
    check_out(out)
    with exclusive(out / LOCK):
        reports = [SceneReport(scene=r.name, status=r.status, reason=r.reason) for r in refused]
        progress.folder(len(scenes))
        for report in reports:
            progress.scene(report)
        write_index(out, [report.entry() for report in reports])
        stopped = any(report.status == "failed" for report in reports) and config.run.strict
        for ref in scenes:
            if stopped:
                reports.append(
                    SceneReport(scene=ref.name, status="skipped", reason="not started: --strict stops at the first failure")
                )
                continue
            report = segment_or_report(ref, model, config, out, progress, open_workers)
            reports.append(report)
            progress.scene(report)
            stopped = config.run.strict and report.status in ("failed", "partial")
            write_index(out, [report.entry() for report in reports])
        entries = [report.entry() for report in reports]
        write_index(out, entries, overlap_warnings(out, entries))
        write_collection(out, entries)
    return reports


def segment_or_report(
    ref: SceneRef, model: AnyModel, config: Config, out: Path, progress: Progress, open_workers: OpenWorkers
) -> SceneReport:
    """Map a scene; whatever it raises is reported, so that the others go on.

    Raises:
        Interrupted: The run was stopped.
        ConfigError: The settings can't work for any scene.
        ModelError: The model can't be used.
    """
    started = time.monotonic()
    try:
        report = segment_scene(ref, model, config, out, progress=progress, open_workers=open_workers)
    except Exception as error:  # a library can fail in any way, and the other scenes go on
        report = failed_scene(error, ref, out, time.monotonic() - started)
        # A scene that was refused at once leaves no empty folders behind.
        remove_empty(out / ref.name / ".run", out / ref.name)
    return report


def check_out(out: Path) -> None:
    """Make the output folder.

    Raises:
        OutputError: It can't be made.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file; --out names a folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: can't be made: {error.strerror}; choose another --out") from error


def write_index(out: Path, entries: Iterable[Mapping[str, Any]], warnings: Sequence[str] = ()) -> None:
    """Write ``index.json``, by the names of the scenes.

    Raises:
        OutputError: It can't be written.
    """
    try:
        write_json(out / INDEX, {"warnings": list(warnings), "scenes": sorted(entries, key=lambda entry: str(entry["scene"]))})
    except OSError as error:
        raise OutputError(f"{out}: {INDEX} can't be written: {error.strerror}; make room or choose another --out") from error


def write_collection(out: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    """Write the STAC Collection of the scenes that have outputs."""
    write_json(out / COLLECTION, collection_document(_items(out, entries)))


def _items(out: Path, entries: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    items = {}
    for entry in entries:
        path = out / entry["scene"] / "item.json"
        if entry["outputs"] and path.is_file():
            items[f"./{entry['scene']}/item.json"] = read_json(path)
    return items


def overlap_warnings(out: Path, entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """Scenes that show the same ground: what lies there is counted twice."""
    items = _items(out, entries)
    shapes = [
        (Path(href).parent.as_posix(), shapely.geometry.shape(item["geometry"]))
        for href, item in items.items()
        if item["geometry"]
    ]
    if len(shapes) < 2:
        return []
    tree = shapely.STRtree([shape for _, shape in shapes])
    notes = []
    for i, (name, shape) in enumerate(shapes):
        for j in sorted(tree.query(shape, predicate="intersects").tolist()):
            other, other_shape = shapes[j]
            share = shapely.intersection(shape, other_shape).area / max(min(shape.area, other_shape.area), 1e-12)
            if j > i and share > OVERLAP_SHARE:
                notes.append(f"{name} and {other} overlap by {share:.0%}: what lies there is counted twice")
    return notes[:100]
