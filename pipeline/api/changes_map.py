"""Changes between dates: of two scenes or a series, of mosaics, or of ready class maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from geoseg.errors import SceneError
from pipeline.api.scene_map import Maps, SceneMap, of_areas

if TYPE_CHECKING:
    from geoseg.models.ensemble import AnyModel
    from pipeline.api.keywords import DeforestationSettings
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
        from pipeline.changes.from_classes import changes_from_classes

        changed = changes_from_classes(dates, config, out, zones=zones)
        return SceneMap(changed.folder.name, "done" if changed.fresh else "skipped", None, changed.folder)
    loaded = load_models(models)
    if settings.get("mosaic"):
        return _of_mosaics(dates, loaded, config, out, zones, progress)
    refs = refs_in([pair_under(config, dates, loaded.card.bands)], config)
    try:
        with workers_for(config) as workers:
            every = [map_changes(ref, loaded, config, out, zones=zones, open_workers=workers, progress=progress) for ref in refs]
    finally:
        progress.close()
    return of_areas([SceneMap(one.report.scene, one.report.status, one.report.reason, one.folder) for one in every], config)


def _of_mosaics(
    dates: Sequence[str], model: AnyModel, config: Config, out: Path, zones: str | None, progress: Progress
) -> SceneMap:
    """Changes between mosaics of the scenes of each date."""
    from pipeline.changes.of_mosaics import DateScenes, changes_of_mosaics
    from pipeline.infer.choose import workers_for
    from pipeline.plan.inputs import scenes_to_map

    scenes = [DateScenes(*scenes_to_map([text], config, model.card.bands)) for text in dates]
    try:
        with workers_for(config) as workers:
            done = changes_of_mosaics(scenes, model, config, out, zones=zones, open_workers=workers, progress=progress)
    finally:
        progress.close()
    if done.changes is None:
        raise SceneError(done.reports[-1].reason)
    reason = next((report.reason for report in done.reports if report.status == "partial"), None)
    status = "partial" if reason is not None else "done" if done.changes.fresh else "skipped"
    return SceneMap(done.changes.folder.name, status, reason, done.changes.folder)
