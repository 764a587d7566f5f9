"""A map that is open: its layers, and what the page is told of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from geoseg.codes import NODATA, NOT_ANALYSED
from geoseg.damage.scale import STYLES
from geoseg.documents import Json
from geoseg.errors import GeoreferenceError, GeosegError
from geoseg.formats.styles import ClassStyle, class_styles
from geoseg.scenes.gdal import gdal_env, open_raster
from geoseg.scenes.legend import legend_of
from geoseg.tiles.web_mercator import Box, lonlat_box
from geoseg.vectors.polygon_file import PolygonFile
from pipeline.view.first import Order
from pipeline.view.polygons import PolygonLayer
from pipeline.view.tile_sources import TileSource, classes_of, confidence_of, image_of
from pipeline.view.viewed_inputs import FoundMap

__all__ = ["OpenedMap", "open_map"]


@dataclass(frozen=True, slots=True)
class RasterLayer:
    """A raster layer and how the page names it."""

    kind: str
    """``image``, ``classes`` or ``confidence``."""
    title: str
    tiles: TileSource


@dataclass(frozen=True, slots=True)
class OpenedMap:
    """The layers of a map."""

    found: FoundMap
    rasters: Mapping[str, RasterLayer]
    """By the name that their tiles have in addresses."""
    polygons: PolygonLayer | None
    styles: tuple[ClassStyle, ...]
    notes: tuple[str, ...] = field(default=())

    def box(self) -> Box | None:
        """West, south, east and north of all rasters; None without one."""
        boxes = [layer.tiles.place.box for layer in self.rasters.values()]
        if not boxes:
            return None
        return lonlat_box(
            (min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes))
        )

    def document(self) -> dict[str, Json]:
        """What the page needs to know before the polygons are read."""
        return {
            "name": self.found.name,
            "kind": self.found.kind,
            "box": list(box) if (box := self.box()) is not None else None,
            "notes": list(self.notes),
            "classes": [{"code": style.code, "name": style.name, "color": style.color} for style in self.styles],
            "polygons": self.polygons is not None,
            "layers": [_layer(name, layer) for name, layer in self.rasters.items()],
        }


def _layer(name: str, layer: RasterLayer) -> dict[str, Json]:
    place = layer.tiles.place
    return {
        "id": name,
        "kind": layer.kind,
        "title": layer.title,
        "suffix": layer.tiles.suffix,
        "box": list(lonlat_box(place.box)),
        "minZoom": place.min_zoom,
        "maxZoom": place.max_zoom,
    }


def open_map(found: FoundMap) -> OpenedMap:
    """Open all layers of a map; an image that can't be shown is left out with a note.

    Raises:
        GeosegError: Its classes or polygons can't be read, or have no place on Earth.
    """
    notes = list(found.notes)
    rasters: dict[str, RasterLayer] = {}
    for number, image in enumerate(found.images):
        try:
            rasters[f"image{number}"] = RasterLayer("image", image.title, image_of(image))
        except GeosegError as error:
            # A map can be looked at without its image; of a file that was given by itself nothing would be left.
            if found.kind == "files":
                raise
            notes.append(f"{image.title} is not shown: {error}")
    styles = STYLES if found.kind == "damage" else ()
    if found.classes is not None:
        styles = _legend(str(found.classes))
        rasters["classes"] = RasterLayer("classes", "Classes", classes_of(str(found.classes), styles))
    if found.confidence is not None:
        rasters["confidence"] = RasterLayer("confidence", "Confidence", confidence_of(str(found.confidence)))
    return OpenedMap(found, rasters, _polygons(found, rasters), styles, tuple(notes))


def _polygons(found: FoundMap, rasters: Mapping[str, RasterLayer]) -> PolygonLayer | None:
    if found.polygons is None:
        return None
    if found.kind == "files" and PolygonFile.open(found.polygons, layer=found.layer).crs is None:
        raise GeoreferenceError(f"{found.polygons}: has no CRS, so its polygons are on no map")
    pixel = rasters["classes"].tiles.place.pixel if "classes" in rasters else None
    orders: Mapping[str, Order] = {"changes": "area", "damage": "severity"}
    return PolygonLayer(found.polygons, found.layer, pixel, orders.get(found.kind, "doubt"))


def _legend(path: str) -> tuple[ClassStyle, ...]:
    """The classes of a raster as its legend shows them, *not analysed* last; without *no data*, which is not drawn."""
    with gdal_env(), open_raster(path) as dataset:
        legend = legend_of(dataset, path)
    codes = sorted({*legend.names, *(code for code in legend.colors if code in legend.names or not legend.names)})
    known = [code for code in codes if code not in (NOT_ANALYSED, NODATA)]
    return class_styles((code, legend.names.get(code, str(code)), legend.colors.get(code)) for code in known)
