"""The file of a reference sample: points or blocks for people to label in QGIS, and the design that they were drawn by.

One GeoPackage: the layer ``sample`` with a form whose labels are drop-downs, and the tables ``design`` (what was drawn, not to be
changed) and ``design_facts``, which ``geoseg area`` needs to know that this is a probability sample of a map.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from geoseg.documents import parse_json
from geoseg.errors import ConfigError
from geoseg.formats.forms import QGIS_DOCTYPE, Form
from geoseg.formats.vector import FIXED_DATE, add_style
from geoseg.georeference import Georeference
from geoseg.vectors.opening import connect_read_only, open_vector
from geoseg.vectors.polygon_file import Geometries
from pipeline.files.outputs import output_file

__all__ = ["LAYER", "UNSURE", "Design", "DesignFacts", "Stratum", "read_sample", "write_sample"]

LAYER = "sample"
UNSURE = "can't be told"
MOVED_PX = 0.01
"""Points that lie further from where they were drawn have been moved."""


class Stratum(TypedDict):
    """A stratum of the sampling frame."""

    name: str
    size: int
    """Units in the frame."""
    units: int
    """Units that were drawn."""


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
    import pyogrio
    import pyogrio.raw
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
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": FIXED_DATE})
    with output_file(path) as part:
        pyogrio.raw.write(
            part,
            shapely.to_wkb(_shapes(design)),
            list(columns.values()),
            list(columns),
            geometry_type="Polygon" if blocks else "Point",
            crs=design.facts["crs"],
            driver="GPKG",
            layer=LAYER,
            dataset_options={"VERSION": "1.3"},
            layer_options={"GEOMETRY_NAME": "geom", "FID": "fid"},
        )
        with closing(sqlite3.connect(part)) as connection, connection:
            connection.execute(
                "CREATE TABLE design_facts (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, value TEXT NOT NULL)"
            )
            connection.executemany(
                "INSERT INTO design_facts (key, value) VALUES (?, ?)",
                [(key, json.dumps(value)) for key, value in {**design.facts, "digest": design.digest}.items()],
            )
            connection.execute(
                "CREATE TABLE design (unit INTEGER PRIMARY KEY, stratum INTEGER NOT NULL, row INTEGER NOT NULL, col INTEGER "
                "NOT NULL, area REAL NOT NULL)"
            )
            connection.executemany(
                "INSERT INTO design VALUES (?, ?, ?, ?, ?)", [(unit, *facts) for unit, facts in enumerate(design.units, 1)]
            )
            connection.executemany(
                "INSERT INTO gpkg_contents (table_name, data_type, identifier, description, last_change) VALUES (?, "
                "'attributes', ?, ?, ?)",
                [(name, name, "How the sample was drawn; leave it as it is", FIXED_DATE) for name in ("design", "design_facts")],
            )
            add_style(connection, LAYER, _form(classes, len(images), blocks=blocks), "Form for interpretation")


def read_sample(path: Path) -> tuple[Design, dict[str, NDArray[np.generic]]]:
    """The design of a sample, and the columns of its layer in the order of the design.

    Raises:
        ConfigError: It is no sample, or was changed beyond its labels.
    """
    import shapely

    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    try:
        source = open_vector(path)
        with closing(connect_read_only(path)) as connection:
            told = connection.execute("SELECT key, value FROM design_facts")
            facts = cast("DesignFacts", {key: parse_json(value, f"{path}: {key}") for key, value in told})
            rows = connection.execute("SELECT unit, stratum, row, col, area FROM design ORDER BY unit").fetchall()
            # The layer says how many features it has, which need not be so.
            ((count,),) = connection.execute("SELECT count(*) FROM sample")
        meta, geometry, values = source.table(LAYER)
        unit, stratum, row, col, area = (np.array(column) for column in zip(*rows, strict=True))
        design = Design(facts, stratum.astype(np.int64), row.astype(np.int64), col.astype(np.int64), area.astype(np.float64))
    except (sqlite3.DatabaseError, ValueError, OSError, RuntimeError) as error:
        raise ConfigError(
            f"{path}: says nothing of how its units were drawn, so that nothing follows from them for the map: {error}; "
            "use a file of geoseg sample, whose tables design and design_facts go with its layer"
        ) from error
    if facts.get("digest") != design.digest:
        raise ConfigError(
            f"{path}: its tables design or design_facts were changed since the units were drawn: it is no probability sample "
            "any more; restore them from a copy, or draw again"
        )
    columns = dict(zip((str(name) for name in meta["fields"]), values, strict=True))
    blocks = [f"percent_{k}" for k in range(len(facts["classes"]))] if facts["block"] > 1 else ["reference"]
    missing = [name for name in ("unit", *blocks) if name not in columns]
    if missing:
        raise ConfigError(f"{path}: has no column {missing[0]!r} any more; restore it from a copy, or draw again")
    given = np.nan_to_num(columns["unit"].astype(np.float64), nan=-1).astype(np.int64)
    known = set(given.tolist()) & set(unit.tolist())
    if count != len(unit) or len(known) != len(unit):
        raise ConfigError(
            f"{path}: {len(unit) - len(known)} units are gone and {count - len(known)} were added since it was drawn: it is no "
            "probability sample any more; label units that can't be told as such, and leave all in place"
        )
    order = np.argsort(given)
    # A unit without a shape, or with another one, has a distance that is none or large.
    away = shapely.hausdorff_distance(shapely.from_wkb(geometry[order]), _shapes(design))
    away = np.where(np.isnan(away), np.inf, away) / abs(design.georeference.determinant) ** 0.5
    if (away > MOVED_PX).any():
        raise ConfigError(
            f"{path}: unit {int(unit[int(away.argmax())])} was moved or reshaped by {away.max():.1f} px: it is no probability "
            "sample any more; put it back, or draw again"
        )
    return design, {name: column[order] for name, column in columns.items()}


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


def _form(classes: Sequence[str], images: int, *, blocks: bool) -> str:
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
