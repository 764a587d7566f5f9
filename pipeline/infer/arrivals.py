"""Chunk results as they come in: what later stages may read already, and what they are to wait for."""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import product

from geoseg.errors import Interrupted
from geoseg.windows import Window
from pipeline.infer.receipt import Receipt
from pipeline.plan.plan import Plan

__all__ = ["Arrivals", "ChunkFiles"]

WAIT_S = 0.5
"""Without a timeout the wait could not be interrupted on all systems."""


@dataclass(frozen=True, slots=True)
class ChunkFiles:
    """The files of chunk results: all that later stages need of the receipts."""

    filled: frozenset[int]
    """The chunks that have files; all others hold no data."""
    listed: str
    """Pairs of number and files in row order, as JSON."""

    @classmethod
    def of(cls, receipts: Iterable[Receipt]) -> ChunkFiles:
        """Take up receipts in row order, one by one."""
        arrivals = Arrivals(receipts)
        return arrivals.files()


class Arrivals:
    """The chunk results of a scene, which come in row order while several threads wait for those that they need."""

    def __init__(self, receipts: Iterable[Receipt] | None = None) -> None:
        """Take up the receipts of a finished run; without, they come by ``taking``."""
        self._filled: set[int] = set()
        self._listed: list[str] = []
        self._last, self._complete, self._given_up = -1, False, False
        self._changed = threading.Condition()
        if receipts is not None:
            for _ in self.taking(receipts):
                pass

    @classmethod
    def of(cls, receipts: Iterable[Receipt] | Arrivals) -> Arrivals:
        """Those of a finished run, or of one that is under way."""
        return receipts if isinstance(receipts, Arrivals) else cls(receipts)

    def taking(self, receipts: Iterable[Receipt]) -> Iterator[Receipt]:
        """Hand on the receipts of all chunks in row order; each is in once it was taken."""
        for receipt in receipts:
            with self._changed:
                if receipt.files:
                    self._filled.add(receipt.index)
                self._listed.append(json.dumps([receipt.index, receipt.files], sort_keys=True))
                self._last = receipt.index
                self._changed.notify_all()
            yield receipt
        with self._changed:
            self._complete = True
            self._changed.notify_all()

    def give_up(self) -> None:
        """Nothing comes any more: who waits is told."""
        with self._changed:
            self._given_up = True
            self._changed.notify_all()

    @property
    def filled(self) -> Collection[int]:
        """The chunks that have files, as far as they are in; all others hold no data."""
        return self._filled

    @property
    def complete(self) -> bool:
        """Whether all chunks are in."""
        return self._complete

    def wait(self, index: int | None = None) -> None:
        """Wait until a chunk and all before it are in; without a number, all chunks.

        Raises:
            Interrupted: It does not come any more.
        """
        with self._changed:
            while not self._complete and (index is None or self._last < index):
                if self._given_up:
                    raise Interrupted("stopped before a chunk")
                self._changed.wait(WAIT_S)

    def files(self) -> ChunkFiles:
        """The files of all chunks, once these are in."""
        self.wait()
        return ChunkFiles(frozenset(self._filled), ", ".join(self._listed))

    def squares(self, plan: Plan, size: int, frame: int = 0) -> Iterator[Window]:
        """The squares that chunks with files touch, in the order of ``squares_near``, each once its pixels are there."""
        for group in self.groups(plan, size, frame):
            yield from group

    def groups(self, plan: Plan, size: int, frame: int = 0) -> Iterator[list[Window]]:
        """The squares that chunks with files touch; those that wait for one chunk together, once it is there."""
        for near in self._groups_near(plan, size, frame):
            group = [window for window in near if any(index in self._filled for index in plan.grid.chunks_touched(window))]
            if group:
                yield group

    def squares_near(self, plan: Plan, size: int, frame: int = 0) -> Iterator[Window]:
        """The squares on the grid from the scene's origin with a chunk in or near them, each once its pixels are there.

        The order depends on the plan alone: by the last chunk that a square waits for, then in the order of reading.

        Args:
            plan: The plan.
            size: Side of a square in pixels.
            frame: Pixels around a square that are read with it.
        """
        for group in self._groups_near(plan, size, frame):
            yield from group

    def _groups_near(self, plan: Plan, size: int, frame: int) -> Iterator[list[Window]]:
        grid, active = plan.grid, frozenset(plan.active)
        for index in plan.active:
            self.wait(index)
            near = grid.chunk_core(index).grown(frame) & grid.scene
            rows, cols = (near or grid.scene).cells((size, size))
            group = []
            for place in product(rows, cols):
                square = Window.cell(place, (size, size))
                own, framed = square & grid.scene, square.grown(frame) & grid.scene
                assert own is not None
                if max(active.intersection(grid.chunks_touched(framed or own))) == index:
                    group.append(own)
            yield group
