"""How QGIS shows and fills in the polygons of a work file."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence

from geoseg.formats.forms import QGIS_DOCTYPE, Form
from pipeline.review.reviewed_units import CLASS_UNITS, Units

__all__ = ["DECISIONS", "add_work_style", "work_form"]

DECISIONS: Mapping[str, str] = {
    "accept": "accept",
    "class": "change class",
    "reject": "reject",
    "redraw": "redrawn",
    "second": "second opinion",
}
"""What stands in the column ``decision``, by action."""
TO_DO = "to do"
COLORS: Mapping[str, str] = {
    TO_DO: "255,220,0,255",
    "accept": "34,136,51,255",
    "change class": "0,119,187,255",
    "reject": "204,51,17,255",
    "redrawn": "170,51,119,255",
    "second opinion": "238,119,51,255",
}
"""Outlines by decision: done and undone are told apart at a glance."""
SORTED_BY = "place"


def work_form(classes: Sequence[str], units: Units = CLASS_UNITS) -> str:
    """The style of the layer, as the GeoPackage embeds it."""
    root = ET.Element("qgis", {"version": "3.22", "styleCategories": "AllStyleCategories"})
    add_work_style(root, classes, units)
    return QGIS_DOCTYPE + ET.tostring(root, encoding="unicode")


def add_work_style(root: ET.Element, classes: Sequence[str], units: Units = CLASS_UNITS) -> None:
    """Add outlines by decision, the form, and the order of the table to a style or a layer of a project."""
    expression = f"coalesce(\"decision\", '{TO_DO}')"
    renderer = ET.SubElement(
        root, "renderer-v2", {"type": "categorizedSymbol", "attr": expression, "enableorderby": "0", "forceraster": "0"}
    )
    categories, symbols = ET.SubElement(renderer, "categories"), ET.SubElement(renderer, "symbols")
    for number, (name, color) in enumerate(COLORS.items()):
        facts = {"symbol": str(number), "value": name, "label": name, "render": "true", "type": "string"}
        ET.SubElement(categories, "category", facts)
        symbol = ET.SubElement(symbols, "symbol", {"type": "fill", "name": str(number), "alpha": "1"})
        layer = ET.SubElement(symbol, "layer", {"class": "SimpleFill", "enabled": "1"})
        options = ET.SubElement(layer, "Option", {"type": "Map"})
        look = {"color": "0,0,0,0", "style": "no", "outline_color": color, "outline_width": "0.9" if name == TO_DO else "0.4"}
        for key, value in look.items():
            ET.SubElement(options, "Option", {"type": "QString", "name": key, "value": value})
    _add_form(root, classes, units)
    ET.SubElement(root, "previewExpression").text = f"\"{SORTED_BY}\" || ': ' || {expression}"
    ET.SubElement(
        root, "attributetableconfig", {"sortExpression": f'"{SORTED_BY}"', "sortOrder": "0", "actionWidgetStyle": "dropDown"}
    )


def _add_form(root: ET.Element, classes: Sequence[str], units: Units) -> None:
    form = Form(root)
    for name, title in (
        ("fid", "fid"),
        ("place", "Place, by area times doubt" if units.order == "doubt" else "Place, the least sure first"),
        ("id", "Id"),
        ("part", "Part"),
        ("code", "Class code"),
    ):
        form.field(name, "TextEdit", title, editable=False)
    for name, title in (("map_class", "Class of the map"), ("area_m2", "Area (m²)"), ("confidence", "Mean confidence (%)")):
        form.field(name, "TextEdit", title, editable=False)
    form.field("decision", "ValueMap", "Decision", choices=list(DECISIONS.values()), editable=True)
    form.field("class", "ValueMap", "Class it should have", choices=classes, editable=True)
    form.field("rest", "ValueMap", "Of a redrawn one, class outside of it", choices=classes, editable=units.has_ground)
    form.field("reason", "ValueMap", "Reason of a rejection", choices=units.reasons, editable=True)
    form.field("comment", "TextEdit", "Comment", options=[("bool", "IsMultiline", "true")], editable=True)
    form.field("reviewer", "TextEdit", "Reviewer; empty: as import says", editable=True)
    form.end()
