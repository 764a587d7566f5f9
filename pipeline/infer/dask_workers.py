"""The chunks of a plan on Dask workers.

Workers read their own windows and write their own results; what travels is the plan, chunk numbers and receipts. The
model sits in a plugin of each worker, loaded once.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

from distributed import Client, KilledWorker, WorkerPlugin, get_worker
from distributed.client import FutureCancelledError

from geoseg.errors import ChunkError, ClusterError, GeosegError, ModelError, OutputError
from geoseg.models.model_folder import load_model
from geoseg.models.shipping import cached, pack, unpack
from geoseg.scenes.remote import is_remote
from geoseg.scenes.scene import Scene
from geoseg.transient import is_transient
from pipeline.files.version import code_version
from pipeline.infer.chunk import ChunkWorker
from pipeline.infer.receipt import Receipt
from pipeline.infer.rolling import FutureLike
from pipeline.infer.storage import Storage, open_storage
from pipeline.infer.workers import Blame
from pipeline.plan.plan import Member, Plan

__all__ = ["THREADS_PER_WORKER", "DaskWorkers", "gpu_number"]

log = logging.getLogger(__name__)

THREADS_PER_WORKER = 2
"""Chunks at once in a process: one is read while another is at the network."""
TASKS_PER_SLOT = 4
"""Chunks at the cluster for one that is worked on, so that no worker waits for a receipt to be handled."""
USABLE = 0.75
"""Share of a worker's memory limit that chunks may use; Dask pauses a worker at 0.8 of it."""
COUNT_EVERY_S = 0.5
GPU = "GPU"
"""Dask resource of workers with a GPU; chunks of the torch engine go to them, if there are any."""


class PluginGoneError(RuntimeError):
    """A worker was asked for a chunk of a run that it does not know: it, or its scheduler, was started anew."""


class ModelPlugin(WorkerPlugin):
    """Brings a model to the disk of each worker, once."""

    def __init__(self, sha256: str, files: dict[str, bytes]) -> None:
        self._sha256, self._files = sha256, files

    def setup(self, worker: Any) -> None:
        """Put it into the cache."""
        del worker
        unpack(self._sha256, self._files)
        self._files = {}


class ChunkPlugin(WorkerPlugin):
    """Holds a scene's open files and the loaded model in a worker."""

    def __init__(self, plan: Plan, storage: str, probe: tuple[str, bytes], budget: int | None, *, shipped: bool) -> None:
        self._plan, self._storage, self._probe, self._budget, self._shipped = plan, storage, probe, budget, shipped
        self._code = code_version()

    def setup(self, worker: Any) -> None:
        """Turn away a worker with other code; files and the model are opened with the first chunk, in its thread."""
        self._refused = code_version() != self._code
        if self._refused:
            log.error(
                "worker %s runs geoseg %s, the run is of %s; it ends: install the same on all workers",
                worker.address,
                code_version(),
                self._code,
            )
            worker.loop.add_callback(worker.close, nanny=True, reason="geoseg: other code")
        self._number, self._address, self._threads = gpu_number(worker.name), worker.address, worker.state.nthreads
        self._limit: int | None = worker.memory_manager.memory_limit
        self._opening = threading.Lock()
        self._worker: ChunkWorker | None = None

    def teardown(self, worker: Any) -> None:
        """Close the files."""
        del worker
        if self._worker is not None:
            self._worker.close()

    def run(self, index: int) -> Receipt:
        """Do a chunk."""
        if self._refused:
            raise PluginGoneError(f"worker {self._address} has other code")
        with self._opening:
            if self._worker is None:
                self._worker = self._open()
                self._slots = threading.Semaphore(slots(self._plan, self._usable()))
        with self._slots:
            return self._worker.run(index)

    def _open(self) -> ChunkWorker:
        storage, (name, token) = open_storage(self._storage), self._probe
        try:
            seen = storage.get(name)
        except FileNotFoundError:
            seen = b""
        if seen != token:
            raise OutputError(
                f"worker {self._address} does not see {self._storage}; use an output folder that all workers share, or --scratch"
            )
        plan = self._plan
        if self._shipped:
            plan = replace(plan, members=tuple(self._cached(member) for member in plan.members))
        usable = self._usable()
        return ChunkWorker(
            replace(
                plan,
                threads=plan.threads or self._threads,
                device=_device(plan, self._number),
                cache_bytes=plan.cache_bytes if usable is None else min(plan.cache_bytes, usable // 8),
            ),
            storage,
        )

    def _cached(self, member: Member) -> Member:
        folder = cached(member.sha256)
        if folder is None:
            raise ModelError(
                f"worker {self._address}: model {member.sha256[:12]}… could not be put into its cache; "
                "set GEOSEG_CACHE there to a folder that can be written"
            )
        return replace(member, path=str(folder))

    def _usable(self) -> int | None:
        """Bytes that this process may use; None where nothing limits it."""
        if self._budget is not None:
            return self._budget
        return int(self._limit * USABLE) if self._limit else None


def slots(plan: Plan, usable: int | None) -> int:
    """Chunks that fit into a process at once, beside its libraries, the network and the reader's cache."""
    if usable is None:
        return plan.in_flight
    return max(1, min(plan.in_flight, (usable - plan.fixed_bytes) // max(1, plan.chunk_bytes)))


def gpu_number(name: object) -> int:
    """The number that a worker's name ends with: worker k takes GPU k."""
    match = re.search(r"(\d+)$", str(name))
    return int(match[1]) if match else 0


def _device(plan: Plan, number: int) -> str:
    if plan.engine != "torch":
        return plan.device
    from geoseg.inference.torch_engine import device_of_process

    return device_of_process(plan.device, number)


def _run_chunk(name: str, index: int) -> Receipt:
    plugin: Any = get_worker().plugins.get(name)
    if plugin is None:
        raise PluginGoneError(name)
    try:
        receipt: Receipt = plugin.run(index)
    except GeosegError as error:
        # Its cause stays here.
        error.transient = is_transient(error)
        raise
    except (OSError, PluginGoneError):
        raise
    except Exception as error:
        # Errors of other libraries may not survive the way to the client, which would then wait for ever.
        text = str(error).strip().splitlines()
        told = ChunkError(f"{type(error).__name__}: {text[0] if text else ''}".rstrip(": "))
        told.transient = is_transient(error)
        raise told from None
    return receipt


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
            scene=_resolved(plan.scene),
            members=tuple(replace(m, path=str(Path(m.path).resolve())) for m in plan.members),
        )
        self._probe = f".{self._name}", uuid4().bytes
        storage.put(*self._probe)
        self._budget = plan.budget_bytes // processes if processes else None
        self._processes, self._make_plugin = processes, make_plugin
        # Keys that share their first part are one group to the scheduler, which keeps a record of each group.
        self._numbers = count()
        self._capacity, self._counted = 2, -COUNT_EVERY_S
        self._resources: dict[str, float] | None = None
        self._scheduler: str | None = None
        self.reconnect()

    def submit(self, index: int) -> FutureLike:
        """Do a chunk on some worker."""
        future = self._client.submit(
            _run_chunk, self._name, index, pure=False, key=(self._name, next(self._numbers)), resources=self._resources
        )
        receipt: Future[Receipt] = Future()
        loop: Any = self._client.loop
        loop.add_callback(self._fetch, future, receipt)
        return receipt

    async def _fetch(self, future: Any, receipt: Future[Receipt]) -> None:
        """Have a receipt here as soon as it is made: asked for one after the other, they would cost 6 ms each."""
        try:
            receipt.set_result(await self._client.gather(future, asynchronous=True))
        except BaseException as error:  # it belongs to the one who waits
            receipt.set_exception(error)

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
                return
            except (OSError, TimeoutError, AttributeError) as error:  # the last is what a client without a scheduler raises
                # A worker that dies while it is told of the plan ends the call for all of them.
                if time.monotonic() > deadline:
                    raise ClusterError(
                        f"run.scheduler: the scheduler or its workers were lost and are not back within {self._wait_s:g} s "
                        f"({error}); finished chunks are kept, run again to go on"
                    ) from error
                time.sleep(0.2)

    def _introduce(self) -> None:
        connection: Any = self._client.scheduler
        scheduler = str(self._client.sync(connection.identity)["id"])
        if scheduler == self._scheduler:
            return
        if self._scheduler is not None:
            log.warning("the scheduler was started anew; what was under way is done again")
        self._client.wait_for_workers(1, timeout=self._wait_s)
        if not self._processes:
            for member in self._plan.members:
                model = load_model(member.path)
                # Registered under its hash, it travels once, however many scenes follow.
                name = f"geoseg-model-{model.sha256}"
                if not self._client.run_on_scheduler(_has_plugin, name):
                    self._client.register_plugin(ModelPlugin(model.sha256, pack(model)), name=name)
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
        except Exception as error:  # all results are there; a worker that is just leaving may say anything
            log.debug("a worker has not closed its files: %s", error)


def _has_plugin(name: str, dask_scheduler: Any = None) -> bool:
    return name in dask_scheduler.worker_plugins


def _resolved(scene: Scene) -> Scene:
    """A scene whose files are named so that other processes find them."""

    def absolute(path: str) -> str:
        return path if is_remote(path) else str(Path(path).resolve())

    return replace(
        scene,
        files=tuple(replace(file, path=absolute(file.path)) for file in scene.files),
        dates=tuple(map(_resolved, scene.dates)),
        masks=tuple(None if path is None else absolute(path) for path in scene.masks),
    )
