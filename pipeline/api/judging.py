"""Verbs that read maps: against a truth, by a sample, by cells, and as a delivery."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from geoseg.errors import ConfigError
from pipeline.api.given import call, check_names, paths, text
from pipeline.api.keywords import AreaSettings, DeliverSettings, EvaluateSettings, MatchSettings, SampleSettings, ScreenSettings

if TYPE_CHECKING:
    from typing import Unpack

    from pipeline.deliver.run import Delivered
    from pipeline.evaluate.match_document import Matched
    from pipeline.evaluate.run import Evaluation
    from pipeline.evaluate.settings import TruthOptions
    from pipeline.evaluate.value_run import ValueEvaluation
    from pipeline.sample.allocation import Drawn
    from pipeline.sample.areas_file import AreaDocument
    from pipeline.sample.building_numbers import NumberDocument
    from pipeline.screen.run import Screened

    type_of_path = str | PathLike[str]

__all__ = ["area", "deliver", "evaluate", "match", "sample", "screen"]


def evaluate(
    maps: type_of_path | Sequence[type_of_path],
    truth: type_of_path,
    *,
    out: type_of_path | None = None,
    **settings: Unpack[EvaluateSettings],
) -> Evaluation | ValueEvaluation:
    """Compare maps with their truth: confusion matrix, IoU, Dice, kappa, MCC, boundaries, and 95 % intervals.

    Maps of values are compared with rasters of numbers: RMSE, MAE, bias and R2.

    Args:
        maps: Class rasters, globs, folders of them, or what ``segment`` wrote.
        truth: A class raster or a vector file for all maps, or a folder with one for each, of the same name.
        out: A folder for the report; without it nothing is written.
        settings: Those of ``geoseg evaluate --help``; ``map`` and ``names`` are dictionaries, ``rename`` is a pair; ``baseline``
            has the images of the maps, to judge classical methods on the same pixels.

    Returns:
        What was found; ``.document`` has all figures.

    Raises:
        ConfigError: A setting is unknown or can't work, or maps and truths don't fit each other.
        SceneError: A raster can't be read.
        OutputError: The folder is there already.
    """
    check_names(EvaluateSettings, settings)
    from pipeline.evaluate.report import write_evaluation
    from pipeline.evaluate.run import evaluate as compare
    from pipeline.evaluate.settings import MeasureOptions, TruthOptions
    from pipeline.evaluate.value_maps import find_value_maps, refuse_class_options
    from pipeline.evaluate.value_report import write_value_evaluation
    from pipeline.evaluate.value_run import evaluate_values
    from pipeline.files.outputs import check_new_folder

    overwrite = settings.get("overwrite", False)
    if out is not None:
        check_new_folder(Path(out), overwrite=overwrite)
    reading = call(
        TruthOptions,
        values=settings.get("map"),
        column=settings.get("column"),
        outside=settings.get("outside"),
        plain=settings.get("plain"),
        assume_crs=settings.get("assume_crs"),
    )
    measured = call(MeasureOptions, **{key: settings.get(key) for key in ("boundary", "isbi", "seed")})
    own = {key: settings.get(key) for key in ("names", "rename", "allow_unpaired")}
    if of_values := find_value_maps(paths(maps)):
        del own["names"]
        refuse_class_options(text(truth), reading, measured, settings.get("names"), baselines=bool(settings.get("baseline")))
        values = call(evaluate_values, of_values, text(truth), measured, **own)
        if out is not None:
            write_value_evaluation(values, Path(out), overwrite=overwrite)
        return values
    found = call(compare, paths(maps), text(truth), truth_options=reading, options=measured, **own)
    found = _with_baselines(found, reading, settings)
    if out is not None:
        write_evaluation(found, Path(out), overwrite=overwrite)
    return found


def _with_baselines(found: Evaluation, reading: TruthOptions, settings: EvaluateSettings) -> Evaluation:
    if not settings.get("baseline"):
        return found
    from pipeline.evaluate.classical import with_baselines
    from pipeline.evaluate.settings import BaselineOptions

    given = {key: settings.get(f"baseline_{key}") for key in ("train", "bands", "methods")}
    options = call(BaselineOptions, images=paths(settings["baseline"]), seed=settings.get("seed"), **given)
    return with_baselines(found, options, reading)


def match(found: type_of_path, truth: type_of_path, **settings: Unpack[MatchSettings]) -> Matched:
    """Match objects with a truth, or with another date, one to one: F1, average precision, panoptic quality.

    Args:
        found: A file of polygons, or what ``segment`` wrote.
        truth: A file of polygons, in any CRS.
        settings: Those of ``geoseg match --help``; ``sizes`` are areas with units, such as ``["50m2", "200m2"]``.

    Returns:
        What was found; ``.document`` has all figures, ``.pairs`` the ids of objects that match, with their IoU.

    Raises:
        ConfigError: A setting is unknown or can't work, or a file can't be read.
        OutputError: A file is there already.
    """
    check_names(MatchSettings, settings)
    from pipeline.config.units import parse_area
    from pipeline.evaluate.match import match_files
    from pipeline.evaluate.match_files import write_matched
    from pipeline.evaluate.settings import MatchOptions
    from pipeline.files.outputs import check_new_file

    files = [None if path is None else Path(path) for path in (settings.get("out"), settings.get("pairs"))]
    for file in files:
        if file is not None:
            check_new_file(file, overwrite=settings.get("overwrite", False))
    counted = {key: settings.get(key) for key in ("iou", "classes", "score")}
    own = {key: settings.get(key) for key in ("within", "assume_crs")}
    sizes = settings.get("sizes")
    try:
        limits = None if sizes is None else [parse_area(size) for size in sizes]
    except ValueError as error:
        raise ConfigError(f"sizes: {error}") from error
    matched = call(match_files, text(found), text(truth), call(MatchOptions, sizes=limits, **counted), **own)
    write_matched(matched, *files)
    return matched


def sample(class_map: type_of_path, *, out: type_of_path, **settings: Unpack[SampleSettings]) -> Drawn:
    """Draw a stratified random sample of a map, for people to label in QGIS.

    Args:
        class_map: The class raster; or the output folder of ``grade_damage``, of which buildings are drawn.
        out: The file to write: .gpkg.
        settings: Those of ``geoseg sample --help``; ``buffer`` is in metres, ``blocks`` in pixels, ``expected`` by class.

    Returns:
        What was drawn: units by stratum, areas, and the standard error that is expected.

    Raises:
        ConfigError: A setting is unknown or does not fit the map.
        SceneError: The map can't be read.
        OutputError: The file is there already.
    """
    check_names(SampleSettings, settings)
    from pipeline.sample.draw import check_target
    from pipeline.sample.run import draw
    from pipeline.sample.settings import SampleSettings as Drawing

    check_target(Path(out), overwrite=settings.get("overwrite", False))
    own = {key: settings.get(key) for key in ("size", "target_se", "expected", "allocation", "least", "sure", "seed")}
    around, images = tuple(settings.get("around", ())), tuple(settings.get("images", ()))
    drawing = call(Drawing, buffer_m=settings.get("buffer"), block=settings.get("blocks"), around=around, images=images, **own)
    strata = settings.get("strata")
    return draw(text(class_map), Path(out), drawing, strata_path=None if strata is None else text(strata))


def area(class_map: type_of_path, sample: type_of_path, **settings: Unpack[AreaSettings]) -> AreaDocument | NumberDocument:
    """Estimate areas of classes or numbers of buildings, and the accuracy of a map, from a labelled sample.

    Args:
        class_map: The class raster, or the output folder of ``grade_damage``.
        sample: The labelled sample, as ``sample`` has drawn it.
        settings: Those of ``geoseg area --help``; ``value`` maps values of the reference to classes.

    Returns:
        The figures, as ``geoseg area --out`` writes them; areas are in square metres; intervals are at 95 %.

    Raises:
        ConfigError: A setting is unknown, or it is no labelled sample of this map.
        SceneError: The map or the reference can't be read.
        OutputError: A file is there already.
    """
    check_names(AreaSettings, settings)
    from pipeline.files.outputs import check_new_file
    from pipeline.sample.numbers_page import write_estimates_page
    from pipeline.sample.response import Reference
    from pipeline.sample.run import estimate, write_estimates

    known = Reference.of(settings.get("reference"), settings.get("column"), settings.get("outside"), settings.get("value") or {})
    out, table, page = (None if (path := settings.get(key)) is None else Path(str(path)) for key in ("out", "table", "page"))
    for file in (out, table, page):
        if file is not None:
            check_new_file(file, overwrite=settings.get("overwrite", False))
    dropped, zones = settings.get("nonresponse"), settings.get("zones")
    found = call(
        estimate,
        text(class_map),
        Path(sample),
        reference=known,
        zones=None if zones is None else Path(zones),
        drop=None if dropped is None else dropped == "drop",
        correction=settings.get("correction"),
    )
    write_estimates(found, out, table)
    if page is not None:
        write_estimates_page(found, page)
    return found


def deliver(folder: type_of_path, *, out: type_of_path, event: str, **settings: Unpack[DeliverSettings]) -> Delivered:
    """Make a folder of layers, tables and a map sheet of a result, in the manner of Copernicus EMS.

    Args:
        folder: The output of ``deforestation``, ``grade_damage`` or ``segment``.
        out: The folder to make.
        event: What happened, and where: the title of the map.
        settings: Those of ``geoseg deliver --help``; ``cell`` and ``radius`` are lengths with units, such as ``"500m"``.

    Raises:
        ConfigError: A setting is unknown or can't work, or the folder holds no result.
        OutputError: The folder is there already.
    """
    check_names(DeliverSettings, settings)
    from pipeline.config.delivering import DeliveryConfig
    from pipeline.deliver.run import deliver as make
    from pipeline.deliver.terms import Terms, metres_of

    lengths = {f"{key}_m": metres_of(key, str(settings[key])) for key in ("cell", "radius") if key in settings}
    several = {key: tuple(dict.fromkeys(settings[key])) for key in ("also", "interest") if key in settings}
    named = ("code", "aoi_id", "product", "version", "producer", "date", "disclaimer", "licence")
    own = {key: settings.get(key) for key in named}
    file, said = settings.get("config"), {key: value for key, value in settings.items() if key in DeliveryConfig.model_fields}
    given = DeliveryConfig.read(None if file is None else Path(file), said)
    sample = settings.get("sample")
    labelled = None if sample is None else Path(sample)
    terms = call(Terms, event=event, given=given, sample=labelled, **own, **several, **lengths)
    aoi = settings.get("aoi")
    return call(
        make,
        Path(folder),
        Path(out),
        terms,
        aoi=None if aoi is None else Path(aoi),
        assume_crs=settings.get("assume_crs"),
        as_zip=settings.get("zip"),
        overwrite=settings.get("overwrite"),
    )


def screen(
    maps: type_of_path | Sequence[type_of_path], wanted: str | int, *, out: type_of_path, **settings: Unpack[ScreenSettings]
) -> Screened:
    """Rank the cells of a coarse grid by a class: where to look first for what is rare.

    Args:
        maps: Class rasters, folders of them, or what ``segment`` wrote.
        wanted: The class, by name or code.
        out: The file to write: .geojson.
        settings: Those of ``geoseg screen --help``; ``cell`` has a unit, such as ``"64px"`` or ``"1km"``.

    Raises:
        ConfigError: A setting is unknown or can't work, or no map has the class.
        OutputError: The file is there already.
    """
    check_names(ScreenSettings, settings)
    from geoseg.scenes.scene import OpenOptions
    from pipeline.screen.run import screen as rank
    from pipeline.screen.settings import CELL, ScreenOptions

    cell = settings.get("cell", CELL)
    kept = call(ScreenOptions, at_least=settings.get("at_least"), top=settings.get("top"))
    own = {key: settings.get(key) for key in ("names", "overwrite")}
    options = OpenOptions(assume_crs=settings.get("assume_crs"))
    return call(rank, paths(maps), str(wanted), cell, Path(out), kept=kept, options=options, **own)
