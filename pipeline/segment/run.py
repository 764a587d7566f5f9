"""One scene, from plan to published files: plan -> map (infer -> join -> stitch | vectorize) -> publish."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from geoseg.errors import GeosegError, OutputError
from geoseg.models.ensemble import AnyModel
from geoseg.scenes.sources import SceneRef
from geoseg.transient import passing
from pipeline.config.sections import Config
from pipeline.files.atomic import DISK_ERRORS
from pipeline.infer.workers import LocalWorkers, OpenWorkers
from pipeline.publish.report import SceneReport
from pipeline.segment.drawn_ahead import DrawnAhead
from pipeline.segment.overlapped import map_scene
from pipeline.segment.planned import SceneJob
from pipeline.segment.planning import plan
from pipeline.segment.progress import Progress, Quiet
from pipeline.segment.publishing import MoreFiles, clear, publish, skipped

__all__ = ["MoreFiles", "held", "segment_scene"]

LEAST_FREE = 1 << 20


def segment_scene(
    ref: SceneRef,
    model: AnyModel,
    config: Config,
    out: Path,
    *,
    progress: Progress | None = None,
    open_workers: OpenWorkers = LocalWorkers,
    more: MoreFiles | None = None,
    scenes: int = 1,
) -> SceneReport:
    """Map one scene into ``out / ref.name``.

    What an interrupted run has finished is verified and kept. Files appear under their names only when all are whole.

    Raises:
        SceneError: The scene can't be read or placed.
        OutputError: The folder can't be written, is busy, full, or holds other results.
        ConfigError: The settings don't fit the model.
        Interrupted: The run was stopped.
    """
    started, progress, job = time.monotonic(), progress or Quiet(), SceneJob.of(ref, model, config, out, scenes)
    with held(job):
        planned = plan(job)
        if planned.finished is not None:
            report = skipped(planned)
        else:
            progress.planned(planned.plan, planned.done)
            inferred = partial(progress.stage, "stitch and vectorize")
            with DrawnAhead(planned) as ahead:
                mapped = map_scene(planned, open_workers, progress.chunk, on_inferred=inferred, on_traced=ahead.begin)
                progress.stage("publish")
                report = publish(planned, mapped, more, ahead.pictures)
        clear(planned)
    return replace(report, seconds=time.monotonic() - started)


@contextmanager
def held(job: SceneJob) -> Iterator[None]:
    """Hold the folder of a scene while its stages run.

    Raises:
        OutputError: The folder can't be written, is busy, full, holds other results or files of somebody.
    """
    place = job.place
    try:
        with place.held(), _clear_errors(place.folder):
            yield
    except OutputError:
        # The folder may be another run's, or lie elsewhere.
        raise
    except BaseException:
        place.leave()
        raise
    if not job.config.run.keep:
        place.leave()


@contextmanager
def _clear_errors(folder: Path) -> Iterator[None]:
    """Errors of the disk in words that help."""
    try:
        yield
    except OSError as error:
        if isinstance(error, OutputError) or error.errno not in DISK_ERRORS:
            raise
        raise passing(
            OutputError(
                f"{folder}: {error.strerror}; make room or choose another --out, then run again: finished chunks are kept"
            )
        ) from error
    except GeosegError:
        raise
    except Exception as error:
        # Libraries have words of their own for a disk that is full.
        if not folder.is_dir() or shutil.disk_usage(folder).free > LEAST_FREE:
            raise
        raise passing(
            OutputError(f"{folder}: no room is left on the disk; make room, then run again: finished chunks are kept")
        ) from error
