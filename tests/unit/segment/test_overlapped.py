"""Stitching and tracing begin while the network runs; whatever ends one of the stages ends all, and loses no chunk."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
from support import LIMIT_S, WriteRaster, contents, patchy

from geoseg.errors import Interrupted
from geoseg.models.model_folder import Model
from geoseg.scenes.sources import SceneRef
from pipeline.config.sections import Config
from pipeline.files.manifest import Manifest
from pipeline.infer.receipt import Receipt
from pipeline.infer.workers import LocalWorkers
from pipeline.segment.overlapped import is_mapped, map_scene
from pipeline.segment.planned import SceneJob
from pipeline.segment.planning import plan
from pipeline.segment.publishing import publish
from pipeline.segment.run import held, segment_scene

CHUNKS = 3


@pytest.fixture
def job(write_raster: WriteRaster, identity_model: Model, tmp_path: Path) -> SceneJob:
    """Three rows of chunks, each as large as a block that is traced."""
    image = patchy(2600, 300, 3, size=9.0)
    image[1000:2000, 150:] = 255
    config = Config.parse({"grid": {"tile": 1024, "halo": 0, "chunk": 1024}, "infer": {"memory": "8GB"}})
    return SceneJob.of(SceneRef("scene", (str(write_raster(image, nodata=255)),)), identity_model, config, tmp_path / "out")


class Patient(LocalWorkers):
    """Threads that do the last chunk once a block before it is traced."""

    work: Path

    def submit(self, index: int) -> Future[Receipt]:
        if index < CHUNKS - 1:
            return super().submit(index)
        return self._pool.submit(self._after, index)

    def _after(self, index: int) -> Receipt:
        # Left by a block that was traced, for the join over its seams.
        traced, until = self.work / "polygons" / "open_0.npz", time.monotonic() + LIMIT_S
        while not traced.is_file():
            assert time.monotonic() < until, "nothing is traced before the last chunk"
            time.sleep(0.02)
        return self._worker.run(index)


class Endless(LocalWorkers):
    """Threads that do the first chunk, and are at the others until they are told to stop."""

    def submit(self, index: int) -> Future[Receipt]:
        def run() -> Receipt:
            if index > 0:
                assert self._worker.stop.wait(LIMIT_S), "nobody ends the network"
            return self._worker.run(index)

        return self._pool.submit(run)


class Alone(LocalWorkers):
    """Threads of which one chunk fails each time it is tried."""

    def submit(self, index: int) -> Future[Receipt]:
        if index != 1:
            return super().submit(index)
        failed: Future[Receipt] = Future()
        failed.set_exception(RuntimeError("it fails"))
        return failed


def undisturbed(job: SceneJob, tmp_path: Path) -> dict[str, bytes]:
    """The final files where everything waits for the last chunk."""
    sequential = dataclasses.replace(job, folder=tmp_path / "sequential" / "scene")
    with held(sequential):
        planned = plan(sequential)
        waiting = dataclasses.replace(planned, plan=dataclasses.replace(planned.plan, tail_bytes=0))
        mapped = map_scene(waiting)
        assert mapped.stitched.overlap_s == mapped.vectorized.overlap_s == 0.0
        publish(waiting, mapped)
    return contents(sequential.folder)


def threads() -> list[str]:
    """Threads of the stages that are still there; a network's own ends with its session."""
    own = ("geoseg-tail", "geoseg-vector", "geoseg-coverage", "geoseg-squares", "geoseg-write", "geoseg-chunk")
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(own)]


def test_work_begins_before_the_last_chunk_and_gives_the_same_bytes(job: SceneJob, tmp_path: Path) -> None:
    class Workers(Patient):
        work = job.folder / ".run"

    report = segment_scene(job.ref, job.model, job.config, job.folder.parent, open_workers=Workers)
    assert report.status == "done"
    assert contents(job.folder) == undisturbed(job, tmp_path)
    document = json.loads((job.folder / "run.json").read_text())
    overlap, seconds = document["overlap_s"], document["seconds"]
    assert set(overlap) == {"stitch", "vectorize"}
    assert 0 < overlap["vectorize"] <= seconds["vectorize"]


def test_a_chunk_that_fails_gives_the_same_bytes(job: SceneJob, tmp_path: Path) -> None:
    """It comes last, and all that lies behind it waits."""
    files = []
    for name, beside in (("a", True), ("b", False)):
        own = dataclasses.replace(job, folder=tmp_path / name / "scene")
        with held(own):
            planned = plan(own)
            if not beside:
                planned = dataclasses.replace(planned, plan=dataclasses.replace(planned.plan, tail_bytes=0))
            assert planned.plan.tail_bytes or not beside
            map_scene(planned, Alone)
            assert not is_mapped(planned), "a chunk failed"
            files.append({p.name: p.read_bytes() for p in sorted((own.place.stage).iterdir())})
    assert files[0] == files[1]
    assert len(files[0]) >= 5


@pytest.mark.parametrize("where", ["polygons/features.arrow", "coverage/features.arrow", "final/levels"])
def test_an_error_behind_the_network_ends_all_at_once(job: SceneJob, tmp_path: Path, where: str) -> None:
    blocked = job.folder / ".run" / where
    with held(job):
        planned = plan(job)
        blocked.parent.mkdir(exist_ok=True)
        blocked.touch() if where == "final/levels" else blocked.mkdir()
        with pytest.raises(OSError, match=blocked.name):
            map_scene(planned, Endless)
        assert not threads()
        assert len(Manifest.read(job.place.manifest, planned.identity).chunks) <= 1
    blocked.unlink() if where == "final/levels" else blocked.rmdir()
    segment_scene(job.ref, job.model, job.config, job.folder.parent)
    assert contents(job.folder) == undisturbed(job, tmp_path)


@pytest.mark.parametrize("error", [KeyboardInterrupt, Interrupted])
def test_a_run_that_is_stopped_goes_on_from_its_chunks(job: SceneJob, tmp_path: Path, error: type[BaseException]) -> None:
    wanted = undisturbed(job, tmp_path)
    for stop_after in (1, CHUNKS - 1):
        told: list[Receipt] = []

        def stop(receipt: Receipt, told: list[Receipt] = told, last: int = stop_after) -> None:
            told.append(receipt)
            if len(told) == last:
                raise error("stop")

        with held(job):
            planned = plan(job)
            with pytest.raises(error):
                map_scene(planned, on_chunk=stop)
            assert not threads()
            assert len(Manifest.read(job.place.manifest, planned.identity).chunks) == planned.done + stop_after
    segment_scene(job.ref, job.model, job.config, job.folder.parent)
    assert contents(job.folder) == wanted


def test_squares_without_data_are_no_part_of_the_files(job: SceneJob) -> None:
    """What is skipped as it comes is what a finished run skips: codes of a scene with a hole."""
    import rasterio

    segment_scene(job.ref, job.model, job.config, job.folder.parent)
    with rasterio.open(job.ref.paths[0]) as source, rasterio.open(job.folder / "classes.tif") as made:
        np.testing.assert_array_equal(made.read(1) == 255, source.read(1) == 255)
