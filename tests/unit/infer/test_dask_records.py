"""What a scheduler keeps of tasks: no more of many than of some, and all that others have noted."""

from __future__ import annotations

import operator
from collections import deque
from typing import TYPE_CHECKING, Any

import dask.array
from dask.utils import key_split
from distributed import Client, Future, LocalCluster

from pipeline.infer.dask_records import FUTURE, KEPT, FewRecords

if TYPE_CHECKING:
    from distributed import Scheduler


def kept(dask_scheduler: Scheduler) -> tuple[list[Any], int]:
    """What spans have noted, and the keys in the cache."""
    spans = dask_scheduler.extensions["spans"].spans.values()
    return [one for span in spans for one in (span.metadata or {}).get("collections", ())], key_split.cache_info().currsize


def test_a_scheduler_keeps_no_more_of_many_tasks_than_of_some() -> None:
    window: deque[Future[int]] = deque()
    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address=None) as local,
        Client(local) as client,
    ):
        client.register_plugin(FewRecords())
        client.register_plugin(FewRecords())
        total = dask.array.ones(8, chunks=4).sum()
        assert client.compute(total).result() == 8
        noted = [one for one in client.run_on_scheduler(kept)[0] if one != FUTURE]
        assert len(noted) == 1
        for number in range(KEPT + 100):
            window.append(client.submit(operator.neg, number, pure=False, key=("few", number)))
            if len(window) > 8:
                window.popleft().result()
        assert [future.result() for future in window] == [-KEPT - 100 + n for n in range(8, 0, -1)]
        collections, keys = client.run_on_scheduler(kept)
    assert [one for one in collections if one != FUTURE] == noted
    assert len(collections) < KEPT
    assert keys < KEPT
