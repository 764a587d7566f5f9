"""Chunks on Dask workers: processes of this machine, or a cluster that is there already.

Workers read their own windows and write their own results; what travels is the plan, chunk numbers and receipts. The
model sits in a plugin of each worker, loaded once.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import dask
from distributed import Client, KilledWorker, LocalCluster, WorkerPlugin, get_worker

from geoseg.errors import ConfigError
from geoseg.scenes.remote import is_remote
from pipeline.config import Config
from pipeline.infer import ChunkWorker, Receipt
from pipeline.plan import Plan, code_version
from pipeline.rolling import FutureLike
from pipeline.run import OpenWorkers
from pipeline.vectorize import cores

__all__ = ["DaskWorkers", "cluster"]

log = logging.getLogger(__name__)

THREADS_PER_WORKER = 2
"""Chunks at once in a process: one is read while another is at the network."""
WAIT_S = float(os.environ.get("GEOSEG_CONNECT_S", "60"))
"""Seconds to wait for a scheduler and its first worker."""


class _ChunkPlugin(WorkerPlugin):
    """Holds a scene's open files and the loaded model in a worker."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan, self._folder = plan, folder
        self._worker: ChunkWorker | None = None

    def setup(self, worker: Any) -> None:
        """Load the model."""
        del worker
        self._worker = ChunkWorker(self._plan, self._folder)

    def teardown(self, worker: Any) -> None:
        """Close the files."""
        del worker
        if self._worker is not None:
            self._worker.close()

    def run(self, index: int) -> Receipt:
        """Do a chunk."""
        assert self._worker is not None
        return self._worker.run(index)


def _run_chunk(name: str, index: int) -> Receipt:
    plugin = get_worker().plugins[name]
    assert isinstance(plugin, _ChunkPlugin)
    return plugin.run(index)


class DaskWorkers:
    """Does the chunks of a plan on a Dask cluster."""

    def __init__(self, client: Client, processes: int, plan: Plan, folder: Path, chunks: list[int]) -> None:
        del chunks
        self._client, self._name = client, f"geoseg-{uuid4().hex}"
        share = max(1, processes)
        threads = plan.threads or (max(1, cores() // share) if processes else 0)
        files = tuple(f if is_remote(f.path) else replace(f, path=str(Path(f.path).resolve())) for f in plan.scene.files)
        self._plan = replace(
            plan, threads=threads, cache_bytes=plan.cache_bytes // share, scene=replace(plan.scene, files=files),
            model_path=str(Path(plan.model_path).resolve()),
        )  # fmt: skip
        self._folder = folder.resolve()
        client.register_plugin(_ChunkPlugin(self._plan, self._folder), name=self._name)

    def submit(self, index: int) -> FutureLike:
        """Do a chunk on some worker."""
        future: FutureLike = self._client.submit(
            _run_chunk, self._name, index, pure=False, key=f"chunk-{index}-{uuid4().hex[:8]}"
        )
        return future

    def give_up(self, index: int, reason: str) -> Receipt:
        """Record a chunk as not analysed; done here, away from what it did to the workers."""
        worker = ChunkWorker(self._plan, self._folder)
        try:
            return worker.give_up(index, reason)
        finally:
            worker.close()

    def capacity(self) -> int:
        """Twice the threads of the cluster, so that none waits for a receipt to be handled."""
        threads: dict[str, int] = self._client.nthreads()
        return max(2, 2 * sum(threads.values()))

    def is_lost_worker(self, error: BaseException) -> bool:
        """Whether the scheduler gave the chunk up because its worker died."""
        return isinstance(error, KilledWorker)

    def close(self, *, interrupted: bool) -> None:
        """Unload the model from the workers."""
        if interrupted:
            log.warning("stopping the workers")
            return
        self._client.unregister_worker_plugin(self._name)


@contextmanager
def cluster(config: Config) -> Iterator[OpenWorkers]:
    """Workers for the scenes of a run: as many processes as asked for, or those of a scheduler.

    Raises:
        ConfigError: The scheduler can't be reached, or its workers run another version of the code.
    """
    # A worker that dies takes all of its chunks with it; they are tried again one by one rather than blamed together.
    settings = {"distributed.scheduler.allowed-failures": 0, "distributed.comm.timeouts.connect": f"{WAIT_S}s"}
    with dask.config.set(settings):
        if config.run.scheduler is None:
            local = LocalCluster(
                n_workers=config.run.workers, threads_per_worker=THREADS_PER_WORKER, processes=True, host="127.0.0.1",
                dashboard_address=None, memory_limit=None, silence_logs=logging.ERROR,
            )  # fmt: skip
            with local, Client(local) as client:
                yield lambda plan, folder, chunks: DaskWorkers(client, config.run.workers, plan, folder, chunks)
        else:
            with _connect(config.run.scheduler) as client:
                yield lambda plan, folder, chunks: DaskWorkers(client, 0, plan, folder, chunks)


def _connect(scheduler: str) -> Client:
    try:
        client = (
            Client(scheduler_file=scheduler, timeout=WAIT_S) if Path(scheduler).is_file() else Client(scheduler, timeout=WAIT_S)
        )
        client.wait_for_workers(1, timeout=WAIT_S)
        versions = client.run(code_version)
    except (OSError, TimeoutError, ValueError, ImportError) as error:
        raise ConfigError(f"run.scheduler: {scheduler}: can't be used: {error}") from error
    other = {address: version for address, version in versions.items() if version != code_version()}
    if other:
        address, version = next(iter(other.items()))
        client.close()
        raise ConfigError(
            f"run.scheduler: worker {address} runs geoseg {version}, this is {code_version()}; install the same on all workers"
        )
    return client
