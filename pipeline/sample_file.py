"""The file of a reference sample: points or blocks for people to label in QGIS, and the design that they were drawn by.

One GeoPackage: the layer ``sample`` with a form whose labels are drop-downs, and the tables ``design`` (what was drawn, not to be
changed) and ``design_facts``, which ``geoseg area`` needs to know that this is a probability sample of a map.
"""

from __future__ import annotations

import json
import sqlite3
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import ConfigError
from geoseg.formats.vector import FIXED_DATE, add_style
from pipeline.atomic import atomic_path

__all__ = ["LAYER", "UNSURE", "Design", "read_sample", "write_sample"]

LAYER = "sample"
UNSURE = "can't be told"
MOVED_PX = 0.01
"""Points that lie further from where they were drawn have been moved."""


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """How a sample was drawn."""

    facts: Mapping[str, Any]
    """Map, strata, sizes, seed; as ``design_facts`` has them."""
    stratum: NDArray[np.int64]
    """(n,) position of each unit's stratum."""
    row: NDArray[np.int64]
    """(n,) row of its first pixel."""
    col: NDArray[np.int64]
    """(n,) column of its first pixel."""
    area: NDArray[np.float64]
    """(n,) analysed area in square metres; pixels where the map has no CRS."""


def write_sample(
    path: Path, design: Design, geometries: NDArray[Any], crs: str | None, classes: Sequence[str], images: str
) -> None:
    """Write a sample that nobody has labelled yet."""
    import pyogrio.raw
    import shapely

    count = len(design.stratum)
    blocks = design.facts["block"] > 1
    nothing = np.full(count, None, object)
    columns: dict[str, NDArray[Any]] = {"unit": np.arange(1, count + 1)}
    if blocks:
        columns |= {f"percent_{k}": np.full(count, np.nan) for k in range(len(classes))}
    else:
        columns |= {"reference": nothing, "second": nothing}
    columns |= {"sure": nothing, "note": nothing, "images": np.full(count, images or None, object)}
    with atomic_path(path) as part:
        pyogrio.raw.write(
            part, shapely.to_wkb(geometries), list(columns.values()), list(columns),
            geometry_type="Polygon" if blocks else "Point", crs=crs, driver="GPKG", layer=LAYER,
            dataset_options={"VERSION": "1.3"}, layer_options={"GEOMETRY_NAME": "geom", "FID": "fid"},
        )  # fmt: skip
        with closing(sqlite3.connect(part)) as connection, connection:
            connection.execute(
                "CREATE TABLE design_facts (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, value TEXT NOT NULL)"
            )
            connection.executemany(
                "INSERT INTO design_facts (key, value) VALUES (?, ?)",
                [(key, json.dumps(value)) for key, value in design.facts.items()],
            )
            connection.execute(
                "CREATE TABLE design (unit INTEGER PRIMARY KEY, stratum INTEGER NOT NULL, row INTEGER NOT NULL, col INTEGER NOT NULL, "
                "area REAL NOT NULL)"
            )
            rows = zip(*(a.tolist() for a in (columns["unit"], design.stratum, design.row, design.col, design.area)), strict=True)
            connection.executemany("INSERT INTO design VALUES (?, ?, ?, ?, ?)", rows)
            connection.executemany(
                "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, last_change) VALUES (?, 'attributes', ?, ?, ?)",
                [(name, name, "How the sample was drawn; leave it as it is", FIXED_DATE) for name in ("design", "design_facts")],
            )
            add_style(connection, LAYER, _form(classes, blocks=blocks), "Form for interpretation")


def read_sample(path: Path) -> tuple[Design, dict[str, NDArray[Any]]]:
    """The design of a sample, and the columns of its layer in the order of the design.

    Raises:
        ConfigError: It is no sample, or was changed beyond its labels.
    """
    import pyogrio.raw
    import shapely

    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            facts = {key: json.loads(value) for key, value in connection.execute("SELECT key, value FROM design_facts")}
            rows = connection.execute("SELECT unit, stratum, row, col, area FROM design ORDER BY unit").fetchall()
        _, _, geometry, values = pyogrio.raw.read(path, layer=LAYER)
        names = list(pyogrio.read_info(path, layer=LAYER)["fields"])
    except (sqlite3.DatabaseError, ValueError, OSError, RuntimeError) as error:
        raise ConfigError(
            f"{path}: says nothing of how its units were drawn, so that nothing follows from them for the map: {error}; "
            "use a file of geoseg sample, or give --strata with the size of each stratum"
        ) from error
    unit, stratum, row, col, area = (np.array(column) for column in zip(*rows, strict=True))
    columns = dict(zip(names, values, strict=True))
    given = columns["unit"].astype(np.int64)
    if len(given) != len(unit) or set(given.tolist()) != set(unit.tolist()):
        lost, more = len(set(unit.tolist()) - set(given.tolist())), len(given) - len(set(given.tolist()) & set(unit.tolist()))
        raise ConfigError(
            f"{path}: {lost} units are gone and {more} were added since it was drawn: it is no probability sample any more; "
            "label units that can't be told as such, and leave all in place"
        )
    order = np.argsort(given)
    design = Design(facts, stratum.astype(np.int64), row.astype(np.int64), col.astype(np.int64), area.astype(np.float64))
    places = shapely.from_wkb(geometry[order])
    middle = shapely.centroid(places) if facts["block"] > 1 else places
    x, y = shapely.get_x(middle), shapely.get_y(middle)
    wanted = _middles(design)
    away = np.hypot(x - wanted[:, 0], y - wanted[:, 1]) / facts["pixel"]
    if (away > MOVED_PX * facts["block"] + 1e-6).any():
        raise ConfigError(
            f"{path}: unit {int(unit[int(away.argmax())])} was moved by {away.max():.1f} px: it is no probability sample any more; "
            "put it back, or draw again"
        )
    return design, {name: column[order] for name, column in columns.items()}


def _middles(design: Design) -> NDArray[np.float64]:
    """(n, 2) x and y of the middles of units."""
    a, b, c, d, e, f = design.facts["transform"]
    block, (height, width) = design.facts["block"], design.facts["shape"]
    row = (design.row + np.minimum(design.row + block, height)) / 2
    col = (design.col + np.minimum(design.col + block, width)) / 2
    return np.stack([a * col + b * row + c, d * col + e * row + f], axis=1)


def _form(classes: Sequence[str], *, blocks: bool) -> str:
    """A QGIS style with a form: labels from lists, images as files."""
    root = ET.Element("qgis", {"version": "3.22", "styleCategories": "Symbology|Fields|Forms"})
    renderer = ET.SubElement(root, "renderer-v2", {"type": "singleSymbol", "forceraster": "0"})
    symbols = ET.SubElement(renderer, "symbols")
    symbol = ET.SubElement(symbols, "symbol", {"type": "fill" if blocks else "marker", "name": "0", "alpha": "1"})
    layer = ET.SubElement(symbol, "layer", {"class": "SimpleFill" if blocks else "SimpleMarker", "enabled": "1"})
    options = ET.SubElement(layer, "Option", {"type": "Map"})
    look = {"color": "0,0,0,0", "outline_color": "255,220,0,255", "outline_width": "0.6"}
    for key, value in (look | ({} if blocks else {"name": "circle", "size": "4"})).items():
        ET.SubElement(options, "Option", {"type": "QString", "name": key, "value": value})
    fields = ET.SubElement(root, "fieldConfiguration")
    aliases = ET.SubElement(root, "aliases")

    def field(name: str, widget: str, title: str, choices: Sequence[str] = ()) -> None:
        edit = ET.SubElement(ET.SubElement(fields, "field", {"name": name}), "editWidget", {"type": widget})
        config = ET.SubElement(ET.SubElement(edit, "config"), "Option", {"type": "Map"})
        if choices:
            listed = ET.SubElement(config, "Option", {"type": "List", "name": "map"})
            for text in choices:
                ET.SubElement(
                    ET.SubElement(listed, "Option", {"type": "Map"}), "Option", {"type": "QString", "name": text, "value": text}
                )
        ET.SubElement(aliases, "alias", {"field": name, "name": title})

    field("unit", "TextEdit", "Unit")
    if blocks:
        for k, name in enumerate(classes):
            field(f"percent_{k}", "Range", f"{name}, percent of the block")
    else:
        field("reference", "ValueMap", "What is there", [*classes, UNSURE])
        field("second", "ValueMap", "What else it may be", classes)
    field("sure", "ValueMap", "How sure", ["sure", "rather sure", "guessed"])
    field("note", "TextEdit", "Note")
    field("images", "ExternalResource", "Images")
    ET.SubElement(root, "editorlayout").text = "generatedlayout"
    return '<!DOCTYPE qgis PUBLIC "http://mrcc.com/qgis.dtd" "SYSTEM">\n' + ET.tostring(root, encoding="unicode")
