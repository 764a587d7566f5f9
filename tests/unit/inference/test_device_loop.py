"""The loop that owns a device: tiles of all threads fill batches, whatever happens ends every one who waits."""

from __future__ import annotations

import gc
import itertools
import threading
import time
import weakref
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geoseg.errors import ChunkError, Interrupted
from geoseg.inference.engine import TileBatch
from geoseg.inference.normalization import Normalization

torch = pytest.importorskip("torch")

from geoseg.inference.decision import Decision  # noqa: E402 - needs torch
from geoseg.inference.device.device_loop import DeviceLoop  # noqa: E402
from geoseg.inference.device.device_pass import Batch, Work  # noqa: E402
from geoseg.inference.torch_engine import TorchEngine  # noqa: E402

CPU = torch.device("cpu")
WHOLE = (slice(None), slice(None))
VALID = np.ones((4, 5), np.bool_)
LIMIT_S = 20.0


def work(shape: tuple[int, int] = (4, 5)) -> Work:
    return Work(1, shape, torch.uint8, None)


def tile(value: int, shape: tuple[int, int] = (4, 5)) -> np.ndarray:
    return np.full((1, *shape), value, np.uint8)


class Doubling:
    """Stands for a network: doubles, and remembers the sizes of batches."""

    def __init__(self, memory: int = 1000) -> None:
        self.sizes: list[int] = []
        self.memory = memory
        self.go = threading.Event()
        self.go.set()

    def __call__(self, batch: Batch, decision: Decision | None) -> tuple[torch.Tensor, ...]:
        del decision
        self.go.wait(LIMIT_S)
        if len(batch.raw) > self.memory:
            raise torch.OutOfMemoryError("no memory")
        if (batch.raw == 99).any():
            raise RuntimeError("a kernel failed\nfurther lines")
        self.sizes.append(len(batch.raw))
        return (batch.raw.to(torch.float32) * 2,)


def send(loop: DeviceLoop, *values: int, shape: tuple[int, int] = (4, 5)) -> list[Future]:
    with loop.sending():
        return [loop.send(work(shape), tile(v, shape), np.ones(shape, np.bool_), WHOLE) for v in values]


def test_tiles_of_several_threads_fill_one_batch() -> None:
    network = Doubling()
    loop = DeviceLoop(network, CPU, batch=8)
    together = threading.Barrier(4)

    def chunk(first: int) -> list[float]:
        with loop.sending():
            together.wait(LIMIT_S)
            sent = [loop.send(work(), tile(v), VALID, WHOLE) for v in (first, first + 1)]
        return [float(future.result(LIMIT_S)[0, 0, 0]) for future in sent]

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(chunk, (0, 10, 20, 30)))
    assert results == [[2.0 * v, 2.0 * v + 2] for v in (0, 10, 20, 30)]
    assert network.sizes == [8]


@settings(max_examples=30)
@given(st.integers(1, 6), st.lists(st.lists(st.integers(0, 90), max_size=12), min_size=1, max_size=5), st.integers(1, 9))
def test_everyone_has_the_results_of_his_own_tiles(batch: int, chunks: list[list[int]], memory: int) -> None:
    network = Doubling(memory)
    loop = DeviceLoop(network, CPU, batch=batch)
    shapes = [(4, 5), (5, 4), (2, 2)]
    with ThreadPoolExecutor(len(chunks)) as pool:
        sent = list(pool.map(lambda k: send(loop, *chunks[k], shape=shapes[k % 3]), range(len(chunks))))
    for k, (values, futures) in enumerate(zip(chunks, sent, strict=True)):
        for value, future in zip(values, futures, strict=True):
            np.testing.assert_array_equal(future.result(LIMIT_S), 2.0 * tile(value, shapes[k % 3]))
    # Every batch has the size that the memory held, also where it was not full; it shrinks once for each halving.
    assert all(size <= memory for size in network.sizes)
    assert len(set(network.sizes)) <= 1 + len(loop.notes)
    assert (batch > memory and bool(sum(map(len, chunks)))) == bool(loop.notes)
    loop.close()
    loop.join()


def test_a_tile_that_the_memory_never_holds_is_an_error() -> None:
    loop = DeviceLoop(Doubling(memory=0), CPU, batch=4)
    with pytest.raises(ChunkError, match=r"out of memory on cpu for one tile of 4 x 5 px; use a smaller tile"):
        send(loop, 1, 2)[1].result(LIMIT_S)


def test_a_network_that_raises_ends_its_batch_and_no_other() -> None:
    loop = DeviceLoop(Doubling(), CPU, batch=2)
    good, bad, also, late = send(loop, 1, 99, 3, 4)
    for future in (good, bad):
        with pytest.raises(ChunkError, match=r"^the network failed on cpu: RuntimeError: a kernel failed$"):
            future.result(LIMIT_S)
    assert float(also.result(LIMIT_S).max()) == 6
    assert float(late.result(LIMIT_S).max()) == 8


def test_a_tile_that_does_not_fit_does_not_hold_up_its_batch() -> None:
    loop = DeviceLoop(Doubling(), CPU, batch=2)
    with loop.sending():
        first = loop.send(work(), tile(1), VALID, WHOLE)
        with pytest.raises(ValueError, match="broadcast"):
            loop.send(work(), tile(1, (9, 9)), VALID, WHOLE)
    assert float(first.result(LIMIT_S).max()) == 2


def test_stopped_everyone_who_waits_is_told() -> None:
    network = Doubling()
    network.go.clear()
    loop = DeviceLoop(network, CPU, batch=2)
    with ThreadPoolExecutor(3) as pool:
        # More than there is room for: some wait for a place, some for a result.
        waiting = [pool.submit(lambda: [f.result(LIMIT_S) for f in send(loop, *range(20))]) for _ in range(3)]
        time.sleep(0.05)
        loop.close()
        for future in waiting:
            with pytest.raises(Interrupted):
                future.result(LIMIT_S)
    with pytest.raises(Interrupted):
        send(loop, 1)
    network.go.set()
    loop.join()


def test_one_who_was_left_does_not_keep_others_waiting() -> None:
    loop = DeviceLoop(Doubling(), CPU, batch=4)
    with loop.sending(), loop.away():
        assert float(send(loop, 7)[0].result(LIMIT_S).max()) == 14


def test_a_rare_shape_is_not_forgotten_while_others_go_on() -> None:
    loop = DeviceLoop(Doubling(), CPU, batch=2)
    with loop.sending():
        rare = loop.send(work((2, 2)), tile(5, (2, 2)), np.ones((2, 2), np.bool_), WHOLE)
        for _ in itertools.takewhile(lambda _: not rare.done(), range(2000)):
            loop.send(work(), tile(1), VALID, WHOLE).add_done_callback(lambda _: None)
        assert float(rare.result(LIMIT_S).max()) == 10


def test_an_engine_that_is_let_go_takes_its_threads_with_it() -> None:
    normalization = Normalization((1.0,), (0.0,), (-9.0,), (9.0,))
    engine = TorchEngine(torch.nn.Conv2d(1, 6, 1), 6, normalization, device="cpu")
    before = {thread for thread in threading.enumerate() if thread.name.startswith("geoseg-")}
    engine.scores(TileBatch([tile(1)], [VALID], (4, 5), [WHOLE]))
    own = {thread for thread in threading.enumerate() if thread.name.startswith("geoseg-")} - before
    assert len(own) == 2
    gone = weakref.ref(engine)
    del engine
    gc.collect()
    assert gone() is None
    assert not any(thread.is_alive() for thread in own)
