"""Choice of workers for the chunks of a run: threads of this process, processes of this machine, or a cluster."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from geoseg.inference.engine import ALL_GPUS
from pipeline.config.sections import Config

if TYPE_CHECKING:
    from pipeline.infer.workers import OpenWorkers

__all__ = ["is_clustered", "workers_for"]


def is_clustered(config: Config) -> bool:
    """Whether other processes than this one do the chunks."""
    return bool(config.run.workers or config.run.scheduler or config.infer.device == ALL_GPUS)


def workers_for(config: Config) -> AbstractContextManager[OpenWorkers]:
    """The workers that a configuration asks for. Dask is imported only for processes and clusters."""
    if is_clustered(config):
        from pipeline.infer.cluster import cluster

        return cluster(config)
    from pipeline.infer.workers import LocalWorkers

    return nullcontext(LocalWorkers)
