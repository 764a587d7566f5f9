"""One block traced: its features, and what of its regions goes on in other blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from geoseg.arrays import U8
from geoseg.errors import GeoreferenceError
from geoseg.formats.vector import ON_EARTH
from geoseg.georeference import Georeference
from geoseg.polygons.block_grid import BLOCK, BlockGrid
from geoseg.polygons.blocks import BlockPolygons, OpenParts, polygonize_block, polygonize_uniform
from geoseg.polygons.class_raster import FINE_BLOCK, ClassWindows
from geoseg.polygons.features import FeatureFacts, feature_batches
from geoseg.polygons.pieces import Mapper, cut_giants
from geoseg.polygons.seams import Joined
from pipeline.config.sections import VectorConfig

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["TracedBlock", "Tracers", "VectorOptions", "cut", "features", "fitting_formats", "trace_block"]


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


@dataclass(frozen=True, slots=True, eq=False)
class TracedBlock:
    """All that is left of a block."""

    block: int
    open: OpenParts
    """The parts of polygons that go on in its neighbours."""
    batches: list[pa.RecordBatch]
    """Its features, as of ``feature_batches``."""


class Tracers(Protocol):
    """Those who may trace blocks elsewhere."""

    @property
    def at_once(self) -> int:
        """Groups that are waited for at once."""
        ...

    def groups(self, grid: BlockGrid) -> Iterable[Sequence[int]]:
        """The blocks in groups, each as soon as its pixels are there."""
        ...

    def trace(
        self, blocks: Sequence[int], options: VectorOptions, facts: FeatureFacts, should_stop: Callable[[], bool]
    ) -> Iterable[TracedBlock] | None:
        """A group, traced; None where that is left to who asks.

        Raises:
            Interrupted: ``should_stop`` said so.
        """
        ...


def trace_block(
    raster: ClassWindows,
    grid: BlockGrid,
    block: int,
    options: VectorOptions,
    facts: FeatureFacts,
    read: Callable[[int], U8] | None = None,
) -> TracedBlock:
    """Trace a block of a raster; ``read`` gives other class codes of a block with its frame than the raster."""
    found, classes = _polygonized(raster, grid, block, options, read or (lambda index: raster.classes(grid.framed(index))))
    found = found if facts.origins is None else facts.origins.of_block(grid, found, classes)
    whole = Joined(found.closed, found.closed_measures, np.zeros(len(found.closed), np.int32))
    return TracedBlock(block, found.open, features(cut(whole, options, map), facts))


def cut(polygons: Joined, options: VectorOptions, mapper: Mapper) -> list[Joined]:
    """The polygons, and the pieces of each that has too many vertices."""
    if not options.max_vertices:
        return [polygons]
    return cut_giants(polygons.polygons, polygons.measures, polygons.part, options.max_vertices, mapper)


def features(sets: Iterable[Joined], facts: FeatureFacts) -> list[pa.RecordBatch]:
    """Polygons as features."""
    return [batch for some in sets for batch in feature_batches(some.polygons, some.measures, some.part, facts)]


def _polygonized(
    raster: ClassWindows, grid: BlockGrid, block: int, options: VectorOptions, read: Callable[[int], U8]
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


def fitting_formats(vector: VectorConfig, path: str, georeference: Georeference) -> tuple[str, ...]:
    """The formats asked for.

    GeoJSON can't hold pixel coordinates; where it was not asked for by name it is left out.

    Args:
        vector: The settings.
        path: The raster, for messages.
        georeference: Where its pixels lie.

    Raises:
        GeoreferenceError: A format that can't hold them was asked for by name.
    """
    refused = [] if georeference.has_lonlat else [name for name in vector.formats if name in ON_EARTH]
    if not refused:
        return vector.formats
    if georeference.crs is None and vector.formats == VectorConfig().formats:
        return tuple(name for name in vector.formats if name != "geojson")
    raise GeoreferenceError(
        f"{path}: {ON_EARTH[refused[0]]} needs longitudes and latitudes, which {georeference.name} does not give; use "
        "--formats gpkg"
    )
