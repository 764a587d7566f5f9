"""Damage of buildings between two dates: a class each, or *not analysed* with the reason, and summaries."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import shapely

from geoseg.addresses import split_layer
from geoseg.codes import UNGRADED
from geoseg.damage.scale import CLASSES
from geoseg.digits import figure
from geoseg.documents import LARGE, read_json
from geoseg.errors import ConfigError, OutsideAreaError
from geoseg.formats.page.rendering import render
from geoseg.models.card import Card
from geoseg.models.model_folder import Model, file_hash
from geoseg.scenes.bands.value_map import ValueMap
from geoseg.scenes.names import check_inside
from geoseg.scenes.sources import SceneRef
from geoseg.vectors.polygon_file import PolygonFile
from geoseg.vectors.reprojecting import equal_area
from pipeline.config.sections import Config
from pipeline.damage.buildings import Building, buildings_in, collect_buildings, open_pair
from pipeline.damage.damage_page import damage_page
from pipeline.damage.damage_pictures import damage_pictures
from pipeline.damage.document import AreaEntry, DamageDocument, GradedBuilding, GridEntry, summary_of
from pipeline.damage.evaluate import DamageFigures
from pipeline.damage.files import LAYER, areas_of, write_buildings
from pipeline.damage.grading import Grade, classes_of_damage, grade_by_crops, grade_by_pixels
from pipeline.damage.settings import CountOptions
from pipeline.damage.zones import count_by_zone
from pipeline.files.atomic import write_json
from pipeline.files.manifest import Manifest
from pipeline.files.run_folder import REPORT, RunFolder
from pipeline.files.version import code_version
from pipeline.plan.dates import OpenedDates
from pipeline.plan.domain import look_at
from pipeline.plan.rescale import rescale_of, values_of
from pipeline.plan.within import area_of
from pipeline.publish.run_facts import PAGE
from pipeline.segment.folder import check_out
from pipeline.segment.progress import Progress, Quiet
from pipeline.summarize.cells import write_grid
from pipeline.summarize.density import write_density

__all__ = ["SUMMARY", "DamageRun", "keep_figures", "map_damage"]

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
    progress: Progress | None = None,
) -> DamageRun:
    """Grade every footprint of a file and write what was found to ``out / ref.name``.

    A run that was stopped goes on where it was; one that is done is not done again.

    Args:
        ref: The image before, and after it that after the event.
        footprints: A file of polygons.
        model: A model that grades buildings, or one that maps the classes of damage by pixels, of the image after or of both.
        config: The settings.
        out: The output folder.
        options: How buildings are counted.
        progress: Shows how it goes.

    Raises:
        ConfigError: The settings don't fit.
        SceneError: An image can't be read or has changed meanwhile, or they can't be laid over each other.
        OutputError: The folder holds other results.
        OutputBusyError: Another run is active there.
    """
    _refuse_model(model.card)
    options = options or CountOptions()
    progress = progress or Quiet()
    check_out(out)
    place = RunFolder(check_inside(out, ref.name))
    file = PolygonFile.open(Path(footprints), config.scene.assume_crs).checked()
    zones = None if options.zones is None else PolygonFile.open(Path(options.zones), config.scene.assume_crs).checked()
    case = _Case.of(ref, footprints, file, model, config)
    graded_by = case.graded_by()
    identity = graded_by | _counted_by(options)
    place.settle()
    if (finished := _finished(place, identity, overwrite=config.run.overwrite)) is not None:
        return finished
    values = case.values()
    try:
        with place.held():
            if values is not None:
                found = case.by_crops(values, Manifest.open(place.manifest, graded_by), progress)
            else:
                found = case.by_pixels(out / "pixels", options.tolerance_m)
            grades = {building.number: grade for building, grade in found}
            case.opened.scene.verify_unchanged()
            progress.stage("write")
            document = _write(place.clear_stage(), case, grades, zones, options.cell_m)
            _publish(place, case, identity, document)
    finally:
        place.leave()
    return DamageRun(place.folder, document)


def _publish(place: RunFolder, case: _Case, identity: Mapping[str, object], document: DamageDocument) -> None:
    facts = {"dates": document["dates"], "model": document["model"], "warnings": document["warnings"]}
    place.publish({"geoseg": code_version(), "scene": case.ref.name, "status": "done", "identity": identity, **facts})
    if not case.config.run.keep:
        place.prune()


def _refuse_model(card: Card) -> None:
    if card.damage is None and classes_of_damage(card) is None:
        raise ConfigError(
            f"model: {card.name} maps pixels of {', '.join(c.name for c in card.classes)}; give one that grades buildings "
            f"(geoseg train-damage), or one that maps {', '.join(CLASSES)}"
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Case:
    """The buildings of a pair of images, and what they are graded by."""

    ref: SceneRef
    footprints: str
    file: PolygonFile
    opened: OpenedDates
    buildings: list[Building]
    """In the order in which the images are read."""
    model: Model
    config: Config
    area: AreaEntry | None = None
    """The area of interest, outside of which no buildings are graded."""

    def graded_by(self) -> dict[str, object]:
        """All that the grades depend on."""
        return {
            "scene": self.opened.scene.fingerprint,
            "dates": [date.acquired for date in self.opened.scene.dates],
            "model": self.model.sha256,
            "config": self.config.chunk_hash(),
            "code": code_version(),
            "footprints": _digest(self.buildings),
            **({} if self.area is None else {"area": self.area}),
        }

    @classmethod
    def of(cls, ref: SceneRef, footprints: str, file: PolygonFile, model: Model, config: Config) -> _Case:
        """Open the images and lay the footprints over them."""
        opened = open_pair(ref, model.card, config)
        area = area_of(opened.scene, config, ref.area)
        every = collect_buildings(file, opened, file.fields)
        if area is None:
            return cls(ref, footprints, file, opened, every, model, config)
        kept = buildings_in(every, area)
        if not kept:
            raise OutsideAreaError(f"{file.path}: none of its {len(every):,} footprints lies in the area of interest")
        entry: AreaEntry = {"sha256": area.digest, "left_out": len(every) - len(kept)}
        return cls(ref, footprints, file, opened, kept, model, config, entry)

    def by_pixels(self, out: Path, tolerance_m: float) -> Iterator[tuple[Building, Grade]]:
        """Grades of the buildings from a map of the classes of damage."""
        return grade_by_pixels(self.buildings, self.file.crs, self.ref, self.model, self.config, out, tolerance_m)

    def by_crops(self, values: ValueMap, manifest: Manifest, progress: Progress) -> Iterator[tuple[Building, Grade]]:
        """Grades of the buildings, one by one."""
        counter, threads = _Counter(progress, len(self.buildings)), self.config.infer.threads
        return grade_by_crops(self.buildings, self.opened, self.model, values, manifest, threads=threads, tell=counter.add)

    def values(self) -> ValueMap | None:
        """Conversion of pixels to values of a model that grades crops; None for one that maps pixels."""
        opened, card, asked = self.opened, self.model.card, self.config.scene.rescale
        if card.damage is None:
            return None
        looks = look_at(opened.scene, opened.bands, len(card.bands)) if asked == "auto" else ()
        rescale = rescale_of(opened.scene, opened.bands, asked, card, looks)
        return values_of(opened.scene, opened.bands, card, rescale.ranges, opened.lines)


def _write(stage: Path, case: _Case, grades: Mapping[int, Grade], zones: PolygonFile | None, cell_m: float) -> DamageDocument:
    """All files of a run; returns the summary."""
    crs = case.file.crs
    # Areas on the ground, in a CRS that keeps them.
    areas = areas_of([b.geometry for b in case.buildings], crs, equal_area(case.file))
    graded = [
        GradedBuilding.of(building, grades[building.number], figure(float(area), 2))
        for building, area in zip(case.buildings, areas, strict=True)
    ]
    graded.sort(key=lambda one: one.building.number)
    write_buildings(stage, graded, crs, case.opened.scene, case.model)
    document = summary_of(case.opened, case.footprints, case.model, graded)
    if case.area is not None:
        document["area_of_interest"] = case.area
    if crs is not None:
        document["grid"] = _summed_up(stage, cell_m)
    if zones is not None:
        document["zones"] = count_by_zone(stage, zones, graded, crs)
    document["files"] = sorted([*(path.name for path in stage.iterdir()), PAGE])
    write_json(stage / SUMMARY, document)
    _write_page(stage, case, graded, document)
    return document


def _write_page(stage: Path, case: _Case, graded: Sequence[GradedBuilding], document: DamageDocument) -> None:
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


class _Counter:
    """Tells a progress how many buildings are done."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def add(self, count: int) -> None:
        """So many more are."""
        self._done += count
        self._progress.part("buildings", self._done, self._total)


def _summed_up(folder: Path, cell_m: float) -> GridEntry:
    """Counts in cells and the density of what is destroyed, beside the buildings."""
    buildings, destroyed = folder / "buildings.gpkg", (CLASSES[-1],)
    grid = write_grid(buildings, folder / "grid.gpkg", destroyed, side_m=cell_m, without=(UNGRADED,), layer=LAYER)
    write_density(buildings, folder / "density.tif", destroyed, radius_m=cell_m, layer=LAYER)
    return {"cell_m": cell_m, "cells": grid.cells, "crs": grid.crs}


def _digest(buildings: Sequence[Building]) -> str:
    """sha256 of what is graded: names and shapes, in their order."""
    digest = hashlib.sha256()
    for building in buildings:
        digest.update(f"{building.number} {building.name}\n".encode())
        digest.update(b"" if building.geometry is None else shapely.to_wkb(building.geometry))
    return digest.hexdigest()


def _finished(place: RunFolder, identity: Mapping[str, object], *, overwrite: bool) -> DamageRun | None:
    """An earlier run with the same result; None where there is none.

    Raises:
        OutputError: The folder holds other results, which are not to be replaced, or files of somebody.
    """
    place.refuse_foreign()
    found = place.finished(identity)
    if found is not None and not (found.code and overwrite):
        document: DamageDocument = read_json(place.folder / SUMMARY, limit=LARGE)
        return DamageRun(place.folder, document, skipped=found.reason)
    if not overwrite:
        place.refuse_other(identity)
    return None
