"""One scene, from plan to published files: plan -> infer -> stitch and vectorize -> publish."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from geoseg.documents import LARGE, read_json
from geoseg.errors import GeoreferenceError, GeosegError, OutputError
from geoseg.models.ensemble import AnyModel
from geoseg.models.folder import file_hash
from geoseg.scenes.sources import SceneRef
from geoseg.transient import passing
from pipeline.atomic import DISK_ERRORS, remove_empty, write_json
from pipeline.config import Config, VectorConfig
from pipeline.definition import Rules, apply_rules, recoded
from pipeline.infer import LocalWorkers, OpenWorkers, infer, unfinished
from pipeline.lock import exclusive
from pipeline.manifest import Manifest
from pipeline.panoptic import Painted, open_painted, paint_scene, trace_painted
from pipeline.plan import Plan, code_version, make_plan
from pipeline.progress import Progress, Quiet
from pipeline.publish import REPORT, add_companions, draw_preview, move_into_place, previous_files, prune
from pipeline.raster import Coverage, StoredResult
from pipeline.report import SceneReport, areas_by_class, chunk_warnings, failed_chunks
from pipeline.room import check_room
from pipeline.stitch import Totals, layer_reads, stitch
from pipeline.storage import Storage, open_storage
from pipeline.store import ChunkStore
from pipeline.vectorize import (
    SPOOL,
    ClassRaster,
    FeatureSpool,
    cores,
    vectorize_coverage,
    vectorize_scene,
    wanted_by,
    write_formats,
)

__all__ = ["RUN", "STAGES", "SceneRun", "open_run", "segment_scene"]

RUN, MANIFEST, FINAL, CHUNKS = ".run", "manifest.jsonl", "final", "chunks"
OBJECTS, POLYGONS = "objects", "polygons"
LEAST_FREE = 1 << 20
STAGES = ("plan", "infer", "stitch", "vectorize", "publish")


def segment_scene(
    ref: SceneRef,
    model: AnyModel,
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
    with open_run(ref, model, config, out, progress=progress, open_workers=open_workers) as run:
        run.plan()
        if run.finished is None:
            run.infer()
            run.stitch_and_vectorize()
        return run.publish()


@contextmanager
def open_run(
    ref: SceneRef,
    model: AnyModel,
    config: Config,
    out: Path,
    *,
    progress: Progress | None = None,
    open_workers: OpenWorkers = LocalWorkers,
) -> Iterator[SceneRun]:
    """The run of one scene, stage by stage; its output is locked while it lasts.

    Raises:
        OutputError: The folder can't be written, is busy, full, or holds other results.
    """
    folder = out / ref.name
    work = folder / RUN
    with exclusive(work / "lock"), _clear_errors(folder):
        run = SceneRun(ref, model, config, folder, progress or Quiet(), open_workers)
        yield run
        if not config.run.keep and run.published:
            run.storage.clear()
            prune(work)
    if not config.run.keep:
        remove_empty(work)


class SceneRun:
    """One scene under way: plan -> infer -> stitch and vectorize -> publish, in this order.

    Each stage does what earlier runs have not finished, and leaves its files with their checksums in the manifest; done
    again, it verifies them and returns. ``stitch`` and ``vectorize`` may run at the same time.
    """

    def __init__(
        self, ref: SceneRef, model: AnyModel, config: Config, folder: Path, progress: Progress, open_workers: OpenWorkers
    ) -> None:
        self.folder, self.config = folder, config
        self.finished: SceneReport | None = None
        """The report of an earlier run with the same result, known after ``plan``."""
        self.published = False
        self._ref, self._model, self._progress, self._open_workers = ref, model, progress, open_workers
        self._work = folder / RUN
        self.storage = _storage(config, folder)
        """Where the chunk results are."""
        self._seconds: dict[str, float] = {}
        self._started = time.monotonic()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._joining = threading.Lock()
        self._plan: Plan | None = None
        self._manifest: Manifest | None = None
        self._formats: tuple[str, ...] = ()

    @property
    def planned(self) -> Plan:
        """The plan."""
        assert self._plan is not None, "plan() comes first"
        return self._plan

    @property
    def manifest(self) -> Manifest:
        """What is finished."""
        assert self._manifest is not None, "plan() comes first"
        return self._manifest

    def stop(self) -> None:
        """Have the stages under way end soon, with Interrupted."""
        self._stop.set()

    def key(self, stage: str) -> str:
        """sha256 of all that the outcome of a stage depends on: scene, model, settings, code, and the chunk results."""
        identity = self.planned.identity(self.config)
        facts: list[Any] = [stage, identity if stage in ("plan", "infer") else _result_identity(identity, self.config)]
        if stage in ("join", "rules", "stitch", "vectorize", "publish"):
            facts.append([[i, self.manifest.chunks[i]["files"]] for i in sorted(self.manifest.chunks)])
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def verified(self, stage: str) -> bool:
        """Whether the files of a stage are there, as it has left them."""
        if self._plan is None:
            return False
        if self.finished is not None:
            return stage == "plan"
        if stage == "infer":
            return not unfinished(self.planned, self.manifest, self.storage)
        record = self.manifest.stages.get(stage)
        if record is None or record["key"] != self.key(stage):
            return False
        return all(_has_sha256(self._work / name, digest) for name, digest in record["files"].items())

    def plan(self) -> None:
        """Open the scene and decide how it is mapped."""
        started = time.monotonic()
        plan = _plan(self._ref, self._model, self.config, self._work)
        identity = plan.identity(self.config)
        self._plan = plan
        self.finished = _finished(self.folder, identity, self.config)
        if self.finished is None:
            _refuse_other_results(self.folder, identity, self.config)
            self._formats = _formats(self.config.vector, plan)
            wanted_by(self.config.vector, plan)
            self._manifest = Manifest.open(self._work / MANIFEST, identity)
            done = sum(record["status"] == "done" for record in self._manifest.chunks.values())
            check_room(self.folder, plan, done)
            self._progress.planned(plan, done)
        self._seconds["plan"] = time.monotonic() - started

    def infer(self) -> None:
        """Run the network over the chunks that have no verified result."""
        with self._timed("infer"):
            infer(self.planned, self.manifest, self.storage, self._open_workers, self._progress.chunk)

    def stitch(self) -> None:
        """Put the chunk results together to rasters."""
        if self.verified("stitch"):
            return
        files = (f"{name}.tif" for name in ("classes", "confidence", "probabilities", "uncertainty", "instances", "panoptic"))
        final, plan, records = self._final(*files), self.planned, self._records()
        totals = Totals(plan.scene.georeference)
        bands = layer_reads(plan, self._store(), records, self._painted() or self._recoded(), totals)
        layers = [name for name in bands if name != "confidence" or self.config.run.confidence]
        with self._timed("stitch"):
            for layer in layers:
                stitch(layer, plan, bands[layer], records, final / f"{layer}.tif", threads=plan.threads or cores())
            shutil.rmtree(final / "levels", ignore_errors=True)
            self._record("stitch", [final / f"{layer}.tif" for layer in layers], pixels=totals.pixels, area_m2=totals.area_m2)

    def vectorize(self) -> None:
        """Trace polygons and coverage from the chunk results, and write them."""
        if self.verified("vectorize"):
            return
        plan, final, threads = self.planned, self._final("polygons.*", "coverage.*"), self.planned.threads or cores()
        result = StoredResult(plan, self._store(), self._records())

        def coverage() -> list[Path]:
            spool = vectorize_coverage(plan, Coverage(result), self._work / "coverage", threads, self._stop.is_set)
            formats = ("geojson" if plan.scene.georeference.has_lonlat else "gpkg",)
            return write_formats(spool, formats, final / "coverage", result, (), threads)

        with self._timed("vectorize"), ThreadPoolExecutor(1, thread_name_prefix="geoseg-coverage") as pool:
            covered = pool.submit(coverage)
            try:
                painted = self._painted()
                work, vector, stop = self._work / POLYGONS, self.config.vector, self._stop.is_set
                if painted is None:
                    spool = vectorize_scene(plan, self._recoded() or result, vector, work, threads, stop)
                else:
                    spool = trace_painted(painted, plan, vector, work, stop)
                stem, styles = final / "polygons", plan.styles
                written = write_formats(spool, self._formats, stem, result, styles, threads)
                files = [spool.path, *written, *covered.result()]
            except BaseException:
                self._stop.set()
                raise
            self._record("vectorize", files, features=spool.count)

    def _painted(self) -> Painted | None:
        """The objects of the scene, joined over seams, and what lies between them; None where classes are mapped."""
        plan = self.planned
        if plan.task == "semantic":
            return None
        with self._joining:
            folder, records, store = self._work / OBJECTS, self._records(), self._store()
            result = StoredResult(plan, store, records)
            if not self.verified("join"):
                with self._timed("join"):
                    files = paint_scene(
                        plan, result, lambda: (store.objects(index) for index in records), self.config.vector, folder,
                        self._stop.is_set,
                    )  # fmt: skip
                self._record("join", files)
            return open_painted(plan, result, folder)

    def _recoded(self) -> ClassRaster | None:
        """A map of changes after its rules; None where there are none."""
        plan, rules = self.planned, Rules.of(self.planned, self.config)
        if rules is None:
            return None
        with self._joining:
            folder, result = self._work / "rules", StoredResult(plan, self._store(), self._records())
            if not self.verified("rules"):
                shutil.rmtree(folder, ignore_errors=True)
                with self._timed("rules"):
                    files = apply_rules(result, rules, folder, plan.threads or cores(), self._stop.is_set)
                self._record("rules", files)
            return recoded(result, folder)

    def stitch_and_vectorize(self) -> None:
        """Both at once: they are made from the same chunk results."""
        self._progress.stage("stitch and vectorize")
        with ThreadPoolExecutor(1, thread_name_prefix="geoseg-stitch") as pool:
            stitched = pool.submit(self.stitch)
            try:
                self.vectorize()
                stitched.result()
            except BaseException:
                self._stop.set()
                raise

    def publish(self) -> SceneReport:
        """Give the files their names, all together, with picture, styles, metadata and report."""
        if self.finished is not None:
            self.published = True
            return self._report(self.finished)
        self._progress.stage("publish")
        for stage in ("stitch", "vectorize"):
            if not self.verified(stage):
                raise OutputError(f"{self._work}: the files of {stage} are damaged or gone; run again, and they are made anew")
        known = {
            name.removeprefix(f"{FINAL}/"): digest
            for stage in ("stitch", "vectorize")
            for name, digest in self.manifest.stages[stage]["files"].items()
        }
        spool = FeatureSpool(self._work / POLYGONS / SPOOL, self.manifest.stages["vectorize"]["features"])
        draw_preview(self.planned, self._store(), spool, self._work / FINAL)
        report = _publish(self.planned, self.manifest, self._work, self.folder, spool, self.config, self._seconds, known)
        self.published = True
        return self._report(report)

    def _report(self, report: SceneReport) -> SceneReport:
        outputs = tuple(f"{self._ref.name}/{name}" for name in report.outputs)
        return replace(report, scene=self._ref.name, outputs=outputs, seconds=time.monotonic() - self._started)

    def _records(self) -> dict[int, dict[str, Any]]:
        active = set(self.planned.active)
        return {index: self.manifest.chunks[index] for index in sorted(self.manifest.chunks) if index in active}

    def _store(self) -> ChunkStore:
        return ChunkStore(self.storage, self.planned.grid, self.planned.layers)

    def _final(self, *patterns: str) -> Path:
        """The folder of what will be published, without what an earlier run left under some names."""
        final = self._work / FINAL
        final.mkdir(parents=True, exist_ok=True)
        for pattern in patterns:
            for path in final.glob(pattern):
                path.unlink()
        return final

    def _record(self, stage: str, files: list[Path], **facts: Any) -> None:
        names = {path.relative_to(self._work).as_posix(): file_hash(path) for path in files}
        key = self.key(stage)
        with self._lock:
            self.manifest.add_stage(stage, {"key": key, "files": names, **facts})

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self._seconds[name] = time.monotonic() - start


def _storage(config: Config, folder: Path) -> Storage:
    """The chunk results' place: the run folder, or one of this output in the place that all workers share."""
    if config.run.scratch is None:
        return open_storage(str(folder / RUN / CHUNKS))
    own = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
    return open_storage(f"{config.run.scratch.rstrip('/')}/{folder.name}-{own}")


def _has_sha256(path: Path, digest: str) -> bool:
    return path.is_file() and file_hash(path) == digest


def _plan(ref: SceneRef, model: AnyModel, config: Config, work: Path) -> Plan:
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
        earlier = read_json(folder / REPORT, limit=LARGE)
        same = earlier["identity"] == _result_identity(identity, config) and earlier["status"] == "done"
        files = earlier["files"]
        whole = all(
            (folder / name).stat().st_size == facts["bytes"] and file_hash(folder / name) == facts["sha256"]
            for name, facts in files.items()
        )
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
        earlier = read_json(folder / REPORT, limit=LARGE)
        if earlier["identity"] == _result_identity(identity, config):
            return
        differs = [key for key, value in _result_identity(identity, config).items() if earlier["identity"].get(key) != value]
    except FileNotFoundError:
        # Files were moved into place, and the report was about to be: the same run goes on.
        return
    except (OSError, ValueError, KeyError, TypeError):
        differs = ["its report can't be read"]
    raise OutputError(f"{folder}: holds results of another run (other {', '.join(differs)}); use --overwrite or another --out")


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
    plan: Plan, manifest: Manifest, work: Path, folder: Path, spool: FeatureSpool, config: Config, seconds: dict[str, float],
    known: Mapping[str, str],
) -> SceneReport:  # fmt: skip
    started = time.monotonic()
    final = work / FINAL
    records = manifest.chunks
    write_json(final / "model.json", plan.card.to_json())
    model = {"geoseg:model": plan.card.name, "geoseg:model_sha256": plan.model_sha256}
    add_companions(plan, final, model)
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": known.get(path.name) or file_hash(path)}
        for path in sorted(final.iterdir())
    }
    plan.scene.verify_unchanged()
    failed = failed_chunks(plan, records)
    warnings = [*plan.warnings, *chunk_warnings(plan, records)]
    classes = areas_by_class(plan, {0: manifest.stages["stitch"]} if manifest.stages["stitch"]["pixels"] else records)
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
        **_of_dates(plan),
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
        scene=plan.scene.name,
        status=status,
        reason=reason,
        outputs=outputs,
        warnings=tuple(warnings),
        classes=classes,
        transient=any(record.get("transient") for record in records.values() if record["status"] != "done"),
    )


def _of_dates(plan: Plan) -> dict[str, Any]:
    """What is known of several dates."""
    if not plan.scene.dates:
        return {}
    return {
        "dates": [
            {"acquired": date.acquired, "source": [file.path for file in date.files], "mask": mask}
            for date, mask in zip(plan.scene.dates, plan.scene.masks, strict=True)
        ],
        "series": plan.series is not None,
        "changes": {str(code): asdict(change) for code, change in plan.changes.items()},
        "registration": [{**asdict(found), "consistent": found.consistent} for found in plan.registrations],
    }


def _steps(records: Mapping[int, Mapping[str, Any]]) -> dict[str, float]:
    """Time by step, added up over chunks; steps of several chunks run at once."""
    names = {name for record in records.values() for name in record["seconds"]}
    return {name: round(sum(record["seconds"].get(name, 0.0) for record in records.values()), 3) for name in sorted(names)}


@contextmanager
def _clear_errors(folder: Path) -> Iterator[None]:
    """Errors of the disk in words that help."""
    try:
        yield
    except OSError as error:
        if isinstance(error, OutputError) or error.errno not in DISK_ERRORS:
            raise
        raise passing(
            OutputError(
                f"{folder}: {error.strerror}; make room or choose another --out, then run again: finished chunks are kept"
            )
        ) from error
    except GeosegError:
        raise
    except Exception as error:
        # Libraries have words of their own for a disk that is full.
        if not folder.is_dir() or shutil.disk_usage(folder).free > LEAST_FREE:
            raise
        raise passing(
            OutputError(f"{folder}: no room is left on the disk; make room, then run again: finished chunks are kept")
        ) from error
