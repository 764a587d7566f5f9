"""A chunk that is given up says whether what it failed by may pass: lost workers are not the scene's fault, NaN is."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from geoseg.errors import ChunkError
from pipeline.infer.receipt import Receipt
from pipeline.infer.run import _receipts
from pipeline.infer.workers import Blame
from pipeline.publish.report import SceneReport


class KilledWorker(Exception):  # noqa: N818 - named as Dask names its own
    pass


class Failing:
    """Workers that fail in one way."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def submit(self, index: int) -> Future[Receipt]:
        del index
        future: Future[Receipt] = Future()
        future.set_exception(self._error)
        return future

    def give_up(self, index: int, reason: str) -> Receipt:
        return Receipt(index=index, status="failed", files={}, reason=reason)

    def capacity(self) -> int:
        return 1

    def blame(self, error: BaseException) -> Blame:
        return "worker" if isinstance(error, KilledWorker) else "chunk"

    def reconnect(self) -> None:
        raise AssertionError

    def close(self, *, interrupted: bool) -> None:
        del interrupted


@pytest.mark.parametrize(("error", "passes"), [(KilledWorker("gone"), True), (MemoryError(), True), (ChunkError("NaN"), False)])
def test_given_up(error: Exception, passes: bool) -> None:
    (receipt,) = _receipts(Failing(error), [7], lambda: False)
    assert (receipt.status, receipt.transient) == ("failed", passes)
    assert receipt.record().get("transient", False) is passes


def test_the_entry_carries_it() -> None:
    report = SceneReport(scene="a", status="partial", reason="lost", transient=True)
    assert SceneReport.from_entry(report.entry()) == report
    assert "transient" not in SceneReport(scene="a", status="failed").entry()
