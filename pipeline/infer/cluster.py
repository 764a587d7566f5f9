"""Dask clusters: processes of this machine, or a cluster that is there already."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import dask
from distributed import Client, LocalCluster
from distributed.security import Security

from geoseg.addresses import shown
from geoseg.errors import ConfigError
from geoseg.inference.choice import gpu_count
from geoseg.parallel import cores
from geoseg.redaction import redact
from pipeline.config.sections import Config, RunConfig
from pipeline.files.version import code_version
from pipeline.infer.dask_workers import THREADS_PER_WORKER, DaskWorkers
from pipeline.infer.workers import OpenWorkers
from pipeline.plan.memory import first_processes, most_in_flight, process_budget
from pipeline.plan.memory import processes as count_processes
from pipeline.plan.plan import Plan

__all__ = ["cluster"]

WAIT_S = float(os.environ.get("GEOSEG_CONNECT_S", "60"))
"""Seconds to wait for a scheduler and its first worker, at the start and when it was lost."""
LEAST_LIMIT = 2 << 30
LIMIT_FACTOR = 2.0
"""A process that takes this much more than its share is ended by Dask before the system ends something else; GDAL's cache
of 64 MiB and the network count, as all memory of the process does."""
ADAPT = {"interval": "1s", "target_duration": "2s", "wait_count": 10}


@contextmanager
def cluster(config: Config) -> Iterator[OpenWorkers]:
    """Workers for the scenes of a run: as many processes as asked for, or those of a scheduler.

    Raises:
        ConfigError: The scheduler can't be reached, or its workers run another version of the code.
    """
    # A worker that dies takes all of its chunks with it; they are tried again one by one rather than blamed together.
    settings = {"distributed.scheduler.allowed-failures": 0, "distributed.comm.timeouts.connect": f"{WAIT_S}s"}
    # What goes wrong is said here, in one line, and not as Dask's traces.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with dask.config.set(settings):
        if config.run.scheduler is None:
            processes = count_processes(config)
            with _local(config, processes) as client:
                yield lambda plan, storage, _: DaskWorkers(client, _shared(plan, processes), storage, processes=processes)
        else:
            with _connect(config.run) as client:
                yield lambda plan, storage, _: DaskWorkers(client, plan, storage, wait_s=WAIT_S)


def _shared(plan: Plan, processes: int) -> Plan:
    """The plan of a process that shares the cores with others."""
    return replace(plan, threads=plan.threads or max(1, cores() // processes))


@contextmanager
def _local(config: Config, processes: int) -> Iterator[Client]:
    limit = max(LEAST_LIMIT, int(LIMIT_FACTOR * process_budget(config)))
    gpus = config.infer.engine != "onnx" and config.infer.device != "cpu" and gpu_count() > 0
    threads = most_in_flight("torch", config.infer.device, cores() // processes) if gpus else THREADS_PER_WORKER
    options: dict[str, object] = {
        "threads_per_worker": threads,
        "host": "127.0.0.1",
        "dashboard_address": "127.0.0.1:0",
        "memory_limit": limit,
        "silence_logs": logging.CRITICAL,
    }
    first = first_processes(config) or 1
    with (_cuda_cluster(first, options) if gpus else None) or LocalCluster(n_workers=first, processes=True, **options) as local:
        if processes > first:
            local.adapt(minimum=first, maximum=processes, **ADAPT)
        with Client(local) as client:
            yield client


def _cuda_cluster(workers: int, options: dict[str, object]) -> LocalCluster | None:
    """One process a GPU, bound to the cores beside it, where dask-cuda is installed; else workers choose by their number."""
    try:
        from dask_cuda import LocalCUDACluster
    except ImportError:
        return None
    started: LocalCluster = LocalCUDACluster(n_workers=workers, **options)
    return started


def _connect(run: RunConfig) -> Client:
    scheduler = run.scheduler
    assert scheduler is not None
    security = None
    if run.tls_ca is not None:
        for path in (run.tls_ca, run.tls_cert, run.tls_key):
            if path is not None and not Path(path).is_file():
                raise ConfigError(f"run.tls: {path}: no such file")
        security = Security(
            tls_ca_file=run.tls_ca, tls_client_cert=run.tls_cert, tls_client_key=run.tls_key, require_encryption=True
        )
    client: Client | None = None
    try:
        where = {"scheduler_file": scheduler} if Path(scheduler).is_file() else {"address": scheduler}
        client = Client(**where, timeout=WAIT_S, security=security)
        client.wait_for_workers(1, timeout=WAIT_S)
        versions = client.run(code_version)
    except TypeError as error:  # what Dask raises for tls:// without certificates
        raise ConfigError(f"run.scheduler: {shown(scheduler)}: needs --tls-ca, --tls-cert and --tls-key") from error
    except (OSError, TimeoutError, ValueError, ImportError) as error:
        if client is not None:
            client.close()
        raise ConfigError(f"run.scheduler: {shown(scheduler)}: can't be used: {redact(str(error), scheduler)}") from error
    other = {address: version for address, version in versions.items() if version != code_version()}
    if other:
        address, version = next(iter(other.items()))
        client.close()
        raise ConfigError(
            f"run.scheduler: worker {address} runs geoseg {version}, this is {code_version()}; install the same on all workers"
        )
    return client
