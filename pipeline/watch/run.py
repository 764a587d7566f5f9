"""Watch: scans again and again, whatever happens to the disk, the sources, the cluster or the clock."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Self

from geoseg.errors import ClusterError, ConfigError, GeosegError, Interrupted, ModelError, OutputError
from geoseg.models.model_folder import Model
from geoseg.transient import passing
from pipeline.config.sections import Config
from pipeline.infer.storage import Storage
from pipeline.infer.workers import OpenWorkers, Workers
from pipeline.plan.plan import Plan
from pipeline.publish.report import SceneReport
from pipeline.segment.outcome import first_line, note_error
from pipeline.segment.progress import Progress
from pipeline.watch.scan import scan_once
from pipeline.watch.status import StatusWriter

__all__ = ["watch"]

log = logging.getLogger(__name__)

AGAIN_S = 3600.0
"""Seconds after which a warning that has not changed is said again."""


def watch(
    sources: Sequence[str],
    model: Model,
    config: Config,
    out: Path,
    workers: Callable[[], AbstractContextManager[OpenWorkers]],
    *,
    every_s: float,
    stop: threading.Event,
    progress: Progress | None = None,
    on_tick: Callable[[list[SceneReport]], None] = lambda _: None,
) -> None:
    """Scan again and again until ``stop`` is set; a source, an output or a cluster that is away now is tried again the next time.

    Args:
        sources: As for ``geoseg.scenes.sources.list_scenes``, prefixes of stores and STAC APIs.
        model: The model.
        config: The settings.
        out: The output folder.
        workers: Opens the workers; called again when a cluster was lost.
        every_s: Seconds from the start of one scan to the next.
        stop: Ends it.
        progress: Is told of what happens.
        on_tick: Is given the reports of each scan.

    Raises:
        ConfigError: The settings can't work.
        ModelError: The model can't be used.
        Interrupted: The run was stopped.
    """
    place, said = _Place(out), _Said(every_s)
    with _Pool(workers) as pool, StatusWriter(out, every_s=every_s) as status:
        while not stop.is_set():
            started = time.monotonic()
            try:
                place.check()
                pool.ready()
                reports = scan_once(sources, model, config, out, pool.open, progress, status)
                place.remember()
                said.nothing()
                on_tick(reports)
            except (ConfigError, ModelError, Interrupted):
                raise
            except (GeosegError, OSError, MemoryError) as error:
                said.warn(str(error) or type(error).__name__)
            except Exception as error:  # noqa: BLE001 - a mistake of ours is no reason to stop looking
                note_error(error, "scan", out)
                said.warn(f"the scan failed: {first_line(error)}")
            stop.wait(max(0.0, every_s - (time.monotonic() - started)))


class _Said:
    """Warnings that stay the same are said once an hour: a log is not to fill the disk that is full."""

    def __init__(self, every_s: float) -> None:
        self._every_s, self._text, self._at = every_s, "", -AGAIN_S

    def warn(self, text: str) -> None:
        now = time.monotonic()
        if text != self._text or now - self._at > AGAIN_S:
            log.warning("%s; tried again in %.0f s", text, self._every_s)
            self._text, self._at = text, now

    def nothing(self) -> None:
        self._text = ""


class _Place:
    """The output folder: should its file system be unmounted, nothing is to be written below the empty mount point."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._device: int | None = None

    def check(self) -> None:
        if self._device is None:
            return
        try:
            device = os.stat(self._out).st_dev
        except OSError as error:
            raise passing(OutputError(f"{self._out}: has gone: {error.strerror}; is its file system mounted?")) from error
        if device != self._device:
            raise passing(OutputError(f"{self._out}: another file system is there than before; is its own mounted?"))

    def remember(self) -> None:
        if self._device is None:
            self._device = os.stat(self._out).st_dev


class _Pool:
    """The workers, which are opened anew when their cluster was lost."""

    def __init__(self, workers: Callable[[], AbstractContextManager[OpenWorkers]]) -> None:
        self._workers, self._stack = workers, ExitStack()
        self._open: OpenWorkers | None = None
        self._opened = self._lost = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def ready(self) -> None:
        """See to it that there are workers.

        Raises:
            ConfigError: They can't be had as the settings say, and never could.
            ClusterError: The cluster that was lost is not back.
        """
        if self._open is not None and not self._lost:
            return
        self._stack.close()
        self._open = None
        try:
            self._open = self._stack.enter_context(self._workers())
        except ConfigError as error:
            if self._opened:
                raise ClusterError(str(error)) from error
            raise
        self._opened, self._lost = True, False

    def open(self, plan: Plan, storage: Storage, chunks: list[int]) -> Workers:
        """Workers for a plan."""
        assert self._open is not None, "ready() comes first"
        try:
            return self._open(plan, storage, chunks)
        except ClusterError:
            self._lost = True
            raise
