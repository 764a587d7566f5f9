"""Artifacts of a run in Prefect: progress, areas by class, a picture, the outputs, warnings; and messages to a webhook."""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger

from geoseg.documents import read_json
from geoseg.errors import OutputError
from geoseg.formats.text import html_text
from geoseg.models.model_folder import Model
from geoseg.redaction import sanitized
from pipeline.files.run_folder import REPORT
from pipeline.files.scene_record import SceneRecord
from pipeline.infer.receipt import Receipt
from pipeline.plan.plan import Plan
from pipeline.segment.progress import Quiet
from pipeline.train.run import VALIDATION

__all__ = ["ProgressArtifact", "logs_to_prefect", "show_scene", "show_training"]

EVERY_S = 2.0
PICTURE_BYTES = 2_000_000


class ProgressArtifact(Quiet):
    """The chunks of a scene as one progress artifact."""

    def __init__(self) -> None:
        self._artifact: UUID | None = None
        self._done, self._total, self._last = 0, 0, 0.0

    def planned(self, plan: Plan, done: int) -> None:
        """A scene begins with some of its chunks done."""
        self._done, self._total = done, len(plan.active)

    def chunk(self, receipt: Receipt) -> None:
        """A chunk is done."""
        del receipt
        self._done += 1
        percent = 100.0 * self._done / max(1, self._total)
        if self._artifact is None:
            artifact = create_progress_artifact(percent, description=f"{self._total} chunks")
            # In a flow that is not async it is done at once.
            assert isinstance(artifact, UUID)
            self._artifact = artifact
        elif self._done == self._total or time.monotonic() - self._last >= EVERY_S:
            update_progress_artifact(self._artifact, percent)
        else:
            return
        self._last = time.monotonic()


class _ToRun(logging.Handler):
    """Hands log records to the logger of the run that they arise in."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record, if there is a run."""
        try:
            get_run_logger().log(record.levelno, "%s", sanitized(record.getMessage()))
        except MissingContextError:
            return


@contextmanager
def logs_to_prefect() -> Iterator[None]:
    """Have the logs of geoseg and pipeline appear in the run."""
    handler = _ToRun(logging.INFO)
    loggers = [logging.getLogger(name) for name in ("geoseg", "pipeline")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


def show_scene(folder: Path) -> None:
    """Table of areas, picture, and a report with links and warnings, of a published scene."""
    record = SceneRecord.read(folder)
    if record is None:
        raise OutputError(f"{folder}: its {REPORT} is gone or can't be read; run again, and it is made anew")
    table = [
        {
            "code": c.code,
            "class": c.name,
            "pixels": c.pixels,
            "hectares": None if c.area_m2 is None else round(c.area_m2 / 1e4, 2),
        }
        for c in record.classes
    ]
    create_table_artifact(table, description=f"Areas by class of {record.scene}")
    picture = folder / "preview.png"
    if picture.is_file() and picture.stat().st_size <= PICTURE_BYTES:
        data = base64.b64encode(picture.read_bytes()).decode()
        create_image_artifact(f"data:image/png;base64,{data}", description=f"Image, classes and polygons of {record.scene}")
    create_markdown_artifact(_markdown(folder, record), description=f"Report of {record.scene}")


def show_training(model: Model) -> dict[str, Any]:
    """Table of validation figures and the last picture of predictions, of a trained model; gives the figures."""
    report: dict[str, Any] = read_json(model.path / VALIDATION)
    create_table_artifact(report["classes"], description=f"Classes of {model.card.name} on held-out data")
    pictures = sorted((model.path / VALIDATION).parent.glob("pictures/*.png"))
    if pictures and pictures[-1].stat().st_size <= PICTURE_BYTES:
        data = base64.b64encode(pictures[-1].read_bytes()).decode()
        create_image_artifact(f"data:image/png;base64,{data}", description="Image, truth and prediction of held-out chips")
    return {"name": model.card.name, "folder": str(model.path), "sha256": model.sha256, "miou": report["miou"]}


def _markdown(folder: Path, record: SceneRecord) -> str:
    lines = [f"# {html_text(record.scene)}: {record.status}", ""]
    if record.reason:
        lines += [html_text(record.reason), ""]
    model, chunks, seconds = record.model, record.chunks, record.whole_s
    lines.append(f"{record.features:,} polygons, {chunks.total} chunks ({chunks.empty} without data), {seconds:.1f} s.")
    lines += [f"Model {model.name} {model.version}, sha256 {model.sha256[:12]}.", ""]
    if record.warnings:
        lines += ["## Warnings", "", *(f"- {html_text(text)}" for text in record.warnings), ""]
    lines += ["## Outputs", "", *(f"- [{name}]({(folder / name).resolve().as_uri()})" for name in record.outputs)]
    return "\n".join(lines) + "\n"
