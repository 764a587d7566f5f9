"""The last stage of a scene: all files appear under their names, together."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from geoseg.documents import Json
from geoseg.errors import OutputError
from geoseg.formats.page.elements import Picture, Section
from pipeline.files.scene_record import SceneRecord
from pipeline.files.spool import SPOOL, FeatureSpool
from pipeline.infer.freed import give_back
from pipeline.infer.receipt import Receipt
from pipeline.publish.chunk_list import write_chunks
from pipeline.publish.document import run_document
from pipeline.publish.report import SceneReport
from pipeline.publish.run import PREVIEW, add_companions, draw_preview
from pipeline.publish.scene_page import write_scene_page
from pipeline.segment.overlapped import Mapped
from pipeline.segment.planned import ChunkFiles, Inferred, PlannedScene
from pipeline.segment.scene_stages import POLYGONS

__all__ = ["MoreFiles", "clear", "publish", "skipped"]

MoreFiles = Callable[[Path, Mapping[str, Json]], Sequence[Section]]
"""Writes further files, of which ``run.json`` says that they are companions, into the folder of what will be published; is
given ``run.json``, too. Returns what the page says of them."""
Drawn = Callable[[], Sequence[Picture] | None]
"""Gives the pictures of a map, or None where they are still to be drawn."""


def skipped(planned: PlannedScene) -> SceneReport:
    """Report a scene that an earlier run has finished."""
    finished = planned.finished
    assert finished is not None, "there is a finished run"
    return _named(
        planned, replace(SceneReport.of_run(SceneRecord.of(finished.document)), status="skipped", reason=finished.reason)
    )


def publish(planned: PlannedScene, mapped: Mapped, more: MoreFiles | None = None, drawn: Drawn = lambda: None) -> SceneReport:
    """Give the files their names, all together, with picture, styles, metadata and report.

    Args:
        planned: The scene, whose chunks are done.
        mapped: The references that its stages gave.
        more: Writes further files.
        drawn: Waits for the pictures for the page, where they are drawn already; see ``DrawnAhead``.

    Raises:
        OutputError: Files of a stage are damaged or gone, or can't be replaced.
    """
    give_back()
    receipts, place = list(Inferred(planned)), planned.job.place
    document = place.ended() or _published(planned, mapped, receipts, more, drawn)
    passing_by = any(receipt.transient for receipt in receipts if receipt.status != "done")
    return _named(planned, replace(SceneReport.of_run(SceneRecord.of(document)), transient=passing_by))


def clear(planned: PlannedScene) -> None:
    """Remove the chunk results and all else of what was under way, unless the settings keep it."""
    if not planned.job.config.run.keep:
        planned.storage().clear()
        planned.job.place.prune()


def _published(
    planned: PlannedScene,
    mapped: Mapped,
    receipts: Sequence[Receipt],
    more: MoreFiles | None,
    drawn: Drawn,
) -> Mapping[str, Json]:
    started, chunks = time.monotonic(), ChunkFiles.of(receipts)
    made = [record for record in (mapped.joined, mapped.stitched, mapped.vectorized) if record is not None]
    plan, job, place = planned.plan, planned.job, planned.job.place
    stages = {record.stage: record for record in made}
    for stage in ("stitch", "vectorize"):
        if planned.standing(stage, chunks) != stages[stage]:
            raise OutputError(f"{place.work}: the files of {stage} are damaged or gone; run again, and they are made anew")
    known = {
        path.name: digest
        for stage in ("stitch", "vectorize")
        for name, digest in stages[stage].files.items()
        if (path := place.work / name).parent == place.stage
    }
    pictures = drawn()
    final = place.clear_stage(keep=known if pictures is None else {*known, PREVIEW})
    spool = FeatureSpool(place.work / POLYGONS / SPOOL, stages["vectorize"].features or 0)
    if pictures is None:
        pictures = draw_preview(plan, planned.store(), spool, final)
    write_chunks(plan, job.config, receipts, final)
    domain = {} if plan.domain is None else {k.replace("_", ":", 1): v for k, v in plan.domain.tags().items()}
    if job.ref.area is not None:
        domain["geoseg:area"] = job.ref.area
    add_companions(plan, final, {"geoseg:model": plan.card.name, "geoseg:model_sha256": plan.model_sha256, **domain})
    plan.scene.verify_unchanged()
    spent = {"plan": planned.seconds, "infer": mapped.infer_s, **{record.stage: record.seconds for record in made}}
    seconds = {name: value for name, value in spent.items() if value is not None} | {"publish": time.monotonic() - started}
    beside = {record.stage: record.overlap_s for record in (mapped.stitched, mapped.vectorized) if record.overlap_s is not None}
    document = run_document(plan, job.ref, job.config, receipts, stages["stitch"], spool.count, seconds, beside)
    sections: Sequence[Section] = ()
    if more is not None:
        before = {path.name for path in final.iterdir()}
        sections = more(final, document)
        document["companions"] = sorted(path.name for path in final.iterdir() if path.name not in before)
    write_scene_page(final, document, plan.card, pictures, sections, columns=plan.thumbnail.window.width)
    return place.publish(document, known=known).document


def _named(planned: PlannedScene, report: SceneReport) -> SceneReport:
    """The report under the name that the scene was given, its outputs relative to the index."""
    name = planned.job.ref.name
    return replace(report, scene=name, outputs=tuple(f"{name}/{output}" for output in report.outputs))
