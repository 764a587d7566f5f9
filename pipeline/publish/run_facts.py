"""What pages tell of any run: its record as values, its settings, its files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from geoseg.codes import NOT_ANALYSED
from geoseg.formats.page.elements import Entry, Facts, Link, Links, Row, Section, Table
from geoseg.models.card_values import Quantity
from pipeline.config.sections import Config
from pipeline.files.run_folder import REPORT
from pipeline.files.scene_record import ClassArea, SceneRecord

__all__ = ["PAGE", "SceneFacts", "ValueFacts", "dates_section", "file_links", "offsets_told", "settings_facts"]

PAGE = "report.html"
"""The page beside a run."""
ABOUT = {
    "classes.tif": "the map: class codes, a cloud optimized GeoTIFF",
    "confidence.tif": "confidence in percent",
    "corrections.tif": "what people decided, as labels for geoseg train",
    "probabilities.tif": "probabilities of the classes in percent",
    "uncertainty.tif": "disagreement in percent of the largest entropy",
    "instances.tif": "numbers of the objects",
    "values.tif": "the map: values by scale and offset, a cloud optimized GeoTIFF",
    "values.qml": "style of the map, which QGIS reads by itself",
    "panoptic.tif": "classes, and numbers of the objects",
    "polygons.geojson": "polygons by class, in longitude and latitude",
    "polygons.gpkg": "polygons by class, for a GIS",
    "polygons.fgb": "polygons by class, FlatGeobuf",
    "polygons.pmtiles": "polygons by class as vector tiles, PMTiles",
    "polygons.parquet": "polygons by class, GeoParquet",
    "coverage.geojson": "where it was analysed, and where not",
    "preview.png": "image, classes and polygons as a picture",
    "classes.qml": "style of the map, which QGIS reads by itself",
    "polygons.qml": "style of the polygons, which QGIS reads by itself",
    "classes.tif.aux.xml": "names of the classes",
    "item.json": "STAC item",
    "model.json": "the model's card",
    "chunks.json": "hashes of the parts, for geoseg verify",
    REPORT: "the record of the run, for programs",
    "changes.json": "areas and rates, for programs",
    "changes.csv": "areas and rates, as a table",
    "damage.json": "the counts, for programs",
    "buildings.gpkg": "the buildings with their classes, for a GIS",
    "buildings.geojson": "the buildings with their classes, in longitude and latitude",
    "buildings.csv": "the buildings with their classes, as a table",
    "label_next.gpkg": "labelled buildings, and those to label next",
    "embeddings.npz": "the buildings as the encoder sees them, for the next labels",
    "grid.gpkg": "buildings counted in squares",
    "density.tif": "destroyed buildings per square kilometre",
    "zones.csv": "by zone, as a table",
    "zones.gpkg": "by zone, for a GIS",
}
"""What the files of a run are, by name."""


class CloudFacts(BaseModel):
    """What clouds hide."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    pixels: int = 0


class ValueFacts(BaseModel):
    """What a map of values says of them; figures are None where no pixel has one."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    unit: str
    scale: float
    offset: float
    pixels: int
    least: float | None
    most: float | None
    mean: float | None
    deviation: float | None

    @property
    def quantity(self) -> Quantity:
        """What is regressed."""
        return Quantity(name=self.name, unit=self.unit, scale=self.scale, offset=self.offset)


class SceneFacts(SceneRecord):
    """What a page takes of ``run.json``."""

    geoseg: str = ""
    source: tuple[str, ...] = ()
    acquired: str | None = None
    product: str | Mapping[str, object] | None = None
    plan: Mapping[str, str | int] = {}
    changes: Mapping[str, object] = {}
    """Of a map of changes, by class code as text."""
    finished: str = ""
    clouds: CloudFacts | None = None
    """None where nothing was said to hide any."""
    values: ValueFacts | None = None
    """None of a map of classes."""

    @property
    def analysed(self) -> tuple[ClassArea, ...]:
        """The classes of the model."""
        return tuple(one for one in self.classes if one.code < NOT_ANALYSED)


def settings_facts(given: Mapping[str, Mapping[str, object]]) -> tuple[Facts, ...]:
    """Settings that differ from the defaults, and all of them, folded away."""
    usual: Mapping[str, Mapping[str, object]] = Config().public()
    every = [(section, key, value) for section, values in given.items() for key, value in values.items()]
    other = [(s, k, v) for s, k, v in every if usual.get(s, {}).get(k, v) != v]
    shown = [
        Facts((Entry("Settings", ", ".join(f"{s}.{k} = {_text(v)}" for s, k, v in other) or "all as by default"),)),
        Facts(tuple(Entry(f"{s}.{k}", _text(v)) for s, k, v in every), folded="All settings"),
    ]
    return tuple(shown)


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        # As a file of settings has it.
        return str(value).lower()
    return ", ".join(map(str, value)) or "-" if isinstance(value, list | tuple) else str(value)


def file_links(names: Iterable[str]) -> Links:
    """Links to the files beside a page, with what they are."""
    return Links(tuple(Link(name, ABOUT.get(name, "")) for name in names))


def dates_section(dates: Sequence[object], registration: Sequence[object]) -> Section:
    """The images of a pair or a series by date, and how far they lie off the first."""
    rows: list[Row] = [
        [
            f"Date {number + 1}",
            _fact(date, "acquired") or "not known",
            _fact(date, "source"),
            _fact(date, "mask") or "none",
            _offset(registration, number),
        ]
        for number, date in enumerate(dates)
    ]
    heads = ("Date", "Acquired", "Image", "Cloud mask", "Offset from the first")
    return Section("The dates", (Table.of("Images by date", heads, rows),))


def offsets_told(registration: Sequence[object]) -> list[str]:
    """A line on how far each date lies off the first, for a console."""
    return [f"Date {n} against the first: {_offset(registration, n - 1)}" for n in range(2, len(registration) + 2)]


def _offset(found: Sequence[object], number: int) -> str:
    if number == 0:
        return "-"
    one = found[number - 1] if number <= len(found) else None
    if not isinstance(one, Mapping):
        return "not measured"
    if not one.get("consistent"):
        return "not measurable: windows don't agree"
    return f"{one['rows']:.2f} rows, {one['cols']:.2f} columns, within {one['residual']:.2f} px"


def _fact(date: object, key: str) -> str:
    value = date.get(key) if isinstance(date, Mapping) else None
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value or "")
