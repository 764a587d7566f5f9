"""The rasters of a version: classes with the decisions burnt in, and confidence where the map's own class stayed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from geoseg.arrays import I64, U8
from geoseg.codes import MAX_CLASS, MAX_CONFIDENCE, NODATA, NOT_ANALYSED
from geoseg.formats.cog import Cog, write_cogs
from geoseg.formats.pyramid import SUPERBLOCK
from geoseg.formats.styles import ClassStyle, class_styles
from geoseg.parallel import cores
from geoseg.polygons.block_grid import BlockGrid
from geoseg.scenes.gdal import gdal_env, open_raster
from geoseg.scenes.legend import legend_of
from geoseg.scenes.scene import OpenOptions
from geoseg.windows import Window
from pipeline.files.class_rasters import RasterFile, open_class_raster
from pipeline.stitch.run import Totals, layer_of

__all__ = ["Differences", "Edit", "TracedRaster", "legend_of_map", "open_version", "write_rasters"]

Edit = Callable[[U8, Window], U8]
"""Codes of a window before, and the window, to codes after."""
CLASSES, CONFIDENCE, CORRECTIONS = "classes.tif", "confidence.tif", "corrections.tif"


@dataclass(slots=True)
class Differences:
    """Pixels by code before and after."""

    before: Totals
    after: Totals
    moved: I64 = field(default_factory=lambda: np.zeros((256, 256), np.int64))
    """(256, 256) pixels by the code before (rows) and after (columns), those that stayed aside."""

    def add(self, before: U8, after: U8, window: Window) -> None:
        """Count a window."""
        self.before.add(before, window)
        self.after.add(after, window)
        other = before != after
        pairs = before[other].astype(np.int64) * 256 + after[other]
        self.moved += np.bincount(pairs, minlength=1 << 16).reshape(256, 256)

    @property
    def changed(self) -> int:
        """Pixels that have another code."""
        return int(self.moved.sum())


class TracedRaster(RasterFile):
    """A version's rasters as polygons are traced from them: what people decided has no confidence, which counts as none."""

    @classmethod
    def of(cls, file: RasterFile) -> TracedRaster:
        """The same files."""
        return cls(file.scene, file.confidence_scene, own=file.own)

    def confidence(self, window: Window) -> U8:
        """Confidence of a window, 0 where the raster has none."""
        found = super().confidence(window)
        return np.where(found > MAX_CONFIDENCE, np.uint8(0), found)


def open_version(folder: Path) -> RasterFile:
    """The class raster of a folder, with its confidence where there is one."""
    sure = folder / CONFIDENCE
    raster, _ = open_class_raster(str(folder / CLASSES), OpenOptions(), confidence=str(sure) if sure.is_file() else None)
    return raster


def legend_of_map(folder: Path) -> tuple[tuple[ClassStyle, ...], dict[str, str]]:
    """Styles of the classes of a map, *not analysed* last, and the metadata of its files."""
    path = folder / CLASSES
    with gdal_env(), open_raster(path) as dataset:
        legend = legend_of(dataset, str(path))
        tags = {key: text for key, text in dataset.tags().items() if key != "AREA_OR_POINT"}
    known = [code for code in sorted(legend.names) if code <= MAX_CLASS]
    return class_styles((code, legend.names[code], legend.colors.get(code)) for code in known), tags


def write_rasters(
    parent: RasterFile,
    change: Edit,
    say: Edit,
    folder: Path,
    styles: tuple[ClassStyle, ...],
    tags: Mapping[str, str],
    more: Sequence[Cog] = (),
) -> Differences:
    """Write the rasters, square by square.

    Args:
        parent: The map of the run.
        change: Gives the codes of a window of the map as people changed it.
        say: Puts what people said into the codes of a window, for those who train.
        folder: Where to.
        styles: Of the classes.
        tags: Metadata of the map's files.
        more: Other rasters that are written with them.

    Returns:
        What has changed.
    """
    found = Differences(Totals(parent.georeference), Totals(parent.georeference))

    def classes(window: Window) -> U8:
        before = parent.classes(window)
        after = change(before, window)
        found.add(before, after, window)
        return after

    def confidence(window: Window) -> U8:
        before = parent.classes(window)
        return np.where(before == change(before, window), parent.confidence(window), np.uint8(NOT_ANALYSED))

    def corrections(window: Window) -> U8:
        said = say(np.full(window.shape, NOT_ANALYSED, np.uint8), window)
        return np.where((said == NOT_ANALYSED) | (parent.classes(window) == NODATA), np.uint8(NODATA), said)

    cogs = [Cog(folder / CLASSES, layer_of("classes", styles, tags), [classes])]
    layer = layer_of("classes", styles, tags)
    cogs.append(Cog(folder / CORRECTIONS, replace(layer, description="corrections"), [corrections]))
    if parent.has_confidence:
        cogs.append(Cog(folder / CONFIDENCE, layer_of("confidence", styles, tags), [confidence]))
    cogs += more
    write_cogs(cogs, folder / "levels", parent.shape, parent.georeference, _squares(parent), threads=cores())
    (folder / "levels").rmdir()
    _count_empty(parent, found)
    return found


def _squares(parent: RasterFile) -> Iterator[Window]:
    grid = BlockGrid(*parent.shape, SUPERBLOCK)
    return (grid.core(block) for block in parent.blocks(grid))


def _count_empty(parent: RasterFile, found: Differences) -> None:
    """Squares that the file does not hold are no data, before and after."""
    height, width = parent.shape
    for totals in (found.before, found.after):
        left = height * width - sum(totals.pixels.values())
        if left:
            totals.pixels[str(NODATA)] = totals.pixels.get(str(NODATA), 0) + left
