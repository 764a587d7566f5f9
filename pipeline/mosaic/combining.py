"""Workers that combine the scenes of a mosaic chunk by chunk: threads of this process."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from geoseg.arrays import U8
from geoseg.codes import HIDDEN, MAX_CLASS, NODATA, NOT_ANALYSED
from geoseg.grid import Grid, ceil_div
from geoseg.inference.chunks import ChunkLayers
from geoseg.inference.decision import Decision
from geoseg.windows import Window
from pipeline.config.mosaicking import MosaicConfig
from pipeline.files.areas import measure_codes
from pipeline.files.version import code_version
from pipeline.infer.chunk_store import ChunkStore
from pipeline.infer.freed import small_heaps
from pipeline.infer.receipt import Receipt
from pipeline.infer.storage import Storage
from pipeline.infer.workers import Blame
from pipeline.mosaic.combine import Part, choose, merged
from pipeline.mosaic.depth import edge_distances
from pipeline.mosaic.kept import KeptChunks
from pipeline.mosaic.lattice import Lattice
from pipeline.mosaic.mean import Mean
from pipeline.mosaic.results import SceneResult, made_by, over
from pipeline.plan.plan import Plan
from pipeline.plan.within import clear_outside

__all__ = ["CombineWorkers", "CombinedLayers", "Recipe", "on_lattice"]

SIDE = 1024
"""Rows and columns of a chunk that are combined at once."""
MEAN_SIDE = 512
"""The same of means, whose sums take eight bytes a class."""
THREADS = 2


@dataclass(frozen=True, slots=True, eq=False)
class CombinedLayers(ChunkLayers):
    """The layers of a combined chunk."""

    source: U8 | None = None
    """(h, w): of the scenes over the chunk, in their order, which each pixel is of."""


@dataclass(frozen=True, slots=True, eq=False)
class Recipe:
    """What a mosaic is combined of, and how."""

    lattice: Lattice
    results: Sequence[SceneResult]
    """In the order in which scenes are preferred."""
    config: MosaicConfig
    kept: KeptChunks | None
    """Combined chunks of an earlier run with fewer scenes, and for later ones with more."""

    def key(self, plan: Plan, index: int) -> str:
        """sha256 of all that a combined chunk depends on."""
        window = on_lattice(plan.grid, index)
        scenes = [
            [r.scene.name, r.scene.acquired, astuple(r.scene.image), r.scene.direct, r.key(window)]
            for r in over(self.results, window)
        ]
        facts = [
            code_version(),
            self.lattice.document(),
            [self.config.order, self.config.combine],
            astuple(window),
            plan.layers,
            [plan.thumbnail.stride, plan.thumbnail.bands],
            scenes,
        ]
        if self.config.combine == "mean":
            # Its model says which class a mean is of.
            facts.append(plan.model_sha256)
        if plan.area is not None:
            core = plan.grid.chunk_core(index)
            inside, shown = np.packbits(plan.area.mask(core)).tobytes(), core & plan.thumbnail.window
            facts.append([hashlib.sha256(inside).hexdigest(), None if shown is None else astuple(shown)])
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


class CombineWorkers:
    """Combines chunks in threads of this process; the interface of what runs the network over them."""

    def __init__(self, recipe: Recipe, plan: Plan, storage: Storage) -> None:
        small_heaps()
        self._recipe, self._plan, self._storage = recipe, plan, storage
        self._store = ChunkStore(storage, plan.grid, plan.layers)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="geoseg-combine")

    @property
    def parts(self) -> None:
        """The later stages have threads of this process."""

    def submit(self, index: int) -> Future[Receipt]:
        """Combine a chunk in one of the threads."""
        return self._pool.submit(self.run, index)

    def run(self, index: int) -> Receipt:
        """Combine a chunk and write its result, or take up what an earlier run has combined of the same."""
        kept = self._recipe.kept
        if kept is None:
            return self._combined(index)
        key = self._recipe.key(self._plan, index)
        if (receipt := kept.take(key, index, self._storage)) is not None:
            return receipt
        receipt = self._combined(index)
        if receipt.status == "done":
            kept.put(key, receipt, self._storage)
        return receipt

    def _combined(self, index: int) -> Receipt:
        started, core = time.perf_counter(), self._plan.grid.chunk_core(index)
        window = on_lattice(self._plan.grid, index)
        results = over(self._recipe.results, window)
        layers = self._layers(window, core, results)
        computed = time.perf_counter()
        assert layers.source is not None
        files = self._store.write(index, layers, self._thumbnail(core, results, layers.source))
        counts, areas = measure_codes(layers.classes, core, self._plan.scene.georeference)
        reasons = (f"{r.scene.name}: {why}" for r in results if (why := r.failure(window)) is not None)
        reason = next(reasons, None)
        hidden = 0 if layers.coverage is None else int((layers.coverage == HIDDEN).sum())
        return Receipt(
            index=index,
            status="done" if reason is None else "failed",
            files=files,
            content=self._store.content(layers),
            machine=made_by(results, window),
            reason=reason,
            pixels=counts,
            area_m2=areas,
            bad_pixels=int((layers.classes == NOT_ANALYSED).sum()) - hidden,
            hidden_pixels=hidden,
            seconds={"combine": computed - started, "write": time.perf_counter() - computed},
        )

    def give_up(self, index: int, reason: str) -> Receipt:
        """The result of a chunk that could not be combined: not analysed, where a scene lies over it."""
        core = self._plan.grid.chunk_core(index)
        codes = np.full(core.shape, NODATA, np.uint8)
        window = on_lattice(self._plan.grid, index)
        results = over(self._recipe.results, window)
        for result in results:
            common = result.common(window)
            assert common is not None
            codes[common.slices_in(window)] = NOT_ANALYSED
        clear_outside(self._plan.area, core, (codes,))
        bands = np.repeat(codes[None], sum(n for _, n in self._plan.layers), axis=0)
        layers, nothing = self._named(bands), np.zeros((len(self._plan.thumbnail.bands), 0, 0), np.uint8)
        files = self._store.write(index, layers, nothing)
        counts, areas = measure_codes(codes, core, self._plan.scene.georeference)
        machine = made_by(results, window)
        return Receipt(index=index, status="failed", files=files, machine=machine, reason=reason, pixels=counts, area_m2=areas)

    def capacity(self) -> int:
        """As many as there are threads."""
        return THREADS

    def blame(self, error: BaseException) -> Blame:
        """Threads don't die alone."""
        del error
        return "chunk"

    def reconnect(self) -> None:
        """There is nothing that could be lost."""

    def close(self, *, interrupted: bool) -> None:
        """Wait for the threads."""
        self._pool.shutdown(cancel_futures=interrupted)

    def _layers(self, window: Window, core: Window, results: Sequence[SceneResult]) -> CombinedLayers:
        """All layers of a window of the lattice, which is a core of the mosaic, some rows and columns at a time."""
        bands = np.full((sum(count for _, count in self._plan.layers), *window.shape), NODATA, np.uint8)
        for piece in window.parts(SIDE if self._recipe.config.combine != "mean" else MEAN_SIDE):
            bands[(slice(None), *piece.slices_in(window))] = self._piece(piece, results)
        clear_outside(self._plan.area, core, (bands,))
        return self._named(bands)

    def _piece(self, piece: Window, results: Sequence[SceneResult]) -> U8:
        """(bands, h, w) of a piece; the last band is the index of the scene."""
        count, combine = sum(count for _, count in self._plan.layers) - 1, self._recipe.config.combine
        out = np.full((count + 1, *piece.shape), NODATA, np.uint8)
        mean = Mean.empty(Decision.of(self._plan.card), piece.shape) if combine == "mean" else None
        numbers, parts = [], []
        by_edge = self._recipe.config.order == "distance-to-edge"
        for number, result in enumerate(results):
            common = result.common(piece)
            if common is None:
                continue
            where = common.slices_in(piece)
            bands = result.read(common, coverage="coverage" in dict(self._plan.layers))
            if mean is not None:
                bands, shares = result.without_shares(bands)
                mean.add(shares, bands[0] <= MAX_CLASS, where)
            full = np.full((len(bands), *piece.shape), NODATA, np.uint8)
            full[(slice(None), *where)] = bands
            depth = edge_distances(result.scene, self._recipe.lattice, piece) if by_edge else None
            numbers.append(number)
            parts.append(Part(full, depth))
        if parts:
            if mean is not None:
                out[:count], chosen = mean.decide(parts, probabilities="probabilities" in dict(self._plan.layers))
            else:
                chosen = choose(parts, combine)
                out[:count] = merged(parts, chosen)
            table = np.full(256, NODATA, np.uint8)
            table[: len(numbers)] = numbers
            out[count] = table[chosen]
        return out

    def _named(self, bands: U8) -> CombinedLayers:
        """Layers by their names, of bands in the order of the plan."""
        found: dict[str, U8] = {}
        at = 0
        for name, count in self._plan.layers:
            found[name] = bands[at : at + count] if name == "probabilities" else bands[at]
            at += count
        return CombinedLayers(
            found["classes"],
            found["confidence"],
            0,
            found.get("probabilities"),
            found.get("uncertainty"),
            found.get("coverage"),
            source=found["source"],
        )

    def _thumbnail(self, core: Window, results: Sequence[SceneResult], source: U8) -> NDArray[np.generic]:
        """(bands, h, w) pixels of the scenes that were chosen, on the lattice of the preview, where that shows a core."""
        plan, stride = self._plan, self._plan.thumbnail.stride
        shown = core & plan.thumbnail.window
        if shown is None:
            return np.zeros((len(plan.thumbnail.bands), 0, 0), plan.scene.bands[plan.bands[0]].dtype)
        window, source = _placed(plan.grid, shown), source[shown.slices_in(core)]
        first = ceil_div(window.row_off, stride), ceil_div(window.col_off, stride)
        rows, cols = -window.row_off % stride, -window.col_off % stride
        picked = source[rows::stride, cols::stride]
        out = np.zeros((len(plan.thumbnail.bands), *picked.shape), plan.scene.bands[plan.bands[0]].dtype)
        whole = Window.at(first, picked.shape) if picked.size else None
        for number, result in enumerate(results):
            for place, part in result.thumbnail(window, stride) if whole is not None else ():
                there = Window.at(place, (part.shape[1], part.shape[2]))
                common = None if whole is None else there & whole
                if whole is None or common is None:
                    continue
                target, taken = (slice(None), *common.slices_in(whole)), picked[common.slices_in(whole)] == number
                out[target] = np.where(taken, part[(slice(None), *common.slices_in(there))], out[target])
        return out


def on_lattice(grid: Grid, index: int) -> Window:
    """The window of the lattice that a chunk of the mosaic owns."""
    return _placed(grid, grid.chunk_core(index))


def _placed(grid: Grid, window: Window) -> Window:
    """A window of the mosaic as one of the lattice."""
    row, col = grid.phase or (0, 0)
    return Window.at((window.row_off + row, window.col_off + col), window.shape)
