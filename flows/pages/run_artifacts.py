"""What a run shows while it lasts, and a training at its end: progress, logs, figures, pictures."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    create_image_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger

from flows.pages.scene_artifact import image_address
from geoseg.dialect import number_of
from geoseg.documents import read_json
from geoseg.models.model_folder import Model
from geoseg.redaction import sanitized
from pipeline.infer.receipt import Receipt
from pipeline.plan.plan import Plan
from pipeline.segment.progress import Quiet
from pipeline.train.run import VALIDATION

__all__ = ["ProgressArtifact", "logs_to_prefect", "show_training"]

EVERY_S = 2.0


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
            artifact = create_progress_artifact(percent, description=number_of(self._total, "chunk"))
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


def show_training(model: Model) -> dict[str, Any]:
    """Table of validation figures and the last picture of predictions, of a trained model; gives the figures."""
    report: dict[str, Any] = read_json(model.path / VALIDATION)
    create_table_artifact(report["classes"], description=f"Classes of {model.card.name} on held-out data")
    pictures = sorted((model.path / VALIDATION).parent.glob("pictures/*.png"))
    if pictures and (picture := image_address(pictures[-1])) is not None:
        create_image_artifact(picture, description="Image, truth and prediction of held-out chips")
    return {"name": model.card.name, "folder": str(model.path), "sha256": model.sha256, "miou": report["miou"]}
