"""Damage of buildings between two dates: a class each, or *not analysed* with the reason, and summaries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from geoseg.addresses import split_layer
from geoseg.digits import figure
from geoseg.documents import LARGE, read_json
from geoseg.formats.page.rendering import render
from geoseg.models.model_folder import Model, file_hash
from geoseg.scenes.names import check_inside
from geoseg.scenes.sources import SceneRef
from geoseg.vectors.polygon_file import PolygonFile
from geoseg.vectors.reprojecting import equal_area
from pipeline.config.sections import Config
from pipeline.damage.buildings import Building
from pipeline.damage.case import Case, check_grades
from pipeline.damage.damage_page import damage_page
from pipeline.damage.damage_pictures import damage_pictures
from pipeline.damage.document import DamageDocument, GradedBuilding, summary_of
from pipeline.damage.evaluate import DamageFigures
from pipeline.damage.event import Event, EventGrades
from pipeline.damage.fetched_footprints import footprints_facts
from pipeline.damage.files import Common, areas_of, write_buildings
from pipeline.damage.grading import Grade
from pipeline.damage.settings import CountOptions, EventOptions
from pipeline.damage.sums import summed_up
from pipeline.damage.zones import count_by_zone
from pipeline.files.atomic import full_disks_told, write_json
from pipeline.files.manifest import Manifest
from pipeline.files.run_folder import REPORT, RunFolder
from pipeline.files.version import code_version
from pipeline.publish.run_facts import PAGE
from pipeline.segment.folder import check_out
from pipeline.segment.progress import Progress, Quiet

__all__ = ["SUMMARY", "DamageRun", "keep_figures", "map_damage"]

FREE = ("labels", "label_next")
"""Keys of the identity of a model of an event that may change without anything being overwritten."""
SUMMARY, EVALUATION = "damage.json", "evaluation.json"


@dataclass(frozen=True, slots=True)
class DamageRun:
    """A finished run."""

    folder: Path
    document: DamageDocument
    skipped: str | None = None
    """Reason why there was nothing to do."""


def map_damage(
    ref: SceneRef,
    footprints: str,
    model: Model,
    config: Config,
    out: Path,
    options: CountOptions | None = None,
    *,
    event: EventOptions | None = None,
    progress: Progress | None = None,
) -> DamageRun:
    """Grade every footprint of a file and write what was found to ``out / ref.name``.

    A run that was stopped goes on where it was; one that is done is not done again, but for other labels of the event.

    Args:
        ref: The image before, and after it that after the event.
        footprints: A file of polygons.
        model: A model that grades buildings, or one that maps the classes of damage by pixels, of the image after or of both.
        config: The settings.
        out: The output folder.
        options: How buildings are counted.
        event: Labels of some buildings; the model then gives its encoder and, where it grades buildings, what is expected.
        progress: Shows how it goes.

    Raises:
        ConfigError: The settings don't fit.
        SceneError: An image can't be read or has changed meanwhile, or they can't be laid over each other.
        OutputError: The folder holds other results.
        OutputBusyError: Another run is active there.
    """
    if event is None or not event.wanted:
        check_grades(model.card)
    options, progress = options or CountOptions(), progress or Quiet()
    check_out(out)
    place = RunFolder(check_inside(out, ref.name))
    file = PolygonFile.open(Path(footprints), config.scene.assume_crs).checked()
    zones = None if options.zones is None else PolygonFile.open(Path(options.zones), config.scene.assume_crs).checked(zones=True)
    case = Case.of(ref, footprints, file, model, config)
    learning = Event.of(case, event)
    graded_by = case.graded_by() if learning is None else learning.embedded_by() | learning.learned_from()
    identity = graded_by | _counted_by(options)
    if (finished := _finished(place, identity, FREE, overwrite=config.run.overwrite)) is not None:
        return finished
    values = case.values()
    try:
        with place.held(), full_disks_told(place.folder):
            if learning is not None:
                done = _Graded.by_labels(case, learning, learning.run(place, progress, out / "pixels", options.tolerance_m))
            elif values is not None:
                done = _Graded.of(case, case.by_crops(values, Manifest.open(place.manifest, graded_by), progress))
            else:
                done = _Graded.of(case, case.by_pixels(out / "pixels", options.tolerance_m))
            case.opened.scene.verify_unchanged()
            progress.stage("write")
            document = _write(place.clear_stage(), done, zones, options.cell_m)
            _publish(place, case, identity, document)
    finally:
        place.leave()
    return DamageRun(place.folder, document)


@dataclass(frozen=True, slots=True, eq=False)
class _Graded:
    """A case with its grades."""

    case: Case
    grades: Mapping[int, Grade]
    """By the number of the building."""
    event: Event | None = None
    result: EventGrades | None = None

    @classmethod
    def of(cls, case: Case, found: Iterable[tuple[Building, Grade]]) -> _Graded:
        """Take grades as they come."""
        return cls(case, {building.number: grade for building, grade in found})

    @classmethod
    def by_labels(cls, case: Case, event: Event, result: EventGrades) -> _Graded:
        """Take the grades of a model of the event."""
        return cls(case, result.grades, event, result)

    def maker(self) -> dict[str, str]:
        """What the grades were made by."""
        return self.case.maker() if self.event is None or self.result is None else self.event.maker(self.result)

    def labelled(self, number: int) -> bool | None:
        """Whether the class of a building is that of a label."""
        return None if self.event is None else number in self.event.labels.by_number


def _publish(place: RunFolder, case: Case, identity: Mapping[str, object], document: DamageDocument) -> None:
    facts = {"dates": document["dates"], "model": document["model"], "warnings": document["warnings"]}
    place.publish({"geoseg": code_version(), "scene": case.ref.name, "status": "done", "identity": identity, **facts})
    if not case.config.run.keep:
        place.prune()


def _write(stage: Path, done: _Graded, zones: PolygonFile | None, cell_m: float) -> DamageDocument:
    """All files of a run; returns the summary."""
    case, crs = done.case, done.case.file.crs
    # Areas on the ground, in a CRS that keeps them.
    areas = areas_of([b.geometry for b in case.buildings], crs, equal_area(case.file))
    graded = [
        GradedBuilding.of(building, done.grades[building.number], figure(float(area), 2), labelled=done.labelled(building.number))
        for building, area in zip(case.buildings, areas, strict=True)
    ]
    graded.sort(key=lambda one: one.building.number)
    write_buildings(stage, graded, crs, Common.of(case.opened.scene, done.maker()))
    document = summary_of(case.opened, case.footprints, done.maker(), graded)
    if (source := footprints_facts(Path(case.footprints))) is not None:
        document["footprints_from"] = source
    if done.event is not None and done.result is not None:
        done.event.write(stage, done.result)
        document["event_model"] = done.event.entry(done.result)
        document["warnings"] += done.event.warnings(done.result)
    if case.area is not None:
        document["area_of_interest"] = case.area
    if crs is not None:
        document["grid"] = summed_up(stage, cell_m)
    if zones is not None:
        document["zones"] = count_by_zone(stage, zones, graded, crs)
    document["files"] = sorted([*(path.name for path in stage.iterdir()), PAGE])
    write_json(stage / SUMMARY, document)
    _write_page(stage, case, graded, document)
    return document


def _write_page(stage: Path, case: Case, graded: Sequence[GradedBuilding], document: DamageDocument) -> None:
    name, names = case.ref.name, sorted([*(path.name for path in stage.iterdir()), REPORT])
    pictures = damage_pictures(graded, case.opened, case.model.card.bands, name)
    page = damage_page(name, document, graded, pictures, case.model, case.config.public(), names)
    (stage / PAGE).write_text(render(page), encoding="utf-8")


def _counted_by(options: CountOptions) -> dict[str, object]:
    """The identity of what buildings are counted by."""
    return {
        "zones": options.zones and _mark(options.zones),
        "cell_m": options.cell_m,
        "tolerance_m": options.tolerance_m,
    }


def _mark(zones: str) -> str:
    """The identity of a file of zones, and of the layer that was named."""
    path, layer = split_layer(zones)
    return file_hash(path) if layer is None else f"{file_hash(path)} {layer}"


def keep_figures(folder: Path, figures: DamageFigures) -> None:
    """Put the figures of graded buildings against a truth beside them."""
    place = RunFolder(folder)
    with place.held():
        write_json(place.clear_stage() / EVALUATION, figures)
        place.amend()
    place.leave()


def _finished(place: RunFolder, identity: Mapping[str, object], free: Sequence[str], *, overwrite: bool) -> DamageRun | None:
    """An earlier run with the same result; None where there is none, or one that differs in what is ``free`` to.

    Raises:
        OutputError: The folder holds other results, which are not to be replaced, or files of somebody.
    """
    place.settle()
    place.refuse_foreign()
    found = place.finished(identity)
    if found is not None and not (found.code and overwrite):
        document: DamageDocument = read_json(place.folder / SUMMARY, limit=LARGE)
        return DamageRun(place.folder, document, skipped=found.reason)
    record = place.record()
    if not overwrite and not (record is not None and set(record.differing(identity)) <= {*free}):
        place.refuse_other(identity)
    return None
