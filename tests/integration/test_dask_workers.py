"""What Dask workers are asked, with a stub in place of the network."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import dask
import numpy as np
import pytest
from clusters import DaskCluster
from distributed import Client, LocalCluster
from stub_plugin import Stub
from support import LIMIT_S, ROOT, WriteRaster

from geoseg.errors import Interrupted, OutputError
from geoseg.models.model_folder import Model
from geoseg.scenes.sources import list_scenes
from pipeline.config.sections import Config
from pipeline.infer.chunk_store import ChunkStore
from pipeline.infer.cluster import cluster
from pipeline.infer.dask_parts import DaskParts
from pipeline.infer.dask_plugin import gpu_number, slots
from pipeline.infer.dask_workers import DaskWorkers
from pipeline.infer.rolling import rolling
from pipeline.infer.stage_parts import Part, StoredChunks
from pipeline.infer.storage import FolderStorage, open_storage
from pipeline.plan.engine_choice import Placement
from pipeline.plan.make import make_plan
from pipeline.plan.plan import Plan


@pytest.fixture
def plan(write_raster: WriteRaster, identity_model: Model) -> Plan:
    path = write_raster(np.ones((640, 640), np.uint8))
    (ref,), _ = list_scenes([str(path)])
    return make_plan(ref, identity_model, Config.parse({"grid": {"tile": 64, "halo": 0, "chunk": 256}}))


def test_processes_are_added_while_chunks_wait(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DaskWorkers.__init__, "__kwdefaults__", DaskWorkers.__init__.__kwdefaults__ | {"make_plugin": Stub})
    config = Config.parse({"run": {"workers": 1, "max_workers": 3}, "infer": {"memory": "6GB"}})
    with cluster(config) as open_workers:
        workers = open_workers(plan, open_storage(str(tmp_path / "chunks")), [])
        used: set[str | None] = set()
        # On a busy machine processes take a while to start.
        for number, future in rolling(workers.submit, range(4000), workers.capacity):
            used.add(future.result().reason)
            if number >= 40 and len(used) > 1:
                break
        limits = set(workers._client.run(lambda dask_worker: dask_worker.memory_manager.memory_limit).values())
        workers.close(interrupted=True)
    assert len(used) > 1
    # Twice the share of 6 GB, where GDAL's cache and all else of the process count.
    assert limits == {4 * 10**9}


def test_chunks_of_the_torch_engine_go_to_workers_with_a_gpu(plan: Plan, tmp_path: Path) -> None:
    made = DaskCluster(tmp_path)
    storage = open_storage(str(tmp_path / "chunks"))
    try:
        made.start_scheduler()
        here = {"PYTHONPATH": str(ROOT / "tests")}
        made.start_worker("without", env=here)
        made.start_worker("with-0", "--resources", "GPU=1", env=here)
        with Client(made.address) as client:
            client.wait_for_workers(2, timeout=LIMIT_S)
            for engine, expected in (("torch", {"with-0"}), ("onnx", {"with-0", "without"})):
                workers = DaskWorkers(
                    client, replace(plan, placement=Placement(engine), device="auto"), storage, make_plugin=Stub
                )
                used = {future.result().reason for _, future in rolling(workers.submit, range(12), workers.capacity)}
                workers.close(interrupted=False)
                assert used == expected
    finally:
        made.close()


def test_a_worker_that_does_not_see_the_output(plan: Plan, tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "chunks"))
    with LocalCluster(n_workers=1, dashboard_address=None, host="127.0.0.1") as local, Client(local) as client:
        workers = DaskWorkers(client, plan, storage)
        storage.clear()
        ((_, future),) = rolling(workers.submit, [0], workers.capacity)
        with pytest.raises(OutputError, match=r"does not see .*--scratch"):
            future.result()


def text_of(store: ChunkStore, filled: Collection[int]) -> bytes:
    """What a part does: no more than to say what it was given."""
    return f"{store.grid.n_chunks} {sorted(filled)}".encode()


def failing(store: ChunkStore, filled: Collection[int]) -> bytes:
    raise ValueError("this part fails")


def dying(store: ChunkStore, filled: Collection[int]) -> bytes:
    os._exit(9)


def hanging(store: ChunkStore, filled: Collection[int]) -> bytes:
    time.sleep(2)
    return b""


class Damaged(FolderStorage):
    """Gives other bytes than were written."""

    def get(self, name: str) -> bytes:
        return super().get(name) + b"x"


def test_parts_are_done_by_workers_or_not_at_all(plan: Plan, tmp_path: Path) -> None:
    """None of what may happen to one costs more than its place: who asked does it."""
    folder = tmp_path / "chunks"
    storage = FolderStorage(folder)
    folder.mkdir()
    chunks = StoredChunks(storage.address, plan.grid, plan.layers, frozenset({4, 2}))

    def part(work: Callable[[ChunkStore, Collection[int]], bytes]) -> Part:
        return Part.of("0000001.traced.npy", chunks, work)

    settings = {"distributed.scheduler.allowed-failures": 0}
    with (
        dask.config.set(settings),
        LocalCluster(n_workers=1, dashboard_address=None, host="127.0.0.1") as local,
        Client(local) as client,
    ):
        parts = DaskParts(client, storage)
        assert parts.do(part(text_of), lambda: False) == b"9 [2, 4]"
        assert parts.do(part(failing), lambda: False) is None
        assert parts.do(replace(part(text_of), code="0.0+other"), lambda: False) is None
        assert DaskParts(client, Damaged(folder)).do(part(text_of), lambda: False) is None
        with pytest.raises(Interrupted):
            parts.do(part(hanging), lambda: True)
        assert parts.do(part(text_of), lambda: False) == b"9 [2, 4]"
        assert parts.do(part(dying), lambda: False) is None
        local.scale(0)
        while client.nthreads():
            time.sleep(0.05)
        assert parts.do(part(text_of), lambda: False) is None, "all have left, the scheduler is there"
        assert not list(folder.iterdir())
    assert parts.do(part(text_of), lambda: False) is None, "nobody is there"


def test_chunks_at_once_follow_the_memory(plan: Plan) -> None:
    given = replace(plan, in_flight=4, chunk_bytes=100, fixed_bytes=1000)
    assert [slots(given, usable) for usable in (None, 10**6, 1250, 1100, 500)] == [4, 4, 2, 1, 1]


def test_each_process_takes_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    from geoseg.inference.torch_engine import device_of_process

    for count, expected in ((0, ["auto"] * 3), (1, ["auto"] * 3), (2, ["cuda:0", "cuda:1", "cuda:0"])):
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        assert [device_of_process("auto", number) for number in range(3)] == expected
        every = [device_of_process("cuda:all", number) for number in range(3)]
        assert every == [name.replace("auto", "cuda") for name in expected]
    assert device_of_process("cuda:1", 0) == "cuda:1"


def test_number_of_a_gpu() -> None:
    assert [gpu_number(name) for name in (3, "tcp-worker-1", "gpu", "node7-12")] == [3, 1, 0, 12]
