"""The stages between plan and publish: infer -> join -> stitch | vectorize, each from frozen references to a frozen one.

Each does what earlier runs have not finished, and leaves its files with their checksums in the manifest; done again, it verifies
them and returns. ``stitch`` and ``vectorize`` may run at the same time. The scene's folder is held meanwhile, see
``pipeline.segment.run``.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from geoseg.models.model_folder import file_hash
from geoseg.parallel import cores
from geoseg.polygons.class_raster import ClassRaster
from pipeline.files.manifest import Manifest, StageRecord
from pipeline.infer import run as chunk_run
from pipeline.infer.receipt import Receipt
from pipeline.infer.workers import LocalWorkers, OpenWorkers
from pipeline.join.chunk_results import Coverage, StoredResult
from pipeline.join.panoptic import Painted, open_painted, paint_scene
from pipeline.join.rules import Rules, apply_rules, recoded
from pipeline.segment.planned import ChunkFiles, PlannedScene
from pipeline.stitch import Totals, layer_reads, stitch_layer
from pipeline.vectorize.objects import trace_painted
from pipeline.vectorize.run import write_formats
from pipeline.vectorize.scene import vectorize_coverage, vectorize_scene

__all__ = ["POLYGONS", "Stop", "infer", "join", "stitch", "vectorize"]

JOIN, RULES = "join", "rules"
"""Names of the two kinds of ``join``."""
OBJECTS, POLYGONS = "objects", "polygons"
RASTERS = ("classes", "confidence", "probabilities", "uncertainty", "instances", "panoptic", "source")
Stop = Callable[[], bool]
"""Asked again and again; what it ends raises Interrupted."""


def never() -> bool:
    """Let a run go on to its end."""
    return False


def infer(
    planned: PlannedScene,
    open_workers: OpenWorkers = LocalWorkers,
    on_chunk: Callable[[Receipt], None] = lambda _: None,
    should_stop: Stop = never,
) -> Iterator[Receipt]:
    """Run the network over the chunks that have no verified result; yields the receipts of all chunks in row order.

    Args:
        planned: The scene.
        open_workers: Makes what does the chunks.
        on_chunk: Told of each chunk when it is done, in any order.
        should_stop: Asked before every chunk.
    """
    return chunk_run.infer(planned.plan, planned.manifest(), planned.storage(), open_workers, on_chunk, should_stop)


def join(planned: PlannedScene, receipts: Iterable[Receipt], should_stop: Stop = never) -> StageRecord | None:
    """Join objects over seams, or apply the rules of a map of changes; None where there is neither.

    Args:
        planned: The scene.
        receipts: Of its chunks, in row order.
        should_stop: Asked before every block.
    """
    chunks, plan, config = ChunkFiles.of(receipts), planned.plan, planned.job.config
    rules = Rules.of(plan, config) if plan.task == "semantic" else None
    if plan.task == "semantic" and rules is None:
        return None
    name = JOIN if rules is None else RULES
    if (record := planned.standing(name, chunks)) is not None:
        return record
    started, store = time.monotonic(), planned.store()
    result = StoredResult(plan, store, chunks.filled)
    if rules is not None:
        folder = planned.work / RULES
        shutil.rmtree(folder, ignore_errors=True)
        files = apply_rules(result, rules, folder, plan.threads or cores(), should_stop)
    else:
        seen = sorted(chunks.filled)
        folder = planned.work / OBJECTS
        files = paint_scene(plan, result, lambda: map(store.objects, seen), config.vector, folder, should_stop)
    return _recorded(planned, StageRecord(stage=name, key=planned.key(name, chunks), files={}), files, started)


def stitch(planned: PlannedScene, receipts: Iterable[Receipt], joined: StageRecord | None) -> StageRecord:
    """Put the chunk results together to rasters.

    Args:
        planned: The scene.
        receipts: Of its chunks, in row order.
        joined: The reference that ``join`` gave.
    """
    chunks, plan = ChunkFiles.of(receipts), planned.plan
    if (record := planned.standing("stitch", chunks)) is not None:
        return record
    started, final = time.monotonic(), _final(planned, *(f"{name}.tif" for name in RASTERS))
    totals, store = Totals(plan.scene.georeference), planned.store()
    bands = layer_reads(plan, store, chunks.filled, _drawn(planned, chunks, joined), totals)
    layers = [name for name in bands if name != "confidence" or planned.job.config.run.confidence]
    for layer in layers:
        stitch_layer(layer, plan, bands[layer], chunks.filled, final / f"{layer}.tif", threads=plan.threads or cores())
    shutil.rmtree(final / "levels", ignore_errors=True)
    key = planned.key("stitch", chunks)
    record = StageRecord(stage="stitch", key=key, files={}, pixels=totals.pixels, area_m2=totals.area_m2)
    return _recorded(planned, record, [final / f"{layer}.tif" for layer in layers], started)


def vectorize(
    planned: PlannedScene, receipts: Iterable[Receipt], joined: StageRecord | None, should_stop: Stop = never
) -> StageRecord:
    """Trace polygons and coverage from the chunk results, and write them.

    Args:
        planned: The scene.
        receipts: Of its chunks, in row order.
        joined: The reference that ``join`` gave.
        should_stop: Asked before every block.
    """
    chunks = ChunkFiles.of(receipts)
    if (record := planned.standing("vectorize", chunks)) is not None:
        return record
    started, plan, failed = time.monotonic(), planned.plan, threading.Event()
    final, threads = _final(planned, "polygons.*", "coverage.*"), plan.threads or cores()
    result, vector, work = StoredResult(plan, planned.store(), chunks.filled), planned.job.config.vector, planned.work / POLYGONS

    def stop() -> bool:
        return failed.is_set() or should_stop()

    def coverage() -> list[Path]:
        spool = vectorize_coverage(plan, Coverage(result), planned.work / "coverage", threads, stop)
        formats = ("geojson" if plan.scene.georeference.has_lonlat else "gpkg",)
        return write_formats(spool, formats, final / "coverage", result, (), threads)

    with ThreadPoolExecutor(1, thread_name_prefix="geoseg-coverage") as pool:
        covered = pool.submit(coverage)
        try:
            drawn = _drawn(planned, chunks, joined)
            if isinstance(drawn, Painted):
                spool = trace_painted(drawn, plan, vector, work, stop)
            else:
                spool = vectorize_scene(plan, drawn or result, vector, work, threads, stop)
            written = write_formats(spool, planned.formats, final / "polygons", result, plan.styles, threads)
            files = [spool.path, *written, *covered.result()]
        except BaseException:
            failed.set()
            raise
    record = StageRecord(stage="vectorize", key=planned.key("vectorize", chunks), files={}, features=spool.count)
    return _recorded(planned, record, files, started)


def _drawn(planned: PlannedScene, chunks: ChunkFiles, joined: StageRecord | None) -> ClassRaster | None:
    """The classes of the map, where they are others than those of the chunks."""
    if joined is None:
        return None
    result = StoredResult(planned.plan, planned.store(), chunks.filled)
    if joined.stage == RULES:
        return recoded(result, planned.work / RULES)
    return open_painted(planned.plan, result, planned.work / OBJECTS)


def _final(planned: PlannedScene, *patterns: str) -> Path:
    """The folder of what will be published, without what an earlier run left under some names."""
    final = planned.job.place.stage
    final.mkdir(parents=True, exist_ok=True)
    for pattern in patterns:
        for path in final.glob(pattern):
            path.unlink()
    return final


def _recorded(planned: PlannedScene, record: StageRecord, files: Iterable[Path], started: float) -> StageRecord:
    """The record with the hashes of its files, added to the manifest; a stage's end."""
    seconds = time.monotonic() - started
    names = {path.relative_to(planned.work).as_posix(): file_hash(path) for path in files}
    record = replace(record, files=names, seconds=seconds)
    # Chunk records are many, and none is needed to append one of a stage.
    Manifest(planned.job.place.manifest, planned.identity).add_stage(record)
    return record
