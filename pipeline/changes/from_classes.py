"""Changes between ready class maps, of this program or another: no network runs, all that follows is as of mapped dates."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from geoseg.arrays import U8
from geoseg.documents import LARGE, Json, read_json
from geoseg.errors import OutsideAreaError
from geoseg.formats.cog import Cog, write_cogs
from geoseg.formats.page.elements import Entry, Notes, Page, Row, Section, Table, Words
from geoseg.formats.page.minding import ranked
from geoseg.formats.page.rendering import render
from geoseg.formats.pyramid import SUPERBLOCK
from geoseg.formats.styles import category_names, raster_qml, vector_qml
from geoseg.polygons.block_grid import BlockGrid
from geoseg.polygons.class_raster import ClassRaster
from geoseg.polygons.features import FeatureFacts
from geoseg.scenes.names import check_inside
from geoseg.scenes.remote import shown
from geoseg.windows import Window
from pipeline.changes.class_companions import draw_changes, write_changes_item, write_coverage
from pipeline.changes.comparison import Comparison, compare
from pipeline.changes.document import ChangesDocument, MappedScene
from pipeline.changes.run import MappedChanges
from pipeline.changes.summary_files import SUMMARY, write_summary
from pipeline.config.sections import Config
from pipeline.files.atomic import remove_tree, temporary_beside, write_json
from pipeline.files.outputs import atomic_folder
from pipeline.files.spool import FeatureSpool
from pipeline.files.version import code_version
from pipeline.join.rules import apply_rules, recoded
from pipeline.plan.within import Feature, features_of
from pipeline.publish.report import SceneReport, class_areas
from pipeline.publish.sureness import Sureness, measure_sureness, sureness_section
from pipeline.segment.halt import never
from pipeline.stitch.run import Totals, layer_of
from pipeline.summarize.zones import check_zones
from pipeline.vectorize.exact import RasterGrown, cut_exactly
from pipeline.vectorize.run import vectorize, write_formats
from pipeline.vectorize.scene import wanted_codes
from pipeline.vectorize.traced import VectorOptions, fitting_formats

__all__ = ["ClassChanges", "changes_by_area", "changes_from_classes"]

log = logging.getLogger(__name__)

RECORD, PAGE = "run.json", "report.html"
UNSURE = "The maps of the dates were given. How sure they are is not known, so that there is no confidence of changes."
MEANING = (
    "Confidence is the probability of what was mapped, by the confidences of the maps of the dates, if these err independently, "
    "and a pixel changes between two dates with a probability of {rate:g}. It says nothing of images unlike those that the "
    "model learned from."
)


@dataclass(frozen=True, slots=True)
class ClassChanges:
    """A map of changes between class maps."""

    name: str
    """Of its folder; of a feature of the file of areas it begins with that of the feature."""
    folder: Path
    document: ChangesDocument
    fresh: bool
    """Whether it was made now; it was there already otherwise."""


def changes_by_area(paths: Sequence[str], config: Config, out: Path, *, zones: str | None = None) -> list[MappedChanges]:
    """As ``changes_from_classes``, once, or for each feature of the file of areas of interest, in their order.

    A feature that the first class map does not touch has no changes, and its report says so.
    """
    found = []
    for feature in features_of(config) or (None,):
        try:
            done = changes_from_classes(paths, config, out, zones=zones, feature=feature)
        except OutsideAreaError as error:
            if feature is None:
                raise
            report = SceneReport(scene=feature.folder, status="failed", reason=str(error), left_out=True)
            found.append(MappedChanges(report, out / feature.folder, None))
        else:
            report = SceneReport(scene=done.name, status="done" if done.fresh else "skipped")
            found.append(MappedChanges(report, done.folder, done.document))
    return found


def changes_from_classes(
    paths: Sequence[str],
    config: Config,
    out: Path,
    *,
    zones: str | None = None,
    renew: bool = False,
    feature: Feature | None = None,
) -> ClassChanges:
    """Map first changes of a class between ready class maps into a folder below ``out``, and sum them up.

    Args:
        paths: A class raster a date, the oldest first; the grid is that of the first.
        config: The settings.
        out: The output folder.
        zones: A file of polygons by which areas are summed up.
        renew: Replace the changes of other maps of the same names, with the same settings.
        feature: Of several areas of interest, the one within which changes are mapped, into a folder of its name.

    Raises:
        OutsideAreaError: The first class raster lies outside of the area of interest.
        SceneError: A class raster can't be read, or laid over the first.
        ConfigError: A setting has no meaning here, or can't work.
        OutputError: The folder holds something else.
    """
    if zones is not None:
        check_zones(zones, config.scene.assume_crs, pixel_coords=config.scene.pixel_coords)
    compared = compare(paths, config, feature)
    folder, identity = check_inside(out, compared.name), compared.identity()
    found = None if config.run.overwrite else _finished(folder, identity)
    if found is not None and zones is None and "zones" not in found:
        return ClassChanges(compared.name, folder, found, fresh=False)
    for note in compared.notes:
        log.warning("%s", note)
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = temporary_beside(folder)
    try:
        # Of the same maps, areas are summed up by other zones, or by none.
        replaced = config.run.overwrite or found is not None or (renew and _same_settings(folder, compared))
        with atomic_folder(folder, replace=replaced) as stage:
            _write(compared, identity, stage, work, zones)
    finally:
        remove_tree(work)
    document: ChangesDocument = read_json(folder / SUMMARY, limit=LARGE)
    return ClassChanges(compared.name, folder, document, fresh=True)


def _write(compared: Comparison, identity: str, stage: Path, work: Path, zones: str | None) -> None:
    """Write all files of a map of changes."""
    raster = compared.raster
    if (rules := compared.rules) is not None:
        apply_rules(raster, rules, work / "rules", compared.threads, never)
        raster = recoded(raster, work / "rules")
    totals = Totals(raster.georeference)
    _write_raster(compared, raster, totals, stage, work)
    spool = _write_polygons(compared, raster, stage, work)
    write_coverage(compared, raster, stage, work)
    (stage / "classes.qml").write_text(raster_qml(compared.styles), encoding="utf-8")
    (stage / "polygons.qml").write_text(vector_qml(compared.styles), encoding="utf-8")
    (stage / "classes.tif.aux.xml").write_text(category_names(compared.styles), encoding="utf-8")
    inside = raster.shape[0] * raster.shape[1] if compared.area is None else compared.area.pixels
    compared = replace(compared, counted=totals.pixels)
    for note in compared.empty:
        log.warning("%s", note)
    counted = [(totals.pixels, totals.area_m2)]
    classes = class_areas(compared.styles, counted, inside, placed=raster.georeference.crs is not None)
    record = _record(compared, identity, classes)
    card = {"name": "ready class maps"}
    pictures = draw_changes(compared, spool, stage)
    sections = write_summary(MappedScene.of(record), card, stage / "classes.tif", stage, zones, compared.config)
    write_json(stage / RECORD, record)
    page = _page(compared, classes, [pictures, *sections], measure_sureness(stage))
    (stage / PAGE).write_text(render(page), encoding="utf-8")
    write_changes_item(compared, stage)


def _write_raster(compared: Comparison, raster: ClassRaster, totals: Totals, stage: Path, work: Path) -> None:
    """Write the raster of changes, and how sure it is, where the maps say that; and count it."""

    def read(window: Window) -> U8:
        codes = raster.classes(window)
        totals.add(codes, window)
        return codes

    tags = {"geoseg_scene": compared.name, "geoseg_changes_of": compared.dates[0].class_name}
    cogs = [Cog(stage / "classes.tif", layer_of("classes", compared.styles, tags), [read])]
    if raster.has_confidence and compared.config.run.confidence:
        cogs.append(Cog(stage / "confidence.tif", layer_of("confidence", compared.styles, tags), [raster.confidence]))
    write_cogs(cogs, work / "levels", raster.shape, raster.georeference, _squares(raster), threads=compared.threads)


def _squares(raster: ClassRaster) -> Iterator[Window]:
    """The squares of a raster that may hold data."""
    grid = BlockGrid(*raster.shape, SUPERBLOCK)
    return (grid.core(block) for block in raster.blocks(grid))


def _write_polygons(compared: Comparison, raster: ClassRaster, stage: Path, work: Path) -> FeatureSpool:
    """Write polygons of changes, or of the classes that were asked for."""
    config = compared.config
    names = {style.code: style.name for style in compared.styles}
    asked = config.vector.classes
    wanted = tuple(compared.changes) if asked is None else wanted_codes(asked, names)
    facts = FeatureFacts(
        georeference=raster.georeference,
        class_names=names,
        has_confidence=raster.has_confidence,
        scene=compared.name,
        acquired=compared.dates[-1].acquired,
        model=None,
        model_sha256=None,
        changes=compared.changes,
    )
    # The raster has its minimum mapping unit already.
    options = replace(VectorOptions.of(config.vector, wanted, compared.threads), min_area_m2=0.0)
    exact = compared.area if config.area.aoi_cut == "exact" else None
    spool = vectorize(raster if exact is None else RasterGrown(raster, exact), facts, options, work / "polygons")
    if exact is not None:
        spool = cut_exactly(spool, exact, raster.georeference)
    formats = fitting_formats(config.vector, shown(compared.dates[0].path), raster.georeference)
    write_formats(spool, formats, stage / "polygons", raster, compared.styles, compared.threads, config.vector)
    return spool


def _record(compared: Comparison, identity: str, classes: Sequence[Json]) -> dict[str, Json]:
    """``run.json``."""
    return {
        "geoseg": code_version(),
        "scene": compared.name,
        "status": "done",
        "identity": identity,
        "settings": _settings(compared),
        "model": None,
        "from_classes": True,
        "series": True,
        "dates": [
            {
                "acquired": date.acquired,
                "source": [shown(date.path)],
                "mask": mask and shown(mask),
                "class": date.class_name,
                "made_by": dict(date.made_by),
                **({"confidence": shown(date.raster.confidence_scene.path)} if date.raster.confidence_scene else {}),
            }
            for date, mask in zip(compared.dates, compared.masks, strict=True)
        ],
        "registration": [],
        "changes": {str(code): asdict(change) for code, change in compared.changes.items()},
        "classes": list(classes),
        "warnings": list(compared.notes),
    }


def _page(
    compared: Comparison, classes: Sequence[Mapping[str, Json]], sections: Sequence[Section], sureness: Sureness | None
) -> Page:
    """The report: what changed, of which maps."""
    rows: list[Row] = []
    for one in classes:
        hectares = "-" if one["area_m2"] is None else f"{float(str(one['area_m2'])) / 1e4:,.1f} ha"
        rows.append([str(one["name"]), f"{one['pixels']:,}", hectares])
        if sureness is not None:
            sure = sureness.by_class.get(int(str(one["code"])))
            rows[-1].append("-" if sure is None else f"{sure:.0f} %")
    heads = ("Class", "#Pixels", "#Area", *(("#Mean confidence",) if sureness is not None else ()))
    words = [] if any(date.raster.has_confidence for date in compared.dates) else [Words(UNSURE)]
    table = Section("What changed", (Table.of("Area by class", heads, rows), *words))
    lead = (
        Entry("Changes of", compared.dates[0].class_name),
        Entry("From", compared.names[0]),
        Entry("To", compared.names[-1]),
        *([] if sureness is None else [Entry("Mean confidence", f"{sureness.mean:.0f} %")]),
    )
    minded = [Section("What to mind", (Notes(ranked(compared.notes)),))] if compared.notes else []
    how_sure = [sureness_section(sureness, MEANING.format(rate=compared.config.dates.change_rate))] if compared.sure else []
    parts = (*minded, table, *sections, *how_sure)
    return Page(compared.name, "Map of changes", lead, parts, footer=f"geoseg {code_version()}")


def _same_settings(folder: Path, compared: Comparison) -> bool:
    """Whether a folder holds changes that were made with the settings of these."""
    try:
        record = read_json(folder / RECORD, limit=LARGE)
    except (OSError, ValueError):
        return False
    return isinstance(record, Mapping) and record.get("settings") == _settings(compared)


def _settings(compared: Comparison) -> dict[str, Json]:
    """The settings that the map depends on, as the record has them."""
    return {name: compared.config.public()[name] for name in ("dates", "area", "vector")}


def _finished(folder: Path, identity: str) -> ChangesDocument | None:
    """The summary of an earlier run of the same, where it is there."""
    try:
        record = read_json(folder / RECORD, limit=LARGE)
        document: ChangesDocument = read_json(folder / SUMMARY, limit=LARGE)
    except (OSError, ValueError):
        return None
    same = isinstance(record, Mapping) and record.get("identity") == identity
    return document if same and (folder / "classes.tif").is_file() else None
