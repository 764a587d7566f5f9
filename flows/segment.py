"""Prefect flows around the pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.logging import get_run_logger

from geoseg.models.folder import load_model
from geoseg.scenes.sources import list_scenes
from pipeline.config import Config
from pipeline.folder import segment_folder
from pipeline.infer import LocalWorkers

__all__ = ["segment"]


@flow(name="geoseg-segment", retries=2, retry_delay_seconds=30)
def segment(inputs: list[str], model: str, out: str, config: Config | None = None) -> list[dict[str, Any]]:
    """Map all scenes of files, folders, globs, list files and addresses; a retry goes on from the chunks that are finished.

    Returns:
        The entries of ``index.json``.
    """
    config = config or Config()
    scenes, refused = list_scenes(inputs, allow_vrt=config.scene.allow_vrt)
    reports = segment_folder(scenes, refused, load_model(model), config, Path(out), LocalWorkers)
    for report in reports:
        for warning in report.warnings:
            get_run_logger().warning("%s: %s", report.scene, warning)
    return [report.entry() for report in reports]
