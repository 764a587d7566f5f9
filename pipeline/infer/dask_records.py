"""What a Dask scheduler keeps of tasks that are done and forgotten, kept small."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from dask.utils import key_split
from distributed import SchedulerPlugin

if TYPE_CHECKING:
    from distributed import Scheduler

__all__ = ["KEPT", "FewRecords"]

KEPT = 1000
"""Graphs of which something is kept until all is cleared; a chunk is one."""
FUTURE = {"type": "Future"}
"""What a span keeps of each call of ``Client.submit``."""


class FewRecords(SchedulerPlugin):
    """Keeps a scheduler from growing by half a kilobyte with each task that it has seen.

    Spans (``distributed.spans``) note of each call of ``submit`` that it was for a future, for ever, and ``key_split``, which
    finds the groups of tasks, has the last hundred thousand keys in a cache. No setting of Dask bounds either.
    """

    name, idempotent = "geoseg-few-records", True

    def __init__(self) -> None:
        self._graphs = count(1)

    def update_graph(self, scheduler: Scheduler, **kwargs: object) -> None:
        """Clear once in many graphs; what else is noted in a span stays."""
        del kwargs
        if next(self._graphs) % KEPT:
            return
        key_split.cache_clear()
        for span in scheduler.extensions["spans"].spans.values():
            if span.metadata is not None:
                noted = span.metadata["collections"]
                noted[:] = [FUTURE, *(collection for collection in noted if collection != FUTURE)]
