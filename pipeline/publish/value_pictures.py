"""Pictures of a map of values, and its band in the STAC item."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from geoseg.codes import NO_VALUE
from geoseg.formats.page.elements import Picture
from geoseg.formats.page.embedding import photo
from geoseg.formats.ramps import Ramp, write_value_preview
from geoseg.grid import ceil_div
from geoseg.models.card_values import Quantity
from geoseg.scenes.gdal import gdal_env, open_written
from pipeline.files.maps import VALUES
from pipeline.infer.chunk_store import ChunkStore
from pipeline.plan.plan import Plan
from pipeline.publish.preview_pixels import preview_pixels, preview_place

__all__ = ["draw_values", "ramp_of", "value_band"]

MOST_PX = 1024
"""Rows and columns that are read, at most, to see between which values the map lies."""


def ramp_of(quantity: Quantity, raster: Path) -> Ramp:
    """The colours of a map: they are spread over the values between which almost all of it lies."""
    with gdal_env(), open_written(raster) as dataset:
        step = max(1, ceil_div(max(dataset.shape), MOST_PX))
        codes = dataset.read(1, out_shape=(ceil_div(dataset.height, step), ceil_div(dataset.width, step)))
    return Ramp.of(codes, (quantity.scale, quantity.offset), quantity.title, quantity.suffix)


def draw_values(plan: Plan, quantity: Quantity, store: ChunkStore, folder: Path) -> tuple[Picture, ...]:
    """Draw ``preview.png``; returns small pictures for the page: the image, and the map."""
    image, codes = preview_pixels(plan, store, folder / VALUES)
    ramp = ramp_of(quantity, folder / VALUES)
    panels = write_value_preview(
        folder / "preview.png",
        plan.thumbnail.picture(image, 0),
        np.asarray(codes, np.uint16),
        ramp,
        preview_place(plan),
        clouded=bool(plan.scene.every_clouds),
    )
    name, legend = plan.scene.name, ", ".join(text for _, text in ramp.legend)
    return (
        photo(panels.image, f"Image of {name}", "The image"),
        photo(panels.values, f"Map of {quantity.title} of {name}, from dark to light: {legend}", "The map"),
    )


def value_band(quantity: Quantity) -> dict[str, object]:
    """What the codes of the map mean, for its band in a STAC item."""
    return {
        "name": quantity.name,
        "data_type": "uint16",
        "nodata": NO_VALUE,
        "unit": quantity.unit,
        "raster:scale": quantity.scale,
        "raster:offset": quantity.offset,
    }
