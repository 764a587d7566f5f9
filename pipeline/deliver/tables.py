"""The tables and texts of a delivery: the summary as CSV and HTML, and what each file is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import geoseg
from geoseg.codes import HIDDEN, NODATA, NOT_ANALYSED
from geoseg.digits import figure
from geoseg.formats.page.elements import Entry, Facts, Notes, Page, Section, Table
from geoseg.formats.page.minding import ranked
from geoseg.formats.page.rendering import render
from geoseg.formats.text import write_table
from geoseg.scenes.scene import OpenOptions
from pipeline.deliver.events import Observed, SummaryRow
from pipeline.deliver.extents import Extents, areas_seen, geodesic_m2
from pipeline.deliver.layers import ABOUT
from pipeline.deliver.result import Result
from pipeline.deliver.statement import unstated
from pipeline.files.class_rasters import open_class_raster
from pipeline.files.run_folder import MADE
from pipeline.summarize.zones import Zone, areas_by_zone

if TYPE_CHECKING:
    from pipeline.deliver.terms import Terms

__all__ = ["CHECKSUMS", "described", "summary_rows", "write_readme", "write_summary"]

STYLE = "its QGIS style, read beside it"
CHECKSUMS = "checksums.sha256"
ESTIMATED = "estimated is the number by a labelled random sample, low_95 and high_95 its 95 % interval; affected was counted."
COVERAGE_RASTER = "coverage.tif"
SUMMARY_HEADS = {
    "class": "What",
    "unit": "Unit",
    "affected": "#Affected",
    "total_in_aoi": "#Total",
    "share_percent": "#Share (%)",
    "features": "#Features",
    "features_area_ha": "#Their area (ha)",
    "estimated": "#Estimated",
    "low_95": "#from",
    "high_95": "#to (95 %)",
}
"""Heads of the page by column; the last three where a sample estimates numbers."""


def summary_rows(result: Result, extents: Extents, sums: Observed, aoi: Path) -> list[SummaryRow]:
    """Consequences within the area of interest: a row a class, then areas that were not analysed, then all."""
    whole = geodesic_m2(extents.aoi, result.crs)
    names = {**sums.names, **result.names}
    if result.by_number or result.raster is None:
        unit, scale = ("number", 1.0) if result.by_number else ("ha", 1e4)
        amount = {c: float(sums.count[c]) if result.by_number else sums.area_mm2[c] / 1e6 for c in sums.count}
        unknown: dict[str, float] = {}
    else:
        unit, scale = "ha", 1e4
        raster, _ = open_class_raster(str(result.raster), OpenOptions())
        (zone,) = areas_by_zone(raster, str(aoi))
        amount = {code: zone.area_m2.get(code, 0.0) for code in sorted(result.names) if code < NOT_ANALYSED}
        unknown = _unknown(result, zone, whole, aoi)
    total = sum(amount.values())
    rows = [
        _row(
            names.get(code, f"class {code}"),
            unit,
            amount[code] / scale,
            total / scale,
            sums.count.get(code, 0),
            sums.area_mm2.get(code, 0),
        )
        for code in sorted(amount)
    ]
    if result.by_number:
        rows.append(_row("not analysed", unit, float(sums.unknown), total + sums.unknown, 0, 0))
        seen, outside = areas_seen(result, extents)
        rows.append(_row("area shown by all images", "ha", seen / 1e4, whole / 1e4, 0, 0))
        rows.append(_row("outside of the images", "ha", outside / 1e4, whole / 1e4, 0, 0))
    rows += [_row(name, unit, value / scale, whole / scale, 0, 0) for name, value in unknown.items()]
    rows.append(_row("area of interest", "ha", whole / 1e4, whole / 1e4, 0, 0))
    return rows


def _unknown(result: Result, zone: Zone, whole: float, aoi: Path) -> dict[str, float]:
    """Square metres without a class, by reason: with the classes they add up to the area of interest."""
    hidden, coverage = 0.0, result.folder / COVERAGE_RASTER
    if coverage.is_file():
        raster, _ = open_class_raster(str(coverage), OpenOptions())
        hidden = areas_by_zone(raster, str(aoi))[0].area_m2.get(HIDDEN, 0.0)
    missing = zone.area_m2.get(NOT_ANALYSED, 0.0)
    hidden = min(hidden, missing)
    outside = max(0.0, whole - sum(zone.area_m2.values()))
    return {
        **({"cloud": hidden} if hidden else {}),
        "not analysed": missing - hidden,
        "no data": zone.area_m2.get(NODATA, 0.0),
        "outside of the images": outside if outside > 1e-6 * whole else 0.0,
    }


def _row(name: str, unit: str, affected: float, total: float, features: int, area_mm2: int) -> SummaryRow:
    digits = 0 if unit == "number" else 4
    share = round(100 * affected / total, 2) if total > 0 else None
    whole = unit == "number"
    return {
        "class": name,
        "unit": unit,
        "affected": int(affected) if whole else figure(affected, digits),
        "total_in_aoi": int(total) if whole else figure(total, digits),
        "share_percent": share,
        "features": features,
        "features_area_ha": figure(area_mm2 / 1e10, 4),
    }


def write_summary(rows: Sequence[SummaryRow], part: Path, result: Result, terms: Terms, produced: str) -> None:
    """Write the summary to ``summary.csv`` and ``summary.html`` of a folder."""
    fields = [name for name in SUMMARY_HEADS if any(name in row for row in rows)]
    write_table(part / f"{terms.named('summary')}.csv", fields, rows)
    heads = tuple(SUMMARY_HEADS[name] for name in fields)
    table = Table.of(
        "Consequences within the area of interest", heads, [[_cell(value) for value in row.values()] for row in rows]
    )
    dates = [Entry(f"Image {i}", one.told) for i, one in enumerate(result.images, 1)]
    quality = [
        Entry("Model", result.model or "unknown"),
        *([] if result.domain is None else [Entry("The images are", result.domain)]),
        *(Entry("Measured", one.text) for one in result.measured),
        *result.quality,
        *([Entry("Accuracy", missing)] if (missing := unstated(result)) else []),
    ]
    said = [Entry("Disclaimer", terms.disclaimer), Entry("Licence", terms.licence)]
    page = Page(
        title=" ".join(filter(None, (terms.code, terms.event))),
        kind=result.title,
        lead=tuple(Entry(name, text) for name, text in _lead(terms, produced) if text),
        sections=(
            *([Section("What to mind", (Notes(ranked(result.warnings)),))] if result.warnings else []),
            Section("Summary", (table,)),
            Section("Quality", (Facts(tuple(quality)),)),
            *([Section("Sources", (Facts(tuple(dates)),))] if dates else []),
            Section("Terms", (Facts(tuple(said)),)),
        ),
    )
    (part / f"{terms.named('summary')}.html").write_text(render(page), encoding="utf-8")


def _lead(terms: Terms, produced: str) -> tuple[tuple[str, str], ...]:
    return (
        ("Produced", produced[:10]),
        ("Producer", terms.producer),
        ("Status", terms.given.status or ""),
        ("Version", str(terms.version)),
        ("Event", terms.given.event_time or ""),
        ("Contact", ", ".join(terms.given.contact or ())),
    )


def _cell(value: object) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def write_readme(part: Path, result: Result, extents: Extents, terms: Terms, produced: str) -> None:
    """Write to ``README.txt`` of a folder what is in it."""
    lines = [f"  {name:36} {text}" for name, text in described(part, result, terms, (CHECKSUMS, MADE))]
    images = [f"  {image.told}" for image in result.images]
    lead = [f"{name}: {text}." for name, text in _lead(terms, produced)[2:] if text]
    given = "as given" if extents.aoi_given else "where the images have data"
    text = "\n".join(
        [
            " ".join(filter(None, (terms.code, terms.event))),
            "",
            (
                f"{result.title}. Produced {produced}{' by ' + terms.producer if terms.producer else ''} with geoseg "
                f"{geoseg.__version__}."
            ),
            *lead,
            (
                f"Area of interest: {given}. GeoJSON is in WGS 84 longitude and latitude, other layers in "
                f"{result.georeference.name}."
            ),
            "",
            "Files",
            *lines,
            "",
            "Sources",
            *images,
            f"  Model: {result.model or 'unknown'}",
            *([] if result.domain is None else [f"  The images are {result.domain}"]),
            *(f"  Measured: {one.text}" for one in result.measured),
            *(f"  {entry.name}: {entry.text}" for entry in result.quality),
            *([f"  Accuracy: {missing}"] if (missing := unstated(result)) else []),
            "",
            *(["Warnings of the run", *(f"  {warning}" for warning in result.warnings), ""] if result.warnings else []),
            "Columns of summary.csv: affected is the area or number of a class in the area of interest, total_in_aoi that of all",
            (
                "analysed classes (for the last rows: of the area of interest; for buildings not analysed: of all buildings), "
                "features and features_area_ha what observedEvent holds of"
            ),
            "it; polygons below the smallest mapped area are in affected only.",
            *([ESTIMATED] if terms.sample is not None else []),
            "",
            "Disclaimer",
            f"  {terms.disclaimer}",
            "",
            "Licence",
            f"  {terms.licence}",
            "",
        ]
    )
    (part / "README.txt").write_text(text, encoding="utf-8")


def described(part: Path, result: Result, terms: Terms, more: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Names of the files of a folder, of its README and of ``more``, and what each is."""
    about = _about(result, terms)
    names = sorted({*(path.name for path in part.iterdir()), "README.txt", *more})
    return [(name, STYLE if name.endswith(".qml") else about.get(terms.layer_of(name), "")) for name in names]


def _about(result: Result, terms: Terms) -> dict[str, str]:
    """What each file is, by the name of its layer."""
    return dict(ABOUT) | {
        "delivery": f"all layers in one GeoPackage, in {result.georeference.name}",
        "builtUp": "buildings of the area of interest with their damage: the layer observedEvent",
        "summary": "what is affected within the area of interest, and how much there is in all",
        "grid": f"cells of {terms.cell_m:g} m: buildings by class, and the share of {', '.join(terms.interest)} among the "
        "analysed",
        "density": f"{', '.join(terms.interest)} buildings per square kilometre, quartic kernel of {terms.radius_m:g} m (COG)",
        "quality": "status, version, contact, measured accuracy with its interval, and the warnings of the run: a fact a row",
        "map": "the map sheet, one page of A4",
        "item": "the STAC item of the delivery: its area, times, warnings and files",
        "README": "this file",
        "checksums": "sha256 of all other files",
        "": "the names and hashes of what geoseg has written here, so that it knows its own files again",
    }
