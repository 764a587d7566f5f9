"""Grading buildings, with footprints that are found where none are given, and with a truth to judge by."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.api.given import call, text
from pipeline.api.scene_map import Maps, SceneMap, of_areas

if TYPE_CHECKING:
    from geoseg.errors import OutsideAreaError
    from geoseg.scenes.sources import SceneRef
    from pipeline.api.keywords import GradeDamageSettings
    from pipeline.config.sections import Config
    from pipeline.segment.progress import Progress

__all__ = ["grade"]

BUILDINGS = "buildings"


def grade(
    images: tuple[str, str], model: str | None, out: Path, config: Config, progress: Progress, settings: GradeDamageSettings
) -> SceneMap | Maps:
    """Grade the buildings between two images; see ``grade_damage``."""
    from pipeline.changes.run import pair_under
    from pipeline.damage.buildings import open_pair
    from pipeline.damage.case import model_for
    from pipeline.damage.evaluate import judge_damage
    from pipeline.damage.fetched_footprints import footprints_for
    from pipeline.damage.run import keep_figures, map_damage
    from pipeline.damage.settings import FINDER, TRUTH_COLUMN, CountOptions, EventOptions
    from pipeline.plan.within import each_area, refs_in

    event = call(
        EventOptions,
        labels=tuple(text(path) for path in settings.get("labels", ())),
        label_column=settings.get("label_column"),
        label_next=settings.get("label_next"),
        weights=settings.get("weights"),
    )
    loaded = model_for(model, event)
    ref = pair_under(config, images, loaded.card.bands)
    footprints, truth = settings.get("footprints"), settings.get("truth")
    outside = list[SceneMap]()
    counting = call(CountOptions, zones=settings.get("zones"), cell_m=settings.get("cell"), tolerance_m=settings.get("tolerance"))
    given = None if footprints is None else text(footprints)

    def make(one: SceneRef) -> SceneMap:
        file = footprints_for(one, given, settings.get("buildings", FINDER), loaded.card, config, out, progress)
        done = map_damage(one, file, loaded, config, out, counting, event=event, progress=progress)
        if truth is not None:
            column = settings.get("truth_column", TRUTH_COLUMN)
            scene = open_pair(one, loaded.card, config).scene
            keep_figures(done.folder, judge_damage(done.folder / f"{BUILDINGS}.gpkg", Path(truth), column, scene))
        status = "done" if done.skipped is None else "skipped"
        return SceneMap(one.name, status, done.skipped, done.folder, BUILDINGS)

    def left_out(one: SceneRef, error: OutsideAreaError) -> None:
        outside.append(SceneMap(one.name, "failed", str(error), out / one.name, BUILDINGS))

    try:
        made = each_area(ref, config, make, left_out)
    finally:
        progress.close()
    order = [one.name for one in refs_in([ref], config)]
    return of_areas(sorted([*made, *outside], key=lambda one: order.index(one.name)), config)
