"""Legends: the names and colours of a class raster's codes, wherever programs keep them.

Our own tags and those of others (``class_1``, ``class_names``, CF's ``flag_meanings``), GDAL's category names and attribute
tables, which may lie in the file or in ``.aux.xml`` beside it, Esri's ``.vat.dbf`` and QGIS's ``.qml``.
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import rasterio
import rasterio.errors
from rasterio._err import CPLE_BaseError

from geoseg.codes import NODATA
from geoseg.scenes.dbf import dbf_rows
from geoseg.scenes.gdal import open_virtual
from geoseg.scenes.remote import is_remote

__all__ = ["Legend", "legend_of"]

LIST_TAGS = (
    "classnames",
    "classes",
    "categorynames",
    "categories",
    "classificationclasses",
    "classlabels",
    "classmap",
    "classmapping",
    "classification",
    "valuemap",
    "legend",
    "labels",
)
"""Tags that hold all names at once, in lower case and letters only, those first that say it more plainly."""
PROSE_TAGS = ("classification", "legend", "labels")
"""Of these, words with commas between them may be prose."""
ONE_TAG = re.compile(r"(?:(?:class|category|label|value)[_ -])?(?P<code>\d{1,3})(?:[_ -]name)?", re.IGNORECASE)
PAIR = re.compile(r"\s*(?P<code>\d{1,3})\s*[:=]\s*(?P<name>.+?)\s*")
CODE_COLUMNS = ("value", "code", "pixel_value", "pixelvalue", "class_id", "classid", "class_code", "id", "gridcode", "dn")
NAME_COLUMNS = (
    "class_name",
    "classname",
    "class_names",
    "class",
    "name",
    "label",
    "category",
    "description",
    "landcover",
    "land_cover",
    "desc",
)
"""Columns of attribute tables, in lower case, those first that say it more plainly."""
MIN, MIN_MAX, NAME = 3, 5, 2
RED, GREEN, BLUE = 6, 7, 8
"""GDAL's numbers of what a column of an attribute table is for."""
MAX_TEXT = 1 << 20
"""Bytes of the largest style or tag that is read."""

Names = dict[int, str]


@dataclass(frozen=True, slots=True)
class Legend:
    """Names and colours of the codes of a class raster."""

    names: Mapping[int, str]
    """Names by code."""
    colors: Mapping[int, str]
    """Colours by code, as #rrggbb."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Metadata of the file."""


def legend_of(dataset: rasterio.DatasetReader, path: str) -> Legend:
    """The legend of a raster's first band: of each kind of source the first that tells anything.

    Args:
        dataset: The open file.
        path: Where it lies; styles and tables beside it are looked for there.
    """
    categories, table = _from_gdal(dataset)
    names: Names = {}
    colors: dict[int, str] = {}
    sources: list[Callable[[], tuple[Names, dict[int, str]]]] = [
        lambda: (_from_single_tags(dataset), _of_color_table(dataset)),
        lambda: (categories, {}),
        lambda: table,
        lambda: (_from_lists(dataset), {}),
    ]
    if not is_remote(path):
        sources += [lambda: _from_dbf(Path(path)), lambda: _from_style(Path(path))]
    for source in sources:
        some, tints = source()
        names = names or some
        colors = colors or tints
    return Legend(names, colors, dict(dataset.tags()))


def _of_color_table(dataset: rasterio.DatasetReader) -> dict[int, str]:
    try:
        table = dataset.colormap(1)
    except ValueError:
        return {}
    return {code: "#{:02x}{:02x}{:02x}".format(*rgba[:3]) for code, rgba in table.items() if code <= NODATA}


def _from_single_tags(dataset: rasterio.DatasetReader) -> Names:
    """``class_1 = forest``, of the band or of the file."""
    for tags in (dataset.tags(1), dataset.tags()):
        found = {int(match["code"]): text for key, text in tags.items() if (match := ONE_TAG.fullmatch(key)) is not None}
        if names := _clean(found.items()):
            return names
    return {}


def _from_lists(dataset: rasterio.DatasetReader) -> Names:
    """All names in one tag: JSON, ``1=forest;2=water``, or one after the other from 0; or CF's flags."""
    for tags in (dataset.tags(1), dataset.tags(), dataset.tags(ns="ENVI")):
        lower = {re.sub("[^a-z]", "", key.lower()): text for key, text in tags.items() if len(text) <= MAX_TEXT}
        if "flagmeanings" in lower:
            words, codes = lower["flagmeanings"].split(), re.findall(r"-?\d+", lower.get("flagvalues", ""))
            if len(words) == len(codes):
                return _clean((int(code), word.replace("_", " ")) for code, word in zip(codes, words, strict=True))
        for key in LIST_TAGS:
            if key in lower and (names := _of_text(lower[key], plain=key not in PROSE_TAGS)):
                return names
    return {}


def _of_text(text: str, *, plain: bool) -> Names:
    """The names in a text; ``plain`` where words with commas between them are names from 0 on."""
    # GDAL ends the name of a tag at a colon, so that "classification:classes" leaves its second half in the value.
    text = re.sub(r"^\s*[a-z_ ]+=\s*(?=[\[{])", "", text)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        parts = [
            part.strip()
            for part in re.split(r"[;\n]" if ";" in text or "\n" in text else ",", text.strip().strip("{}"))
            if part.strip()
        ]
        pairs = [PAIR.fullmatch(part) for part in parts]
        if pairs and all(pairs):
            return _clean((int(pair["code"]), pair["name"]) for pair in pairs if pair is not None)
        # A single word is no list of classes.
        return _clean(enumerate(parts)) if plain and len(parts) > 1 else {}
    if isinstance(value, dict):
        return _of_mapping(value)
    if isinstance(value, list) and all(isinstance(entry, dict) for entry in value):
        rows = [{str(key).lower(): inner for key, inner in entry.items()} for entry in value]
        return _of_rows([(_first(row, CODE_COLUMNS), _first(row, NAME_COLUMNS)) for row in rows])
    return _clean((code, name) for code, name in enumerate(value) if isinstance(name, str)) if isinstance(value, list) else {}


def _of_mapping(value: Mapping[object, object]) -> Names:
    """``{"1": "forest"}``, or ``{"forest": 1}``."""
    turned = all(isinstance(entry, int) for entry in value.values())
    return _of_rows([(entry, key) if turned else (key, entry) for key, entry in value.items()])


def _of_rows(rows: Iterable[tuple[object, object]]) -> Names:
    found = [(_whole(code), name) for code, name in rows]
    return _clean((code, name) for code, name in found if code is not None and isinstance(name, str))


def _first(row: Mapping[str, object], keys: Sequence[str]) -> object:
    return next((row[key] for key in keys if key in row), None)


def _whole(value: object) -> int | None:
    try:
        number = float(str(value))
    except ValueError:
        return None
    return int(number) if number.is_integer() else None


def _clean(pairs: Iterable[tuple[int, str]]) -> Names:
    """Codes that have a name."""
    named = ((code, " ".join(text.split())) for code, text in pairs)
    return {code: text for code, text in named if text and 0 <= code < NODATA}


def _from_gdal(dataset: rasterio.DatasetReader) -> tuple[Names, tuple[Names, dict[int, str]]]:
    """Category names, and names and colours of the attribute table; GDAL writes both into the virtual raster of a file."""
    try:
        with open_virtual(dataset) as copy:
            text = "".join(copy.tags(ns="xml:VRT").values())
        band = ET.fromstring(text).find("VRTRasterBand")  # noqa: S314 - GDAL has just written it
    except (rasterio.errors.RasterioError, CPLE_BaseError, ET.ParseError):
        return {}, ({}, {})
    if band is None:
        return {}, ({}, {})
    categories = [entry.text or "" for entry in band.iterfind("CategoryNames/Category")]
    table = band.find("GDALRasterAttributeTable")
    return _clean(enumerate(categories)), ({}, {}) if table is None else _of_table(table)


def _of_table(table: ET.Element) -> tuple[Names, dict[int, str]]:
    fields = [(entry.findtext("Name") or "", int(entry.findtext("Usage") or 0)) for entry in table.iterfind("FieldDefn")]
    rows = [[entry.text or "" for entry in row.iterfind("F")] for row in table.iterfind("Row")]
    rows = [row for row in rows if len(row) == len(fields)]
    by_usage = {usage: place for place, (_, usage) in reversed(list(enumerate(fields)))}
    lower = [name.strip().lower() for name, _ in fields]
    code = by_usage.get(MIN_MAX, by_usage.get(MIN, _place(lower, CODE_COLUMNS)))
    name = by_usage.get(NAME, _place(lower, NAME_COLUMNS))
    if name is None:
        name = _only_words(rows)
    # Without a column of values, rows count from the least value on, in steps.
    first, step = (_whole(table.get(key, default)) for key, default in (("Row0Min", "0"), ("BinSize", "1")))
    codes = [_whole(row[code]) if code is not None else (first or 0) + i * (step or 1) for i, row in enumerate(rows)]
    names = _of_rows([(c, row[name]) for c, row in zip(codes, rows, strict=True)]) if name is not None else {}
    tints = [by_usage.get(usage) for usage in (RED, GREEN, BLUE)]
    colors: dict[int, str] = {}
    for c, row in zip(codes, rows, strict=True):
        channels = [v for place in tints if place is not None and (v := _whole(row[place])) is not None and 0 <= v < 256]
        if c is not None and 0 <= c < NODATA and len(channels) == len(tints):
            colors[c] = "#" + bytes(channels).hex()
    return names, colors


def _only_words(rows: Sequence[Sequence[str]]) -> int | None:
    """The one column that holds words; None where there are none or several."""
    found = [
        place for place, values in enumerate(zip(*rows, strict=True)) if any(text and not _is_number(text) for text in values)
    ]
    return found[0] if len(found) == 1 else None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _place(names: Sequence[str], known: Sequence[str]) -> int | None:
    return next((names.index(name) for name in known if name in names), None)


def _from_dbf(path: Path) -> tuple[Names, dict[int, str]]:
    """Esri's value attribute table beside a raster."""
    file = next((side for end in (".vat.dbf", ".VAT.DBF") if (side := path.with_name(path.name + end)).is_file()), None)
    if file is None or file.stat().st_size > MAX_TEXT:
        return {}, {}
    rows = [{key.lower(): value for key, value in row.items()} for row in dbf_rows(file)]
    columns = list(rows[0]) if rows else []
    code, name = _place(columns, CODE_COLUMNS), _place(columns, NAME_COLUMNS)
    values = [list(row.values()) for row in rows]
    name = _only_words(values) if name is None else name
    return ({}, {}) if code is None or name is None else (_of_rows([(row[code], row[name]) for row in values]), {})


def _from_style(path: Path) -> tuple[Names, dict[int, str]]:
    """QGIS's style of a raster with a palette."""
    file = path.with_suffix(".qml")
    if not file.is_file() or file.stat().st_size > MAX_TEXT:
        return {}, {}
    try:
        raw = file.read_bytes()
        # QGIS declares no entities; a file that does could unfold into anything.
        root = None if b"<!ENTITY" in raw else ET.fromstring(raw)  # noqa: S314 - without entities
    except (OSError, ET.ParseError):
        return {}, {}
    entries = [] if root is None else root.findall(".//rasterrenderer[@type='paletted']//paletteEntry")
    names = _of_rows([(entry.get("value"), entry.get("label")) for entry in entries])
    # Where the label is the value itself, nobody has named the class.
    named = {code: name for code, name in names.items() if name != str(code)}
    tints = {_whole(entry.get("value")): (entry.get("color") or "")[:7].lower() for entry in entries}
    return named, {code: tint for code, tint in tints.items() if code is not None and re.fullmatch("#[0-9a-f]{6}", tint)}
