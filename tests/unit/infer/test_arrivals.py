"""Chunks come in row order, and each square is given once its pixels are there: no chunk later, none twice, none left out."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoseg.errors import Interrupted
from geoseg.grid import Grid
from geoseg.windows import Window
from pipeline.infer.arrivals import Arrivals, ChunkFiles
from pipeline.infer.receipt import Receipt
from tests.support import LIMIT_S


@dataclass(frozen=True)
class Planned:
    """The part of a plan that arrivals read."""

    grid: Grid
    active: tuple[int, ...]


class OnDemand(Arrivals):
    """Takes a chunk when it is waited for, and no earlier."""

    def __init__(self, receipts: list[Receipt]) -> None:
        super().__init__()
        self.coming = self.taking(receipts)
        self.last = -1

    def wait(self, index: int | None = None) -> None:
        while not self.complete and (index is None or self.last < index):
            receipt = next(self.coming, None)
            self.last = self.last if receipt is None else receipt.index


@st.composite
def scenes(draw: st.DrawFn) -> tuple[Planned, list[Receipt]]:
    height, width = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    grid = Grid(height, width, tile=8, halo=0, stride=1, chunk=draw(st.sampled_from((8, 16, 24, 64))))
    active = draw(st.lists(st.integers(0, grid.n_chunks - 1), unique=True, min_size=1).map(sorted))
    has_file = draw(st.lists(st.booleans(), min_size=len(active), max_size=len(active)))
    files = [{f"{i}.tif": "x"} if there else {} for i, there in zip(active, has_file, strict=True)]
    receipts = [Receipt(index=i, status="done", files=own) for i, own in zip(active, files, strict=True)]
    return Planned(grid, tuple(active)), receipts


def painted(plan: Planned, chunks: Iterator[int]) -> np.ndarray:
    """The number of the chunk of each pixel, -1 where there is none of some chunks."""
    image = np.full((plan.grid.height, plan.grid.width), -1)
    for index in chunks:
        image[plan.grid.chunk_core(index).slices] = index
    return image


@given(scene=scenes(), size=st.sampled_from((4, 10, 16, 50)), frame=st.sampled_from((0, 1)))
def test_squares_are_given_once_their_pixels_are_there(scene: tuple[Planned, list[Receipt]], size: int, frame: int) -> None:
    plan, receipts = scene
    active = painted(plan, iter(plan.active))
    filled = painted(plan, (receipt.index for receipt in receipts if receipt.files))
    arrivals, found = OnDemand(receipts), []
    for window in arrivals.squares(plan, size, frame):  # type: ignore[arg-type]  # all that is read of a plan
        rows = slice(max(0, window.row_off - frame), window.row_stop + frame)
        cols = slice(max(0, window.col_off - frame), window.col_stop + frame)
        assert arrivals.last == active[rows, cols].max()
        found.append((window.row_off, window.col_off))
    wanted = [
        (row, col)
        for row in range(0, plan.grid.height, size)
        for col in range(0, plan.grid.width, size)
        if (filled[row : row + size, col : col + size] >= 0).any()
    ]
    assert sorted(found) == wanted
    assert arrivals.files() == ChunkFiles.of(receipts)
    assert arrivals.complete


def test_whoever_waits_for_what_does_not_come_is_told() -> None:
    plan = Planned(Grid(16, 16, tile=8, halo=0, stride=1, chunk=8), (0, 1, 2, 3))
    arrivals, seen, ended = Arrivals(), list[Window](), threading.Event()

    def consume() -> None:
        with pytest.raises(Interrupted):
            seen.extend(arrivals.squares(plan, 8))  # type: ignore[arg-type]
        ended.set()

    thread = threading.Thread(target=consume)
    thread.start()
    receipts = arrivals.taking(Receipt(index=i, status="done", files={"a": "b"}) for i in range(4))
    next(receipts), next(receipts)
    arrivals.give_up()
    thread.join(LIMIT_S)
    assert ended.is_set()
    with pytest.raises(Interrupted):
        arrivals.files()
