"""The file of a reference sample: points or blocks for people to label in QGIS, and the design that they were drawn by.

One GeoPackage: the layer ``sample`` with a form whose labels are drop-downs, and the tables ``design`` (what was drawn, not to be
changed) and ``design_facts``, which ``geoseg area`` needs to know that this is a probability sample of a map.
"""

from __future__ import annotations

import hashlib
import json
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import ConfigError
from geoseg.formats.forms import QGIS_DOCTYPE, Form
from geoseg.georeference import Georeference
from geoseg.vectors.polygon_file import Geometries
from pipeline.sample.allocation import Stratum
from pipeline.sample.unit_tables import Tables, changed, read_tables, write_tables

__all__ = ["LAYER", "UNSURE", "Design", "DesignFacts", "form_of", "read_sample", "write_sample"]

LAYER = "sample"
UNSURE = "can't be told"
COLUMNS = {"stratum": "INTEGER", "row": "INTEGER", "col": "INTEGER", "area": "REAL"}
"""Columns of the table ``design``."""
MOVED_PX = 0.01
"""Points that lie further from where they were drawn have been moved."""


class DesignFacts(TypedDict):
    """The sampling frame, and how units were drawn, as ``design_facts`` has them."""

    map: str
    map_sha256: str
    mask_sha256: str
    strata_of: str
    strata_sha256: str
    crs: str | None
    transform: list[float]
    shape: list[int]
    block: int
    seed: int
    allocation: str
    expected_se: float
    classes: list[tuple[int, str]]
    around: list[str]
    buffer_m: float
    strata: list[Stratum]
    area_m2: dict[str, float]
    digest: NotRequired[str]


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """The design of a sample."""

    facts: DesignFacts
    """Map, strata, sizes, seed; as ``design_facts`` has them."""
    stratum: NDArray[np.int64]
    """(n,) position of each unit's stratum."""
    row: NDArray[np.int64]
    """(n,) row of its first pixel."""
    col: NDArray[np.int64]
    """(n,) column of its first pixel."""
    area: NDArray[np.float64]
    """(n,) analysed area in square metres; pixels where the map has no CRS."""

    @property
    def georeference(self) -> Georeference:
        """Of the map that it was drawn from."""
        a, b, c, d, e, f = self.facts["transform"]
        return Georeference((a, b, c, d, e, f), self.facts["crs"])

    @property
    def units(self) -> Iterable[tuple[int, int, int, float]]:
        """Stratum, row, column and area of each unit."""
        return zip(*(a.tolist() for a in (self.stratum, self.row, self.col, self.area)), strict=True)

    @property
    def digest(self) -> str:
        """Of all that must not change after the units were drawn."""
        text = json.dumps([{key: value for key, value in sorted(self.facts.items()) if key != "digest"}, list(self.units)])
        return hashlib.sha256(text.encode()).hexdigest()


def write_sample(path: Path, design: Design, classes: Sequence[str], images: Sequence[str] = ()) -> None:
    """Write a sample that nobody has labelled yet."""
    import shapely

    count = len(design.stratum)
    blocks = design.facts["block"] > 1
    nothing = np.full(count, None, object)
    columns: dict[str, NDArray[np.generic]] = {"unit": np.arange(1, count + 1)}
    if blocks:
        columns |= {f"percent_{k}": np.full(count, np.nan) for k in range(len(classes))}
    else:
        columns |= {"reference": nothing, "second": nothing}
    columns |= {"sure": nothing, "note": nothing}
    columns |= {f"image_{k}": np.full(count, image, object) for k, image in enumerate(images, 1)}
    tables = Tables(LAYER, "Polygon" if blocks else "Point", {**design.facts, "digest": design.digest}, COLUMNS, design.units)
    qml = form_of(classes, len(images), blocks=blocks)
    write_tables(path, shapely.to_wkb(_shapes(design)), columns, design.facts["crs"], tables, qml)


def read_sample(path: Path) -> tuple[Design, dict[str, NDArray[np.generic]]]:
    """The design of a sample, and the columns of its layer in the order of the design.

    Raises:
        ConfigError: It is no sample, or was changed beyond its labels.
    """
    import shapely

    read = read_tables(path, LAYER, COLUMNS)
    facts = cast("DesignFacts", read.facts)
    unit, stratum, row, col, area = read.design
    design = Design(facts, stratum.astype(np.int64), row.astype(np.int64), col.astype(np.int64), area.astype(np.float64))
    if facts.get("digest") != design.digest:
        raise changed(path)
    blocks = [f"percent_{k}" for k in range(len(facts["classes"]))] if facts["block"] > 1 else ["reference"]
    order = read.order(path, blocks)
    # A unit without a shape, or with another one, has a distance that is none or large.
    away = shapely.hausdorff_distance(shapely.from_wkb(read.geometry[order]), _shapes(design))
    away = np.where(np.isnan(away), np.inf, away) / abs(design.georeference.determinant) ** 0.5
    if (away > MOVED_PX).any():
        raise ConfigError(
            f"{path}: unit {int(unit[int(away.argmax())])} was moved or reshaped by {away.max():.1f} px: it is no probability "
            "sample any more; put it back, or draw again"
        )
    return design, {name: column[order] for name, column in read.columns.items()}


def _shapes(design: Design) -> Geometries:
    """Middles of pixels, or outlines of blocks."""
    import shapely

    place, block, (height, width) = design.georeference, design.facts["block"], design.facts["shape"]
    rows, cols = design.row.astype(np.float64), design.col.astype(np.float64)
    if block == 1:
        return np.asarray(shapely.points(place.xy(rows + 0.5, cols + 0.5)))
    bottom, right = np.minimum(rows + block, height), np.minimum(cols + block, width)
    ring = [place.xy(r, c) for r, c in ((rows, cols), (rows, right), (bottom, right), (bottom, cols), (rows, cols))]
    return np.asarray(shapely.polygons(np.stack(ring, axis=1)))


def form_of(classes: Sequence[str], images: int, *, blocks: bool, outlines: bool | None = None) -> str:
    """A QGIS style with a form: labels from lists, images as files.

    Args:
        classes: Their names.
        images: Number of images.
        blocks: Whether units have shares of classes rather than one.
        outlines: Whether units are polygons rather than points; by default those that have shares.
    """
    outlines = blocks if outlines is None else outlines
    root = ET.Element("qgis", {"version": "3.22", "styleCategories": "Symbology|Fields|Forms"})
    renderer = ET.SubElement(root, "renderer-v2", {"type": "singleSymbol", "forceraster": "0"})
    symbols = ET.SubElement(renderer, "symbols")
    symbol = ET.SubElement(symbols, "symbol", {"type": "fill" if outlines else "marker", "name": "0", "alpha": "1"})
    layer = ET.SubElement(symbol, "layer", {"class": "SimpleFill" if outlines else "SimpleMarker", "enabled": "1"})
    options = ET.SubElement(layer, "Option", {"type": "Map"})
    look = {"color": "0,0,0,0", "outline_color": "255,220,0,255", "outline_width": "0.6"}
    for key, value in (look | ({} if outlines else {"name": "circle", "size": "4"})).items():
        ET.SubElement(options, "Option", {"type": "QString", "name": key, "value": value})
    form = Form(root)

    def field(
        name: str, widget: str, title: str, choices: Sequence[str] = (), options: Sequence[tuple[str, str, str]] = ()
    ) -> None:
        fixed = widget in {"TextEdit", "ExternalResource"} and name != "note"
        form.field(name, widget, title, choices=choices, options=options, editable=not fixed)

    field("unit", "TextEdit", "Unit")
    if blocks:
        percent = [("double", "Min", "0"), ("double", "Max", "100"), ("double", "Step", "1"), ("bool", "AllowNull", "true")]
        for k, name in enumerate(classes):
            field(f"percent_{k}", "Range", f"{name}, percent of the block", options=percent)
    else:
        field("reference", "ValueMap", "What is there", [*classes, UNSURE])
        field("second", "ValueMap", "What else it may be", classes)
    field("sure", "ValueMap", "How sure", ["sure", "rather sure", "guessed"])
    field("note", "TextEdit", "Note")
    for k in range(1, images + 1):
        field(f"image_{k}", "ExternalResource", f"Image {k}", options=[("bool", "UseLink", "true")])
    form.end()
    return QGIS_DOCTYPE + ET.tostring(root, encoding="unicode")
