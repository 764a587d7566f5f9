"""One scene, from plan to published files: plan -> infer -> stitch and vectorize -> publish."""

from __future__ import annotations

import hashlib
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

from geoseg.errors import GeoreferenceError, GeosegError, OutputError
from geoseg.models.ensemble import AnyModel
from geoseg.models.model_folder import file_hash
from geoseg.parallel import cores
from geoseg.polygons.class_raster import ClassRaster
from geoseg.scenes.names import check_inside
from geoseg.scenes.sources import SceneRef
from geoseg.transient import passing
from pipeline.config.sections import Config, VectorConfig
from pipeline.files.atomic import DISK_ERRORS
from pipeline.files.manifest import Manifest
from pipeline.files.run_folder import RunFolder
from pipeline.files.spool import SPOOL, FeatureSpool
from pipeline.files.version import code_version
from pipeline.infer.chunk_store import ChunkStore
from pipeline.infer.run import infer, unfinished
from pipeline.infer.storage import Storage, open_storage
from pipeline.infer.workers import LocalWorkers, OpenWorkers
from pipeline.join.chunk_results import Coverage, StoredResult
from pipeline.join.panoptic import Painted, open_painted, paint_scene
from pipeline.join.rules import Rules, apply_rules, recoded
from pipeline.plan.make import make_plan
from pipeline.plan.plan import Plan
from pipeline.plan.room import check_room
from pipeline.publish.document import result_identity, run_document, write_chunks
from pipeline.publish.report import SceneReport
from pipeline.publish.run import add_companions, draw_preview
from pipeline.segment.progress import Progress, Quiet
from pipeline.stitch import Totals, layer_reads, stitch
from pipeline.vectorize.objects import trace_painted
from pipeline.vectorize.run import write_formats
from pipeline.vectorize.scene import vectorize_coverage, vectorize_scene, wanted_by

__all__ = ["STAGES", "MoreFiles", "SceneRun", "open_run", "segment_scene"]

CHUNKS, OBJECTS, POLYGONS = "chunks", "objects", "polygons"
LEAST_FREE = 1 << 20
STAGES = ("plan", "infer", "stitch", "vectorize", "publish")
MoreFiles = Callable[[Path, Mapping[str, Any]], None]
"""Writes further files, of which ``run.json`` says that they are companions, into the folder of what will be published; is
given ``run.json``, too."""


def segment_scene(
    ref: SceneRef,
    model: AnyModel,
    config: Config,
    out: Path,
    *,
    progress: Progress | None = None,
    open_workers: OpenWorkers = LocalWorkers,
    more: MoreFiles | None = None,
) -> SceneReport:
    """Map one scene into ``out / ref.name``.

    What an interrupted run has finished is verified and kept. Files appear under their names only when all are whole.

    Raises:
        SceneError: The scene can't be read or placed.
        OutputError: The folder can't be written, is busy, full, or holds other results.
        ConfigError: The settings don't fit the model.
        Interrupted: The run was stopped.
    """
    with open_run(ref, model, config, out, progress=progress, open_workers=open_workers, more=more) as run:
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
    more: MoreFiles | None = None,
) -> Iterator[SceneRun]:
    """The run of one scene, stage by stage; its output is locked while it lasts.

    Raises:
        OutputError: The folder can't be written, is busy, full, holds other results or files of somebody, or lies elsewhere by
            a link.
    """
    place = RunFolder(check_inside(out, ref.name))
    try:
        with place.held(), _clear_errors(place.folder):
            run = SceneRun(ref, model, config, place, progress or Quiet(), open_workers, more)
            yield run
            if not config.run.keep and run.published:
                run.storage.clear()
                place.prune()
    except OutputError:
        # The folder may be another run's, or lie elsewhere.
        raise
    except BaseException:
        place.leave()
        raise
    if not config.run.keep:
        place.leave()


class SceneRun:
    """One scene under way: plan -> infer -> stitch and vectorize -> publish, in this order.

    Each stage does what earlier runs have not finished, and leaves its files with their checksums in the manifest; done
    again, it verifies them and returns. ``stitch`` and ``vectorize`` may run at the same time.
    """

    def __init__(
        self,
        ref: SceneRef,
        model: AnyModel,
        config: Config,
        place: RunFolder,
        progress: Progress,
        open_workers: OpenWorkers,
        more: MoreFiles | None = None,
    ) -> None:
        self.folder, self.config = place.folder, config
        self.finished: SceneReport | None = None
        """The report of an earlier run with the same result, known after ``plan``."""
        self.published = False
        self._ref, self._model, self._progress, self._open_workers = ref, model, progress, open_workers
        self._place, self._work, self._more = place, place.work, more
        self.storage = _storage(config, place)
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
        facts: list[Any] = [stage, identity if stage in ("plan", "infer") else result_identity(self.planned, self.config)]
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
        plan = self._plan = _plan(self._ref, self._model, self.config, self._place)
        self.finished = self._finished()
        if self.finished is None:
            if not self.config.run.overwrite:
                self._place.refuse_other(result_identity(plan, self.config))
            self._formats = _formats(self.config.vector, plan)
            wanted_by(self.config.vector, plan)
            self._manifest = Manifest.open(self._place.manifest, plan.identity(self.config))
            if not self._manifest.resumed:
                self._place.clear_stage()
            done = sum(record["status"] == "done" for record in self._manifest.chunks.values())
            check_room(self.folder, plan, done)
            self._progress.planned(plan, done)
        self._seconds["plan"] = time.monotonic() - started

    def _finished(self) -> SceneReport | None:
        found = self._place.finished(result_identity(self.planned, self.config))
        if found is None or (found.code is not None and self.config.run.overwrite):
            return None
        return replace(SceneReport.of_run(found.document), status="skipped", reason=found.reason)

    def infer(self) -> None:
        """Run the network over the chunks that have no verified result."""
        with self._timed("infer"):
            infer(self.planned, self.manifest, self.storage, self._open_workers, self._progress.chunk, self._stop.is_set)

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
                        plan,
                        result,
                        lambda: (store.objects(index) for index in records),
                        self.config.vector,
                        folder,
                        self._stop.is_set,
                    )
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
        document = self._place.ended() or self._published()
        self.published = True
        passing_by = any(record.get("transient") for record in self._records().values() if record["status"] != "done")
        return self._report(replace(SceneReport.of_run(document), transient=passing_by))

    def _published(self) -> Mapping[str, Any]:
        for stage in ("stitch", "vectorize"):
            if not self.verified(stage):
                raise OutputError(f"{self._work}: the files of {stage} are damaged or gone; run again, and they are made anew")
        started, plan, place, stages = time.monotonic(), self.planned, self._place, self.manifest.stages
        known = {
            path.name: digest
            for stage in ("stitch", "vectorize")
            for name, digest in stages[stage]["files"].items()
            if (path := self._work / name).parent == place.stage
        }
        final = place.clear_stage(keep=known)
        spool = FeatureSpool(self._work / POLYGONS / SPOOL, stages["vectorize"]["features"])
        draw_preview(plan, self._store(), spool, final)
        write_chunks(plan, self.config, self._records(), final)
        domain = {} if plan.domain is None else {k.replace("_", ":", 1): v for k, v in plan.domain.tags().items()}
        add_companions(plan, final, {"geoseg:model": plan.card.name, "geoseg:model_sha256": plan.model_sha256, **domain})
        plan.scene.verify_unchanged()
        self._seconds["publish"] = time.monotonic() - started
        document = run_document(plan, self._ref, self.config, self.manifest.chunks, stages["stitch"], spool.count, self._seconds)
        if self._more is not None:
            before = {path.name for path in final.iterdir()}
            self._more(final, document)
            document["companions"] = sorted(path.name for path in final.iterdir() if path.name not in before)
        return place.publish(document, known=known).document

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
        final = self._place.stage
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


def _storage(config: Config, place: RunFolder) -> Storage:
    """The chunk results' place: the run folder, or one of this output in the place that all workers share."""
    if config.run.scratch is None:
        return open_storage(str(place / CHUNKS))
    own = hashlib.sha256(str(place.folder.resolve()).encode()).hexdigest()[:12]
    return open_storage(f"{config.run.scratch.rstrip('/')}/{place.folder.name}-{own}")


def _has_sha256(path: Path, digest: str) -> bool:
    return path.is_file() and file_hash(path) == digest


def _plan(ref: SceneRef, model: AnyModel, config: Config, place: RunFolder) -> Plan:
    """The plan; a run that goes on keeps the chunks and the engine of the one before."""
    earlier = Manifest.read_identity(place.manifest)
    if earlier is not None and (earlier["config"], earlier["model"], earlier["code"]) == (
        config.chunk_hash(),
        model.sha256,
        code_version(),
    ):
        return make_plan(ref, model, config, chunk=earlier["chunk"], engine=earlier["engine"])
    return make_plan(ref, model, config)


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
