"""The side of a Dask worker: plugins that hold a scene's open files and the loaded model, and do its chunks."""

from __future__ import annotations

import logging
import re
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from distributed import WorkerPlugin, get_worker

from geoseg.errors import ChunkError, GeosegError, ModelError, OutputError
from geoseg.models.shipping import cached, unpack
from geoseg.transient import is_transient
from pipeline.files.version import code_version
from pipeline.infer.chunk import ChunkWorker
from pipeline.infer.freed import give_back
from pipeline.infer.receipt import Receipt
from pipeline.infer.storage import open_storage
from pipeline.plan.plan import Plan

if TYPE_CHECKING:
    from distributed import Worker

__all__ = ["ChunkPlugin", "ModelPlugin", "PluginGoneError", "gpu_number", "run_chunk", "slots"]

log = logging.getLogger(__name__)

USABLE = 0.75
"""Share of a worker's memory limit that chunks may use; Dask pauses a worker at 0.8 of it."""


class PluginGoneError(RuntimeError):
    """A worker was asked for a chunk of a run that it does not know: it, or its scheduler, was started anew."""


class ModelPlugin(WorkerPlugin):
    """Brings a model to the disk of each worker, once."""

    def __init__(self, sha256: str, files: dict[str, bytes]) -> None:
        self._sha256, self._files = sha256, files

    def setup(self, worker: Worker) -> None:
        """Put it into the cache."""
        del worker
        unpack(self._sha256, self._files)
        self._files = {}


class ChunkPlugin(WorkerPlugin):
    """Holds a scene's open files and the loaded model in a worker."""

    def __init__(self, plan: Plan, storage: str, probe: tuple[str, bytes], budget: int | None, *, shipped: bool) -> None:
        self._plan, self._storage, self._probe, self._budget, self._shipped = plan, storage, probe, budget, shipped
        self._code = code_version()

    def setup(self, worker: Worker) -> None:
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

    def teardown(self, worker: Worker) -> None:
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
            receipt = self._worker.run(index)
        give_back()
        return receipt

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
            members = tuple(replace(member, path=self._cached(member.sha256)) for member in plan.members)
            scene = plan.scene.with_clouds(
                lambda clouds: clouds.with_network(lambda network: replace(network, path=self._cached(network.sha256)))
            )
            plan = replace(plan, members=members, scene=scene)
        usable = self._usable()
        threads, device = plan.threads or self._threads, _device(plan, self._number)
        return ChunkWorker(
            replace(
                plan,
                scene=plan.scene.with_clouds(
                    lambda clouds: clouds.with_network(lambda network: replace(network, device=device)).with_threads(threads)
                ),
                threads=threads,
                device=device,
                cache_bytes=plan.cache_bytes if usable is None else min(plan.cache_bytes, usable // 8),
            ),
            storage,
        )

    def _cached(self, sha256: str) -> str:
        folder = cached(sha256)
        if folder is None:
            raise ModelError(
                f"worker {self._address}: model {sha256[:12]}… could not be put into its cache; "
                "set GEOSEG_CACHE there to a folder that can be written"
            )
        return str(folder)

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


def run_chunk(name: str, index: int) -> Receipt:
    """Do a chunk with the plugin of this name; called on a worker."""
    plugin = get_worker().plugins.get(name)
    if not isinstance(plugin, ChunkPlugin):
        raise PluginGoneError(name)
    try:
        return plugin.run(index)
    except GeosegError as error:
        # Its cause stays here.
        error.transient = is_transient(error)
        raise
    except (OSError, PluginGoneError):
        raise
    except Exception as error:  # noqa: BLE001 - made one that travels
        # Errors of other libraries may not survive the way to the client, which would then wait for ever.
        text = str(error).strip().splitlines()
        told = ChunkError(f"{type(error).__name__}: {text[0] if text else ''}".rstrip(": "))
        told.transient = is_transient(error)
        raise told from None
