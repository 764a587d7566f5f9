"""Vectorize: class rasters to polygons, block by block, joined over seams."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from geoseg.arrays import U8
from geoseg.errors import Interrupted
from geoseg.formats.cog import Turn
from geoseg.formats.styles import ClassStyle, vector_qml
from geoseg.formats.vector import EXTENSIONS, write_features
from geoseg.parallel import block_runner, ordered
from geoseg.polygons.block_grid import BLOCK, BlockGrid
from geoseg.polygons.blocks import BlockPolygons, polygonize_block, polygonize_uniform
from geoseg.polygons.class_raster import FINE_BLOCK, ClassRaster
from geoseg.polygons.features import FeatureFacts, feature_batches, feature_schema
from geoseg.polygons.pieces import Mapper, cut_giants
from geoseg.polygons.seams import Joined, OpenIndex, join_parts
from geoseg.polygons.sieve import Sieve, sieve_raster
from pipeline.config.sections import VectorConfig
from pipeline.files.spool import SPOOL, FeatureSpool
from pipeline.vectorize.block_spool import block_spool
from pipeline.vectorize.parts import PartStore, SievedBlocks

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["VectorOptions", "vectorize", "write_formats"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorOptions:
    """Options of vectorization."""

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
            wanted=wanted,
            min_area_m2=config.min_area_m2,
            simplify_px=config.simplify,
            smooth=config.smooth,
            max_vertices=config.max_vertices or None,
            threads=threads,
            # Borders keep their vertices where they cross into another block.
            block=BLOCK if config.simplify or config.smooth else FINE_BLOCK,
        )


def vectorize(
    raster: ClassRaster,
    facts: FeatureFacts,
    options: VectorOptions,
    work: Path,
    should_stop: Callable[[], bool] = lambda: False,
    turn: Turn = nullcontext,
) -> FeatureSpool:
    """Polygons of a class raster, with attributes. ``turn`` is entered while a block is traced.

    Blocks are traced in the order in which the raster gives them, which does not change the result. Memory follows the
    polygons: blocks in work, what is known of the parts at seams, and the largest polygon; the rest is on disk under ``work``.

    Raises:
        Interrupted: ``should_stop`` said so; it is asked before every block.
    """
    work.mkdir(parents=True, exist_ok=True)
    grid = BlockGrid(*raster.shape, options.block)
    parts, index = PartStore(work), dict[int, OpenIndex]()
    schema, origins = feature_schema(changes=bool(facts.changes), origins=facts.origins is not None), facts.origins
    with (
        ThreadPoolExecutor(options.threads, thread_name_prefix="geoseg-vector") as pool,
        block_spool(work / SPOOL, schema) as spool,
    ):
        # Which regions are too small is known once all of them are.
        blocks = sorted(raster.blocks(grid)) if options.min_area_m2 else raster.blocks(grid)
        read = _sieved(raster, grid, [*blocks], options, work, pool) if options.min_area_m2 else _plain(raster, grid)

        def trace(block: int) -> _Traced:
            with turn():
                if should_stop():
                    raise Interrupted("stopped before a block")
                found, classes = _polygonized(raster, grid, block, options, read)
                found = found if origins is None else origins.of_block(grid, found, classes)
                if len(found.open):
                    parts.put(block, found.open)
                whole = Joined(found.closed, found.closed_measures, np.zeros(len(found.closed), np.int32))
                return _Traced(block, OpenIndex.of(found.open), _features(_cut(whole, options, map), facts))

        # One thread stands behind all others: it writes, and computes nothing that they could.
        for traced in ordered(pool, trace, blocks, options.threads + 1):
            if len(traced.open.measures):
                index[traced.block] = traced.open
            spool.write(traced.block, traced.batches)
        run = partial(ordered, pool, limit=options.threads)
        unite, most = None if origins is None else origins.united, options.max_vertices
        for joined in join_parts(grid, dict(sorted(index.items())), parts.get, max_vertices=most, unite_origins=unite):
            for batches in run(lambda some: _features([some], facts), _cut(joined, options, run)):
                spool.write(len(grid), batches)
    parts.close()
    return FeatureSpool(work / SPOOL, spool.count)


@dataclass(frozen=True, slots=True, eq=False)
class _Traced:
    """All that is left of a block: its features, and what is known of the parts that go on in its neighbours."""

    block: int
    open: OpenIndex
    batches: list[pa.RecordBatch]


def _polygonized(
    raster: ClassRaster, grid: BlockGrid, block: int, options: VectorOptions, read: Callable[[int], U8]
) -> tuple[BlockPolygons, U8 | None]:
    """The polygons of a block, and its framed classes; blocks of one code need no tracing, and give None."""
    reshaped = options.simplify_px > 0 or options.smooth > 0
    confidence = raster.confidence(grid.core(block)) if raster.has_confidence else None
    code = None if reshaped else raster.uniform(grid.framed(block))
    if code is None:
        classes = read(block)
        if not reshaped and (classes == classes[0, 0]).all():
            code = int(classes[0, 0])
    if code is not None:
        return polygonize_uniform(grid, block, code, confidence, raster.georeference, options.wanted), None
    found = polygonize_block(
        grid,
        block,
        classes,
        confidence,
        raster.georeference,
        options.wanted,
        simplify_px=options.simplify_px,
        smooth=options.smooth,
    )
    return found, classes


def _cut(polygons: Joined, options: VectorOptions, mapper: Mapper) -> list[Joined]:
    """The polygons, and the pieces of each that has too many vertices."""
    if not options.max_vertices:
        return [polygons]
    return cut_giants(polygons.polygons, polygons.measures, polygons.part, options.max_vertices, mapper)


def _features(sets: Iterable[Joined], facts: FeatureFacts) -> list[pa.RecordBatch]:
    return [batch for some in sets for batch in feature_batches(some.polygons, some.measures, some.part, facts)]


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


def _plain(raster: ClassRaster, grid: BlockGrid) -> Callable[[int], U8]:
    return lambda block: raster.classes(grid.framed(block))


def _sieved(
    raster: ClassRaster, grid: BlockGrid, blocks: list[int], options: VectorOptions, work: Path, pool: ThreadPoolExecutor
) -> Callable[[int], U8]:
    """A reader of the class codes after small regions have given way."""
    plain, run = _plain(raster, grid), block_runner(pool, options.threads)
    sieve: Sieve = sieve_raster(grid, blocks, plain, raster.georeference, options.min_area_m2, run=run)
    store = SievedBlocks(work / "sieved", grid, set(blocks))
    run(lambda block: store.put(block, sieve.apply(grid, block, plain(block))), blocks)
    return store.framed
