"""The QGIS project beside a work file: the polygons over the map and the images that it was made from."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyproj

from geoseg.formats.forms import QGIS_DOCTYPE
from geoseg.formats.styles import ClassStyle, raster_qml
from geoseg.scenes.gdal import gdal_env, open_raster
from pipeline.review.qgis.qgis_form import add_work_style
from pipeline.review.reviewed_units import Units
from pipeline.review.subject import Subject
from pipeline.view.viewed_inputs import find_all

__all__ = ["ProjectLayers", "project_text"]

VERSION = "3.22.0"
WORK, CLASSES = "review_polygons", "map_classes"


@dataclass(frozen=True, slots=True)
class ProjectLayers:
    """The layers of a project."""

    polygons: str
    """Source of the polygons, relative to the project."""
    classes: str | None
    """Source of the class raster; None of buildings."""
    images: tuple[tuple[str, str, int], ...]
    """Title, source and number of bands of each, by date."""
    styles: Sequence[ClassStyle]
    units: Units

    @classmethod
    def of(cls, subject: Subject, beside: Path, polygons: str, styles: Sequence[ClassStyle]) -> ProjectLayers:
        """The layers of what is reviewed; images that are not there are left out."""
        (found,) = find_all([subject.folder])
        images = []
        for image in found.images:
            with gdal_env(), open_raster(image.paths[0]) as dataset:
                images.append((image.title, os.path.relpath(Path(image.paths[0]).resolve(), beside), dataset.count))
        raster = None if found.classes is None else os.path.relpath(found.classes, beside)
        return cls(polygons, raster, tuple(images), styles, subject.units)


def project_text(layers: ProjectLayers, crs: pyproj.CRS) -> str:
    """The project as a text: paths are relative to it, and the table of polygons is in the order of their value."""
    root = ET.Element("qgis", {"version": VERSION, "projectname": "review"})
    ET.SubElement(root, "title").text = "review"
    _crs(ET.SubElement(root, "projectCrs"), crs)
    tree = ET.SubElement(root, "layer-tree-group")
    held = ET.SubElement(root, "projectlayers")
    _listed(tree, WORK, "Review", layers.polygons, "ogr", shown=True)
    work = _layer(held, WORK, "Review", layers.polygons, "vector", "ogr", crs)
    work.set("geometry", "Polygon")
    add_work_style(work, [style.name for style in layers.styles if style.code < 254], layers.units)
    if layers.classes is not None:
        _add_classes(tree, held, layers.classes, layers.styles, crs)
    for number, (title, source, bands) in reversed(list(enumerate(layers.images))):
        _listed(tree, f"image_{number}", title, source, "gdal", shown=True)
        _image(_layer(held, f"image_{number}", title, source, "raster", "gdal", None), bands)
    properties = ET.SubElement(ET.SubElement(root, "properties"), "Paths")
    ET.SubElement(properties, "Absolute", {"type": "bool"}).text = "false"
    return QGIS_DOCTYPE + ET.tostring(root, encoding="unicode") + "\n"


def _add_classes(tree: ET.Element, held: ET.Element, source: str, styles: Sequence[ClassStyle], crs: pyproj.CRS) -> None:
    _listed(tree, CLASSES, "Classes", source, "gdal", shown=False)
    classes = _layer(held, CLASSES, "Classes", source, "raster", "gdal", crs)
    pipe = ET.fromstring(raster_qml(styles).split("\n", 1)[1]).find("pipe")  # noqa: S314 - our own text
    assert pipe is not None, "the style has a pipe"
    classes.append(pipe)


def _crs(parent: ET.Element, crs: pyproj.CRS) -> None:
    system = ET.SubElement(parent, "spatialrefsys")
    ET.SubElement(system, "wkt").text = crs.to_wkt()
    code = crs.to_authority()
    if code is not None:
        ET.SubElement(system, "authid").text = ":".join(code)


def _listed(tree: ET.Element, name: str, title: str, source: str, provider: str, *, shown: bool) -> None:
    facts = {"id": name, "name": title, "source": _beside(source), "providerKey": provider}
    ET.SubElement(tree, "layer-tree-layer", {**facts, "checked": "Qt::Checked" if shown else "Qt::Unchecked"})


def _layer(held: ET.Element, name: str, title: str, source: str, kind: str, provider: str, crs: pyproj.CRS | None) -> ET.Element:
    layer = ET.SubElement(held, "maplayer", {"type": kind})
    for tag, text in (("id", name), ("datasource", _beside(source)), ("layername", title)):
        ET.SubElement(layer, tag).text = text
    ET.SubElement(layer, "provider", {"encoding": "UTF-8"} if kind == "vector" else {}).text = provider
    if crs is not None:
        _crs(ET.SubElement(layer, "srs"), crs)
    return layer


def _beside(source: str) -> str:
    return source if source.startswith("../") else f"./{source}"


def _image(layer: ET.Element, bands: int) -> None:
    """Draw an image stretched to what is on the screen."""
    pipe = ET.SubElement(layer, "pipe")
    several = bands >= 3
    kind = {"type": "multibandcolor", "redBand": "1", "greenBand": "2", "blueBand": "3"} if several else {}
    gray = {} if several else {"type": "singlebandgray", "grayBand": "1", "gradient": "BlackToWhite"}
    renderer = ET.SubElement(pipe, "rasterrenderer", {**kind, **gray, "opacity": "1", "alphaBand": "-1"})
    origin = ET.SubElement(renderer, "minMaxOrigin")
    stretch = (("limits", "CumulativeCut"), ("extent", "UpdatedCanvas"), ("statAccuracy", "Estimated"))
    for tag, text in (*stretch, ("cumulativeCutLower", "0.02"), ("cumulativeCutUpper", "0.98")):
        ET.SubElement(origin, tag).text = text
    for name in (
        ("redContrastEnhancement", "greenContrastEnhancement", "blueContrastEnhancement") if several else ("contrastEnhancement",)
    ):
        enhancement = ET.SubElement(renderer, name)
        for tag, text in (("minValue", "0"), ("maxValue", "255"), ("algorithm", "StretchToMinimumMaximum")):
            ET.SubElement(enhancement, tag).text = text
