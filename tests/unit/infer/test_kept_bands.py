"""Bands of chunk results are decoded once while they are kept, and no more bytes are kept than may be."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from geoseg.arrays import U8
from pipeline.infer.kept_bands import KeptBands


def band(value: int) -> U8:
    return np.full((10, 10), value, np.uint8)


def test_those_who_ask_at_once_have_it_decoded_once() -> None:
    kept, begun, calls = KeptBands(1000), threading.Barrier(4), list[int]()

    def decode() -> U8:
        calls.append(1)
        return band(7)

    def ask() -> U8:
        begun.wait()
        return kept.get((0, 1), decode)

    with ThreadPoolExecutor(4) as pool:
        found = [future.result() for future in [pool.submit(ask) for _ in range(4)]]
    assert len(calls) == 1
    assert all((one == 7).all() for one in found)


def test_the_oldest_go() -> None:
    kept = KeptBands(300)
    for index in (0, 1, 2, 0, 3):
        kept.get((index, 1), lambda index=index: band(index))
    # 0 was asked for again, so that 1 was the oldest.
    decoded = [index for index in (0, 2, 3, 1) if (kept.get((index, 1), lambda: band(99)) == 99).all()]
    assert decoded == [1]


@pytest.mark.parametrize("written", [False, True])
def test_what_is_written_anew_is_not_what_was_read(written: bool) -> None:
    kept = KeptBands(written=written)
    kept.get((5, 1), lambda: band(1))
    kept.put((5, 1), band(2))
    assert (kept.get((5, 1), lambda: band(3)) == (2 if written else 3)).all()
    with pytest.raises(ValueError, match="read-only"):
        kept.get((5, 1), lambda: band(4))[0, 0] = 9


def test_a_band_that_can_not_be_decoded_is_asked_for_again() -> None:
    kept = KeptBands()

    def failing() -> U8:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        kept.get((1, 1), failing)
    assert (kept.get((1, 1), lambda: band(6)) == 6).all()
