"""One chunk: read, computed, written."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from geoseg.arrays import Bools
from geoseg.codes import ANALYSED, HIDDEN, MAX_CLASS, NODATA, NOT_ANALYSED
from geoseg.errors import Interrupted
from geoseg.grid import Chunk
from geoseg.inference.averaging import EnsembleMember
from geoseg.inference.chunks import ChunkLayers, Extra, classify_chunk
from geoseg.inference.decision import Decision
from geoseg.inference.reading import open_reader
from geoseg.inference.value_chunks import value_chunk
from geoseg.instances.objects import Objects
from geoseg.scenes.reader import Pixels
from pipeline.files.areas import measure_codes
from pipeline.infer.chunk_store import ChunkStore
from pipeline.infer.freed import give_back, small_heaps
from pipeline.infer.machine import made_on
from pipeline.infer.receipt import Receipt
from pipeline.infer.storage import Storage
from pipeline.infer.value_sums import value_sums
from pipeline.plan.plan import Member, Plan, open_member
from pipeline.plan.within import clear_outside, read_chunk, tiles_in, window_of

__all__ = ["ChunkWorker"]

log = logging.getLogger(__name__)


FORWARD_SLOTS = 2
"""Chunks that may be at ONNX Runtime at once: while one waits for it, the other prepares its next tile. With torch all may:
their tiles pass through the network together."""


class ChunkWorker:
    """Does the chunks of one plan in one process; may be called by several threads."""

    def __init__(self, plan: Plan, storage: Storage, *, expect: Iterable[int] = ()) -> None:
        small_heaps()
        self.plan = plan
        self.stop = threading.Event()
        self._store = ChunkStore(storage, plan.grid, plan.layers)
        self._members = [_opened(plan, member) for member in plan.members]
        counts = dict(plan.layers)
        self._extra = Extra(
            counts.get("probabilities", 0), "uncertainty" in counts, counts.get("shares", 0), counts.get("values", 0)
        )
        self._covers = "coverage" in counts
        self._reader = open_reader(
            plan.scene,
            plan.bands,
            threads=plan.read_threads,
            cache_bytes=plan.cache_bytes,
            mask_bad_blocks=plan.mask_bad_blocks,
            take_over=True,
        )
        self._reader.expect(window_of(plan.grid, self._chunk(i)) for i in expect)
        self._slots = threading.Semaphore(max(FORWARD_SLOTS, plan.in_flight) if plan.engine == "torch" else FORWARD_SLOTS)
        self.device = self._members[0].engine.device

    def interrupt(self) -> None:
        """Have what is under way end soon, with Interrupted."""
        self.stop.set()
        for member in self._members:
            member.engine.stop()

    def close(self) -> None:
        """Stop, close the files, and let go of the networks: what they keep is most of the memory, and stages behind work on."""
        self.interrupt()
        self._reader.close()
        self._members = []
        give_back()

    def run(self, index: int) -> Receipt:
        """Read a chunk, run the network over it, and write its result.

        Raises:
            ReadError: A block can't be read.
            ChunkError: The network gave NaN or infinity, or took too long.
            Interrupted: The worker was told to stop.
        """
        chunk = self._chunk(index)
        started = time.perf_counter()
        pixels = read_chunk(self._reader, self.plan.grid, chunk)
        read = time.perf_counter()
        if self.stop.is_set():
            raise Interrupted("stopped before a chunk")
        with self._slots:
            waited = time.perf_counter()
            layers, objects = self._compute(chunk, pixels)
        layers, hidden = self._masked(layers, chunk, pixels)
        computed = time.perf_counter()
        valid = pixels.valid[chunk.core.slices_in(chunk.window)]
        thumbnail = self.plan.thumbnail.take(pixels.data, chunk.window, chunk.core)
        files = self._store.write(index, layers, thumbnail, objects)
        written = time.perf_counter()
        counts, areas = measure_codes(layers.classes, chunk.core, self.plan.scene.georeference)
        return Receipt(
            index=index,
            status="done",
            files=files,
            content=self._store.content(layers, objects),
            machine=made_on(self.plan.engine, self.device),
            pixels=counts,
            area_m2=areas,
            tiles=layers.tiles,
            isolated=_isolated(valid),
            bad_pixels=int((layers.classes == NOT_ANALYSED).sum()) - hidden,
            hidden_pixels=hidden,
            seconds={"read": read - started, "infer": computed - waited, "write": written - computed},
            decoded=self._reader.stats.decoded_pixels,
            notes=tuple(dict.fromkeys(note for member in self._members for note in member.engine.notes)),
            values=value_sums(layers),
        )

    def anew(self, index: int) -> tuple[str | None, ChunkLayers]:
        """Compute a chunk anew and keep it nowhere: its ``Receipt.content``, and the layers of its core."""
        chunk = self._chunk(index)
        pixels = read_chunk(self._reader, self.plan.grid, chunk)
        layers, objects = self._compute(chunk, pixels)
        layers, _ = self._masked(layers, chunk, pixels)
        return self._store.content(layers, objects), layers

    def _chunk(self, index: int) -> Chunk:
        plan = self.plan
        return tiles_in(plan.area, plan.grid, plan.grid.chunk_at(index), plan.task)

    def _masked(self, layers: ChunkLayers, chunk: Chunk, pixels: Pixels | None) -> tuple[ChunkLayers, int]:
        """Layers that are not analysed under clouds and no data outside of the area, and how many pixels clouds hide."""
        if self._covers:
            hidden = None if pixels is None or pixels.hidden is None else pixels.hidden[chunk.core.slices_in(chunk.window)]
            layers = withheld(layers, [] if hidden is None else [(HIDDEN, hidden)])
        every = layers.arrays if layers.coverage is None else (*layers.arrays, layers.coverage)
        clear_outside(self.plan.area, chunk.core, every)
        return layers, 0 if layers.coverage is None else int((layers.coverage == HIDDEN).sum())

    def _compute(self, chunk: Chunk, pixels: Pixels) -> tuple[ChunkLayers, Objects | None]:
        plan, first = self.plan, self._members[0]
        if plan.task != "semantic":
            from geoseg.instances.chunks import detect_chunk

            # Objects under clouds are found, too: a part of one that is clear is the same as without clouds.
            seen = replace(pixels, hidden=None)
            return detect_chunk(plan.grid, chunk, seen, first.engine, first.decision, plan.card, should_stop=self.stop.is_set)
        if plan.quantity is not None:
            stop = self.stop.is_set
            return value_chunk(plan.grid, chunk, pixels, self._members, augment=plan.augment, should_stop=stop), None
        layers = classify_chunk(
            plan.grid,
            chunk,
            pixels,
            self._members,
            augment=plan.augment,
            should_stop=self.stop.is_set,
            extra=self._extra,
        )
        return layers, None

    def give_up(self, index: int, reason: str) -> Receipt:
        """The result of a chunk that could not be computed: not analysed, where there is data."""
        chunk = self._chunk(index)
        classes = np.full(chunk.core.shape, NOT_ANALYSED, np.uint8)
        pixels: Pixels | None = None
        thumbnail: NDArray[np.generic] = np.zeros((len(self.plan.thumbnail.bands), 0, 0), np.uint8)
        try:
            pixels = read_chunk(self._reader, self.plan.grid, chunk)
            classes[~pixels.valid[chunk.core.slices_in(chunk.window)]] = NODATA
            if pixels.bad is not None:
                classes[pixels.bad[chunk.core.slices_in(chunk.window)]] = NOT_ANALYSED
            thumbnail = self.plan.thumbnail.take(pixels.data, chunk.window, chunk.core)
        except Exception as error:  # noqa: BLE001 - whatever made the chunk fail may fail here again
            log.warning("chunk %d: its validity is not known either: %s", index, error)
        layers, hidden = self._masked(self._extra.filled(classes), chunk, pixels)
        files = self._store.write(index, layers, thumbnail)
        counts, areas = measure_codes(layers.classes, chunk.core, self.plan.scene.georeference)
        status = "failed" if files else "done"
        return Receipt(
            index=index,
            status=status,
            files=files,
            machine=made_on(self.plan.engine, self.device),
            reason=reason,
            pixels=counts,
            area_m2=areas,
            hidden_pixels=hidden,
        )


def withheld(layers: ChunkLayers, reasons: Iterable[tuple[int, Bools]]) -> ChunkLayers:
    """Layers that are *not analysed* for some reasons, and coverage that tells them apart.

    Args:
        layers: Of a chunk's core.
        reasons: Codes of ``geoseg.codes.COVERAGE``, and where (h, w) they hold; a later one goes before an earlier one.
    """
    coverage = np.where(layers.classes <= MAX_CLASS, np.uint8(ANALYSED), layers.classes)
    for code, where in reasons:
        for array in layers.arrays:
            array[..., where] = NOT_ANALYSED
        coverage[where] = code
    return replace(layers, coverage=coverage)


def _opened(plan: Plan, member: Member) -> EnsembleMember:
    decision = Decision.of(plan.card if plan.series else member.card)
    return EnsembleMember(open_member(plan, member, batch=plan.batch), decision, member.card.quantity)


def _isolated(valid: NDArray[np.bool_]) -> int:
    """Pixels without data whose four neighbours all hold data: a sign that the nodata value is a real value."""
    if valid.all() or min(valid.shape) < 3:
        return 0
    inner = ~valid[1:-1, 1:-1]
    inner &= valid[:-2, 1:-1] & valid[2:, 1:-1]
    inner &= valid[1:-1, :-2] & valid[1:-1, 2:]
    return int(inner.sum())
