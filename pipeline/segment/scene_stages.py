"""The stages between plan and publish: infer -> join -> stitch | vectorize, each from frozen references to a frozen one.

Each does what earlier runs have not finished, and leaves its files with their checksums in the manifest; done again, it verifies
them and returns. ``stitch`` and ``vectorize`` may run at the same time, and beside ``infer``: they take up what has come in,
and wait for the rest. The scene's folder is held meanwhile, see
``pipeline.segment.run``.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from geoseg.errors import Interrupted
from geoseg.formats.pyramid import Read
from geoseg.models.model_folder import file_hash
from geoseg.parallel import cores
from geoseg.polygons.class_raster import ClassRaster
from pipeline.files.manifest import Manifest, StageRecord
from pipeline.files.spool import FeatureSpool
from pipeline.infer import run as chunk_run
from pipeline.infer.arrivals import Arrivals
from pipeline.infer.receipt import Receipt
from pipeline.infer.stage_parts import OpenPartWorkers
from pipeline.infer.workers import LocalWorkers, OpenWorkers
from pipeline.join.chunk_results import Coverage, StoredResult
from pipeline.join.panoptic import Painted, open_painted, paint_scene
from pipeline.join.rules import Rules, apply_rules, recoded
from pipeline.plan.result_layers import LayerName
from pipeline.segment.halt import Halt, Stop, never
from pipeline.segment.planned import PlannedScene
from pipeline.segment.turns import StageClock, Turns
from pipeline.stitch.compressed import Compressors
from pipeline.stitch.run import Totals, layer_reads, stitch_layers
from pipeline.vectorize.elsewhere import Elsewhere
from pipeline.vectorize.objects import trace_painted
from pipeline.vectorize.run import write_formats
from pipeline.vectorize.scene import no_polygons, vectorize_coverage, vectorize_scene

__all__ = ["POLYGONS", "Joined", "infer", "join", "join_kind", "stitch", "vectorize"]

JOIN, RULES = "join", "rules"
"""Names of the two kinds of ``join``."""
OBJECTS, POLYGONS = "objects", "polygons"
RASTERS = ("classes", "confidence", "probabilities", "uncertainty", "instances", "panoptic", "source", "values")
Joined = Callable[[], StageRecord | None]
"""Waits for the end of ``join``, and gives its reference."""


def infer(
    planned: PlannedScene,
    open_workers: OpenWorkers = LocalWorkers,
    on_chunk: Callable[[Receipt], None] = lambda _: None,
    should_stop: Stop = never,
) -> Generator[Receipt]:
    """Run the network over the chunks that have no verified result; yields the receipts of all chunks in row order.

    Args:
        planned: The scene.
        open_workers: Makes what does the chunks.
        on_chunk: Told of each chunk when it is done, in any order.
        should_stop: Asked before every chunk.
    """
    return chunk_run.infer(planned.plan, planned.manifest(), planned.storage(), open_workers, on_chunk, should_stop)


def join(planned: PlannedScene, receipts: Iterable[Receipt] | Arrivals, should_stop: Stop = never) -> StageRecord | None:
    """Join objects over seams, or apply the rules of a map of changes; None where there is neither.

    Args:
        planned: The scene.
        receipts: Of its chunks, in row order.
        should_stop: Asked before every block.
    """
    if (name := join_kind(planned)) is None:
        return None
    arrivals, plan, config = Arrivals.of(receipts), planned.plan, planned.job.config
    chunks = arrivals.files()
    if (record := planned.standing(name, chunks)) is not None:
        return record
    clock, store = StageClock(Turns()), planned.store()
    result = StoredResult(plan, store, arrivals)
    if (rules := _rules(planned)) is not None:
        folder = planned.work / RULES
        shutil.rmtree(folder, ignore_errors=True)
        files = apply_rules(result, rules, folder, plan.threads or cores(), should_stop)
    else:
        seen = sorted(chunks.filled)
        folder = planned.work / OBJECTS
        files = paint_scene(plan, result, lambda: map(store.objects, seen), config.vector, folder, should_stop)
    return _recorded(planned, StageRecord(stage=name, key=planned.key(name, chunks), files={}), files, clock)


def stitch(
    planned: PlannedScene,
    receipts: Iterable[Receipt] | Arrivals,
    joined: Joined,
    halt: Halt | None = None,
    turns: Turns | None = None,
    workers: OpenPartWorkers | None = None,
) -> StageRecord:
    """Put the chunk results together to rasters.

    Args:
        planned: The scene.
        receipts: Of its chunks, in row order; as they come in, or of a finished run.
        joined: Gives the reference of ``join``, once that is done.
        halt: Shared with the stages beside it; asked before every square.
        turns: Shared with the network, where that runs.
        workers: Do what they can do of it, where there may be any.
    """
    arrivals, plan = Arrivals.of(receipts), planned.plan
    if (record := _standing(planned, "stitch", arrivals)) is not None:
        return record
    clock, final = StageClock(turns or Turns()), _final(planned, *(f"{name}.tif" for name in RASTERS))
    totals, store, threads = Totals(plan.scene.georeference), planned.store(), plan.threads or cores()

    def turn() -> AbstractContextManager[None]:
        if halt is not None and halt():
            raise Interrupted("stopped before a square")
        return clock.turn()

    def put(layers: Mapping[LayerName, Sequence[Read]], by: Compressors | None = None) -> list[Path]:
        wanted = {name: reads for name, reads in layers.items() if name != "confidence" or planned.job.config.run.confidence}
        return stitch_layers(plan, wanted, arrivals, final, threads=threads, turn=turn, compressors=by)

    plain = layer_reads(plan, store, arrivals.filled, None, totals)
    by = None if workers is None else Compressors(store, arrivals.filled, workers, halt or never)
    if join_kind(planned):
        # The classes wait for the join of all chunks; the other layers don't.
        files = put({name: reads for name, reads in plain.items() if name != "classes"}, by)
        drawn = layer_reads(plan, store, arrivals.filled, _drawn(planned, arrivals, joined()), totals)
        files += put({name: reads for name, reads in drawn.items() if name == "classes" or name not in plain})
    else:
        files = put(plain, by)
    shutil.rmtree(final / "levels", ignore_errors=True)
    key = planned.key("stitch", arrivals.files())
    record = StageRecord(stage="stitch", key=key, files={}, pixels=totals.pixels, area_m2=totals.area_m2)
    return _recorded(planned, record, files, clock)


def vectorize(
    planned: PlannedScene,
    receipts: Iterable[Receipt] | Arrivals,
    joined: Joined,
    halt: Halt | None = None,
    turns: Turns | None = None,
    workers: OpenPartWorkers | None = None,
    on_traced: Callable[[FeatureSpool], None] = lambda _: None,
) -> StageRecord:
    """Trace polygons and coverage from the chunk results, and write them.

    ``on_traced`` is given the polygons before they are written; other arguments as of ``stitch``.
    """
    arrivals, plan = Arrivals.of(receipts), planned.plan
    if (record := _standing(planned, "vectorize", arrivals)) is not None:
        return record
    clock, halt = StageClock(turns or Turns()), halt or Halt(on_failure=arrivals.give_up)
    final, threads = _final(planned, "polygons.*", "coverage.*"), plan.threads or cores()
    result, vector, work = StoredResult(plan, planned.store(), arrivals), planned.job.config.vector, planned.work / POLYGONS

    def coverage() -> list[Path]:
        spool = vectorize_coverage(plan, Coverage(result), planned.work / "coverage", threads, halt, clock.turn)
        formats = ("geojson" if plan.scene.georeference.has_lonlat else "gpkg",)
        return write_formats(spool, formats, final / "coverage", result, (), threads)

    with ThreadPoolExecutor(1, thread_name_prefix="geoseg-coverage") as pool:
        covered = pool.submit(halt.guard, coverage)
        try:
            drawn = _drawn(planned, arrivals, joined()) if join_kind(planned) else None
            if plan.quantity is not None:
                spool = no_polygons(work)
            elif isinstance(drawn, Painted):
                spool = trace_painted(drawn, plan, vector, work, halt)
            else:
                by = Elsewhere(result, workers) if workers is not None and drawn is None else None
                origins = planned.origins(arrivals.filled)
                spool = vectorize_scene(plan, drawn or result, vector, work, halt, clock.turn, origins, by)
            on_traced(spool)
            written = write_formats(spool, planned.formats, final / "polygons", result, plan.styles, threads, vector)
            files = [spool.path, *written, *covered.result()]
        except BaseException as error:  # noqa: BLE001 - the first cause is told
            raise halt.cause(error) from None
    key = planned.key("vectorize", arrivals.files())
    return _recorded(planned, StageRecord(stage="vectorize", key=key, files={}, features=spool.count), files, clock)


def join_kind(planned: PlannedScene) -> str | None:
    """Name of what ``join`` has to do; None where that is nothing."""
    if planned.plan.task != "semantic":
        return JOIN
    return None if _rules(planned) is None else RULES


def _rules(planned: PlannedScene) -> Rules | None:
    return Rules.of(planned.plan, planned.job.config) if planned.plan.task == "semantic" else None


def _standing(planned: PlannedScene, stage: str, arrivals: Arrivals) -> StageRecord | None:
    """The record of a stage that an earlier run has ended with these chunk results; None where it is to be done.

    Where there may be one, or no memory for more at once, all chunks are waited for.
    """
    if not (arrivals.complete or planned.is_ended(stage) or not planned.plan.tail_bytes):
        return None
    return planned.standing(stage, arrivals.files())


def _drawn(planned: PlannedScene, arrivals: Arrivals, joined: StageRecord | None) -> ClassRaster | None:
    """The classes of the map, where they are others than those of the chunks."""
    if joined is None:
        return None
    result = StoredResult(planned.plan, planned.store(), arrivals)
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


def _recorded(planned: PlannedScene, record: StageRecord, files: Iterable[Path], clock: StageClock) -> StageRecord:
    """The record with the hashes of its files, added to the manifest; a stage's end."""
    names = {path.relative_to(planned.work).as_posix(): file_hash(path) for path in files}
    seconds, overlap_s = clock.seconds()
    record = replace(record, files=names, seconds=seconds, overlap_s=overlap_s)
    # Chunk records are many, and none is needed to append one of a stage.
    Manifest(planned.job.place.manifest, planned.identity).add_stage(record)
    return record
