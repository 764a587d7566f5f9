"""The polygons of a version: classes, without the model's confidence where people decided, and what was analysed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyproj
import shapely

from geoseg.arrays import U8, Bools
from geoseg.codes import ANALYSED, MAX_CLASS, NODATA, NOT_ANALYSED
from geoseg.formats.styles import ClassStyle
from geoseg.formats.vector import EXTENSIONS
from geoseg.models.card import Card
from geoseg.parallel import cores
from geoseg.polygons.block_grid import BlockGrid
from geoseg.polygons.features import GEOMETRY, Change, FeatureFacts
from geoseg.vectors.polygon_file import PolygonFile
from geoseg.vectors.reprojecting import reprojected
from geoseg.windows import Window
from pipeline.config.sections import VectorConfig
from pipeline.files.spool import FeatureSpool
from pipeline.publish.run_facts import SceneFacts
from pipeline.review.burned import Burn, BurnStore, burnt
from pipeline.review.version_rasters import TracedRaster
from pipeline.vectorize.run import vectorize, write_formats
from pipeline.vectorize.scene import coverage_names, coverage_options, wanted_codes
from pipeline.vectorize.traced import VectorOptions

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["DECIDED", "Tracing", "blanked"]

DECIDED = ("confidence", "confidence_p10")


@dataclass(frozen=True, slots=True)
class Tracing:
    """What the polygons of a version are made with: the same as those of its run."""

    record: SceneFacts
    raster: TracedRaster
    styles: Sequence[ClassStyle]
    card: Card
    work: Path

    @property
    def config(self) -> VectorConfig:
        """The settings of the run."""
        return VectorConfig.model_validate(dict(self.record.config.get("vector", {})))

    @property
    def facts(self) -> FeatureFacts:
        """Facts that all polygons have in common."""
        record = self.record
        changes = {int(code): Change(**dict(facts)) for code, facts in record.changes.items()}  # type: ignore[call-overload]
        return FeatureFacts(
            georeference=self.raster.georeference,
            class_names={style.code: style.name for style in self.styles},
            has_confidence=self.raster.has_confidence,
            scene=record.scene,
            acquired=record.acquired,
            model=f"{record.model.name} {record.model.version}",
            model_sha256=record.model.sha256,
            min_area_m2=self.config.min_area_m2,
            changes=changes,
        )

    def write_polygons(self, folder: Path, store: BurnStore) -> int:
        """Write the polygons in the formats of the run; returns their number."""
        options = VectorOptions.of(self.config, self.wanted(), cores())
        if self.record.changes:
            # The raster of changes has its minimum mapping unit already.
            options = replace(options, min_area_m2=0.0)
        spool = vectorize(self.raster, self.facts, options, self.work / "polygons")
        if self.raster.has_confidence and len(store):
            spool = _without_confidence(spool, self.work / "decided.arrow", store)
        write_formats(spool, self.config.formats, folder / "polygons", self.raster, self.styles, cores())
        return spool.count

    def wanted(self) -> tuple[int, ...]:
        """The classes that have polygons."""
        if self.config.classes is not None:
            return wanted_codes(self.config.classes, self.facts.class_names)
        return tuple(c.value for c in self.card.classes if not c.background)

    def write_coverage(self, folder: Path, coverage: PolygonFile) -> None:
        """Write what was analysed: as it was, and what people rejected or decided where the map had nothing."""
        names = coverage_names(within_area=True)
        facts = replace(self.facts, class_names=names, has_confidence=False, min_area_m2=0.0, changes={})
        with (self.work / "coverage.wkb").open("w+b") as file:
            store = BurnStore(self.raster.georeference, file)
            for geometries, values in coverage.batches(("code",)):
                shapes = reprojected(geometries, coverage.crs, _crs(self.raster))
                store.add(Burn(shape, int(code), drawn=True) for shape, code in zip(shapes, values["code"], strict=True))
            raster = _Covered(self.raster, store)
            spool = vectorize(raster, facts, coverage_options(facts, 1), self.work / "coverage")
        write_formats(spool, [_format_of(coverage.path)], folder / "coverage", self.raster, (), cores())


class _Covered:
    """Coverage as a raster: that of the run where the map says the same, else what the map says now."""

    has_confidence = False

    def __init__(self, raster: TracedRaster, store: BurnStore) -> None:
        self._raster, self._store = raster, store
        self.shape, self.georeference = raster.shape, raster.georeference

    def classes(self, window: Window) -> U8:
        classes = self._raster.classes(window)
        before = burnt(np.zeros(window.shape, np.uint8), window, self._store)
        now = np.where(classes <= MAX_CLASS, np.uint8(ANALYSED), np.where(before == ANALYSED, np.uint8(NOT_ANALYSED), before))
        empty = np.where(before == ANALYSED, np.uint8(NODATA), before)
        return np.where(classes == NODATA, empty, now)

    def confidence(self, window: Window) -> U8:
        return np.full(window.shape, NODATA, np.uint8)

    def uniform(self, window: Window) -> int | None:
        del window
        return None

    def blocks(self, grid: BlockGrid) -> Iterable[int]:
        return range(len(grid))


def _without_confidence(spool: FeatureSpool, path: Path, store: BurnStore) -> FeatureSpool:
    """Features, of which those with pixels that people decided have no confidence: the model was sure of another class."""
    import pyarrow as pa

    tree = shapely.STRtree(list(store.on_map()))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, spool.schema) as writer:
        for batch in spool.batches():
            writer.write_batch(blanked(batch, _decided(batch, tree)))
    return FeatureSpool(path, spool.count)


def _decided(batch: pa.RecordBatch, tree: shapely.STRtree) -> Bools:
    """(N,) whether a feature has an area in common with what people decided."""
    shapes = shapely.from_wkb(np.asarray(batch.column(GEOMETRY).to_numpy(zero_copy_only=False), dtype=object))
    found = np.zeros(len(shapes), np.bool_)
    feature, burn = tree.query(shapes, predicate="intersects")
    for one, other in zip(feature.tolist(), burn.tolist(), strict=True):
        found[one] = found[one] or shapely.relate_pattern(shapes[one], tree.geometries[other], "T********")
    return found


def blanked(batch: pa.RecordBatch, which: Bools, names: Collection[str] = DECIDED) -> pa.RecordBatch:
    """Features, of which some (N,) have nothing in some columns."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = [
        pc.if_else(pa.array(which), pa.scalar(None, column.type), column) if name in names else column
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _crs(raster: TracedRaster) -> pyproj.CRS:
    return pyproj.CRS.from_user_input(str(raster.georeference.crs))


def _format_of(path: Path) -> str:
    return next(name for name, extension in EXTENSIONS.items() if extension == path.suffix)
