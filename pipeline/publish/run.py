"""Publish: what is finished gets its styles, picture and metadata, before all of it appears under its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import geoseg
from geoseg.formats.preview import write_preview
from geoseg.formats.stac import Asset, item_document
from geoseg.formats.styles import category_names, raster_qml, vector_qml
from geoseg.scenes.gdal import gdal_env, open_written
from pipeline.files.atomic import write_json
from pipeline.files.spool import FeatureSpool
from pipeline.infer.chunk_store import ChunkStore
from pipeline.plan.plan import Plan

__all__ = ["add_companions", "draw_preview"]

MEDIA = {
    ".tif": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".geojson": "application/geo+json",
    ".gpkg": "application/geopackage+sqlite3",
    ".fgb": "application/vnd.flatgeobuf",
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
    "source.tif": "Scene that each pixel is of, by its number in run.json",
    "coverage": "What was analysed",
    "preview.png": "Image, classes and polygons",
}


def add_companions(plan: Plan, folder: Path, facts: Mapping[str, object]) -> None:
    """Write what stands beside rasters and polygons: styles, class names, the model's card, STAC item."""
    write_json(folder / "model.json", plan.card.to_json(), verbatim=True)
    styles = plan.styles
    (folder / "classes.qml").write_text(raster_qml(styles), encoding="utf-8")
    (folder / "polygons.qml").write_text(vector_qml(styles), encoding="utf-8")
    (folder / "classes.tif.aux.xml").write_text(category_names(styles), encoding="utf-8")
    write_json(folder / "item.json", _item(plan, sorted(path.name for path in folder.iterdir()), facts))


def draw_preview(plan: Plan, store: ChunkStore, spool: FeatureSpool, folder: Path) -> None:
    """Draw the picture from thumbnails of the chunks, the finished class raster, and the polygons."""
    image, classes = _picture(plan, store, folder / "classes.tif")
    write_preview(
        folder / "preview.png",
        image,
        classes,
        plan.styles,
        spool.batches(),
        plan.scene.georeference,
        plan.thumbnail.stride,
    )


def _picture(plan: Plan, store: ChunkStore, classes: Path) -> tuple[NDArray[np.generic], NDArray[np.uint8]]:
    """The pixels of the preview's lattice: (bands, h, w) of the scene, and (h, w) of the classes' overviews."""
    grid = plan.grid
    shape = plan.thumbnail.place(grid.height, grid.width)
    image = np.zeros((len(plan.thumbnail.bands), *shape), plan.scene.bands[plan.bands[0]].dtype)
    for index in plan.active:
        part = store.thumbnail(index)
        if part is None or not part.size:
            continue
        core = grid.chunk_core(index)
        row, col = plan.thumbnail.place(core.row_off, core.col_off)
        image[:, row : row + part.shape[1], col : col + part.shape[2]] = part
    with gdal_env(), open_written(classes) as dataset:
        codes: NDArray[np.uint8] = dataset.read(1, out_shape=shape)
    return image, codes


def _item(plan: Plan, names: Sequence[str], facts: Mapping[str, object]) -> dict[str, object]:
    assets = []
    for name in names:
        path = Path(name)
        if path.suffix not in MEDIA:
            continue
        title = TITLES.get(name) or TITLES.get(path.stem, name)
        roles = ("thumbnail",) if path.suffix == ".png" else ("data",)
        key = path.stem if path.suffix in (".tif", ".png") else f"{path.stem}_{path.suffix[1:]}"
        assets.append(Asset(key, f"./{name}", MEDIA[path.suffix], f"{title} ({path.suffix[1:]})", roles))
    properties = {"title": plan.scene.name, "geoseg:version": geoseg.__version__, **facts}
    scene = plan.scene
    return item_document(
        scene.name,
        scene.georeference,
        (scene.height, scene.width),
        scene.acquired,
        scene.modified,
        assets,
        properties,
        "./model.json",
    )
