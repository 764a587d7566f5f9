"""Beside the network few threads work at once; behind it all do, and its time is told apart from theirs."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support import LIMIT_S

from pipeline.segment.turns import StageClock, Turns

THREADS = 4


def busy() -> None:
    """Work for a while, without holding up other threads."""
    np.linalg.svd(np.random.default_rng(0).random((200, 200)))


@pytest.mark.parametrize("beside", [1, 2])
def test_as_many_work_beside_the_network_as_it_leaves_room_for(beside: int) -> None:
    turns, inside, most, lock = Turns(beside), 0, 0, threading.Lock()
    entered, go_on = threading.Semaphore(0), threading.Event()

    def work() -> None:
        nonlocal inside, most
        with turns.take():
            with lock:
                inside += 1
                most = max(most, inside)
            entered.release()
            assert go_on.wait(LIMIT_S)
            with lock:
                inside -= 1

    with ThreadPoolExecutor(THREADS) as pool:
        done = [pool.submit(work) for _ in range(THREADS)]
        for _ in range(beside):
            assert entered.acquire(timeout=LIMIT_S)
        # Time enough for others to come in, if they could.
        busy()
        assert most == beside
        turns.open()
        # The network is done: the others need not wait for these.
        for _ in range(THREADS - beside):
            assert entered.acquire(timeout=LIMIT_S)
        go_on.set()
        assert [future.result() for future in done] == [None] * THREADS
    assert most == THREADS


def spend(clock: StageClock) -> None:
    with clock.turn():
        busy()


def test_work_behind_the_network_is_none_beside_it() -> None:
    turns = Turns()
    clock = StageClock(turns)
    with clock.turn():
        pass
    seconds, beside = clock.seconds()
    assert beside == 0.0 <= seconds
    running = Turns(1)
    clock = StageClock(running)
    spend(clock)
    # What comes before the end of the network is beside it, waits left out.
    seconds, beside = clock.seconds()
    assert 0 < beside <= seconds
    running.open()
    spend(clock)
    later, still = clock.seconds()
    assert still == beside
    assert later > beside
