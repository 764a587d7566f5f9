"""Footprints of buildings where none are given: found on the image before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from geoseg.dialect import setting
from geoseg.errors import OutsideAreaError, SceneError
from geoseg.models.ensemble import load_models
from geoseg.scenes.sources import SceneRef
from pipeline.config.sections import Config
from pipeline.infer.workers import LocalWorkers
from pipeline.plan.cloud_source import NAME, name_of_date
from pipeline.plan.value_settings import refuse_values
from pipeline.segment.folder import segment_folder
from pipeline.segment.progress import Progress

__all__ = ["find_footprints"]


def find_footprints(ref: SceneRef, model: str, config: Config, out: Path, progress: Progress | None = None) -> Path:
    """Map the buildings of the first date into ``out / footprints``; the file of their polygons.

    Raises:
        SceneError: The image can't be mapped.
        ConfigError: The model does not fit it.
    """
    finder = load_models([model])
    refuse_values(finder.card, setting("buildings", model), "give a model that maps buildings")
    alone = replace(ref, later=())
    vector = config.vector.model_copy(update={"formats": ("gpkg",), "right_angles": True})
    # It is mapped under the name of both dates, and its mask has its own.
    clouds = config.scene.clouds and config.scene.clouds.replace(NAME, name_of_date(ref))
    own = config.model_copy(update={"vector": vector, "scene": config.scene.model_copy(update={"clouds": clouds})})
    (report,) = segment_folder([alone], [], finder, own, out / "footprints", LocalWorkers, progress)
    if report.left_out:
        raise OutsideAreaError(report.reason)
    if report.status not in ("done", "skipped"):
        raise SceneError(f"{ref.paths[0]}: no footprints could be found on it: {report.reason}; give --footprints")
    return out / "footprints" / ref.name / "polygons.gpkg"
