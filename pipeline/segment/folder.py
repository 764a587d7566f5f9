"""A run over many scenes: each on its own, an index of all."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from geoseg.errors import ConfigError, ModelError, OutputError
from geoseg.models.ensemble import AnyModel
from geoseg.scenes.names import check_inside
from geoseg.scenes.sources import Refused, SceneRef
from pipeline.config.sections import Config
from pipeline.files.atomic import remove_empty
from pipeline.files.index import Index, IndexEntry, overlap_warnings, write_collection
from pipeline.files.lock import exclusive
from pipeline.files.outputs import take_away
from pipeline.files.run_folder import REPORT, RunFolder
from pipeline.infer.workers import OpenWorkers
from pipeline.publish.folder_page import write_folder_page
from pipeline.publish.report import SceneReport
from pipeline.segment.outcome import failed_scene
from pipeline.segment.progress import Progress, Quiet
from pipeline.segment.run import MoreFiles, segment_scene

__all__ = ["LOCK", "check_out", "clear_above", "clear_maps", "segment_folder", "segment_or_report", "unmade"]

LOCK = ".geoseg.lock"


def segment_folder(
    scenes: Sequence[SceneRef],
    refused: Sequence[Refused],
    model: AnyModel,
    config: Config,
    out: Path,
    open_workers: OpenWorkers,
    progress: Progress | None = None,
    more: MoreFiles | None = None,
) -> list[SceneReport]:
    """Map scenes one after the other; one that fails does not stop the others, unless the configuration is strict.

    ``index.json`` has an entry for every input, and for what earlier runs have made in the same folder; it is written after
    each scene.

    Raises:
        OutputError: The output folder can't be written, or another run is active there.
        Interrupted: The run was stopped.
    """
    progress = progress or Quiet()
    made = not out.exists()
    check_out(out)
    with unmade(out, made=made), exclusive(out / LOCK):
        reports = [SceneReport(scene=r.name, status=r.status, reason=r.reason) for r in refused]
        index = Index(out)
        index.put(*(report.entry() for report in reports))
        progress.folder(len(scenes))
        for report in reports:
            progress.scene(report)
        if reports:
            index.write()
        stopped = any(report.status == "failed" for report in reports) and config.run.strict
        for ref in scenes:
            if stopped:
                reason = "not started: --strict stops at the first failure"
                report = SceneReport(scene=ref.name, status="skipped", reason=reason)
                reports.append(report)
                index.put(_entry(out, report))
                continue
            report = segment_or_report(ref, model, config, out, progress, open_workers, more, len(scenes))
            reports.append(report)
            progress.scene(report)
            if not report.outputs:
                clear_above(out, ref.name)
            stopped = config.run.strict and report.status in ("failed", "partial")
            index.put(_entry(out, report))
            index.write()
        _write_listings(out, index)
    return reports


def clear_maps(out: Path, names: Sequence[str]) -> None:
    """Take away maps of an output folder, and what its index, collection and page say of them.

    What somebody has changed there stays, under other names.

    Raises:
        OutputError: Another run is active there.
    """
    with exclusive(out / LOCK):
        for name in names:
            take_away(RunFolder(check_inside(out, name)))
        _write_listings(out, Index(out))


def _write_listings(out: Path, index: Index) -> None:
    """Write what tells of all maps of an output folder."""
    overlaps = overlap_warnings(out, index.entries)
    index.write(overlaps)
    write_collection(out, index.entries)
    write_folder_page(out, index.entries, overlaps)


@contextmanager
def unmade(out: Path, *, made: bool) -> Iterator[None]:
    """A folder that was made for nothing goes again, where the settings can't work for any scene."""
    try:
        yield
    except (ConfigError, ModelError):
        if made:
            remove_empty(out)
        raise


def clear_above(out: Path, name: str) -> None:
    """Remove the folders above that of a scene which has no map, as far as they are empty; no other works there."""
    remove_empty(*(folder for folder in (out / name).parents if out in folder.parents))


def segment_or_report(
    ref: SceneRef,
    model: AnyModel,
    config: Config,
    out: Path,
    progress: Progress,
    open_workers: OpenWorkers,
    more: MoreFiles | None = None,
    scenes: int = 1,
) -> SceneReport:
    """Map a scene; whatever it raises is reported, so that the others go on.

    Raises:
        Interrupted: The run was stopped.
        ConfigError: The settings can't work for any scene.
        ModelError: The model can't be used.
    """
    started = time.monotonic()
    try:
        report = segment_scene(ref, model, config, out, progress=progress, open_workers=open_workers, more=more, scenes=scenes)
    except Exception as error:  # noqa: BLE001 - a library can fail in any way, and the other scenes go on
        report = failed_scene(error, ref, out, time.monotonic() - started)
        # A scene that was refused at once leaves no empty folders behind; where a link leads, nothing is removed.
        with suppress(OutputError):
            RunFolder(check_inside(out, ref.name)).leave()
    return report


def _entry(out: Path, report: SceneReport) -> IndexEntry:
    """The entry of a scene; where nothing became of it, what an earlier run has made is still there."""
    entry = report.entry()
    if not report.outputs and (record := RunFolder(out / report.scene).record()) is not None:
        entry["outputs"] = [f"{report.scene}/{name}" for name in (*record.files, REPORT)]
    return entry


def check_out(out: Path) -> None:
    """Make the output folder.

    Raises:
        OutputError: It can't be made.
    """
    try:
        str(out).encode()
    except UnicodeEncodeError as error:
        raise OutputError(f"{out}: is not UTF-8, so that GDAL can't write there; choose another --out") from error
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file; --out names a folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: can't be made: {error.strerror}; choose another --out") from error
