"""What stands beside a map of changes between ready class maps: where it knows anything, a picture, and a STAC item."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

import geoseg
from geoseg.arrays import U8
from geoseg.codes import MAX_CLASS
from geoseg.formats.page.elements import Pictures, Section
from geoseg.formats.page.embedding import drawing, photo
from geoseg.formats.preview import PicturePlace, write_preview
from geoseg.formats.stac import item_document, put_footprint
from geoseg.grid import ceil_div
from geoseg.polygons.block_grid import BlockGrid
from geoseg.polygons.class_raster import ClassRaster
from geoseg.polygons.features import FeatureFacts
from geoseg.scenes.gdal import gdal_env, open_written
from geoseg.windows import Window
from pipeline.changes.comparison import Comparison
from pipeline.files.atomic import write_json
from pipeline.files.spool import FeatureSpool
from pipeline.join.chunk_results import Coverage
from pipeline.plan.make import PREVIEW_PX
from pipeline.publish.run import assets_of
from pipeline.vectorize.run import vectorize, write_formats
from pipeline.vectorize.scene import coverage_names, coverage_options

__all__ = ["draw_changes", "write_changes_item", "write_coverage"]

DARK, UNKNOWN, LIGHT = 0, 150, 255
"""Grey of what was not of the class at the first date, of what nobody knows, and of what was."""


class _Whole:
    """A raster whose blocks are all there, as far as its coverage needs it."""

    has_coverage = False

    def __init__(self, raster: ClassRaster, compared: Comparison) -> None:
        self.shape, self.georeference, self.area = raster.shape, raster.georeference, compared.area
        self._raster = raster

    def coverage(self, window: Window) -> U8:
        """As the classes: it has none of its own."""
        return self._raster.classes(window)

    def classes(self, window: Window) -> U8:
        """Class codes of a window."""
        return self._raster.classes(window)

    def uniform(self, window: Window) -> int | None:
        """No data, where there is none."""
        return self._raster.uniform(window)

    def all_blocks(self, grid: BlockGrid) -> Iterable[int]:
        """All blocks."""
        return range(len(grid))


def write_coverage(compared: Comparison, raster: ClassRaster, stage: Path, work: Path) -> None:
    """Write polygons of where two dates at least know a class, where not, of no data, and outside the area of interest."""
    facts = FeatureFacts(
        georeference=raster.georeference,
        class_names=coverage_names(within_area=compared.area is not None),
        has_confidence=False,
        scene=compared.name,
        acquired=compared.dates[-1].acquired,
        model=None,
        model_sha256=None,
    )
    spool = vectorize(Coverage(_Whole(raster, compared)), facts, coverage_options(facts, compared.threads), work / "coverage")
    formats = ("geojson" if raster.georeference.has_lonlat else "gpkg",)
    write_formats(spool, formats, stage / "coverage", raster, (), compared.threads)


def draw_changes(compared: Comparison, spool: FeatureSpool, stage: Path) -> Section:
    """Draw the class at the first date, the changes, and their outlines over it; the pictures for the page."""
    raster = compared.dates[0].raster
    shown = Window.of(raster.shape) if compared.area is None else compared.area.window
    stride = max(1, ceil_div(max(shown.shape), PREVIEW_PX))
    size = ceil_div(shown.height, stride), ceil_div(shown.width, stride)
    with gdal_env(), open_written(stage / "classes.tif") as dataset:
        codes: U8 = dataset.read(1, window=shown.for_rasterio(), out_shape=size)
    place = PicturePlace(
        raster.georeference.moved(shown.row_off, shown.col_off),
        stride,
        None if compared.area is None else compared.area.border(shown, stride),
    )
    # What the class was at first: it stayed, or was lost later.
    name, first = compared.dates[0].class_name, compared.names[0]
    held = [1, *(code for code, change in compared.changes.items() if change.before == name)]
    before = np.where(codes > MAX_CLASS, UNKNOWN, np.where(np.isin(codes, held), LIGHT, DARK)).astype(np.uint8)
    panels = write_preview(stage / "preview.png", before[None], codes, compared.styles, spool.batches(), place)
    legend = ", ".join(style.name for style in compared.styles)
    pictures = (
        photo(panels.image, f"Where {name} was {first}", f"{name} {first}: white where it was, grey where nobody knows"),
        drawing(panels.classes, f"Map of the changes of {name}: {legend}", "The changes"),
        photo(panels.overlay, f"Outlines of the changes over {name} {first}", "Outlines of the changes"),
    )
    return Section("Pictures", (Pictures(pictures),))


def write_changes_item(compared: Comparison, stage: Path) -> None:
    """Write the STAC item; all other files are there."""
    raster, dates = compared.dates[0].raster, compared.dates
    facts: Mapping[str, object] = {
        "title": compared.name,
        "geoseg:version": geoseg.__version__,
        "geoseg:changes_of": dates[0].class_name,
        "geoseg:dates": [*compared.names],
    }
    names = sorted(path.name for path in stage.iterdir())
    latest = dates[-1].acquired
    item = item_document(compared.name, raster.georeference, raster.shape, latest, None, assets_of(names), facts, None)
    if compared.area is not None:
        window = compared.area.window
        put_footprint(item, raster.georeference.moved(window.row_off, window.col_off), window.shape)
    write_json(stage / "item.json", item)
