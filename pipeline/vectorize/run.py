"""Vectorize: class rasters to polygons, block by block, joined over seams."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from threading import Semaphore
from typing import TYPE_CHECKING

from geoseg.arrays import U8
from geoseg.errors import Interrupted
from geoseg.formats.cog import Turn
from geoseg.formats.simplestyle import colored
from geoseg.formats.styles import ClassStyle, vector_qml
from geoseg.formats.vector import EXTENSIONS, Batches, write_features
from geoseg.parallel import block_runner, ordered
from geoseg.polygons.block_grid import BlockGrid
from geoseg.polygons.class_raster import ClassRaster
from geoseg.polygons.features import FeatureFacts, feature_schema
from geoseg.polygons.seams import OpenIndex, join_parts
from geoseg.polygons.sieve import Sieve, sieve_raster
from pipeline.config.map_sections import VectorConfig
from pipeline.files.spool import SPOOL, FeatureSpool
from pipeline.vectorize.block_spool import block_spool
from pipeline.vectorize.parts import PartStore, SievedBlocks
from pipeline.vectorize.tiled import write_tiled
from pipeline.vectorize.traced import TracedBlock, Tracers, VectorOptions, cut, features, trace_block

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ENDINGS", "vectorize", "write_formats"]

PMTILES = "pmtiles"
ENDINGS: Mapping[str, str] = {**EXTENSIONS, PMTILES: ".pmtiles"}
"""File extension by format."""


def vectorize(
    raster: ClassRaster,
    facts: FeatureFacts,
    options: VectorOptions,
    work: Path,
    should_stop: Callable[[], bool] = lambda: False,
    turn: Turn = nullcontext,
    elsewhere: Tracers | None = None,
) -> FeatureSpool:
    """Polygons of a class raster, with attributes. ``turn`` is entered while a block is traced here.

    Blocks are traced in the order in which the raster gives them, and by whoever ``elsewhere`` finds, neither of which changes
    the result. Memory follows the
    polygons: blocks in work, what is known of the parts at seams, and the largest polygon; the rest is on disk under ``work``.

    Raises:
        Interrupted: ``should_stop`` said so; it is asked before every block.
    """
    work.mkdir(parents=True, exist_ok=True)
    grid = BlockGrid(*raster.shape, options.block)
    parts, index = PartStore(work), dict[int, OpenIndex]()
    schema, origins = feature_schema(changes=bool(facts.changes), origins=facts.origins is not None), facts.origins
    at_once = options.threads if elsewhere is None else elsewhere.at_once
    here = Semaphore(options.threads)
    with (
        ThreadPoolExecutor(at_once, thread_name_prefix="geoseg-vector") as pool,
        block_spool(work / SPOOL, schema) as spool,
    ):
        # Which regions are too small is known once all of them are.
        blocks = sorted(raster.blocks(grid)) if options.min_area_m2 else raster.blocks(grid)
        read = _sieved(raster, grid, [*blocks], options, work, pool) if options.min_area_m2 else None

        def trace(block: int) -> TracedBlock:
            with here, turn():
                if should_stop():
                    raise Interrupted("stopped before a block")
                return trace_block(raster, grid, block, options, facts, read)

        def keep(traced: TracedBlock) -> _Kept:
            if len(traced.open):
                parts.put(traced.block, traced.open)
            return _Kept(traced.block, OpenIndex.of(traced.open), traced.batches)

        def done(group: Sequence[int]) -> list[_Kept]:
            found = None if elsewhere is None else elsewhere.trace(group, options, facts, should_stop)
            return [keep(traced) for traced in (map(trace, group) if found is None else found)]

        groups = ([block] for block in blocks) if elsewhere is None else elsewhere.groups(grid)
        # One thread stands behind all others: it writes, and computes nothing that they could.
        for kept in chain.from_iterable(ordered(pool, done, groups, at_once + 1)):
            if len(kept.open.measures):
                index[kept.block] = kept.open
            spool.write(kept.block, kept.batches)
        run = partial(ordered, pool, limit=options.threads)
        unite, most = None if origins is None else origins.united, options.max_vertices
        for joined in join_parts(grid, _taken(index), parts.get, max_vertices=most, unite_origins=unite):
            for batches in run(lambda some: features([some], facts), cut(joined, options, run)):
                spool.write(len(grid), batches)
    parts.close()
    return FeatureSpool(work / SPOOL, spool.count)


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """What is known of a block once its open parts are stored."""

    block: int
    open: OpenIndex
    batches: list[pa.RecordBatch]


def _taken(index: dict[int, OpenIndex]) -> dict[int, OpenIndex]:
    """The entries in order, taken out: what is known of parts goes as soon as it is summed up."""
    return {block: index.pop(block) for block in sorted(index)}


def write_formats(
    spool: FeatureSpool,
    formats: Iterable[str],
    stem: Path,
    raster: ClassRaster,
    styles: Sequence[ClassStyle],
    threads: int,
    vector: VectorConfig | None = None,
) -> list[Path]:
    """Write features to one file a format, side by side; ``stem`` is the path without extension.

    Args:
        spool: The features.
        formats: The formats.
        stem: Where.
        raster: What they were traced from.
        styles: Colours of their classes.
        threads: Files that are written at once.
        vector: How styles are told; by default as a table of GeoPackages.
    """
    vector = vector or VectorConfig()
    qml = vector_qml(styles) if styles and vector.style_table else None

    def write(name: str) -> Path:
        path = stem.with_name(stem.name + ENDINGS[name])
        if name == PMTILES:
            write_tiled(path, spool, raster.georeference, raster.shape)
            return path
        batches: Batches = spool.batches
        if name == "geojson" and vector.simplestyle:
            batches = lambda: colored(spool.batches(), styles)  # noqa: E731 - read once more for each format
        write_features(path, name, batches, raster.georeference, raster.shape, qml, schema=spool.schema)
        return path

    with ThreadPoolExecutor(max(1, threads), thread_name_prefix="geoseg-write") as pool:
        return list(pool.map(write, formats))


def _sieved(
    raster: ClassRaster, grid: BlockGrid, blocks: list[int], options: VectorOptions, work: Path, pool: ThreadPoolExecutor
) -> Callable[[int], U8]:
    """A reader of the class codes after small regions have given way."""
    run = block_runner(pool, options.threads)

    def plain(block: int) -> U8:
        return raster.classes(grid.framed(block))

    sieve: Sieve = sieve_raster(grid, blocks, plain, raster.georeference, options.min_area_m2, run=run)
    store = SievedBlocks(work / "sieved", grid, set(blocks))
    run(lambda block: store.put(block, sieve.apply(grid, block, plain(block))), blocks)
    return store.framed
