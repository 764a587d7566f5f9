"""Parts of the stages behind the network on Dask workers, beside the chunks and before those that wait."""

from __future__ import annotations

import hashlib
import logging
from concurrent.futures import Future, wait
from itertools import count
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

from distributed import Client

from geoseg.errors import ClusterError, Interrupted
from pipeline.infer.stage_parts import Part, Stop, do_part
from pipeline.infer.storage import Storage

if TYPE_CHECKING:
    from distributed import Future as DaskFuture

__all__ = ["DaskParts", "fetched"]

log = logging.getLogger(__name__)

T = TypeVar("T")
WAIT_S = 0.5
"""Without a timeout the wait could not be interrupted on all systems."""
FIRST = 1
"""Priority of parts; that of chunks is 0. Were they to wait for the chunks, all would come at the end."""


class DaskParts:
    """Does parts on the workers of a cluster."""

    def __init__(self, client: Client, storage: Storage) -> None:
        """Ask the workers of a connected client; files go where the chunk results are."""
        self._client, self._storage = client, storage
        # Keys that share their first part are one group to the scheduler, which keeps a record of each group.
        self._name, self._numbers = f"geoseg-part-{uuid4().hex}", count()

    def do(self, part: Part, should_stop: Stop) -> bytes | None:
        """The content of a part's file; None where no worker has done it, or it is not what the worker wrote."""
        try:
            digest = self._done(part, should_stop)
            data = self._storage.get(part.name)
        except Interrupted:
            raise
        except Exception as error:  # noqa: BLE001 - whatever kept a worker from it, the client does it, and meets its errors
            log.info("%s is done here: %s: %s", part.name, type(error).__name__, error)
            return None
        finally:
            self._storage.remove(part.name)
        return data if hashlib.sha256(data).hexdigest() == digest else None

    def _done(self, part: Part, should_stop: Stop) -> str:
        future = self._client.submit(do_part, part, pure=False, key=(self._name, next(self._numbers)), priority=FIRST)
        digest = fetched(self._client, future)
        while not wait([digest], WAIT_S).done:
            if should_stop():
                future.cancel()
                raise Interrupted("stopped before a part")
            if not self._client.nthreads():
                # They may never come back, as at the end of a job's time, and there may be no chunk left that needs them.
                future.cancel()
                raise ClusterError("no worker is left")
        return digest.result()


def fetched(client: Client, future: DaskFuture[T]) -> Future[T]:
    """Have a small result here as soon as it is made: asked for one after the other, they would cost 6 ms each."""
    found: Future[T] = Future()

    async def fetch() -> None:
        try:
            found.set_result(await client.gather(future, asynchronous=True))
        except BaseException as error:  # noqa: BLE001 - it belongs to the one who waits
            found.set_exception(error)

    loop = client.loop
    assert loop is not None, "the client is connected"
    loop.add_callback(fetch)
    return found
