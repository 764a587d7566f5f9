"""One scene, from plan to published files: plan -> infer -> stitch and vectorize -> publish."""

from __future__ import annotations

import errno
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from geoseg.errors import GeoreferenceError, OutputError
from geoseg.models.folder import Model
from geoseg.scenes.sources import SceneRef
from pipeline.atomic import file_sha256, write_json
from pipeline.config import Config, VectorConfig
from pipeline.infer import CHUNKS, LocalWorkers, Workers, infer
from pipeline.lock import exclusive
from pipeline.manifest import Manifest
from pipeline.plan import Plan, code_version, make_plan
from pipeline.progress import Progress, Quiet
from pipeline.publish import REPORT, add_companions, draw_preview, move_into_place, previous_files, prune, styles_of
from pipeline.raster import Coverage, StoredResult
from pipeline.report import SceneReport, areas_by_class, chunk_warnings, failed_chunks
from pipeline.stitch import stitch
from pipeline.store import LAYERS, ChunkStore
from pipeline.vectorize import FeatureSpool, cores, vectorize_coverage, vectorize_scene, write_formats

__all__ = ["RUN", "segment_scene"]

RUN, MANIFEST, FINAL = ".run", "manifest.jsonl", "final"
OpenWorkers = Callable[[Plan, Path, list[int]], Workers]


def segment_scene(
    ref: SceneRef,
    model: Model,
    config: Config,
    out: Path,
    *,
    progress: Progress | None = None,
    open_workers: OpenWorkers = LocalWorkers,
) -> SceneReport:
    """Map one scene into ``out / ref.name``.

    What an interrupted run has finished is verified and kept. Files appear under their names only when all are whole.

    Raises:
        SceneError: The scene can't be read or placed.
        OutputError: The folder can't be written, is busy, full, or holds other results.
        ConfigError: The settings don't fit the model.
        Interrupted: The run was stopped.
    """
    started = time.monotonic()
    progress = progress or Quiet()
    folder = out / ref.name
    work = folder / RUN
    with exclusive(work / "lock"), _clear_errors(folder):
        report = _segment(ref, model, config, folder, progress, open_workers)
        if not config.run.keep:
            prune(work)
    if not config.run.keep:
        _remove_empty(work)
    return replace(report, scene=ref.name, seconds=time.monotonic() - started)


def _segment(
    ref: SceneRef, model: Model, config: Config, folder: Path, progress: Progress, open_workers: OpenWorkers
) -> SceneReport:
    started = time.monotonic()
    work = folder / RUN
    plan = _plan(ref, model, config, work)
    identity = plan.identity(config)
    finished = _finished(folder, identity, config)
    if finished is not None:
        return finished
    _refuse_other_results(folder, identity, config)
    formats = _formats(config.vector, plan)
    manifest = Manifest.open(work / MANIFEST, identity)
    progress.planned(plan, sum(record["status"] == "done" for record in manifest.chunks.values()))

    seconds = {"plan": time.monotonic() - started}
    with _timed(seconds, "infer"):
        infer(plan, manifest, work, open_workers, progress.chunk)
    progress.stage("stitch and vectorize")
    with _timed(seconds, "stitch and vectorize"):
        spool = _finish(plan, manifest, work, config, formats)
    progress.stage("publish")
    return _publish(plan, manifest, work, folder, spool, config, seconds)


def _plan(ref: SceneRef, model: Model, config: Config, work: Path) -> Plan:
    """The plan; a run that goes on keeps the chunks and the engine of the one before."""
    earlier = Manifest.read_identity(work / MANIFEST)
    if earlier is not None and (earlier["config"], earlier["model"], earlier["code"]) == (
        config.chunk_hash(), model.sha256, code_version(),
    ):  # fmt: skip
        return make_plan(ref, model, config, chunk=earlier["chunk"], engine=earlier["engine"])
    return make_plan(ref, model, config)


def _result_identity(identity: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """What the published files depend on."""
    facts = {key: value for key, value in identity.items() if key not in ("chunk", "config")}
    return {**facts, "config": config.result_hash()}


def _finished(folder: Path, identity: Mapping[str, Any], config: Config) -> SceneReport | None:
    """The report of an earlier run with the same result, if its files are all there."""
    try:
        earlier = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        same = earlier["identity"] == _result_identity(identity, config) and earlier["status"] == "done"
        files = earlier["files"]
        whole = all((folder / name).stat().st_size == facts["bytes"] for name, facts in files.items())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not (same and whole):
        return None
    return SceneReport(
        scene="", status="skipped", reason="finished by an earlier run", outputs=tuple(earlier["outputs"]),
        warnings=tuple(earlier["warnings"]), classes=tuple(earlier["classes"]),
    )  # fmt: skip


def _refuse_other_results(folder: Path, identity: Mapping[str, Any], config: Config) -> None:
    """Results of other inputs or settings are replaced only when told to; a partial one of the same is gone on with."""
    if config.run.overwrite or not previous_files(folder):
        return
    try:
        earlier = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        if earlier["identity"] == _result_identity(identity, config):
            return
        differs = [key for key, value in _result_identity(identity, config).items() if earlier["identity"].get(key) != value]
    except FileNotFoundError:
        # Files were moved into place, and the report was about to be: the same run goes on.
        return
    except (OSError, ValueError, KeyError, TypeError):
        differs = ["its report can't be read"]
    raise OutputError(f"{folder}: holds results of another run (other {', '.join(differs)}); use --overwrite or another --out")


def _finish(plan: Plan, manifest: Manifest, work: Path, config: Config, formats: tuple[str, ...]) -> FeatureSpool:
    """Rasters and polygons, side by side: both are made from the chunk results."""
    final = work / FINAL
    shutil.rmtree(final, ignore_errors=True)
    final.mkdir(parents=True)
    records = {index: manifest.chunks[index] for index in sorted(manifest.chunks) if index in set(plan.active)}
    store = ChunkStore(work / CHUNKS, plan.grid)
    result = StoredResult(plan, store, records)
    threads = plan.threads or cores()
    layers = LAYERS if config.run.confidence else LAYERS[:1]

    stop = threading.Event()
    styles = styles_of(plan.card)

    def rasters() -> None:
        for layer in layers:
            stitch(layer, plan, store, records, final / f"{layer}.tif", threads=threads)

    def polygons() -> FeatureSpool:
        return vectorize_scene(plan, result, config.vector, work / "polygons", threads, stop.is_set)

    def coverage() -> None:
        spool = vectorize_coverage(plan, Coverage(result), work / "coverage", threads, stop.is_set)
        write_formats(
            spool, ("geojson" if plan.scene.georeference.has_lonlat else "gpkg",), final / "coverage", result, (), threads
        )

    with ThreadPoolExecutor(max(2, threads), thread_name_prefix="geoseg-finish") as pool:
        try:
            traced, raster_done, covered = pool.submit(polygons), pool.submit(rasters), pool.submit(coverage)
            spool = traced.result()
            written = pool.submit(write_formats, spool, formats, final / "polygons", result, styles, threads)
            raster_done.result()
            pool.submit(draw_preview, plan, store, spool, final).result()
            covered.result()
            written.result()
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    shutil.rmtree(final / "levels", ignore_errors=True)
    return spool


def _formats(vector: VectorConfig, plan: Plan) -> tuple[str, ...]:
    """The formats asked for. GeoJSON can't hold pixel coordinates; where it was not asked for by name it is left out."""
    georeference = plan.scene.georeference
    if "geojson" not in vector.formats or georeference.has_lonlat:
        return vector.formats
    if georeference.crs is None and vector.formats == VectorConfig().formats:
        return tuple(name for name in vector.formats if name != "geojson")
    raise GeoreferenceError(
        f"{plan.scene.path}: GeoJSON needs longitudes and latitudes, which {georeference.name} does not give; use --formats gpkg"
    )


def _publish(
    plan: Plan, manifest: Manifest, work: Path, folder: Path, spool: FeatureSpool, config: Config, seconds: dict[str, float]
) -> SceneReport:
    started = time.monotonic()
    final = work / FINAL
    records = manifest.chunks
    write_json(final / "model.json", plan.card.to_json())
    model = {"geoseg:model": plan.card.name, "geoseg:model_sha256": plan.model_sha256}
    add_companions(plan, final, model)
    files = {path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)} for path in sorted(final.iterdir())}
    plan.scene.verify_unchanged()
    failed = failed_chunks(plan, records)
    warnings = [*plan.warnings, *chunk_warnings(plan, records)]
    classes = areas_by_class(plan, records)
    status = "partial" if failed else "done"
    reason = f"{len(failed)} of {len(plan.active)} chunks are not analysed: {failed[0]['reason']}" if failed else None
    identity = plan.identity(config)
    seconds["publish"] = time.monotonic() - started
    document = {
        "geoseg": code_version(),
        "scene": plan.scene.name,
        "status": status,
        "reason": reason,
        "source": [file.path for file in plan.scene.files],
        "acquired": plan.scene.acquired,
        "model": {"name": plan.card.name, "version": plan.card.version, "sha256": plan.model_sha256},
        "identity": _result_identity(identity, config),
        "config": config.model_dump(mode="json"),
        "plan": plan.describe(),
        "warnings": warnings,
        "classes": list(classes),
        "features": spool.count,
        "not_analysed": failed,
        "chunks": {
            "total": plan.grid.n_chunks, "empty": plan.grid.n_chunks - len(plan.active), "failed": len(failed),
            "tiles": sum(record["tiles"] for record in records.values()),
        },
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "seconds_by_step": _steps(records),
        "files": files,
    }  # fmt: skip
    names = move_into_place(final, folder, document)
    outputs = tuple(names)
    return SceneReport(
        scene=plan.scene.name, status=status, reason=reason, outputs=outputs, warnings=tuple(warnings), classes=classes
    )


def _steps(records: Mapping[int, Mapping[str, Any]]) -> dict[str, float]:
    """Time by step, added up over chunks; steps of several chunks run at once."""
    names = {name for record in records.values() for name in record["seconds"]}
    return {name: round(sum(record["seconds"].get(name, 0.0) for record in records.values()), 3) for name in sorted(names)}


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    seconds[name] = time.monotonic() - start


@contextmanager
def _clear_errors(folder: Path) -> Iterator[None]:
    """Errors of the disk in words that help."""
    try:
        yield
    except OSError as error:
        if isinstance(error, OutputError) or error.errno not in (
            errno.ENOSPC,
            errno.EDQUOT,
            errno.EFBIG,
            errno.EROFS,
            errno.EACCES,
        ):
            raise
        raise OutputError(
            f"{folder}: {error.strerror}; make room or choose another --out, then run again: finished chunks are kept"
        ) from error


def _remove_empty(work: Path) -> None:
    try:
        work.rmdir()
    except OSError:
        # Another run has begun there.
        return
