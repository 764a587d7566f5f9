"""Publish: what is finished gets its styles, picture and metadata, before all of it appears under its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import geoseg
from geoseg.arrays import U8
from geoseg.codes import NODATA
from geoseg.formats.page.elements import Picture
from geoseg.formats.page.embedding import drawing, photo
from geoseg.formats.preview import Panels, PicturePlace, draw_panels, save_panels, stretched
from geoseg.formats.ramps import value_qml
from geoseg.formats.stac import Asset, item_document, put_footprint
from geoseg.formats.styles import category_names, raster_qml, vector_qml
from pipeline.files.atomic import write_json
from pipeline.files.maps import VALUES
from pipeline.files.spool import FeatureSpool
from pipeline.infer.chunk_store import ChunkStore
from pipeline.plan.plan import Plan
from pipeline.publish.preview_pixels import preview_pixels, preview_place
from pipeline.publish.small_pictures import keep_small
from pipeline.publish.value_pictures import draw_values, ramp_of, value_band

__all__ = ["PREVIEW", "add_companions", "assets_of", "draw_preview"]

PREVIEW = "preview.png"

MEDIA = {
    ".tif": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".geojson": "application/geo+json",
    ".gpkg": "application/geopackage+sqlite3",
    ".fgb": "application/vnd.flatgeobuf",
    ".pmtiles": "application/vnd.pmtiles",
    ".parquet": "application/vnd.apache.parquet",
    ".png": "image/png",
}
TITLES = {
    "classes.tif": "Classes",
    "confidence.tif": "Confidence in percent",
    "polygons": "Polygons by class",
    "instances.tif": "Numbers of the objects",
    "panoptic.tif": "Classes, and numbers of the objects",
    "probabilities.tif": "Probabilities of the classes in percent",
    "uncertainty.tif": "Disagreement in percent of the largest entropy",
    "values.tif": "Values",
    "source.tif": "Scene that each pixel is of, by its number in run.json",
    "coverage": "What was analysed",
    "preview.png": "Image, classes and polygons",
}


def add_companions(plan: Plan, folder: Path, facts: Mapping[str, object]) -> None:
    """Write what stands beside rasters and polygons: styles, class names, the model's card, STAC item."""
    write_json(folder / "model.json", plan.card.to_json(), verbatim=True, sync=False)
    if plan.quantity is not None:
        (folder / "values.qml").write_text(value_qml(ramp_of(plan.quantity, folder / VALUES)), encoding="utf-8")
        write_json(folder / "item.json", _item(plan, sorted(path.name for path in folder.iterdir()), facts), sync=False)
        return
    styles = plan.styles
    (folder / "classes.qml").write_text(raster_qml(styles), encoding="utf-8")
    (folder / "polygons.qml").write_text(vector_qml(styles), encoding="utf-8")
    (folder / "classes.tif.aux.xml").write_text(category_names(styles), encoding="utf-8")
    write_json(folder / "item.json", _item(plan, sorted(path.name for path in folder.iterdir()), facts), sync=False)


def draw_preview(plan: Plan, store: ChunkStore, spool: FeatureSpool, folder: Path) -> tuple[Picture, ...]:
    """Draw the picture from thumbnails of the chunks, the finished class raster, and the polygons.

    Returns:
        Small pictures for the page: the image, or those of the first and the last date; the classes; of a single date, the
        polygons over the image.
    """
    if plan.quantity is not None:
        return draw_values(plan, plan.quantity, store, folder)
    image, codes = preview_pixels(plan, store, folder / "classes.tif")
    classes = np.asarray(codes, np.uint8)
    place = preview_place(plan)
    panels = draw_panels(
        plan.thumbnail.picture(image, 0),
        classes,
        plan.styles,
        spool.batches(),
        place,
        clouded=bool(plan.scene.every_clouds),
    )
    with ThreadPoolExecutor(1, thread_name_prefix="geoseg-picture") as pool:
        saved = pool.submit(_save, folder / PREVIEW, panels, place)
        pictures = _for_page(plan, image, classes, panels)
        saved.result()
    return pictures


def _save(path: Path, panels: Panels, place: PicturePlace) -> None:
    keep_small(path, save_panels(path, panels, place))


def _for_page(plan: Plan, image: NDArray[np.generic], classes: U8, panels: Panels) -> tuple[Picture, ...]:
    name, legend = plan.scene.name, ", ".join(style.name for style in plan.styles)
    mapped = drawing(panels.classes, f"Map of {name} by class: {legend}", "The map")
    if plan.thumbnail.pictures < 3:
        return (
            photo(panels.image, f"Image of {name}", "The image"),
            mapped,
            photo(panels.overlay, f"Outlines of the polygons over the image of {name}", "The polygons over the image"),
        )
    ends = [plan.scene.dates[0].acquired, plan.scene.dates[-1].acquired]
    dates = [
        photo(
            stretched(plan.thumbnail.picture(image, number), classes != NODATA),
            f"Image of {name} {when.lower()}{f' the change, {acquired}' if acquired else ' the change'}",
            f"{when}{f' ({acquired})' if acquired else ''}",
        )
        for number, when, acquired in ((1, "Before", ends[0]), (2, "After", ends[1]))
    ]
    return (*dates, replace(mapped, caption="The change"))


def assets_of(names: Sequence[str], bands: Mapping[str, Sequence[Mapping[str, object]]] | None = None) -> list[Asset]:
    """The files of a result that are assets of its STAC item; ``bands`` has what is known of the bands of some."""
    assets = []
    for name in names:
        path = Path(name)
        if path.suffix not in MEDIA:
            continue
        title = TITLES.get(name) or TITLES.get(path.stem, name)
        roles = ("thumbnail",) if path.suffix == ".png" else ("data",)
        key = path.stem if path.suffix in (".tif", ".png") else f"{path.stem}_{path.suffix[1:]}"
        assets.append(
            Asset(key, f"./{name}", MEDIA[path.suffix], f"{title} ({path.suffix[1:]})", roles, tuple((bands or {}).get(name, ())))
        )
    return assets


def _item(plan: Plan, names: Sequence[str], facts: Mapping[str, object]) -> dict[str, object]:
    scene = plan.scene
    taken = {} if scene.product is None else scene.product.properties()
    properties = {"title": scene.name, "geoseg:version": geoseg.__version__, **taken, **facts}
    item = item_document(
        scene.name,
        scene.georeference,
        (scene.height, scene.width),
        scene.acquired,
        scene.modified,
        assets_of(names, {} if plan.quantity is None else {VALUES: [value_band(plan.quantity)]}),
        properties,
        "./model.json",
    )
    if plan.area is not None:
        window = plan.area.window
        put_footprint(item, scene.georeference.moved(window.row_off, window.col_off), window.shape)
    return item
