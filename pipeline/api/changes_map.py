"""Changes between dates: of two scenes or a series, of mosaics, or of ready class maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.api.scene_map import Maps, SceneMap, of_areas

if TYPE_CHECKING:
    from geoseg.models.ensemble import AnyModel
    from pipeline.api.keywords import DeforestationSettings
    from pipeline.changes.of_mosaics import MosaicChanges
    from pipeline.changes.run import MappedChanges
    from pipeline.config.sections import Config
    from pipeline.segment.progress import Progress

__all__ = ["map_dates"]


def map_dates(
    dates: Sequence[str],
    models: Sequence[str] | None,
    out: Path,
    config: Config,
    progress: Progress,
    settings: DeforestationSettings,
) -> SceneMap | Maps:
    """Map changes between dates; see ``deforestation``."""
    from geoseg.models.ensemble import load_models
    from pipeline.changes.run import map_changes, pair_under
    from pipeline.infer.choose import workers_for
    from pipeline.plan.within import refs_in

    zones = settings.get("zones")
    if models is None:
        from pipeline.changes.from_classes import changes_by_area

        return of_areas([_map_of(one) for one in changes_by_area(dates, config, out, zones=zones)], config)
    loaded = load_models(models)
    if settings.get("mosaic"):
        return _of_mosaics(dates, loaded, config, out, zones, progress)
    refs = refs_in([pair_under(config, dates, loaded.card.bands)], config)
    try:
        with workers_for(config) as workers:
            every = [map_changes(ref, loaded, config, out, zones=zones, open_workers=workers, progress=progress) for ref in refs]
    finally:
        progress.close()
    return of_areas([_map_of(one) for one in every], config)


def _map_of(done: MappedChanges) -> SceneMap:
    return SceneMap(done.report.scene, done.report.status, done.report.reason, done.folder)


def _of_mosaics(
    dates: Sequence[str], model: AnyModel, config: Config, out: Path, zones: str | None, progress: Progress
) -> SceneMap | Maps:
    """Changes between mosaics of the scenes of each date."""
    from pipeline.changes.of_mosaics import DateScenes, changes_of_mosaics
    from pipeline.infer.choose import workers_for
    from pipeline.plan.inputs import scenes_to_map

    scenes = [DateScenes(*scenes_to_map([text], config, model.card.bands, out)) for text in dates]
    try:
        with workers_for(config) as workers:
            every = changes_of_mosaics(scenes, model, config, out, zones=zones, open_workers=workers, progress=progress)
    finally:
        progress.close()
    return of_areas([_compared(one, out) for one in every], config)


def _compared(done: MosaicChanges, out: Path) -> SceneMap:
    """The map of changes of mosaics, or why there is none."""
    if done.changes is None:
        return SceneMap(done.name, "failed", done.reports[-1].reason, out / done.name)
    reason = next((report.reason for report in done.reports if report.status == "partial"), None)
    status = "partial" if reason is not None else "done" if done.changes.fresh else "skipped"
    return SceneMap(done.name, status, reason, done.changes.folder)
