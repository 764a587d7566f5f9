"""The scheduled flow: look at a source, and map what is new, changed or half done."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from threading import Event
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Cancelled, Failed

from flows.access.allowed import allowed, check, check_webhook
from flows.access.handed import HANDED, Handed
from flows.access.references import resolve
from flows.as_one import map_as_one
from flows.limits import SCAN_S
from flows.pages.scan_artifact import UNFINISHED, scan_name, show_scan
from flows.segment import segment_scene
from flows.sentences import tell_in_sentences
from geoseg.dialect import number_of
from geoseg.errors import OutputBusyError, SceneError
from geoseg.models.model_folder import load_model
from geoseg.scenes.remote import shown
from pipeline.config.sections import Config
from pipeline.files.index import IndexEntry
from pipeline.publish.report import SceneReport
from pipeline.segment.outcome import failed_scene
from pipeline.watch.ready import map_ready
from pipeline.watch.scan import Scan, begin_scan
from pipeline.watch.source import Found

__all__ = ["scan"]

# A scan that ends Unfinished is no mistake of the code: Prefect would log where in it the failure came from.
tell_in_sentences()

MOST_TOLD = 5
"""Failures that the state of a run speaks of; its page has all."""


def _name() -> str:
    """The name of the run under way."""
    return scan_name(flow_run.parameters.get("sources") or [])


@flow(name="scan", flow_run_name=_name, validate_parameters=True, timeout_seconds=SCAN_S)
def scan(
    sources: list[str],
    model: str,
    out: str,
    config: Config = Config(),  # noqa: B008 - frozen
) -> list[IndexEntry] | State[Any]:
    """Map what is new, changed or half done in a source; meant to run on a schedule.

    With ``watch.mosaic`` one map of all scenes that are there is kept up to date instead of a map of each.

    It ends after ``GEOSEG_SCAN_TIMEOUT`` (24h); the next one goes on from there.

    Args:
        sources: Folders, globs, list files, addresses, ``s3://bucket/prefix/`` or ``stac+https://api``; what is secret by
            ``env:GEOSEG_NAME`` or ``secret:geoseg-name``.
        model: A model folder, the name of a shipped model, or owner/name on the Hugging Face hub.
        out: Output folder; it remembers what was mapped.
        config: All other settings; ``watch`` and ``stac`` say how the source is looked at.

    Returns:
        The entries of the scenes that were mapped now; of a mosaic, its own and those of scenes that can't be used. Where some
        failed, or a source was away, the state is ``Unfinished``, a failure that says which; the others are mapped all the same.
    """
    check(read={"sources": sources}, written={"out": [out]}, models={"model": [model]}, config=config)
    places = [resolve("sources", source) for source in sources]
    # The flow of each scene tells the webhook; the scan itself stays quiet, unless it maps all scenes as one.
    hook = config.watch.webhook
    address = check_webhook(hook, allowed()) if hook is not None and config.watch.mosaic else None
    own = config.model_copy(update={"watch": config.watch.model_copy(update={"webhook": address})})
    loaded = load_model(model)
    try:
        with begin_scan(places, loaded, own, Path(out)) as current:
            reports = map_as_one(current, loaded, out) if config.watch.mosaic else _mapped(current, model, out, config)
    except OutputBusyError as error:
        return Cancelled(message=f"an earlier scan is still at work: {error}")
    show_scan(current, places, reports)
    failed = [report for report in reports if report.status in ("failed", "partial")]
    if not failed and not current.away:
        return [report.entry() for report in reports]
    told = [*(f"{report.scene}: {report.reason}" for report in failed), *(away.reason for away in current.away)]
    counts = [f"{len(failed)} of {number_of(len(reports), 'scene')} failed"] if failed else []
    counts += [f"{number_of(len(current.away), 'source')} did not answer"] if current.away else []
    message = f"{' and '.join(counts)}: {'; '.join(told[:MOST_TOLD])}{'; …' if len(told) > MOST_TOLD else ''}"
    return Failed(name=UNFINISHED, message=message, data=SceneError(message))


def _mapped(current: Scan, model: str, out: str, config: Config) -> list[SceneReport]:
    work, stops = current.work, list[Event]()
    get_run_logger().info(
        "%d scenes to map, %d known, %d still being written, %d tried again later, %d in quarantine",
        len(work.ready),
        work.known,
        len(work.waiting),
        len(work.delayed),
        len(work.quarantined),
    )
    with ThreadPoolExecutor(config.watch.at_once, thread_name_prefix="geoseg-scene") as pool:

        def start(found: Found, own: Config) -> Future[SceneReport]:
            told = own.model_copy(update={"watch": config.watch})
            # The flow of the scene belongs to this run: its context goes with it into the thread.
            return pool.submit(copy_context().run, _map, found, model, out, told, stops)

        try:
            return map_ready(current, start)
        except BaseException:
            # Its time is up, or it was cancelled: the scenes end where they are, and the next scan goes on from there.
            for stop in stops:
                stop.set()
            raise


def _map(found: Found, model: str, out: str, config: Config, stops: list[Event]) -> SceneReport:
    ref = found.ref
    HANDED.set(Handed(ref.paths, ref.told, stops))
    try:
        entry = segment_scene([shown(path) for path in ref.paths], model, out, config, ref.name, list(ref.band_names), ref.area)
    except Exception as error:  # noqa: BLE001 - whatever a scene raises, the others go on
        return failed_scene(error, ref, Path(out))
    assert isinstance(entry, dict), "one feature has one map, and states are not asked for"
    return SceneReport.from_entry(entry)
