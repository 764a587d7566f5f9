"""Files of a composite: the image, what it was made of pixel by pixel, and its STAC item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np

from geoseg.dialect import number_of
from geoseg.formats.cog import Cog, write_cogs
from geoseg.formats.pyramid import SUPERBLOCK, Layer, Read
from geoseg.formats.stac import Asset, item_document
from geoseg.georeference import Georeference
from geoseg.windows import Window
from pipeline.composite.composite_page import write_picture
from pipeline.composite.imaging import ChunkSpool
from pipeline.composite.observing import Observation, Values
from pipeline.config.compositing import CompositeConfig
from pipeline.files.atomic import write_json

__all__ = ["Image", "write_image"]

GEOTIFF = "image/tiff; application=geotiff; profile=cloud-optimized"
OBSERVATIONS, DATES, PREVIEW = "observations", "dates", "preview"


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """One image of a run."""

    name: str
    place: Georeference
    shape: tuple[int, int]
    values: Values
    config: CompositeConfig
    scenes: Sequence[Observation]
    """What it is made of, the latest first."""
    span: tuple[str, str] | None
    """First and last day of its period; None of all."""

    @property
    def dated(self) -> bool:
        """Whether each of its pixels is of one scene, and all of these have dates."""
        return self.config.method == "best" and all(one.day for one in self.scenes)

    @property
    def times(self) -> tuple[str, str] | None:
        """When its first and its last scene were acquired; None where that is not known of all."""
        dates = sorted(one.scene.acquired for one in self.scenes if one.scene.acquired is not None)
        return (dates[0], dates[-1]) if len(dates) == len(self.scenes) else None

    @property
    def method(self) -> str:
        """How it was made, in a word or two."""
        return f"best ({self.config.best})" if self.config.method == "best" else self.config.method


def write_image(image: Image, spool: ChunkSpool, folder: Path, work: Path, *, flat: bool, threads: int) -> dict[str, str]:
    """Write the files of an image of which all chunks are done; gives their names in the folder by what they are.

    Args:
        image: The image.
        spool: Its chunks.
        folder: Where its files come to lie.
        work: For what comes and goes.
        flat: Whether all lie side by side, else what goes with images has folders of its own.
        threads: Threads that compress.
    """
    names = {"image": f"{image.name}.tif", "item": f"{image.name}.json"}
    for kind in (OBSERVATIONS, DATES) if image.dated else (OBSERVATIONS,):
        names[kind] = f"{image.name}_{kind}.tif" if flat else f"{kind}/{image.name}_{kind}.tif"
        (folder / names[kind]).parent.mkdir(parents=True, exist_ok=True)
    values = image.values

    def read(kind: str, band: int | None, dtype: str, fill: int = 0) -> Read:
        return cast("Read", partial(spool.read, kind, band, np.array(fill, dtype)))

    bands = [read("pixels", band, values.dtype, values.nodata) for band in range(len(values.names))]
    layer = Layer(
        overview="average",
        dtype=values.dtype,
        nodata=values.nodata,
        tags=_tags(image),
        bands=values.names,
        scales=values.scales,
        colors=values.colors,
    )
    counted = Layer(overview="nearest", dtype="uint16", nodata=0, description="clear observations")
    dated = Layer(overview="nearest", dtype="uint32", nodata=0, description="date of acquisition, YYYYMMDD")
    cogs = [
        Cog(folder / names["image"], layer, bands),
        Cog(folder / names[OBSERVATIONS], counted, [read("count", None, "uint16")]),
    ]
    if image.dated:
        cogs.append(Cog(folder / names[DATES], dated, [read("days", None, "uint32")]))
    squares = (square for square in Window.of(image.shape).parts(SUPERBLOCK) if spool.touched(square))
    write_cogs(cogs, work, image.shape, image.place, squares, threads=threads)
    names[PREVIEW] = f"{image.name}_{PREVIEW}.png" if flat else f"{PREVIEW}s/{image.name}_{PREVIEW}.png"
    (folder / names[PREVIEW]).parent.mkdir(parents=True, exist_ok=True)
    write_picture(folder / names["image"], image.values.names, folder / names[PREVIEW])
    write_json(folder / names["item"], _item(image, names))
    return names


def _tags(image: Image) -> dict[str, str]:
    """Metadata of the file."""
    tags = {"composite_method": image.method, "composite_scenes": str(len(image.scenes))}
    if image.times is not None:
        first, last = image.times
        tags |= {"composite_first": first, "composite_last": last}
        if first[:10] == last[:10]:
            # Of one day it is an image of that day.
            tags["ACQUISITION_DATE"] = first[:10]
    return tags


def _item(image: Image, names: Mapping[str, str]) -> dict[str, object]:
    """Its STAC item: of an interval, from its first scene to its last one."""
    titles = {"image": "Composite", OBSERVATIONS: "Clear observations of each pixel", DATES: "Date of each pixel, YYYYMMDD"}
    assets = [
        Asset(key, names[key], GEOTIFF, title, ("data",) if key == "image" else ("metadata",))
        for key, title in titles.items()
        if key in names
    ]
    assets.append(Asset(PREVIEW, names[PREVIEW], "image/png", "Picture", ("thumbnail",)))
    first, last = image.times or (None, None)
    facts = {"processing:lineage": f"{image.method} of {number_of(len(image.scenes), 'scene')}"}
    one_day = first if first is not None and last is not None and first[:10] == last[:10] else None
    item = item_document(image.name, image.place, image.shape, one_day, None, assets, facts, None)
    if first is not None and last is not None and one_day is None:
        item["properties"] |= {"start_datetime": _moment(first, "00:00:00"), "end_datetime": _moment(last, "23:59:59")}
    item["properties"]["geoseg:scenes"] = [one.scene.name for one in image.scenes]
    if image.span is not None:
        item["properties"]["geoseg:period"] = list(image.span)
    item["assets"]["image"]["bands"] = [
        {
            **({"name": name} if name else {}),
            "data_type": image.values.dtype,
            "nodata": image.values.nodata,
            "raster:scale": scale,
            "raster:offset": offset,
        }
        for name, (scale, offset) in zip(image.values.names, image.values.scales, strict=True)
    ]
    return item


def _moment(when: str, clock: str) -> str:
    """A date as a time of STAC."""
    return when if "T" in when else f"{when}T{clock}Z"
