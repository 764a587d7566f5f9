"""The one loop that owns a device: tiles of all threads fill its batches, and three batches are under way.

Threads that have tiles copy them into free places of the open batch, side by side. A batch is launched when it is full, or
when the device has little to do and nobody who could fill it is still sending. It keeps its shape then, whatever its empty
places hold. One thread launches, another one takes what comes home and hands it to who waits for it.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import torch
from numpy.typing import NDArray

from geoseg.arrays import Bools
from geoseg.dialect import number_of, setting
from geoseg.errors import ChunkError, Interrupted
from geoseg.inference.decision import Decision
from geoseg.inference.device.device_pass import Batch, Work
from geoseg.inference.device.device_slots import Keep, Result, Slot
from geoseg.inference.device.device_streams import Streams

__all__ = ["UNDER_WAY", "DeviceLoop"]

log = logging.getLogger(__name__)

UNDER_WAY = 3
"""Batches that are sent, computed and brought home at once."""
SPARE = 2
"""Slots that are filled meanwhile."""
CPU_SLOTS = 3
"""All slots of a CPU: one is computed, one filled, of one the results are handed out."""
PATIENCE = 8
"""Batches after which one that nobody fills goes before others."""
Run = Callable[[Batch, Decision | None], tuple[torch.Tensor, ...]]
"""What a batch goes through, see ``NetworkPass``."""


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """A part of a batch that is under way."""

    start: int
    batch: Batch
    home: list[torch.Tensor]
    wait: Callable[[], Any]


class DeviceLoop:
    """Runs the batches of one network on one device; called by any number of threads.

    Args:
        run: What a batch goes through.
        device: Where.
        batch: Tiles of a batch.
        name: Of the device, for messages.
    """

    def __init__(self, run: Run, device: torch.device, *, batch: int, name: str = "cpu") -> None:
        self._run, self._name, self.batch = run, name, batch
        self._on_cpu, self._cpu_threads = device.type == "cpu", torch.get_num_threads()
        self._streams = Streams(device)
        self._slots = [Slot(pinned=not self._on_cpu) for _ in range(CPU_SLOTS if self._on_cpu else UNDER_WAY + SPARE)]
        self._free = list(self._slots)
        self._open: dict[Work, Slot] = {}
        self._full: deque[Slot] = deque()
        self._launched = self._under_way = self._senders = 0
        self._changed = threading.Condition()
        self._started: SimpleQueue[tuple[Slot, list[_Piece]] | None] = SimpleQueue()
        self._end: BaseException | None = None
        self._threads: list[threading.Thread] = []
        self.notes: list[str] = []
        """What became of the promise of equal bytes."""

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Inside, batches wait for more of this thread, but while it is ``away`` or waits for a place."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Inside of ``sending``: nobody is to wait for this thread meanwhile."""
        self._count(-1)
        try:
            yield
        finally:
            self._count(1)

    def send(self, work: Work, data: NDArray[Any], valid: Bools, keep: Keep) -> Future[Result]:
        """Copy a tile into a batch, when there is a place for it; inside of ``sending``.

        Raises:
            Interrupted: The loop was stopped.
            ChunkError: The loop has ended by an error.
        """
        with self._changed:
            slot = self._slot_for(work)
            place, result = slot.reserve(keep)
            if slot.is_full:
                self._full.append(self._open.pop(work))
        whole = False
        try:
            whole = slot.fill(place, data, valid)
        finally:
            # Whatever happened here, the others of its batch are not to wait for it.
            with self._changed:
                slot.copied += 1
                slot.all_valid &= whole
                self._changed.notify_all()
        return result

    def close(self, error: BaseException | None = None) -> None:
        """End soon: all who wait have Interrupted, or an error that is given."""
        with self._changed:
            self._end = self._end or error or Interrupted("the device was told to stop")
            for slot in self._slots:
                self._fail(slot, self._end)
            self._changed.notify_all()

    def join(self) -> None:
        """Wait until the threads have ended, which follow ``close`` after what is being computed."""
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    def _count(self, more: int) -> None:
        with self._changed:
            self._senders += more
            self._changed.notify_all()

    def _slot_for(self, work: Work) -> Slot:
        """The open slot of a work; waits for one. The lock is held."""
        while True:
            if self._end is not None:
                raise _told(self._end, self._name)
            slot = self._open.get(work)
            if slot is not None:
                return slot
            if self._free:
                slot = self._free[-1]
                slot.open(work, self.batch, self._launched)
                self._open[work] = self._free.pop()
                self._start_threads()
                return slot
            self._senders -= 1
            self._changed.notify_all()
            try:
                self._changed.wait()
            finally:
                self._senders += 1

    def _start_threads(self) -> None:
        if not self._threads:
            for name, work in (("launch", self._launch_all), ("finish", self._finish_all)):
                self._threads.append(threading.Thread(target=self._guarded, args=(work,), name=f"geoseg-{name}", daemon=True))
            for thread in self._threads:
                thread.start()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # nobody is to wait for a thread that is gone
            log.exception("the loop of %s ends", self._name)
            self.close(error)
        finally:
            self._started.put(None)

    def _launch_all(self) -> None:
        if self._on_cpu:
            # Each thread has its own number of threads below it.
            torch.set_num_threads(self._cpu_threads)
        while (slot := self._next()) is not None:
            pieces, error = self._launched_pieces(slot)
            if error is None:
                self._started.put((slot, pieces))
            else:
                self._give_back(slot, error)

    def _next(self) -> Slot | None:
        """The next batch to launch; None at the end."""
        with self._changed:
            while self._end is None:
                slot = self._chosen() if self._under_way < UNDER_WAY else None
                if slot is not None:
                    self._under_way += 1
                    self._launched += 1
                    return slot
                self._changed.wait()
            return None

    def _chosen(self) -> Slot | None:
        waiting = [slot for slot in self._open.values() if slot.is_ready]
        late = [slot for slot in waiting if self._launched - slot.number >= PATIENCE]
        full = [slot for slot in self._full if slot.is_ready]
        if not late and full:
            self._full.remove(full[0])
            return full[0]
        if not late and (self._senders or self._under_way > 1):
            return None
        oldest = min(late or waiting, key=lambda slot: slot.number, default=None)
        return None if oldest is None else self._open.pop(oldest.work)

    def _launched_pieces(self, slot: Slot) -> tuple[list[_Piece], BaseException | None]:
        """A batch on its way, in smaller parts where the memory does not hold it."""
        while True:
            size = min(self.batch, slot.size)
            try:
                return self._pieces(slot, size), None
            except torch.OutOfMemoryError as error:
                if size == 1:
                    rows, cols = slot.work.shape
                    text = f"out of memory on {self._name} for one tile of {rows} x {cols} px; use a smaller {setting('tile')}"
                    return [], ChunkError(text)
                del error
            except Exception as error:  # noqa: BLE001 - it belongs to those who wait
                return [], error
            # Outside of the except clause, whose error would keep the tensors alive.
            self._halve(size)

    def _halve(self, size: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._under_way == 1 or self._end is not None)
        self._streams.release()
        self.batch = (size + 1) // 2
        note = (
            f"{self._name} had no memory for batches of {number_of(size, 'tile')}, so they were of {self.batch} from then on: "
            f"another run may round otherwise; use {setting('batch', str(self.batch))}, or a smaller {setting('tile')}"
        )
        log.warning("%s", note)
        self.notes.append(note)

    def _pieces(self, slot: Slot, size: int) -> list[_Piece]:
        found = []
        with self._streams.computing():
            outs = []
            for start, batch in slot.pieces(size):
                out = self._run(self._streams.bring(batch), slot.work.decision)
                outs.append((start, batch, out))
            homes = iter(slot.homes([(tuple(t.shape), t.dtype) for _, _, out in outs for t in out]))
            for start, batch, out in outs:
                home = [next(homes) for _ in out]
                found.append(_Piece(start, batch, home, self._streams.home(out, home)))
        return found

    def _finish_all(self) -> None:
        while (started := self._started.get()) is not None:
            slot, pieces = started
            error: BaseException | None = None
            try:
                for piece in pieces:
                    piece.wait()
                    for tile, result in slot.results(piece.start, piece.batch.box, piece.home):
                        with self._changed:
                            if not tile.result.done():
                                tile.result.set_result(result)
            except Exception as caught:  # noqa: BLE001 - it belongs to those who wait
                error = caught
            self._give_back(slot, error)

    def _give_back(self, slot: Slot, error: BaseException | None) -> None:
        with self._changed:
            if error is not None:
                self._fail(slot, error)
            slot.tiles = []
            self._under_way -= 1
            self._free.append(slot)
            self._changed.notify_all()

    def _fail(self, slot: Slot, error: BaseException) -> None:
        for tile in slot.tiles:
            if not tile.result.done():
                tile.result.set_exception(_told(error, self._name))


def _told(error: BaseException, device: str) -> Exception:
    """An error of its own for each who waits."""
    if isinstance(error, Interrupted):
        return Interrupted(str(error))
    if isinstance(error, ChunkError):
        return ChunkError(str(error))
    text = str(error).strip().splitlines()
    told = ChunkError(f"the network failed on {device}: {type(error).__name__}: {text[0] if text else ''}".rstrip(": "))
    told.__cause__ = error
    return told
