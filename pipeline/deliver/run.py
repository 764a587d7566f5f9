"""A delivery: a result as a folder of vector layers, tables and a map sheet, in the manner of Copernicus EMS Rapid Mapping.

The layers are those of its vector packages (https://mapping.emergency.copernicus.eu/about/rapid-mapping-portfolio/):
``source``, ``areaOfInterest``, ``imageFootprint``, ``notAnalysed`` and ``observedEvent``.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from geoseg.codes import UNGRADED
from geoseg.errors import ConfigError, OutputError
from geoseg.scenes.names import folder_name
from geoseg.vectors.opening import open_vector
from geoseg.vectors.polygon_file import PolygonFile
from pipeline.deliver.catalogue_item import write_item
from pipeline.deliver.estimates import Estimates, estimates_of, in_tenths
from pipeline.deliver.events import Observed, SummaryRow, Totals, buildings_in_area
from pipeline.deliver.extents import Extents, extents_of
from pipeline.deliver.layers import ABOUT, add_layer, export_layer, styles_of, write_layers
from pipeline.deliver.result import Result, read_result
from pipeline.deliver.statement import write_quality
from pipeline.deliver.tables import CHECKSUMS, described, summary_rows, write_readme, write_summary
from pipeline.deliver.terms import Terms, in_lines
from pipeline.files.outputs import atomic_folder, check_new_file, check_new_folder, output_file
from pipeline.files.run_folder import MADE
from pipeline.summarize.cells import write_grid
from pipeline.summarize.density import write_density

__all__ = ["Delivered", "deliver"]


@dataclass(frozen=True, slots=True)
class Delivered:
    """A delivery that was made."""

    folder: Path
    zip: Path | None
    files: tuple[str, ...]
    summary: tuple[SummaryRow, ...]
    """Rows of ``summary.csv``."""
    warnings: tuple[str, ...] = ()
    """Warnings of the run that made the result."""


def deliver(
    folder: Path,
    out: Path,
    terms: Terms,
    *,
    aoi: Path | None = None,
    assume_crs: str | None = None,
    as_zip: bool = False,
    overwrite: bool = False,
) -> Delivered:
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
    terms = in_lines(terms)
    if out.resolve() == folder.resolve() or folder.resolve().is_relative_to(out.resolve()):
        raise OutputError(f"{out}: would replace the result {folder}; choose another folder")
    check_new_folder(out, overwrite=overwrite)
    zipped = out.with_name(f"{out.name}.zip") if as_zip else None
    if zipped is not None:
        check_new_file(zipped, overwrite=overwrite)
    result = read_result(folder).with_facts(terms.given)
    extents = extents_of(result, aoi, assume_crs)
    told = None if terms.sample is None else estimates_of(result, extents, terms.sample)
    if told is not None:
        result = replace(result, measured=(told.overall, *result.measured))
    produced = terms.date or result.finished or datetime.now(UTC).strftime("%Y-%m-%d")
    _check_date(produced)
    _check_code(terms)
    with atomic_folder(out, replace=overwrite, checksums=CHECKSUMS) as part:
        rows = _fill(part, result, extents, terms, produced, told)
        names = tuple(sorted([*(path.name for path in part.iterdir()), CHECKSUMS, MADE]))
    if zipped is not None:
        _write_zip(out, names, zipped, produced)
    return Delivered(out, zipped, names, tuple(rows), result.warnings)


def _fill(part: Path, result: Result, extents: Extents, terms: Terms, produced: str, told: Estimates | None) -> list[SummaryRow]:
    """Write all files of a delivery; returns the rows of its summary."""
    package = part / f"{terms.named('delivery')}.gpkg"
    sums = Observed()
    write_layers(package, result, extents, terms, sums)
    for layer in ABOUT:
        for kind in ("geojson", *terms.also):
            if kind == "geojson" or layer != "source":
                path = part / f"{terms.named(_file_of(layer, result, terms))}.{kind}"
                export_layer(package, layer, path, kind, result.georeference.degree_decimals())
    for layer, qml in styles_of(result, sums).items():
        (part / f"{terms.named(_file_of(layer, result, terms))}.qml").write_text(qml, encoding="utf-8")
    rows = summary_rows(result, extents, sums, part / f"{terms.named('areaOfInterest')}.geojson")
    exact = rows if told is None else told.beside(rows)
    rows = in_tenths(exact)
    write_summary(rows, part, result, terms, produced)
    write_quality(part / f"{terms.named('quality')}.csv", result, terms, produced)
    if result.by_number:
        _write_summaries(part, result, extents, terms)
    _draw(part / terms.named("map"), package, result, extents, terms, produced, Totals(exact, sums))
    item = part / f"{terms.named('item')}.json"
    write_item(item, result, extents, terms, produced, [(name, about) for name, about in described(part, result, terms)])
    write_readme(part, result, extents, terms, produced)
    return rows


def _check_code(terms: Terms) -> None:
    """Refuse a code that can't begin the names of files."""
    if terms.code and (set(terms.code) & set('/\\:*?"<>|') or folder_name(terms.code) != terms.code):
        raise ConfigError(f"code: {terms.code!r} can't begin the names of files; use letters, digits, - and _")


def _file_of(layer: str, result: Result, terms: Terms) -> str:
    """The name of a layer in the names of files: buildings have their own one in the manual of EMS."""
    return "builtUp" if terms.aoi_id and result.by_number and layer == "observedEvent" else layer


def _check_date(text: str) -> None:
    try:
        datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"date: {text!r} is no date; write for example 2024-05-31") from error


def _write_summaries(part: Path, result: Result, extents: Extents, terms: Terms) -> None:
    """Grid and density of the buildings in the area of interest; cells where none was analysed are in the grid, too."""
    with TemporaryDirectory(dir=part, prefix=".all.") as work:
        every = Path(work) / "buildings.gpkg"
        add_layer(every, "buildings", *buildings_in_area(result, extents, UNGRADED), result.crs)
        if open_vector(every).info("buildings")["features"]:
            write_grid(every, part / f"{terms.named('grid')}.gpkg", terms.interest, side_m=terms.cell_m, without=(UNGRADED,))
            write_density(every, part / f"{terms.named('density')}.tif", terms.interest, radius_m=terms.radius_m)


def _draw(stem: Path, package: Path, result: Result, extents: Extents, terms: Terms, produced: str, totals: Totals) -> None:
    from pipeline.deliver.sheet import draw_sheet

    shown = PolygonFile.open(package, layer="observedEvent")
    gaps = PolygonFile.open(package, layer="notAnalysed")
    paths = [stem.with_name(f"{stem.name}{ending}") for ending in (".pdf", ".png")]
    draw_sheet(paths, result, extents, terms, produced, totals, (shown, gaps))


def _write_zip(folder: Path, names: Sequence[str], path: Path, produced: str) -> None:
    """The folder as a ZIP file; its times are that of production, so that it has the same bytes again."""
    when = datetime.fromisoformat(produced)
    stamp = (max(when.year, 1980), when.month, when.day, when.hour, when.minute, when.second)
    with output_file(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in (folder / name for name in names):
            entry = zipfile.ZipInfo(f"{folder.name}/{file.name}", stamp)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            with file.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                while block := source.read(1 << 20):
                    target.write(block)
