"""A delivery: a result as a folder of vector layers, tables and a map sheet, in the manner of Copernicus EMS Rapid Mapping.

The layers are those of its vector packages (https://mapping.emergency.copernicus.eu/about/rapid-mapping-portfolio/):
``source``, ``areaOfInterest``, ``imageFootprint``, ``notAnalysed`` and ``observedEvent``.
"""

from __future__ import annotations

import csv
import hashlib
import html
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rasterio

import geoseg
from geoseg.codes import NODATA, NOT_ANALYSED
from geoseg.errors import ConfigError, OutputError
from geoseg.scenes.scene import OpenOptions, gdal_env
from pipeline.atomic import atomic_folder, atomic_path, check_new_file, check_new_folder
from pipeline.delivery_layers import (
    Ground,
    Observed,
    add_layer,
    export_layer,
    geodesic_m2,
    ground_of,
    not_analysed,
    observed_events,
)
from pipeline.polygon_files import PolygonFile
from pipeline.raster import open_class_raster
from pipeline.results import Image, Result, read_result
from pipeline.summaries import write_density, write_grid
from pipeline.zones import areas_by_zone

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["DISCLAIMER", "Delivered", "Terms", "deliver"]

DISCLAIMER = (
    "Made by a computer program from satellite or aerial images and not checked on the ground. Classes may be wrong; what was "
    "not analysed is not free of damage or change. No warranty; not for decisions on which lives depend without a check."
)
LICENCE = "The images belong to their providers, whose licences hold."
ABOUT = {
    "source": "the images and the model that the result was made from (a table)",
    "areaOfInterest": "the area of interest",
    "imageFootprint": "where each image has valid pixels",
    "notAnalysed": "what in the area of interest was not analysed, and why",
    "observedEvent": "what was observed in the area of interest: changed areas cut at its border, or buildings with their damage",
}
SUMMARY_FIELDS = ("class", "unit", "affected", "total_in_aoi", "share_percent", "features", "features_area_ha")
BATCH = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a delivery is told."""

    event: str
    """What happened, where."""
    code: str = ""
    """Of the activation, such as EMSR999; files begin with it."""
    producer: str = ""
    date: str | None = None
    """Of production, ISO 8601; by default when the result was finished."""
    disclaimer: str = DISCLAIMER
    licence: str = LICENCE
    also: tuple[str, ...] = ()
    """Formats beside GeoPackage and GeoJSON: ``fgb``, ``shp``."""
    interest: tuple[str, ...] = ("destroyed",)
    """Classes of the grid and the density map of buildings."""
    cell_m: float = 500.0
    """Side of the cells of the grid."""
    radius_m: float = 250.0
    """Of the kernel of the density map."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """What was delivered."""

    folder: Path
    zip: Path | None
    files: tuple[str, ...]
    summary: tuple[dict[str, Any], ...]
    """Rows of ``summary.csv``."""


def deliver(
    folder: Path, out: Path, terms: Terms, *, aoi: Path | None = None, assume_crs: str | None = None, as_zip: bool = False,
    overwrite: bool = False,
) -> Delivered:  # fmt: skip
    """Write a delivery of an output folder.

    Features pass in batches; the areas of interest and the coverage are in memory.

    Args:
        folder: Output of ``deforestation``, ``damage`` or ``segment``.
        out: The folder to make.
        terms: What it is told.
        aoi: Polygons of the area of interest; by default where the images have data.
        assume_crs: CRS of the area of interest where its file has none.
        as_zip: Write ``out.zip`` beside the folder, too.
        overwrite: Replace a folder that is there.

    Raises:
        ConfigError: The folder holds no result, or the area of interest does not meet it.
        OutputError: ``out`` is there already, or can't be written.
    """
    check_new_folder(out, overwrite=overwrite)
    zipped = out.with_name(f"{out.name}.zip") if as_zip else None
    if zipped is not None:
        check_new_file(zipped, overwrite=overwrite)
    if out.resolve() == folder.resolve() or folder.resolve().is_relative_to(out.resolve()):
        raise OutputError(f"{out}: would replace the result {folder}; choose another folder")
    result = read_result(folder)
    ground = ground_of(result, aoi, assume_crs)
    produced = terms.date or result.finished or datetime.now(UTC).strftime("%Y-%m-%d")
    _check_date(produced)
    prefix = f"{terms.code}_" if terms.code else ""
    if set(prefix) & set('/\\:*?"<>|'):
        raise ConfigError(f"code: {terms.code!r} can't begin the names of files; use letters, digits, - and _")
    with atomic_folder(out, replace=overwrite) as part:
        package = part / f"{prefix}delivery.gpkg"
        sums = Observed()
        _layers(package, result, ground, terms, sums)
        for layer in ABOUT:
            for kind in ("geojson", *terms.also):
                if kind == "geojson" or layer != "source":
                    export_layer(package, layer, part / f"{prefix}{layer}.{kind}", kind)
        rows = _summary(result, ground, sums, part / f"{prefix}areaOfInterest.geojson")
        _write_summary(rows, part, terms, produced)
        if result.by_number:
            _write_summaries(part, package, terms, sums)
        _draw(part, prefix, result, ground, terms, produced, rows, package, sums)
        _write_readme(part, result, ground, terms, produced)
        _write_checksums(part)
        names = tuple(sorted(path.name for path in part.iterdir()))
    if zipped is not None:
        _write_zip(out, zipped, produced)
    return Delivered(out, zipped, names, tuple(rows))


def _check_date(text: str) -> None:
    try:
        datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"date: {text!r} is no date; write for example 2024-05-31") from error


def _layers(package: Path, result: Result, ground: Ground, terms: Terms, sums: Observed) -> None:
    add_layer(package, "source", *_source(result), None)
    area = [(ground.aoi, {"emsr_id": terms.code, "area_id": 1, "event": terms.event, "map_type": result.title, "area_ha": _hectares(geodesic_m2(ground.aoi, result.crs)), "given": int(ground.aoi_given)})]  # fmt: skip
    add_layer(package, "areaOfInterest", *_shapes(area, {"emsr_id": str, "area_id": int, "event": str, "map_type": str, "area_ha": float, "given": int}), result.crs)  # fmt: skip
    feet = (
        (shape, {"or_src_id": number, "source_nam": image.name, "acq_date": image.acquired, "det_method": how})
        for number, (image, shape, how) in enumerate(ground.footprints, start=1)
    )
    add_layer(package, "imageFootprint", *_shapes(feet, {"or_src_id": int, "source_nam": str, "acq_date": str, "det_method": str}), result.crs)  # fmt: skip
    last = len(result.images)
    unseen = (
        (shape, {"obj_type": "Not analysed", "reason": reason, "or_src_id": last, "area_ha": _hectares(area)})
        for shape, reason, area in not_analysed(result, ground)
    )
    add_layer(package, "notAnalysed", *_shapes(unseen, {"obj_type": str, "reason": str, "or_src_id": int, "area_ha": float}), result.crs)  # fmt: skip
    constants: dict[str, str | int] = {"event_type": terms.event, "obj_desc": result.title, "det_method": "Automatic extraction", "dmg_src_id": last}  # fmt: skip
    add_layer(package, "observedEvent", *observed_events(result, ground, constants, sums), result.crs)


def _hectares(square_metres: float) -> float:
    return round(square_metres / 1e4, 4)


def _source(result: Result) -> tuple[pa.Schema, list[pa.RecordBatch]]:
    """Images and the model."""
    import pyarrow as pa

    rows = [{"src_id": i, "eventphase": _phase(i, result), **_facts(image)} for i, image in enumerate(result.images, start=1)]
    if result.model:
        rows.append({"src_id": len(rows) + 1, "source_nam": result.model, "eventphase": "model"})
    texts = ("source_nam", "src_date", "sensor", "eventphase", "crs")
    schema = pa.schema(
        [pa.field("src_id", pa.int32()), *(pa.field(name, pa.string()) for name in texts), pa.field("sensor_gsd", pa.float64())]
    )
    return schema, [pa.RecordBatch.from_pylist(rows, schema=schema)]


def _phase(number: int, result: Result) -> str:
    if len(result.images) == 1:
        return "image"
    return "pre-event" if number == 1 else "post-event" if number == len(result.images) else "between"


def _facts(image: Image) -> dict[str, Any]:
    """What an image file says, if it is still there."""
    facts: dict[str, Any] = {"source_nam": image.name, "src_date": image.acquired, "sensor": "unknown"}
    try:
        with gdal_env(), rasterio.open(image.path) as dataset:
            from geoseg.georeference import Georeference

            place = Georeference(tuple(dataset.transform)[:6], None if dataset.crs is None else dataset.crs.to_wkt())
            size = place.pixel_size(dataset.height, dataset.width)
            facts |= {"crs": place.name, "sensor_gsd": None if size is None else round(size, 3)}
    except (OSError, rasterio.errors.RasterioError):
        facts["crs"] = None
    return facts


def _shapes(rows: Any, fields: dict[str, type]) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Shapes with their columns, some at a time."""
    import pyarrow as pa
    import shapely

    kinds = {str: pa.string(), int: pa.int32(), float: pa.float64()}
    schema = pa.schema([*(pa.field(name, kinds[kind]) for name, kind in fields.items()), pa.field("geometry", pa.binary(), metadata={"ARROW:extension:name": "geoarrow.wkb"})])  # fmt: skip

    def batches() -> Iterator[pa.RecordBatch]:
        waiting: list[dict[str, Any]] = []
        for shape, facts in rows:
            waiting.append({**facts, "geometry": shapely.to_wkb(shape)})
            if len(waiting) == BATCH:
                yield pa.RecordBatch.from_pylist(waiting, schema=schema)
                waiting = []
        if waiting:
            yield pa.RecordBatch.from_pylist(waiting, schema=schema)

    return schema, batches()


def _summary(result: Result, ground: Ground, sums: Observed, aoi: Path) -> list[dict[str, Any]]:
    """Consequences within the area of interest: a row a class, then what is not known, then all."""
    whole = geodesic_m2(ground.aoi, result.crs)
    names = {**sums.names, **result.names}
    if result.by_number or result.raster is None:
        unit, scale = ("number", 1.0) if result.by_number else ("ha", 1e4)
        amount = {c: float(sums.count[c]) if result.by_number else sums.area_cm2[c] / 1e4 for c in sums.count}
        unknown: dict[str, float] = {}
    else:
        unit, scale = "ha", 1e4
        raster, _ = open_class_raster(str(result.raster), OpenOptions())
        (zone,) = areas_by_zone(raster, str(aoi))
        amount = {code: zone.area_m2.get(code, 0.0) for code in sorted(result.names) if code < NOT_ANALYSED}
        outside = max(0.0, whole - sum(zone.area_m2.values()))
        unknown = {"not analysed": zone.area_m2.get(NOT_ANALYSED, 0.0), "no data": zone.area_m2.get(NODATA, 0.0)}
        unknown["outside of the images"] = outside if outside > 1e-6 * whole else 0.0
    total = sum(amount.values())
    rows = [
        _row(names.get(code, f"class {code}"), unit, amount[code] / scale, total / scale, sums.count.get(code, 0), sums.area_cm2.get(code, 0))
        for code in sorted(amount)
    ]  # fmt: skip
    if result.by_number:
        rows.append(_row("not analysed", unit, float(sums.unknown), total + sums.unknown, 0, 0))
    rows += [_row(name, unit, value / scale, whole / scale, 0, 0) for name, value in unknown.items()]
    rows.append(_row("area of interest", "ha", whole / 1e4, whole / 1e4, 0, 0))
    return rows


def _row(name: str, unit: str, affected: float, total: float, features: int, area_cm2: int) -> dict[str, Any]:
    digits = 0 if unit == "number" else 4
    share = round(100 * affected / total, 2) if total > 0 else None
    values = (name, unit, round(affected, digits), round(total, digits), share, features, round(area_cm2 / 1e8, 4))
    row = dict(zip(SUMMARY_FIELDS, values, strict=True))
    if unit == "number":
        row |= {"affected": int(affected), "total_in_aoi": int(total)}
    return row


def _write_summary(rows: Sequence[dict[str, Any]], part: Path, terms: Terms, produced: str) -> None:
    with (part / "summary.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, SUMMARY_FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    heads = ("Consequences within the area of interest", "Unit", "Affected", "Total", "Share (%)", "Features", "Their area (ha)")
    body = "".join("<tr>" + "".join(_cell(row[name]) for name in SUMMARY_FIELDS) + "</tr>\n" for row in rows)
    head = "".join(f"<th>{html.escape(text)}</th>" for text in heads)
    text = (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8">\n'
        f"<title>{html.escape(terms.event)}</title>\n<style>body{{font:15px sans-serif;margin:2em;max-width:60em}}table{{border-collapse:"
        "collapse;width:100%}th{background:#0b3954;color:#fff;text-align:left}th,td{padding:.4em .7em;border-bottom:1px solid #d4d8dc}"
        "td.n{text-align:right}</style>\n"
        f"<h1>{html.escape(' '.join(filter(None, (terms.code, terms.event))))}</h1>\n"
        f"<table>\n<tr>{head}</tr>\n{body}</table>\n<p>{html.escape(terms.disclaimer)}</p>\n"
        f"<p>{html.escape(', '.join(filter(None, (produced[:10], terms.producer))))}</p>\n</html>\n"
    )
    (part / "summary.html").write_text(text, encoding="utf-8")


def _cell(value: Any) -> str:
    if value is None or isinstance(value, str):
        return f"<td>{html.escape(value or '')}</td>"
    return f'<td class="n">{value:,}</td>' if isinstance(value, int) else f'<td class="n">{value:,.2f}</td>'


def _write_summaries(part: Path, package: Path, terms: Terms, sums: Observed) -> None:
    """Grid and density of the buildings in the area of interest."""
    if sums.count:
        write_grid(package, part / "grid.gpkg", terms.interest, side_m=terms.cell_m, layer="observedEvent")
        write_density(package, part / "density.tif", terms.interest, radius_m=terms.radius_m, layer="observedEvent")


def _draw(
    part: Path, prefix: str, result: Result, ground: Ground, terms: Terms, produced: str, rows: Sequence[dict[str, Any]], package: Path,
    sums: Observed,
) -> None:  # fmt: skip
    from pipeline.sheets import draw_sheet

    shown = PolygonFile.open(package, layer="observedEvent")
    gaps = PolygonFile.open(package, layer="notAnalysed")
    draw_sheet([part / f"{prefix}map.pdf", part / f"{prefix}map.png"], result, ground, terms, produced, rows, shown, gaps, sums)


def _write_readme(part: Path, result: Result, ground: Ground, terms: Terms, produced: str) -> None:
    about = dict(ABOUT) | {
        "delivery": f"all layers in one GeoPackage, in {result.georeference.name}",
        "summary": "what is affected within the area of interest, and how much there is in all",
        "grid": f"cells of {terms.cell_m:g} m: buildings by class, and the share of {', '.join(terms.interest)} among the analysed",
        "density": f"{', '.join(terms.interest)} buildings per square kilometre, quartic kernel of {terms.radius_m:g} m (COG)",
        "map": "the map sheet, one page of A4", "README": "this file", "checksums": "sha256 of all other files",
    }  # fmt: skip
    names = sorted([*(path.name for path in part.iterdir()), "README.txt", "checksums.sha256"])
    lines = [f"  {name:36} {about.get(_stem(name, terms), '')}" for name in names]
    images = [f"  {image.name}, {image.acquired or 'date unknown'}" for image in result.images]
    given = "as given" if ground.aoi_given else "where the images have data"
    text = "\n".join([
        " ".join(filter(None, (terms.code, terms.event))), "",
        f"{result.title}. Produced {produced}{' by ' + terms.producer if terms.producer else ''} with geoseg {geoseg.__version__}.",
        f"Area of interest: {given}. GeoJSON is in WGS 84 longitude and latitude, other layers in {result.georeference.name}.",
        "", "Files", *lines, "", "Sources", *images, f"  Model: {result.model or 'unknown'}", "",
        "Columns of summary.csv: affected is the area or number of a class in the area of interest, total_in_aoi that of all",
        "analysed classes (for the last rows: of the area of interest; for buildings not analysed: of all buildings), features and features_area_ha what observedEvent holds of",
        "it; polygons below the smallest mapped area are in affected only.", "",
        "Disclaimer", f"  {terms.disclaimer}", "", "Licence", f"  {terms.licence}", "",
    ])  # fmt: skip
    (part / "README.txt").write_text(text, encoding="utf-8")


def _stem(name: str, terms: Terms) -> str:
    return name.removeprefix(f"{terms.code}_" if terms.code else "").split(".", 1)[0]


def _write_checksums(part: Path) -> None:
    lines = []
    for path in sorted(part.iterdir()):
        with path.open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n")
    (part / "checksums.sha256").write_text("".join(lines), encoding="utf-8")


def _write_zip(folder: Path, path: Path, produced: str) -> None:
    """The folder as a ZIP file; its times are that of production, so that it has the same bytes again."""
    when = datetime.fromisoformat(produced)
    stamp = (max(when.year, 1980), when.month, when.day, when.hour, when.minute, when.second)
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            entry = zipfile.ZipInfo(f"{folder.name}/{file.name}", stamp)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            with file.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                while block := source.read(1 << 20):
                    target.write(block)
