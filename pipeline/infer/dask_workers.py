"""The chunks of a plan on Dask workers.

Workers read their own windows and write their own results; what travels is the plan, chunk numbers and receipts. The
model sits in a plugin of each worker, loaded once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from distributed import Client, KilledWorker, WorkerPlugin
from distributed.client import FutureCancelledError

from geoseg.errors import ClusterError
from geoseg.models.model_folder import load_model
from geoseg.models.shipping import pack
from geoseg.scenes.products.container import in_archive
from geoseg.scenes.remote import is_remote
from geoseg.scenes.scene import Scene
from pipeline.infer.chunk import ChunkWorker
from pipeline.infer.dask_parts import DaskParts, fetched
from pipeline.infer.dask_plugin import ChunkPlugin, ModelPlugin, PluginGoneError, run_chunk
from pipeline.infer.dask_records import FewRecords
from pipeline.infer.receipt import Receipt
from pipeline.infer.rolling import FutureLike
from pipeline.infer.stage_parts import PartWorkers
from pipeline.infer.storage import Storage
from pipeline.infer.workers import Blame
from pipeline.plan.plan import Plan

if TYPE_CHECKING:
    from distributed import Scheduler

__all__ = ["THREADS_PER_WORKER", "DaskWorkers", "resolved"]

log = logging.getLogger(__name__)

THREADS_PER_WORKER = 2
"""Chunks at once in a process: one is read while another is at the network."""
TASKS_PER_SLOT = 4
"""Chunks at the cluster for one that is worked on, so that no worker waits for a receipt to be handled."""
COUNT_EVERY_S = 0.5
GPU = "GPU"
"""Dask resource of workers with a GPU; chunks of the torch engine go to them, if there are any."""


class DaskWorkers:
    """Does the chunks of a plan on a Dask cluster."""

    def __init__(
        self,
        client: Client,
        plan: Plan,
        storage: Storage,
        *,
        processes: int = 0,
        wait_s: float = 60.0,
        make_plugin: Callable[..., WorkerPlugin] = ChunkPlugin,
    ) -> None:
        """Bring the plan and the model to the workers.

        Args:
            client: Connected to the scheduler.
            plan: The plan.
            storage: Where the results are kept.
            processes: Number of processes on this machine that share the plan's memory; 0 for a cluster of its own.
            wait_s: Seconds to wait for a scheduler that was lost.
            make_plugin: Makes what does the chunks.
        """
        self._client, self._storage, self._name, self._wait_s = client, storage, f"geoseg-{uuid4().hex}", wait_s
        self._plan = replace(
            plan,
            scene=resolved(plan.scene),
            members=tuple(replace(m, path=str(Path(m.path).resolve())) for m in plan.members),
        )
        self._probe = f".{self._name}", uuid4().bytes
        storage.put(*self._probe)
        self._budget = plan.budget_bytes // processes if processes else None
        self._processes, self._make_plugin = processes, make_plugin
        # Keys that share their first part are one group to the scheduler, which keeps a record of each group.
        self._numbers = count()
        self._parts = DaskParts(client, storage)
        self._capacity, self._counted = 2, -COUNT_EVERY_S
        self._resources: dict[str, float] | None = None
        self._scheduler: str | None = None
        self.reconnect()

    def submit(self, index: int) -> FutureLike:
        """Do a chunk on some worker."""
        future = self._client.submit(
            run_chunk, self._name, index, pure=False, key=(self._name, next(self._numbers)), resources=self._resources
        )
        return fetched(self._client, future)

    @property
    def parts(self) -> PartWorkers:
        """The same workers."""
        return self._parts

    def give_up(self, index: int, reason: str) -> Receipt:
        """Record a chunk as not analysed; done here, away from what it did to the workers."""
        worker = ChunkWorker(self._plan, self._storage)
        try:
            return worker.give_up(index, reason)
        finally:
            worker.close()

    def capacity(self) -> int:
        """Four times what the workers can do at once, whose number may change."""
        now = time.monotonic()
        if now - self._counted > COUNT_EVERY_S and self._client.status == "running":
            threads: dict[str, int] = self._client.nthreads()
            at_once = sum(min(n, self._plan.in_flight) for n in threads.values())
            # Processes are added while chunks wait, so that there is to be something for all of them.
            at_once = max(at_once, self._processes * min(THREADS_PER_WORKER, self._plan.in_flight))
            self._capacity, self._counted = max(2, TASKS_PER_SLOT * at_once), now
        return self._capacity

    def blame(self, error: BaseException) -> Blame:
        """The scheduler gives a chunk up when its worker died; the client cancels all when the scheduler is lost."""
        if isinstance(error, KilledWorker):
            return "worker"
        return "cluster" if isinstance(error, FutureCancelledError | PluginGoneError) else "chunk"

    def reconnect(self) -> None:
        """Wait until the scheduler is there, and see to it that its workers know the plan."""
        deadline = time.monotonic() + self._wait_s
        while True:
            try:
                self._introduce()
                return  # noqa: TRY300 - the loop ends here
            except (OSError, TimeoutError, AttributeError) as error:  # the last is what a client without a scheduler raises
                # A worker that dies while it is told of the plan ends the call for all of them.
                if time.monotonic() > deadline:
                    raise ClusterError(
                        f"run.scheduler: the scheduler or its workers were lost and are not back within {self._wait_s:g} s "
                        f"({error}); finished chunks are kept, run again to go on"
                    ) from error
                time.sleep(0.2)

    def _introduce(self) -> None:
        connection = self._client.scheduler
        if connection is None:
            raise OSError("the client has no scheduler")
        scheduler = str(self._client.sync(connection.identity)["id"])
        if scheduler == self._scheduler:
            return
        if self._scheduler is not None:
            log.warning("the scheduler was started anew; what was under way is done again")
        self._client.wait_for_workers(1, timeout=self._wait_s)
        if not self._processes:
            for folder in self._plan.networks.values():
                model = load_model(folder)
                # Registered under its hash, it travels once, however many scenes follow.
                name = f"geoseg-model-{model.sha256}"
                if not self._client.run_on_scheduler(_has_plugin, name):
                    self._client.register_plugin(ModelPlugin(model.sha256, pack(model)), name=name)
        self._client.register_plugin(FewRecords())
        plugin = self._make_plugin(self._plan, self._storage.address, self._probe, self._budget, shipped=not self._processes)
        self._client.register_plugin(plugin, name=self._name)
        self._resources = self._ask_for_gpus()
        self._scheduler = scheduler

    def _ask_for_gpus(self) -> dict[str, float] | None:
        if self._plan.engine != "torch" or self._plan.device == "cpu":
            return None
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        # Two chunks a GPU: one is read while the other is at the network.
        return {GPU: 1 / THREADS_PER_WORKER} if any(GPU in worker.get("resources", {}) for worker in workers) else None

    def close(self, *, interrupted: bool) -> None:
        """Unload the model from the workers."""
        self._storage.remove(self._probe[0])
        if interrupted:
            log.warning("stopping the workers")
            return
        try:
            self._client.unregister_worker_plugin(self._name)
        except Exception as error:  # noqa: BLE001 - all results are there; a worker that is just leaving may say anything
            log.debug("a worker has not closed its files: %s", error)


def _has_plugin(name: str, dask_scheduler: Scheduler | None = None) -> bool:
    return dask_scheduler is not None and name in dask_scheduler.worker_plugins


def resolved(scene: Scene) -> Scene:
    """A scene whose files are named so that other processes find them."""

    def absolute(path: str) -> str:
        return path if is_remote(path) or in_archive(path) else str(Path(path).resolve())

    scene = scene.with_clouds(lambda clouds: clouds.with_paths(absolute))
    return replace(
        scene,
        files=tuple(replace(file, path=absolute(file.path)) for file in scene.files),
        dates=tuple(map(resolved, scene.dates)),
        sources=tuple(map(absolute, scene.sources)),
        quality=tuple(replace(layer, path=absolute(layer.path)) for layer in scene.quality),
        masks=tuple(None if path is None else absolute(path) for path in scene.masks),
    )
