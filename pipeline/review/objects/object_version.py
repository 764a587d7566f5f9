"""A version of a map of objects: rasters of numbers and classes, and the polygons of these numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from geoseg.arrays import I64
from geoseg.documents import Json
from geoseg.formats.cog import Cog
from geoseg.instances.masks import Masks
from geoseg.models.card import Card
from geoseg.parallel import cores
from geoseg.vectors.polygon_file import PolygonFile
from geoseg.windows import Window
from pipeline.files.atomic import remove_tree
from pipeline.files.maps import first_file
from pipeline.files.spool import FeatureSpool
from pipeline.join.objects import ObjectStore, keep_objects
from pipeline.review.objects.object_masks import NUMBERS, ObjectFacts
from pipeline.review.objects.object_replay import Cut, ReplayedObjects, replay_objects
from pipeline.review.review_log import ReviewLog
from pipeline.review.standing import standing_of
from pipeline.review.subject import Subject
from pipeline.review.traces import DECIDED, Tracing, blanked
from pipeline.review.version_files import COVERAGE, MODEL, copy_companions
from pipeline.review.version_page import write_version_page
from pipeline.review.version_rasters import TracedRaster, open_version, write_rasters
from pipeline.review.version_record import version_document
from pipeline.stitch.run import layer_of
from pipeline.vectorize.objects import trace_scene
from pipeline.vectorize.run import write_formats

__all__ = ["make_object_version"]

BLANKED = (*DECIDED, "confidence_p50", "confidence_p90", "score")
TOLD = 20


def make_object_version(
    subject: Subject, entries: ReviewLog, parent: int, identity: Mapping[str, object], folder: Path
) -> Mapping[str, object]:
    """Make all files of a version in a folder; returns its record but for the files.

    Args:
        subject: The map.
        entries: The log.
        parent: The version before.
        identity: What the files depend on.
        folder: Where to.

    Raises:
        ConfigError: The log speaks of an object that is not there.
    """
    raster, (styles, tags) = open_version(subject.scene), subject.legend()
    now = replay_objects(subject, standing_of(entries.entries), raster)
    work = folder / ".work"
    store, own = _stored(now, work / "objects")
    numbers = Cog(folder / NUMBERS, layer_of("instances", styles, tags), [_numbers(store, own)])
    differences = write_rasters(raster, now.change.on, now.said.on, folder, styles, tags, [numbers])
    tracing = Tracing(subject.record, TracedRaster.of(open_version(folder)), styles, Card.read(subject.scene / MODEL), work)
    if (covered := first_file(subject.scene, COVERAGE)) is not None:
        tracing.write_coverage(folder, PolygonFile.open(covered))
    spool = trace_scene(store, tracing.facts, work / "polygons", codes=tracing.wanted(), right_angles=tracing.config.right_angles)
    named = _named(spool, work / "named.arrow", own, now)
    write_formats(named, tracing.config.formats, folder / "polygons", tracing.raster, styles, cores())
    remove_tree(work)
    copy_companions(subject.scene, folder, styles)
    write_version_page(folder, subject, parent + 1, differences, now.reviewed, styles)
    document = version_document(subject, entries, parent, identity, differences, now.reviewed, named.count)
    return _with_objects(document, now)


def _stored(now: ReplayedObjects, folder: Path) -> tuple[ObjectStore, I64]:
    """The objects on disk, and the number of each by its place there."""
    numbers = sorted(now.masks.runs)
    nothing = ObjectFacts(0, 0, 0.0)
    facts = [now.facts.get(number, nothing) for number in numbers]
    masks = Masks.of_runs([now.masks.runs[number] for number in numbers])
    store, order = keep_objects(
        folder,
        masks,
        np.array([one.code for one in facts], np.uint8),
        np.array([one.score or 0.0 for one in facts], np.float32),
        np.array([one.confidence for one in facts], np.uint8).reshape(-1, 3),
        now.masks.shape,
    )
    return store, np.array(numbers, np.int64)[order]


def _numbers(store: ObjectStore, own: I64) -> Callable[[Window], NDArray[np.uint32]]:
    """Reads the numbers of a window, 0 for none."""
    lookup = np.concatenate([[0], own]).astype(np.uint32)
    return lambda window: lookup[store.numbers(window)]


def _named(spool: FeatureSpool, path: Path, own: I64, now: ReplayedObjects) -> FeatureSpool:
    """Features with the numbers and ids that live on; of what people said the model has no score and no confidence."""
    import pyarrow as pa

    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, spool.schema) as writer:
        for batch in spool.batches():
            numbers = own[np.asarray(batch.column("instance")) - 1]
            ids = [now.facts[number].id for number in numbers.tolist()]
            named = {"instance": pa.array(numbers), "id": pa.array(ids, pa.int64())}
            columns = [named.get(name, batch.column(name)) for name in batch.schema.names]
            decided = np.isin(numbers, [*now.decided])
            writer.write_batch(blanked(pa.RecordBatch.from_arrays(columns, schema=batch.schema), decided, BLANKED))
    return FeatureSpool(path, spool.count)


def _with_objects(document: dict[str, object], now: ReplayedObjects) -> dict[str, object]:
    """The record with what became of objects."""
    review, warnings = document["review"], document["warnings"]
    assert isinstance(review, dict)
    assert isinstance(warnings, list)
    cuts: list[Json] = [{"id": one.id, "pixels": one.pixels, "others": list(one.others), "empty": one.empty} for one in now.cuts]
    told = [f"{len(now.cuts):,} objects are smaller than people drew them: {'; '.join(map(_told, now.cuts[:TOLD]))}"]
    more: dict[str, Json] = {"objects": len(now.masks.runs), "removed": list(now.removed), "cuts": cuts}
    return {**document, "warnings": [*warnings, *(told if now.cuts else [])], "review": {**review, **more}}


def _told(cut: Cut) -> str:
    what = "nothing is left of it" if cut.empty else f"{cut.pixels:,} pixels less"
    others = f", which are those of {', '.join(map(str, cut.others[:TOLD]))}" if cut.others else ""
    return f"{cut.id} ({what}{others})"
