"""The stages of a scene take and give frozen references: they survive pickling, and receipts come in row order."""

from __future__ import annotations

import dataclasses
import pickle
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from support import WriteRaster

from geoseg.models.model_folder import Model
from geoseg.scenes.sources import SceneRef
from pipeline.config.sections import Config
from pipeline.infer.receipt import Receipt
from pipeline.infer.storage import Storage
from pipeline.infer.workers import LocalWorkers
from pipeline.plan.plan import Plan
from pipeline.segment.overlapped import Mapped
from pipeline.segment.planned import ChunkFiles, Inferred, SceneJob
from pipeline.segment.planning import plan
from pipeline.segment.publishing import publish
from pipeline.segment.run import held, segment_scene
from pipeline.segment.scene_stages import infer, join, stitch, vectorize

T = TypeVar("T")


class Backwards(LocalWorkers):
    """Threads that do the chunks in the opposite order: nothing is done before all are asked for."""

    def __init__(self, plan: Plan, storage: Storage, chunks: list[int]) -> None:
        super().__init__(plan, storage, chunks)
        self._asked: list[tuple[int, Future[Receipt]]] = []
        self._count = len(chunks)

    def capacity(self) -> int:
        return self._count

    def submit(self, index: int) -> Future[Receipt]:
        future: Future[Receipt] = Future()
        self._asked.append((index, future))
        if len(self._asked) == self._count:
            for number, waiting in reversed(self._asked):
                waiting.set_result(self._worker.run(number))
        return future


@pytest.fixture
def job(write_raster: WriteRaster, identity_model: Model, tmp_path: Path) -> SceneJob:
    path = write_raster((np.indices((600, 900)).sum(axis=0) // 40 % 3).astype(np.uint8))
    config = Config.parse({"grid": {"tile": 64, "halo": 0, "chunk": 256}})
    return SceneJob.of(SceneRef("scene", (str(path),)), identity_model, config, tmp_path / "stages")


def passed(value: T) -> T:
    """The value as another process would have it."""
    return pickle.loads(pickle.dumps(value))


def test_receipts_come_in_row_order_whatever_is_done_first(job: SceneJob) -> None:
    told: list[int] = []
    with held(job):
        planned = plan(job)
        receipts = list(infer(planned, Backwards, lambda receipt: told.append(receipt.index)))
        assert told[0] > told[1] > told[2]
        assert [receipt.index for receipt in receipts] == list(planned.plan.active) == sorted(told)
        # A finished run is such an iterable, too, and costs no chunk.
        assert list(Inferred(planned)) == receipts == list(infer(planned, Backwards))


def test_stages_that_pass_pickled_references_do_what_a_run_does(job: SceneJob, tmp_path: Path) -> None:
    with held(job):
        planned = passed(plan(passed(job)))
        inferred = passed(Inferred.of(planned, infer(planned)))
        joined = join(planned, inferred)
        stitched, vectorized = (passed(stage(planned, inferred, lambda: joined)) for stage in (stitch, vectorize))
        # Done again, they verify what is there.
        assert [stage(planned, inferred, lambda: joined) for stage in (stitch, vectorize)] == [stitched, vectorized]
        assert planned.standing("stitch", ChunkFiles.of(inferred)) == stitched
        report = publish(planned, Mapped(inferred.seconds, joined, stitched, vectorized))
    whole = segment_scene(job.ref, job.model, job.config, tmp_path / "run")
    assert dataclasses.replace(report, seconds=whole.seconds) == whole
    files = ("classes.tif", "confidence.tif", "polygons.geojson", "chunks.json")
    there, here = ([(tmp_path / run / "scene" / name).read_bytes() for name in files] for run in ("stages", "run"))
    assert there == here


def test_references_are_frozen(job: SceneJob) -> None:
    with held(job):
        planned = plan(job)
    for value, name in ((job, "folder"), (planned, "done"), (Inferred(planned), "seconds")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, None)
