"""Vectorize: class rasters to polygons, block by block, joined over seams."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from geoseg.codes import NODATA, NOT_ANALYSED
from geoseg.errors import ConfigError, Interrupted
from geoseg.formats.styles import ClassStyle, vector_qml
from geoseg.formats.vector import EXTENSIONS, write_features
from geoseg.georeference import Georeference
from geoseg.polygons.blocks import BLOCK, BlockGrid, BlockPolygons, Measures, OpenParts, polygonize_block, polygonize_uniform
from geoseg.polygons.features import FeatureFacts, feature_batches, feature_schema
from geoseg.polygons.pieces import cut_giants
from geoseg.polygons.seams import Joined, OpenIndex, join_parts
from geoseg.polygons.sieve import Run, Sieve, sieve_raster
from geoseg.windows import Window
from pipeline.config.sections import VectorConfig
from pipeline.plan.plan import Plan

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "SPOOL",
    "ClassRaster",
    "FeatureSpool",
    "VectorOptions",
    "block_runner",
    "cores",
    "scene_facts",
    "vectorize",
    "vectorize_coverage",
    "vectorize_scene",
    "wanted_by",
    "wanted_codes",
    "write_formats",
]

Bytes = NDArray[np.uint8]
T = TypeVar("T")
SPOOL = "features.arrow"
CACHED_BLOCKS = 16
FINE_BLOCK = 1024
"""Side of a block where its size does not matter to the polygons: small blocks keep all threads busy in little memory."""
SMALL_PARTS = 64
"""Parts of a block with no more vertices stay in memory: a file would cost more."""


class ClassRaster(Protocol):
    """A raster of class codes, with or without confidence; read by several threads."""

    shape: tuple[int, int]
    georeference: Georeference
    has_confidence: bool

    def classes(self, window: Window) -> Bytes:
        """Class codes of a window."""
        ...

    def confidence(self, window: Window) -> Bytes:
        """Confidence of a window."""
        ...

    def uniform(self, window: Window) -> int | None:
        """The code of all pixels of a window where that is known without reading them."""
        ...

    def blocks(self, grid: BlockGrid) -> Iterable[int]:
        """The blocks that may hold anything but nodata."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorOptions:
    """What polygons to make."""

    wanted: tuple[int, ...]
    """Class codes."""
    min_area_m2: float = 0.0
    """Smaller regions give way to a neighbour."""
    simplify_px: float = 0.0
    """Tolerance of simplification."""
    smooth: int = 0
    """Rounds of corner cutting."""
    max_vertices: int | None = None
    """Polygons with more vertices are cut."""
    block: int = FINE_BLOCK
    """Side of a block; does not change the polygons unless they are simplified, smoothed or cut."""
    threads: int = 2
    """Blocks that are worked on at once."""

    @classmethod
    def of(cls, config: VectorConfig, wanted: tuple[int, ...], threads: int) -> VectorOptions:
        """The options of a configuration."""
        return cls(
            wanted=wanted, min_area_m2=config.min_area_m2, simplify_px=config.simplify, smooth=config.smooth,
            max_vertices=config.max_vertices or None, threads=threads,
            # Borders keep their vertices where they cross into another block.
            block=BLOCK if config.simplify or config.smooth else FINE_BLOCK,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class FeatureSpool:
    """Features on disk, in the Arrow stream format."""

    path: Path
    count: int
    """Number of features."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All features, batch by batch."""
        import pyarrow as pa

        with pa.memory_map(str(self.path)) as source, pa.ipc.open_stream(source) as reader:
            yield from reader

    @property
    def schema(self) -> pa.Schema:
        """Its fields."""
        import pyarrow as pa

        with pa.memory_map(str(self.path)) as source, pa.ipc.open_stream(source) as reader:
            return reader.schema

    def codes(self) -> tuple[int, ...]:
        """The class codes that occur."""
        return tuple(sorted({code for batch in self.batches() for code in batch.column("code").unique().to_pylist()}))


def vectorize(
    raster: ClassRaster,
    facts: FeatureFacts,
    options: VectorOptions,
    work: Path,
    should_stop: Callable[[], bool] = lambda: False,
) -> FeatureSpool:
    """Polygons of a class raster, with attributes.

    Memory follows the polygons: blocks in work, what is known of the parts at seams, and the largest polygon; the rest
    is on disk under ``work``.

    Raises:
        Interrupted: ``should_stop`` said so; it is asked before every block.
    """
    import pyarrow as pa

    work.mkdir(parents=True, exist_ok=True)
    grid = BlockGrid(*raster.shape, options.block)
    blocks = sorted(raster.blocks(grid))
    spool = work / SPOOL
    parts = _PartStore(work)
    index: dict[int, OpenIndex] = {}
    reshaped = options.simplify_px > 0 or options.smooth > 0
    count = 0
    with ThreadPoolExecutor(options.threads, thread_name_prefix="geoseg-vector") as pool:
        read = _sieved(raster, grid, blocks, options, work, pool) if options.min_area_m2 else _plain(raster, grid)

        def trace(block: int) -> BlockPolygons:
            if should_stop():
                raise Interrupted("stopped before a block")
            confidence = raster.confidence(grid.core(block)) if raster.has_confidence else None
            code = None if reshaped else raster.uniform(grid.framed(block))
            if code is None:
                classes = read(block)
                if not reshaped and (classes == classes[0, 0]).all():
                    code = int(classes[0, 0])
            if code is not None:
                return polygonize_uniform(grid, block, code, confidence, raster.georeference, options.wanted)
            return polygonize_block(
                grid, block, classes, confidence, raster.georeference, options.wanted,
                simplify_px=options.simplify_px, smooth=options.smooth,
            )  # fmt: skip

        with pa.OSFile(str(spool), "wb") as file, pa.ipc.new_stream(file, feature_schema(changes=bool(facts.changes))) as writer:
            for result in ordered(pool, trace, blocks, options.threads + 1):
                if len(result.open):
                    index[result.index] = OpenIndex.of(result.open)
                    parts.put(result.index, result.open)
                whole = np.zeros(len(result.closed), np.int32)
                count += _write(writer, Joined(result.closed, result.closed_measures, whole), facts, options.max_vertices)
            for joined in join_parts(grid, index, parts.get, max_vertices=options.max_vertices):
                count += _write(writer, joined, facts, options.max_vertices)
    parts.close()
    return FeatureSpool(spool, count)


def _write(writer: Any, polygons: Joined, facts: FeatureFacts, max_vertices: int | None) -> int:
    """Append polygons to a spool; returns their number."""
    sets = cut_giants(polygons.polygons, polygons.measures, polygons.part, max_vertices) if max_vertices else [polygons]
    del polygons
    count = 0
    for some in sets:
        for batch in feature_batches(some.polygons, some.measures, some.part, facts):
            writer.write_batch(batch)
            count += batch.num_rows
    return count


def vectorize_scene(
    plan: Plan, raster: ClassRaster, config: VectorConfig, work: Path, threads: int, should_stop: Callable[[], bool]
) -> FeatureSpool:
    """Polygons of a scene's result, with all that is known of it on each."""
    facts = scene_facts(plan, config, has_confidence=raster.has_confidence)
    options = VectorOptions.of(config, wanted_by(config, plan), threads)
    if plan.scene.dates:
        # The raster of changes has its minimum mapping unit already.
        options = replace(options, min_area_m2=0.0)
    return vectorize(raster, facts, options, work, should_stop)


def wanted_by(config: VectorConfig, plan: Plan) -> tuple[int, ...]:
    """The classes that polygons are wanted of.

    Raises:
        ConfigError: There is no such class, or it has no polygons in this task.
    """
    card = plan.card
    if config.classes is None:
        return tuple(c.value for c in card.classes if not c.background)
    wanted = wanted_codes(config.classes, {style.code: style.name for style in plan.styles})
    other = next((c.name for c in card.classes if c.value in wanted and c.value not in card.object_classes), None)
    if plan.task == "instances" and other is not None:
        raise ConfigError(f"vector.classes: {other!r} has no objects; use --task panoptic, which gives its regions, too")
    return wanted


def scene_facts(plan: Plan, config: VectorConfig, *, has_confidence: bool = True) -> FeatureFacts:
    """What the features of a scene have in common."""
    card = plan.card
    return FeatureFacts(
        georeference=plan.scene.georeference,
        class_names={style.code: style.name for style in plan.styles},
        has_confidence=has_confidence, scene=plan.scene.name, acquired=plan.scene.acquired,
        model=f"{card.name} {card.version}", model_sha256=plan.model_sha256, min_area_m2=0.0 if plan.task == "panoptic" else config.min_area_m2,
        changes=plan.changes,
    )  # fmt: skip


def vectorize_coverage(
    plan: Plan, raster: ClassRaster, work: Path, threads: int, should_stop: Callable[[], bool]
) -> FeatureSpool:
    """Polygons of what was analysed, was not, and holds no data."""
    names = {0: "analysed", NOT_ANALYSED: "not analysed", NODATA: "no data"}
    facts = FeatureFacts(
        georeference=raster.georeference, class_names=names, has_confidence=False, scene=plan.scene.name,
        acquired=plan.scene.acquired, model=f"{plan.card.name} {plan.card.version}", model_sha256=plan.model_sha256,
    )  # fmt: skip
    # Coverage is mostly even, over all of the scene: few large blocks.
    options = VectorOptions(wanted=tuple(names), max_vertices=VectorConfig().max_vertices, threads=threads, block=BLOCK)
    return vectorize(raster, facts, options, work, should_stop)


def wanted_codes(classes: Iterable[str], names: Mapping[int, str]) -> tuple[int, ...]:
    """Codes of classes that are given by name or by code.

    Raises:
        ConfigError: There is no such class.
    """
    by_name = {name.casefold(): code for code, name in names.items()}
    found = []
    for text in classes:
        code = by_name.get(text.strip().casefold(), int(text) if text.strip().isdigit() else None)
        if code is None or code not in names:
            raise ConfigError(f"vector.classes: {text!r} is none of {', '.join(f'{c} {n}' for c, n in sorted(names.items()))}")
        found.append(code)
    return tuple(found)


def write_formats(
    spool: FeatureSpool, formats: Iterable[str], stem: Path, raster: ClassRaster, styles: Iterable[ClassStyle], threads: int
) -> list[Path]:
    """Write features to one file a format, side by side; ``stem`` is the path without extension."""
    qml = vector_qml(styles) if styles else None

    def write(name: str) -> Path:
        path = stem.with_name(stem.name + EXTENSIONS[name])
        write_features(path, name, spool.batches, raster.georeference, raster.shape, qml, schema=spool.schema)
        return path

    with ThreadPoolExecutor(max(1, threads), thread_name_prefix="geoseg-write") as pool:
        return list(pool.map(write, formats))


def ordered(pool: ThreadPoolExecutor, function: Callable[[int], T], items: Iterable[int], limit: int) -> Iterator[T]:
    """Results of a function over items, in the order of the items, a few at a time."""
    waiting: deque[Future[T]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) >= limit:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def block_runner(pool: ThreadPoolExecutor, threads: int) -> Run:
    """How functions are mapped over blocks by the threads of a pool."""
    return lambda function, items: list(ordered(pool, function, items, threads + 1))


def _plain(raster: ClassRaster, grid: BlockGrid) -> Callable[[int], Bytes]:
    return lambda block: raster.classes(grid.framed(block))


def _sieved(
    raster: ClassRaster, grid: BlockGrid, blocks: list[int], options: VectorOptions, work: Path, pool: ThreadPoolExecutor
) -> Callable[[int], Bytes]:
    """A reader of the class codes after small regions have given way."""
    plain, run = _plain(raster, grid), block_runner(pool, options.threads)
    sieve: Sieve = sieve_raster(grid, blocks, plain, raster.georeference, options.min_area_m2, run=run)
    store = _SievedBlocks(work / "sieved", grid, set(blocks))
    run(lambda block: store.put(block, sieve.apply(grid, block, plain(block))), blocks)
    return store.framed


class _SievedBlocks:
    """Class codes by block, on disk."""

    def __init__(self, folder: Path, grid: BlockGrid, blocks: set[int]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._grid, self._blocks = folder, grid, blocks

    def put(self, block: int, classes: Bytes) -> None:
        np.save(self._folder / f"{block}.npy", classes)

    def framed(self, block: int) -> Bytes:
        window = self._grid.framed(block)
        out = np.full(window.shape, NODATA, np.uint8)
        row, col = divmod(block, self._grid.shape[1])
        for r in range(max(0, row - 1), min(self._grid.shape[0], row + 2)):
            for c in range(max(0, col - 1), min(self._grid.shape[1], col + 2)):
                other = r * self._grid.shape[1] + c
                common = self._grid.core(other) & window
                if common is None or other not in self._blocks:
                    continue
                part = np.load(self._folder / f"{other}.npy", mmap_mode="r")
                out[common.slices_in(window)] = part[common.slices_in(self._grid.core(other))]
        return out


class _PartStore:
    """Open parts by block: on disk, the last few in memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cache: OrderedDict[int, OpenParts] = OrderedDict()
        self._lock = threading.Lock()
        self._stored: list[Path] = []
        self._small: dict[int, OpenParts] = {}

    def put(self, block: int, parts: OpenParts) -> None:
        if len(parts.rc) <= SMALL_PARTS:
            self._small[block] = parts
            return
        path = self._folder / f"open_{block}.npz"
        arrays: dict[str, Any] = {f"measures_{name}": getattr(parts.measures, name) for name in Measures.__slots__}
        arrays |= {
            "histograms": parts.histograms,
            "rc": parts.rc,
            "marks": parts.marks,
            "rings": parts.rings,
            "owner": parts.owner,
        }
        with path.open("wb") as file:
            np.savez(file, **arrays)
        self._stored.append(path)
        self._keep(block, parts)

    def _keep(self, block: int, parts: OpenParts) -> None:
        with self._lock:
            self._cache[block] = parts
            while len(self._cache) > CACHED_BLOCKS:
                self._cache.popitem(last=False)

    def get(self, block: int) -> OpenParts:
        with self._lock:
            if block in self._small:
                return self._small[block]
            if block in self._cache:
                self._cache.move_to_end(block)
                return self._cache[block]
        with np.load(self._folder / f"open_{block}.npz", allow_pickle=False) as arrays:
            measures = Measures(*(arrays[f"measures_{name}"] for name in Measures.__slots__))
            histograms, rc, marks, rings, owner = (arrays[name] for name in ("histograms", "rc", "marks", "rings", "owner"))
            parts = OpenParts(measures, histograms, rc, marks, rings, owner, {})
        self._keep(block, parts)
        return parts

    def close(self) -> None:
        for path in self._stored:
            path.unlink(missing_ok=True)


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))
