"""The scheduled flow: look at a source, and map what is new, changed or half done."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Cancelled

from flows.segment import segment_scene
from geoseg.errors import OutputBusyError
from geoseg.models.folder import load_model
from pipeline.config import Config
from pipeline.outcome import failed_scene
from pipeline.report import SceneReport
from pipeline.scan import begin_scan, map_ready
from pipeline.source import Found

__all__ = ["scan"]


@flow(name="scan", validate_parameters=True)
def scan(
    sources: list[str],
    model: str,
    out: str,
    config: Config = Config(),  # noqa: B008 - frozen
) -> list[dict[str, Any]] | State[Any]:
    """Map what is new, changed or half done in a source; meant to run on a schedule.

    Args:
        sources: Folders, globs, list files, addresses, ``s3://bucket/prefix/`` or ``stac+https://api``.
        model: A model folder, the name of a shipped model, or owner/name on the Hugging Face hub.
        out: Output folder; it remembers what was mapped.
        config: All other settings; ``watch`` and ``stac`` say how the source is looked at.

    Returns:
        The entries of the scenes that were mapped now.
    """
    log = get_run_logger()
    quiet = config.model_copy(update={"watch": config.watch.model_copy(update={"webhook": None})})
    try:
        # The flow of each scene tells the webhook; the scan itself stays quiet.
        with begin_scan(sources, load_model(model), quiet, Path(out)) as current:
            work = current.work
            log.info(
                "%d scenes to map, %d known, %d still being written, %d tried again later, %d in quarantine",
                len(work.ready), work.known, len(work.waiting), len(work.delayed), len(work.quarantined),
            )  # fmt: skip
            with ThreadPoolExecutor(config.watch.at_once, thread_name_prefix="geoseg-scene") as pool:

                def start(found: Found, own: Config) -> Future[SceneReport]:
                    told = own.model_copy(update={"watch": config.watch})
                    # The flow of the scene belongs to this run: its context goes with it into the thread.
                    return pool.submit(copy_context().run, _map, found, model, out, told)

                reports = map_ready(current, start)
    except OutputBusyError as error:
        return Cancelled(message=f"an earlier scan is still at work: {error}")
    entries = [report.entry() for report in reports]
    if entries:
        rows = [{key: entry[key] for key in ("scene", "status", "reason", "seconds")} for entry in entries]
        create_table_artifact(rows, key="scan", description="Scenes of this scan")
    return entries


def _map(found: Found, model: str, out: str, config: Config) -> SceneReport:
    ref = found.ref
    try:
        entry = segment_scene(list(ref.paths), model, out, config, ref.name, list(ref.band_names))
    except Exception as error:  # whatever a scene raises, the others go on
        return failed_scene(error, ref, Path(out))
    return SceneReport.from_entry(entry)
