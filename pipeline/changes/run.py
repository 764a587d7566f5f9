"""Loss and gain of forest, or of another class, between dates of one place: a map, its summary, and zones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from geoseg.crs import between
from geoseg.dialect import number_of
from geoseg.documents import LARGE, Json, read_json
from geoseg.errors import ConfigError, OutputError, SceneError
from geoseg.formats.page.earlier import earlier_pictures
from geoseg.formats.page.elements import Section
from geoseg.models.card import Card
from geoseg.models.ensemble import AnyModel
from geoseg.scenes.names import check_inside, folder_name
from geoseg.scenes.opening import open_scene
from geoseg.scenes.scene import OpenOptions
from geoseg.scenes.sources import SceneRef, list_scenes
from geoseg.scenes.stac.search import StacSearch
from geoseg.vectors.polygon_file import PolygonFile
from pipeline.changes.document import ChangesDocument, MappedScene
from pipeline.changes.summary_files import SUMMARY, write_summary
from pipeline.config.sections import Config
from pipeline.files.owned import Record
from pipeline.files.run_folder import RunFolder
from pipeline.infer.workers import LocalWorkers, OpenWorkers
from pipeline.plan.dates import check_twice
from pipeline.plan.options import scene_options, stac_search
from pipeline.publish.report import SceneReport
from pipeline.publish.run_facts import PAGE
from pipeline.publish.scene_page import write_scene_page
from pipeline.segment.folder import check_out, segment_folder, segment_or_report
from pipeline.segment.progress import Progress, Quiet
from pipeline.summarize.zones import check_zones

__all__ = ["SUMMARY", "MappedChanges", "map_changes", "pair_of", "pair_under"]

MODEL = "model.json"
CLASSES = "classes.tif"


@dataclass(frozen=True, slots=True)
class MappedChanges:
    """A finished run."""

    report: SceneReport
    """Of the run."""
    folder: Path
    """Folder of its files."""
    document: ChangesDocument | None
    """The summary; None where nothing was mapped."""


def pair_of(inputs: Sequence[str], *, allow_vrt: bool = False, search: StacSearch | None = None) -> SceneRef:
    """The dates of one place as one scene, in the order beside; ``search`` says which assets of STAC items are taken.

    Raises:
        ConfigError: There are fewer than two, or one names no scene or several.
    """
    if len(inputs) < 2:
        raise ConfigError(f"inputs: {len(inputs)} date; give at least two, the oldest first")
    refs = []
    for text in inputs:
        found, refused = list_scenes([text], allow_vrt=allow_vrt, search=search)
        if refused:
            raise ConfigError(f"inputs: {refused[0].reason}")
        if len(found) != 1:
            raise ConfigError(
                f"inputs: {text}: {number_of(len(found), 'scene')}; each date is one scene: a raster, a product, a folder of "
                "band files, or a STAC item"
            )
        refs.append(found[0])
    check_twice(inputs, [ref.paths for ref in refs])
    stems = [Path(ref.name).name for ref in refs]
    return replace(refs[0], name=folder_name(f"{stems[0]}_to_{stems[-1]}"), later=tuple(refs[1:]))


def pair_under(config: Config, inputs: Sequence[str], bands: Sequence[str]) -> SceneRef:
    """The dates as ``pair_of`` takes them, under a configuration; by the bands of the model assets of items are chosen."""
    return pair_of(inputs, allow_vrt=config.scene.allow_vrt, search=stac_search(config, bands))


def map_changes(
    ref: SceneRef,
    model: AnyModel,
    config: Config,
    out: Path,
    *,
    zones: str | None = None,
    open_workers: OpenWorkers = LocalWorkers,
    progress: Progress | None = None,
    alone: bool = True,
) -> MappedChanges:
    """Map changes between the dates of a scene into ``out / ref.name``, and sum them up.

    Args:
        ref: The dates; see ``pair_of``.
        model: A model of single dates, or one that compares dates.
        config: The settings.
        out: The output folder.
        zones: A file of polygons by which areas are summed up.
        open_workers: Where chunks are done.
        progress: Shows how it goes.
        alone: Whether this is all that the output folder is for, so that its index is written, too.

    Raises:
        ConfigError: The settings don't fit.
        OutputError: The folder can't be written, or holds other results.
        Interrupted: The run was stopped.
    """
    if zones is not None:
        file = check_zones(zones, config.scene.assume_crs, pixel_coords=config.scene.pixel_coords)
        _check_place(file, ref, scene_options(config))
    beside = _Beside(zones, config)
    if alone:
        (report,) = segment_folder([ref], [], model, config, out, open_workers, progress, beside.write)
    else:
        check_out(out)
        report = segment_or_report(ref, model, config, out, progress or Quiet(), open_workers, beside.write)
    place = RunFolder(check_inside(out, ref.name))
    if report.left_out:
        report = replace(report, status="failed")
    if report.status == "failed":
        return MappedChanges(report, place.folder, None)
    if report.status == "skipped":
        _renew(place, beside)
    document: ChangesDocument = _read(place.folder / SUMMARY)
    return MappedChanges(report, place.folder, document)


def _check_place(zones: PolygonFile, ref: SceneRef, options: OpenOptions) -> None:
    """Refuse zones on a map of their own before anything is computed; all others have a place on Earth."""
    if zones.crs is None or zones.crs.geodetic_crs is not None:
        return
    try:
        crs = open_scene(ref.paths[:1], options=options).georeference.crs
    except SceneError:
        # The run says what is wrong with it.
        return
    if crs is not None:
        between(zones.crs, crs)


@dataclass(frozen=True, slots=True)
class _Beside:
    """Writes what is asked for beside the map."""

    zones: str | None
    config: Config

    def write(self, folder: Path, run: Mapping[str, Json], *, map_folder: Path | None = None) -> Sequence[Section]:
        """Write the summary, its table, and what zones there are, of the map in a folder or in another.

        Returns:
            What the page says of them.
        """
        where = map_folder or folder
        return write_summary(MappedScene.of(run), _read(where / MODEL), where / CLASSES, folder, self.zones, self.config)


def _renew(place: RunFolder, beside: _Beside) -> None:
    """Beside a map of an earlier run: other zones, or what is missing or was changed of its summary."""
    record = place.record()
    assert record is not None
    companions = [name for name in record.document.get("companions", ()) if name in record.files]
    whole = SUMMARY in companions and all(record.files[name].hold(place.folder / name) for name in companions)
    if whole and beside.zones is None and "zones" not in _read(place.folder / SUMMARY):
        return
    with place.held():
        stage = place.clear_stage()
        sections = beside.write(stage, record.document, map_folder=place.folder)
        if PAGE in record.files:
            _renew_page(place, record, sections, gone=companions)
        place.amend(companions)
    place.leave()


def _renew_page(place: RunFolder, record: Record, sections: Sequence[Section], *, gone: Sequence[str]) -> None:
    """The page beside a map of an earlier run, with its pictures, and what is said now."""
    card = Card.model_validate(_read(place.folder / MODEL)["geoseg"])
    names = {name for name in record.files if name not in gone} | {path.name for path in place.stage.iterdir()}
    pictures = earlier_pictures(place.folder / PAGE)
    write_scene_page(place.stage, record.document, card, pictures, sections, where=place.folder, names=names)


def _read(path: Path) -> Any:
    try:
        return read_json(path, limit=LARGE)
    except (OSError, ValueError) as error:
        raise OutputError(f"{path}: can't be read: {error}; run again with --overwrite") from error
