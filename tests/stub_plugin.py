"""A stub in place of the network, which workers import."""

from __future__ import annotations

import time
from typing import Any

from pipeline.infer.dask_plugin import ChunkPlugin
from pipeline.infer.receipt import Receipt


class Stub(ChunkPlugin):
    """Says where it was called."""

    def setup(self, worker: Any) -> None:
        super().setup(worker)
        self.name = worker.name

    def run(self, index: int) -> Receipt:
        time.sleep(0.4)
        return Receipt(index=index, status="done", files={}, reason=str(self.name))
