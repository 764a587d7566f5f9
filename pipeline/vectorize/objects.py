"""Polygons of objects."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from geoseg.errors import Interrupted
from geoseg.georeference import Georeference
from geoseg.instances.tracing import trace_masks
from geoseg.polygons.features import FeatureFacts, ObjectColumns, feature_batches, feature_schema
from geoseg.polygons.geometries import from_shapes
from geoseg.polygons.right_angles import REACH, parted, right_angled
from geoseg.polygons.rings import Polygons
from pipeline.files.spool import SPOOL, FeatureSpool

if TYPE_CHECKING:
    import pyarrow as pa

from geoseg.parallel import cores
from pipeline.config.sections import VectorConfig
from pipeline.join.objects import P10, P50, P90, ObjectStore
from pipeline.join.panoptic import Painted, codes_between
from pipeline.plan.plan import Plan
from pipeline.vectorize.run import vectorize
from pipeline.vectorize.scene import scene_facts, wanted_by
from pipeline.vectorize.traced import VectorOptions

__all__ = ["trace_painted", "trace_scene"]


def trace_painted(
    painted: Painted, plan: Plan, vector: VectorConfig, work: Path, should_stop: Callable[[], bool]
) -> FeatureSpool:
    """Polygons of objects; of a panoptic map, of the classes between them, too.

    Raises:
        Interrupted: ``should_stop`` said so.
    """
    facts, codes, threads = scene_facts(plan, vector), wanted_by(vector, plan), plan.threads or cores()
    if plan.task == "instances":
        return trace_scene(painted.objects, facts, work, should_stop, codes=codes, right_angles=vector.right_angles)
    objects = trace_scene(painted.objects, facts, work / "objects", should_stop, codes=codes)
    options = VectorOptions(wanted=codes_between(plan, codes), max_vertices=vector.max_vertices or None, threads=threads)
    classes = vectorize(painted, facts, options, work / "between", should_stop)
    return _join_spools(objects, classes, work / SPOOL)


def _join_spools(objects: FeatureSpool, classes: FeatureSpool, path: Path) -> FeatureSpool:
    """Objects, then regions of classes, which have the number 0 and no score, as one."""
    import pyarrow as pa

    schema = feature_schema(objects=True)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for batch in objects.batches():
            writer.write_batch(batch)
        for batch in classes.batches():
            count = batch.num_rows
            known = {name: batch.column(name) for name in batch.schema.names}
            known["instance"] = pa.repeat(pa.scalar(0, pa.int64()), count)
            columns = [known.get(field.name, pa.nulls(count, field.type)) for field in schema]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
    for spool in (objects, classes):
        spool.path.unlink()
    return FeatureSpool(path, objects.count + classes.count)


def trace_scene(
    store: ObjectStore,
    facts: FeatureFacts,
    work: Path,
    should_stop: Callable[[], bool] = lambda: False,
    *,
    codes: Collection[int],
    right_angles: bool = False,
) -> FeatureSpool:
    """The outlines of the objects of some classes, with attributes, in the order of the store; on demand with right angles.

    Raises:
        Interrupted: ``should_stop`` said so.
    """
    import pyarrow as pa

    work.mkdir(parents=True, exist_ok=True)
    spool, count = work / SPOOL, 0
    with pa.OSFile(str(spool), "wb") as file, pa.ipc.new_stream(file, feature_schema(objects=True)) as writer:
        for which in store.groups():
            if should_stop():
                raise Interrupted("stopped before a group of objects")
            wanted = which[np.isin(store.code[which], list(codes))]
            if not len(wanted):
                continue
            for batch in _features(store, wanted, facts, right_angles=right_angles):
                writer.write_batch(batch)
                count += batch.num_rows
    return FeatureSpool(spool, count)


def _features(
    store: ObjectStore, which: NDArray[np.int64], facts: FeatureFacts, *, right_angles: bool
) -> Iterator[pa.RecordBatch]:
    confidence = store.confidence[which]
    polygons, measures = trace_masks(
        store.masks(which), store.code[which], confidence[:, [P50, P10]], store.shape[1], facts.georeference
    )
    if right_angles:
        polygons = _with_right_angles(store, which, polygons, facts.georeference)
    columns = ObjectColumns(which + 1, store.score[which], confidence[:, P50], confidence[:, P90])
    yield from feature_batches(polygons, measures, None, facts, columns)


def _with_right_angles(store: ObjectStore, which: NDArray[np.int64], traced: Polygons, georeference: Georeference) -> Polygons:
    """Right angles for some objects, without overlap with any other object of the scene."""
    near = store.near(which, 2 * REACH)
    others = np.setdiff1d(near, which)
    around, _ = trace_masks(
        store.masks(others), store.code[others], store.confidence[others][:, :2], store.shape[1], georeference
    )
    shapes = np.concatenate([right_angled(polygons, georeference) for polygons in (traced, around)])
    every = np.concatenate([which, others])
    order = np.empty(len(every), np.int64)
    order[np.lexsort((every, store.masks(every).pixels))] = np.arange(len(every))
    return from_shapes(parted(shapes, order, np.arange(len(every)) < len(which)))
