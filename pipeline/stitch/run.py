"""Stitch: chunk results to rasters that a GIS opens."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoseg.codes import NO_SEGMENT, NO_SOURCE, NO_VALUE, NODATA, NOT_ANALYSED, VALUE_NOT_ANALYSED
from geoseg.formats.cog import Cog, Turn, write_cogs
from geoseg.formats.pyramid import SUPERBLOCK, Layer, Read
from geoseg.formats.styles import ClassStyle
from geoseg.georeference import Georeference
from geoseg.models.card_values import Quantity
from geoseg.polygons.class_raster import ClassRaster
from geoseg.windows import Window
from pipeline.files.areas import measure_codes
from pipeline.infer.arrivals import Arrivals
from pipeline.infer.chunk_store import ChunkStore
from pipeline.join.panoptic import Painted
from pipeline.plan.plan import Plan
from pipeline.plan.result_layers import LayerName
from pipeline.stitch.compressed import Compressors

__all__ = ["Totals", "layer_of", "layer_reads", "stitch_layers", "value_layer"]


def layer_of(name: LayerName, styles: Sequence[ClassStyle], tags: Mapping[str, str]) -> Layer:
    """The layer as it is written: overviews, colours and metadata."""
    codes = {"code_254": "not analysed", "code_255": "no data"}
    if name == "probabilities":
        names = tuple(style.name for style in styles if style.code != NOT_ANALYSED)
        return Layer(overview="mean", tags=tags, band_tags={"units": "percent", **codes}, bands=names)
    if name == "uncertainty":
        band = {"units": "percent of the largest entropy", "measure": "mutual information", **codes}
        return Layer(overview="mean", tags=tags, band_tags=band, description="uncertainty")
    if name == "instances":
        band = {"units": "number of the object, as in polygons; 0 for none"}
        return Layer(overview="nearest", dtype="uint32", nodata=0, tags=tags, band_tags=band, description="instances")
    if name == "panoptic":
        band = {"no_data": str(NO_SEGMENT)} | {f"class_{style.code}": style.name for style in styles}
        names = ("class", "instance")
        return Layer(overview="nearest", dtype="uint32", nodata=NO_SEGMENT, tags=tags, band_tags=band, bands=names)
    if name == "source":
        band = {"units": "number of the scene in run.json", f"code_{NO_SOURCE}": "none"}
        return Layer(overview="nearest", dtype="uint16", nodata=NO_SOURCE, tags=tags, band_tags=band, description="source")
    if name == "confidence":
        band = {"units": "percent", **codes}
        return Layer(overview="mean", tags=tags, band_tags=band, description="confidence")
    band = {f"class_{style.code}": style.name for style in styles} | {f"class_{NODATA}": "no data"}
    colors = {style.code: style.rgb for style in styles} | {NODATA: (0, 0, 0)}
    return Layer(overview="mode", colormap=colors, tags=tags, band_tags=band, description="classes")


def value_layer(quantity: Quantity, tags: Mapping[str, str]) -> Layer:
    """The raster of values as it is written."""
    band = {
        "quantity": quantity.name,
        "units": quantity.unit,
        f"code_{VALUE_NOT_ANALYSED}": "not analysed",
        f"code_{NO_VALUE}": "no data",
    }
    return Layer(
        overview="values",
        dtype="uint16",
        nodata=NO_VALUE,
        tags=tags,
        band_tags=band,
        description=quantity.name,
        scales=((quantity.scale, quantity.offset),),
        colors=("gray",),
        unit=quantity.unit,
    )


@dataclass
class Totals:
    """Pixels and square metres by code, of all windows that were counted."""

    georeference: Georeference
    pixels: dict[str, int] = field(default_factory=dict)
    area_m2: dict[str, float] = field(default_factory=dict)

    def add(self, classes: NDArray[np.uint8], window: Window) -> None:
        """Count a window."""
        pixels, area = measure_codes(classes, window, self.georeference)
        for code, count in pixels.items():
            self.pixels[code] = self.pixels.get(code, 0) + count
        for code, square_metres in area.items():
            self.area_m2[code] = self.area_m2.get(code, 0.0) + square_metres


def layer_reads(
    plan: Plan, store: ChunkStore, filled: Collection[int], painted: ClassRaster | None, totals: Totals
) -> dict[LayerName, list[Read]]:
    """Readers of the windows of each band of each layer; ``painted`` has other classes than the chunks.

    Windows of such classes are counted: what the chunks have counted does not know them.
    """
    reads: dict[LayerName, list[Read]] = {
        # The bytes of values are of one band.
        name: [store.reader(name, filled, band) for band in range(1 if name == "values" else count)]
        for name, count in plan.layers
        # Coverage is published as polygons, and that classes are not: values say where they are.
        if name != "coverage" and (name != "classes" or plan.quantity is None)
    }
    if painted is None:
        return reads

    def counted(window: Window) -> NDArray[np.uint8]:
        classes = painted.classes(window)
        totals.add(classes, window)
        return classes

    if not isinstance(painted, Painted):
        return {**reads, "classes": [counted]}
    numbers: dict[LayerName, list[Read]] = (
        {"panoptic": [painted.segment_classes, painted.segment_numbers]}
        if plan.task == "panoptic"
        else {"instances": [painted.objects.numbers]}
    )
    return {**reads, "classes": [counted], **numbers}


def stitch_layers(
    plan: Plan,
    reads: Mapping[LayerName, Sequence[Read]],
    arrivals: Arrivals,
    folder: Path,
    *,
    threads: int = 2,
    turn: Turn = nullcontext,
    compressors: Compressors | None = None,
) -> list[Path]:
    """Put the chunk results of some layers together to cloud-optimized GeoTIFFs, square by square as chunks come in.

    Args:
        plan: The plan.
        reads: By layer, gives a window of each of its bands; each window is read once.
        arrivals: The chunks.
        folder: Where to.
        threads: Threads that compress.
        turn: Entered while a square is worked on.
        compressors: Workers that may compress what the chunks hold, where ``reads`` give nothing else.
    """
    tags = {
        "geoseg_scene": plan.scene.name,
        "geoseg_model": f"{plan.card.name} {plan.card.version}",
        "geoseg_model_sha256": plan.model_sha256,
    }
    if plan.domain is not None:
        tags |= plan.domain.tags()
    if plan.scene.acquired:
        tags["ACQUISITION_DATE"] = plan.scene.acquired

    def layer(name: LayerName) -> Layer:
        return layer_of(name, plan.styles, tags) if plan.quantity is None else value_layer(plan.quantity, tags)

    cogs = [Cog(folder / f"{name}.tif", layer(name), bands) for name, bands in reads.items()]
    shape = plan.grid.height, plan.grid.width
    squares = arrivals.squares(plan, SUPERBLOCK)
    layers = tuple((name, cog.layer, len(cog.reads)) for name, cog in zip(reads, cogs, strict=True))
    encode = None if compressors is None else lambda windows, levels: compressors.squares(windows, layers, levels)
    write_cogs(cogs, folder / "levels", shape, plan.scene.georeference, squares, threads=threads, turn=turn, encode=encode)
    return [cog.path for cog in cogs]
